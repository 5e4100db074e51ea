/**
 * One room as the page knows it: its messages, those on their way, who is here, who types, who has
 * read how far. Fed by the subscription alone, so it is right again after every reconnect without
 * doing anything. Tells by `change` that something is different, by `arrived` of a new message,
 * by `end` that the room is gone.
 */

import { randomId } from "../parley.js";
import { Timeline } from "./timeline.js";

const HISTORY = 50;
const PAGE = 50;
/** Pages that a jump to an old message loads at most. */
const JUMP_PAGES_MAX = 40;

export class RoomModel extends EventTarget {
  #parley;
  #rest;
  #people;
  #isLoading = null;
  #typing = new Map();
  #isTold = false;
  #isQuiet = false;

  /** @param {{id: string, me: string, parley: import("../parley.js").Parley, rest: any, people: any}} parts */
  constructor({ id, me, parley, rest, people }) {
    super();
    this.id = id;
    this.me = me;
    this.#parley = parley;
    this.#rest = rest;
    this.#people = people;
    this.info = { kind: "group", name: null, topic: null, members: [], member_count: 0 };
    this.timeline = new Timeline(me);
    this.pending = [];
    this.online = new Map();
    this.onlineCount = 0;
    this.reads = new Map();
    this.unread = 0;
    this.readSeq = 0;
    this.role = null;
    this.last = null;
    this.subscription = null;
    this.isLoaded = false;
    this.isEnded = false;
  }

  /** What the list says of it. */
  learn(item) {
    this.info = { ...this.info, ...item };
    this.last = item.last_message ?? this.last;
    if (!this.isLoaded) {
      this.unread = item.unread ?? 0;
      this.readSeq = item.read_seq ?? 0;
      this.role = item.role ?? null;
    }
    for (const member of item.members ?? []) this.#people.learn(member.user ?? member.id, member.display_name);
    this.#tell();
  }

  get title() {
    if (this.info.kind === "direct") {
      const other = this.otherUser;
      if (other) return this.#people.name(other);
    }
    return this.info.name || this.id;
  }

  /** Of a direct room. */
  get otherUser() {
    const users = this.info.members.map((member) => member.user ?? member.id);
    return users.find((user) => user !== this.me) ?? null;
  }

  get typing() {
    return [...this.#typing.keys()];
  }

  get newestAt() {
    return this.last?.created_at ?? this.info.last_message_at ?? this.info.created_at ?? "";
  }

  get mayModerate() {
    return this.role === "owner" || this.role === "admin";
  }

  get mayPublish() {
    return this.role !== null && this.role !== "reader";
  }

  /** Follow the room from now on. */
  follow() {
    if (this.subscription) return;
    const room = this.#parley.room(this.id, { history: HISTORY });
    this.subscription = room;
    room.on("reset", ({ messages }) => {
      this.timeline.reset(messages, messages.length > 0 && messages[0].seq > 1);
      this.last = messages.at(-1) ?? this.last;
      this.reads.clear();
      this.#settle(messages);
    });
    room.on("live", (reply) => this.#begin(reply));
    room.on("paused", () => this.#tell());
    room.on("event", (frame) => this.#take(frame));
    room.on("end", ({ code, message }) => {
      this.isEnded = true;
      this.subscription = null;
      this.dispatchEvent(new CustomEvent("end", { detail: { code, message } }));
      this.#tell();
    });
  }

  /** Publish; the message is shown at once as one on its way. */
  async send(draft) {
    const entry = { client_id: randomId(), sentAt: new Date().toISOString(), error: null, ...draft };
    const { sentAt: _, error: __, ...frame } = entry;
    this.pending.push(entry);
    this.#tell();
    try {
      await this.#parley.publish(this.id, frame);
    } catch (error) {
      entry.error = error.message;
    }
    // Also when the event came first, or never will: the answer alone settles it.
    if (!entry.error) this.#drop(entry);
    this.#tell();
  }

  /** Forget a message that was refused. */
  discard(entry) {
    this.#drop(entry);
    this.#tell();
  }

  /** The page before the oldest message. */
  loadOlder() {
    if (!this.timeline.hasMore || !this.timeline.oldest) return Promise.resolve();
    this.#isLoading ??= this.#loadPage().finally(() => (this.#isLoading = null));
    return this.#isLoading;
  }

  /** Load until this message is there; whether it is. */
  async loadUntil(seq) {
    for (let page = 0; page < JUMP_PAGES_MAX && !this.timeline.get(seq); page += 1) {
      if (!this.timeline.hasMore || this.timeline.oldest <= seq) break;
      await this.loadOlder();
    }
    return this.timeline.get(seq) !== null;
  }

  /** Everything that is there has been read. */
  markRead() {
    const seq = this.timeline.newest;
    if (this.role === null || seq <= this.readSeq) return;
    this.readSeq = seq;
    this.unread = 0;
    this.subscription?.read(seq);
    this.#tell();
  }

  /** What another device, or the server, says of the unread messages. */
  noteUnread({ unread, read_seq, ...message }) {
    if (read_seq !== undefined) this.readSeq = Math.max(this.readSeq, read_seq);
    if (message.seq && message.seq <= this.readSeq) return;
    if (unread !== undefined && unread !== null) this.unread = unread;
    if (message.seq && message.seq > (this.last?.seq ?? 0)) {
      this.last = { ...message, created_at: message.created_at ?? new Date().toISOString() };
    }
    this.#tell();
  }

  async #loadPage() {
    const { messages, has_more } = await this.subscription.history({
      before: this.timeline.oldest,
      limit: PAGE,
    });
    this.timeline.prepend(messages, has_more);
    this.#tell();
  }

  #begin(reply) {
    this.isLoaded = true;
    this.role = reply.role;
    this.onlineCount = reply.members_online;
    this.unread = reply.unread ?? 0;
    this.readSeq = Math.max(this.readSeq, reply.read_seq ?? 0);
    this.#typing.clear();
    this.#loadPresence();
    this.#loadReceipts();
    this.#tell();
  }

  async #loadPresence() {
    try {
      const { users, count } = await this.subscription.presence();
      this.online = new Map(users.map(({ user, since }) => [user, since]));
      this.onlineCount = count;
      this.#tell();
    } catch {
      this.online.clear(); // the count of the subscription stays
    }
  }

  async #loadReceipts() {
    if (this.role === null) return;
    try {
      for (const { user, read_seq, read_at } of await this.#rest.receipts(this.id)) {
        // Without a time nobody has read: a new member begins at the newest message.
        if (read_at) this.#noteRead(user, read_seq);
      }
      this.#tell();
    } catch {
      // The marks appear with the next event of each.
    }
  }

  #take(frame) {
    const { event, data } = frame;
    const [family] = event.split(".");
    if (family === "message" || family === "reaction") {
      this.timeline.apply(frame);
      if (event === "message.created") this.#arrive(data);
      else if (this.last?.seq === data.seq) this.last = this.timeline.get(data.seq) ?? this.last;
    } else if (family === "presence") this.#notePresence(event, data);
    else if (event === "typing.started") this.#noteTyping(data);
    else if (event === "typing.stopped") this.#stopTyping(data.user);
    else if (event === "receipt.read") this.#noteRead(data.user, data.seq);
    else if (event === "room.updated") this.info = { ...this.info, ...data };
    else if (family === "member") this.#noteMember(event, data);
    this.#tell();
  }

  #arrive(message) {
    this.last = message;
    this.#stopTyping(message.sender);
    this.#noteRead(message.sender, message.seq);
    this.#settle([message]);
    if (message.sender === this.me) this.readSeq = Math.max(this.readSeq, message.seq);
    else if (message.kind !== "system" && message.seq > this.readSeq) this.unread += 1;
    this.dispatchEvent(new CustomEvent("arrived", { detail: message }));
  }

  /** What came back is no longer on its way. */
  #settle(messages) {
    const known = new Set(messages.filter(({ sender }) => sender === this.me).map((m) => m.client_id));
    this.pending = this.pending.filter((entry) => !known.has(entry.client_id));
  }

  #drop(entry) {
    this.pending = this.pending.filter((other) => other !== entry);
  }

  #notePresence(event, { user, since, online }) {
    this.onlineCount = online;
    if (event === "presence.count") {
      this.online.clear(); // so many that the room sends counts alone
      this.#isQuiet = true;
    } else if (this.#isQuiet) {
      this.#isQuiet = false;
      this.#loadPresence();
    } else if (event === "presence.joined") this.online.set(user, since);
    else this.online.delete(user);
  }

  #noteTyping({ user, expires_in }) {
    if (user === this.me) return;
    clearTimeout(this.#typing.get(user));
    const timer = setTimeout(() => {
      this.#stopTyping(user);
      this.#tell();
    }, expires_in * 1000);
    this.#typing.set(user, timer);
  }

  #stopTyping(user) {
    clearTimeout(this.#typing.get(user));
    this.#typing.delete(user);
  }

  #noteRead(user, seq) {
    if (user && seq > (this.reads.get(user) ?? 0)) this.reads.set(user, seq);
    if (user === this.me) this.readSeq = Math.max(this.readSeq, seq);
  }

  #noteMember(event, { user, role, display_name }) {
    this.#people.learn(user, display_name);
    if (event === "member.removed") this.reads.delete(user);
    if (user === this.me) this.role = event === "member.removed" ? null : role;
  }

  /** Once for everything that happens in one go. */
  #tell() {
    if (this.#isTold) return;
    this.#isTold = true;
    queueMicrotask(() => {
      this.#isTold = false;
      this.dispatchEvent(new Event("change"));
    });
  }
}
