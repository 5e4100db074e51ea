/**
 * parley.js: a client of the Parley broker for browsers (and anything else with a WebSocket).
 *
 *     import { Parley } from "https://chat.example.org/parley.js";
 *
 *     const parley = new Parley({ url: "wss://chat.example.org/v1/connect", token: fetchToken });
 *     const room = parley.room("lunch");
 *     room.on("reset", ({ messages }) => show(messages));          // first page, or after a long gap
 *     room.on("message.created", ({ data }) => add(data));         // each event once, in order
 *     parley.on("state", ({ state }) => say(state));
 *     parley.connect();
 *     await room.publish({ content: "Lunch?" });                   // once, whatever the network does
 *
 * What it takes care of: signing in, and again before the token expires; coming back with jitter
 * after every close but the final ones (1000, 44xx); leaving in time when the server drains;
 * noticing a connection that is dead without a close; resuming every room by (epoch, offset), so
 * that each durable event is handed over exactly once and in order, or `reset` says that the view
 * must be replaced; sending each message until it is answered, in order, never twice.
 *
 * What it does not: it keeps nothing across a reload of the page, and it holds no messages but the
 * unsent ones. The protocol is in docs/protocol.md; this file follows it section by section.
 */

/**
 * @typedef {"idle" | "connecting" | "online" | "waiting" | "closed"} State
 *   `waiting`: between two attempts. `closed`: for good, by `close()` or by the server (44xx).
 *
 * @typedef {object} Position
 * @property {string} epoch
 * @property {number} offset
 *
 * @typedef {object} Attachment
 * @property {string} url
 * @property {?string} [mime]
 * @property {?number} [size]
 * @property {?string} [name]
 * @property {object} [metadata]
 *
 * @typedef {object} Message  Every field is always there.
 * @property {string} id
 * @property {string} room
 * @property {number} seq
 * @property {?string} sender  null: the project.
 * @property {string} kind
 * @property {?string} content
 * @property {object} metadata
 * @property {Attachment[]} attachments
 * @property {string[]} mentions
 * @property {?number} reply_to
 * @property {number} reply_count
 * @property {?{sender: ?string, created_at: string}} forwarded_from
 * @property {?string} client_id
 * @property {string} created_at
 * @property {?string} edited_at
 * @property {?string} deleted_at
 * @property {?string} deleted_by
 * @property {Object<string, {count: number, users: string[], mine?: boolean}>} reactions
 *
 * @typedef {object} Draft
 * @property {string} [content]
 * @property {Attachment[]} [attachments]
 * @property {string} [kind]
 * @property {object} [metadata]
 * @property {string[]} [mentions]
 * @property {number} [reply_to]
 * @property {string} [client_id]  Default: a random one.
 *
 * @typedef {object} EventFrame
 * @property {string} event
 * @property {string} room
 * @property {number} [offset]  Durable events only.
 * @property {string} time
 * @property {any} data
 */

const ANSWER_TIMEOUT_MS = 10_000;
const HELLO_TIMEOUT_MS = 15_000;
const PING_TIMEOUT_MS = 8_000;
const BACKOFF_MS = 1_000;
const BACKOFF_MAX_MS = 30_000;
/** A connection that lived for so long was good: the next loss starts with a short pause again. */
const GOOD_AFTER_MS = 10_000;
const REFRESH_BEFORE_MS = 60_000;
const TIMER_MAX_MS = 2 ** 31 - 1;
const TYPING_EVERY_MS = 3_000;
const READ_EVERY_MS = 500;
/** The command has not been carried out, and may be repeated as it is. */
const RETRYABLE = new Set(["unavailable", "overloaded", "rate_limited", "internal"]);
/** It is not known whether the command has been carried out. */
const UNKNOWN = new Set(["disconnected", "timeout"]);

/**
 * A refusal. `code` is one of the protocol's, or one of these of the client: `disconnected` and
 * `timeout` (it is not known whether the command was carried out), `closed` (it never will be).
 */
export class ParleyError extends Error {
  /** @param {{code: string, message: string, field?: ?string, retry_after?: ?number}} error */
  constructor({ code, message, field = null, retry_after = null }) {
    super(message);
    this.name = "ParleyError";
    this.code = code;
    this.field = field;
    this.retryAfter = retry_after;
  }
}

const disconnected = () =>
  new ParleyError({ code: "disconnected", message: "The connection was lost before an answer." });

/** A random id; `crypto.randomUUID` exists on secure pages only. @returns {string} */
export function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** An EventTarget whose events carry one value. */
class Emitter extends EventTarget {
  /**
   * @param {string} type
   * @param {(detail: any) => void} listener
   * @returns {() => void} Takes the listener away again.
   */
  on(type, listener) {
    const handle = (/** @type {any} */ event) => listener(event.detail);
    this.addEventListener(type, handle);
    return () => this.removeEventListener(type, handle);
  }

  /** @param {string} type @param {any} [detail] */
  emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/**
 * One user's connection, kept alive. Events:
 *
 * - `state`: `{state, code, reason, retryIn}` (code and reason of the close, milliseconds)
 * - `hello`: the server's frame, after each connect
 * - `event`: every event frame of every room, and `notification` (and `notification.message` …):
 *   those of the user's own channel
 * - `drain`: the server will close; nothing needs to be done
 * - `error`: a ParleyError that belongs to no command
 */
export class Parley extends Emitter {
  #url;
  #token;
  /** @type {?WebSocket} */
  #socket = null;
  /** @type {State} */
  #state = "idle";
  #turn = 0;
  #attempts = 0;
  #lastId = 0;
  #lastHeard = 0;
  #isTokenRefused = false;
  #timers = { retry: 0, hello: 0, good: 0, beat: 0, refresh: 0, drain: 0 };
  /** @type {Map<number, {done: (result: any) => void, fail: (error: ParleyError) => void, timer: number}>} */
  #pending = new Map();
  /** @type {Map<string, Room>} */
  #rooms = new Map();
  /** @type {Map<string, {entries: any[], isBusy: boolean, timer: number}>} */
  #queues = new Map();

  /** The user that the token names, once connected. @type {?string} */
  user = null;
  /** The last `hello`. @type {any} */
  hello = null;

  /**
   * @param {object} options
   * @param {string} options.url  `wss://HOST/v1/connect`
   * @param {string | (() => string | Promise<string>)} options.token  A user token. Of a function
   *   a new one is taken for each connection, before the old one expires, and once when one is
   *   refused; a plain text is final when it is refused.
   */
  constructor({ url, token }) {
    super();
    this.#url = url;
    this.#token = token;
    globalThis.addEventListener?.("online", () => this.check());
    globalThis.document?.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") this.check();
    });
  }

  /** @returns {State} */
  get state() {
    return this.#state;
  }

  /** Connect, and stay connected until `close()` or a final close of the server. */
  connect() {
    if (this.#state === "idle" || this.#state === "closed") {
      this.#attempts = 0;
      this.#isTokenRefused = false;
      this.#open();
    }
    return this;
  }

  /** Leave for good. What was not sent is refused with `closed`. */
  close() {
    this.#drop(1000);
    this.#finish(1000, "The client has left.");
  }

  /** Look at once whether the connection is there: after sleep, or a change of the network. */
  check() {
    if (this.#state === "waiting") this.#open();
    else if (this.#state === "online") this.#ping();
  }

  /**
   * The room of this id, subscribed from now on, also after every reconnect.
   *
   * @param {string} id
   * @param {{history?: number}} [options]  How many messages a `reset` brings (at most 100).
   * @returns {Room}
   */
  room(id, { history = 50 } = {}) {
    let room = this.#rooms.get(id);
    if (!room) {
      room = new Room(this, id, history);
      this.#rooms.set(id, room);
      if (this.#state === "online") room._subscribe();
    }
    return room;
  }

  /**
   * One command; the result of its reply. Fails with a ParleyError.
   *
   * @param {string} type
   * @param {object} [fields]
   * @param {{timeout?: number}} [options]
   * @returns {Promise<any>}
   */
  request(type, fields = {}, { timeout = ANSWER_TIMEOUT_MS } = {}) {
    return new Promise((done, fail) => this._ask(type, fields, done, fail, timeout));
  }

  /**
   * Publish a message exactly once: it is repeated, under one `client_id`, until there is an
   * answer, and messages of one room are sent in the order given. May be called at any time.
   *
   * @param {string} room
   * @param {Draft} draft
   * @returns {Promise<{message_id: string, seq: number, offset: number, created_at: string, duplicate: boolean}>}
   */
  publish(room, draft) {
    return new Promise((done, fail) => {
      if (this.#state === "closed") {
        fail(new ParleyError({ code: "closed", message: "The connection is closed." }));
        return;
      }
      const queue = this.#queues.get(room) ?? { entries: [], isBusy: false, timer: 0 };
      this.#queues.set(room, queue);
      queue.entries.push({ frame: { client_id: randomId(), ...draft, room }, done, fail });
      this.#pump(queue);
    });
  }

  /** How many messages wait for their answer. */
  get unsent() {
    return [...this.#queues.values()].reduce((sum, queue) => sum + queue.entries.length, 0);
  }

  /**
   * `request` with callbacks, which run before the next frame is looked at: what subscribing
   * relies on. For the client's own use.
   *
   * @param {string} type @param {object} fields
   * @param {(result: any) => void} done @param {(error: ParleyError) => void} fail
   * @param {number} [timeout]
   */
  _ask(type, fields, done, fail, timeout = ANSWER_TIMEOUT_MS) {
    if (this.#socket?.readyState !== WebSocket.OPEN) {
      fail(disconnected());
      return;
    }
    const id = ++this.#lastId;
    const timer = later(timeout, () => {
      this.#pending.delete(id);
      fail(new ParleyError({ code: "timeout", message: "There was no answer in time." }));
    });
    this.#pending.set(id, { done, fail, timer });
    this.#socket.send(JSON.stringify({ ...fields, type, id }));
  }

  /** @param {Room} room */
  _forget(room) {
    if (this.#rooms.get(room.id) === room) this.#rooms.delete(room.id);
  }

  /** @param {State} state @param {object} [more] */
  #become(state, more = {}) {
    this.#state = state;
    this.emit("state", { state, code: null, reason: null, retryIn: null, ...more });
  }

  async #open() {
    const turn = ++this.#turn;
    this.#stopTimers();
    this.#become("connecting");
    let token;
    try {
      token = typeof this.#token === "function" ? await this.#token() : this.#token;
    } catch (error) {
      if (turn === this.#turn) this.#retry(null, String(error));
      return;
    }
    if (turn !== this.#turn) return;
    const socket = new WebSocket(this.#url, "parley.v1");
    const isOurs = () => this.#socket === socket;
    this.#socket = socket;
    // A bad token is answered by the close that follows; there is nothing to do about it here.
    socket.onopen = () => isOurs() && this._ask("auth", { token }, () => {}, () => {});
    socket.onmessage = ({ data }) => isOurs() && this.#receive(JSON.parse(data));
    socket.onclose = ({ code, reason }) => isOurs() && this.#lose(code, reason);
    this.#timers.hello = later(HELLO_TIMEOUT_MS, () => this.#lose(1006, "No hello in time."));
  }

  /** @param {any} frame */
  #receive(frame) {
    this.#lastHeard = Date.now();
    if (frame.type === "event") {
      this.#rooms.get(frame.room)?._take(frame);
      this.emit("event", frame);
      if (frame.event.startsWith("notification.")) {
        this.emit("notification", frame);
        this.emit(frame.event, frame);
      }
    } else if (frame.type === "reply" || frame.type === "error") {
      this.#answer(frame);
    } else if (frame.type === "hello") {
      this.#greet(frame);
    } else if (frame.type === "unsubscribed") {
      this.#rooms.get(frame.room)?._end(frame.code, frame.message);
    } else if (frame.type === "drain") {
      this.emit("drain", frame);
      this.#timers.drain = later(Math.random() * frame.reconnect_within * 1000, () => {
        this.#drop(1000);
        this.#open();
      });
    }
  }

  /** @param {any} frame */
  #answer(frame) {
    const error = frame.type === "error" ? new ParleyError(frame) : null;
    const asked = this.#pending.get(frame.id);
    if (!asked) {
      if (error && frame.id === null) this.emit("error", error);
      return;
    }
    this.#pending.delete(frame.id);
    clearTimeout(asked.timer);
    if (error) asked.fail(error);
    else asked.done(frame.result);
  }

  /** @param {any} hello */
  #greet(hello) {
    clearTimeout(this.#timers.hello);
    this.#isTokenRefused = false;
    this.hello = hello;
    this.user = hello.user;
    this.#timers.good = later(GOOD_AFTER_MS, () => (this.#attempts = 0));
    // Browsers show no pings of the server: ask when it has been silent for as long as one takes.
    const interval = hello.ping_interval * 1000;
    this.#timers.beat = every(interval / 2, () => {
      if (Date.now() - this.#lastHeard >= interval) this.#ping();
    });
    const left = Date.parse(hello.expires_at) - Date.parse(hello.server_time);
    this.#refreshIn(left - REFRESH_BEFORE_MS);
    this.#become("online");
    this.emit("hello", hello);
    for (const room of this.#rooms.values()) room._subscribe();
    for (const queue of this.#queues.values()) this.#pump(queue);
  }

  /** @param {number} delay */
  #refreshIn(delay) {
    const fetchToken = this.#token;
    if (typeof fetchToken !== "function") return;
    this.#timers.refresh = later(Math.min(Math.max(delay, 5_000), TIMER_MAX_MS), async () => {
      try {
        const { expires_at } = await this.request("refresh", { token: await fetchToken() });
        this.#refreshIn(Date.parse(expires_at) - Date.now() - REFRESH_BEFORE_MS);
      } catch {
        // The old token stays until it expires; its end (4402) fetches the next one.
      }
    });
  }

  #ping() {
    const socket = this.#socket;
    const fail = (/** @type {ParleyError} */ error) => {
      if (error.code === "timeout" && socket === this.#socket) this.#lose(1006, "No answer.");
    };
    this._ask("ping", {}, () => {}, fail, PING_TIMEOUT_MS);
  }

  /** Forget the socket, whose close may take as long as it likes. @param {number} [code] */
  #drop(code) {
    const socket = this.#socket;
    this.#socket = null;
    this.#stopTimers();
    socket?.close(code);
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const { fail, timer } of pending) {
      clearTimeout(timer);
      fail(disconnected());
    }
    for (const room of this.#rooms.values()) room._pause();
  }

  /** The connection is gone: what now, by its close code. @param {number} code @param {string} reason */
  #lose(code, reason) {
    this.#drop();
    const isToken = code === 4401 || code === 4402;
    if (isToken && typeof this.#token === "function" && !this.#isTokenRefused) {
      this.#isTokenRefused = true;
      this.#open();
    } else if (code === 1000 || (code >= 4400 && code < 4500)) {
      this.#finish(code, reason);
    } else {
      this.#retry(code, reason);
    }
  }

  /** @param {?number} code @param {string} reason */
  #retry(code, reason) {
    const retryIn = Math.random() * Math.min(BACKOFF_MAX_MS, BACKOFF_MS * 2 ** this.#attempts);
    this.#attempts += 1;
    this.#timers.retry = later(retryIn, () => this.#open());
    this.#become("waiting", { code, reason, retryIn });
  }

  /** @param {number} code @param {string} reason */
  #finish(code, reason) {
    this.#turn += 1;
    for (const queue of this.#queues.values()) {
      clearTimeout(queue.timer);
      for (const { fail } of queue.entries) fail(new ParleyError({ code: "closed", message: reason }));
    }
    this.#queues.clear();
    this.#become("closed", { code, reason });
  }

  /**
   * Send a queue's oldest message, if none is on its way: one at a time keeps the order when
   * something has to be repeated.
   *
   * @param {{entries: any[], isBusy: boolean, timer: number}} queue
   */
  #pump(queue) {
    const entry = queue.entries[0];
    if (!entry || queue.isBusy || this.#state !== "online") return;
    queue.isBusy = true;
    const settle = (/** @type {() => void} */ act) => {
      queue.isBusy = false;
      queue.entries.shift();
      act();
      this.#pump(queue);
    };
    const fail = (/** @type {ParleyError} */ error) => {
      if (!RETRYABLE.has(error.code) && !UNKNOWN.has(error.code)) {
        settle(() => entry.fail(error));
        return;
      }
      const delay = error.code === "disconnected" ? 0 : (error.retryAfter ?? 1) * 1000;
      queue.timer = later(delay, () => {
        queue.isBusy = false;
        this.#pump(queue); // or, if there is no connection, the next `hello` does
      });
    };
    this._ask("publish", entry.frame, (result) => settle(() => entry.done(result)), fail);
  }

  #stopTimers() {
    clearInterval(this.#timers.beat);
    for (const timer of Object.values(this.#timers)) clearTimeout(timer);
  }
}

/**
 * A room that is subscribed, and again after each reconnect. Get it from `parley.room(id)`. Events:
 *
 * - `reset`: `{messages, reply}`: show exactly these; the first time, and when a resume was not
 *   possible (`reply.reason`)
 * - `live`: the reply of the subscription (`role`, `unread`, `read_seq`, `members_online` …)
 * - `event`, and each event under its own name (`message.created`, `typing.started` …): the frame.
 *   Durable ones come once each, in the order of their offsets
 * - `paused`: no connection; `live` follows
 * - `end`: `{code, message}`: no longer subscribed (removed, deleted, not allowed)
 */
export class Room extends Emitter {
  #parley;
  #history;
  #turn = 0;
  #timer = 0;
  #typedAt = 0;
  #readWanted = 0;
  #readSent = 0;
  #readTimer = 0;

  /** Where the room has been followed to. @type {?Position} */
  position = null;
  /** Whether events are coming in. */
  isLive = false;
  /** Whether it is over: removed, deleted, or `unsubscribe()`. */
  isEnded = false;
  /** The last reply of the subscription. @type {any} */
  reply = null;

  /** @param {Parley} parley @param {string} id @param {number} history */
  constructor(parley, id, history) {
    super();
    this.#parley = parley;
    this.#history = history;
    this.id = id;
  }

  /** @param {Draft} draft */
  publish(draft) {
    this.#typedAt = 0; // the message ends the typing
    return this.#parley.publish(this.id, draft);
  }

  /** @param {number} seq @param {{content?: string, metadata?: object, attachments?: Attachment[]}} fields */
  edit(seq, fields) {
    return this.#ask("edit", { seq, ...fields });
  }

  /** @param {number} seq */
  delete(seq) {
    return this.#ask("delete", { seq });
  }

  /** @param {number} seq @param {string} reaction */
  react(seq, reaction) {
    return this.#ask("react", { seq, reaction });
  }

  /** @param {number} seq @param {string} reaction */
  unreact(seq, reaction) {
    return this.#ask("unreact", { seq, reaction });
  }

  /**
   * A page of messages, ascending: the newest, or those before or after a seq.
   *
   * @param {{before?: number, after?: number, limit?: number}} [page]
   * @returns {Promise<{messages: Message[], has_more: boolean}>}
   */
  history(page = {}) {
    return this.#ask("history", page);
  }

  /** Who is here. @returns {Promise<{users: {user: string, since: string, connections: number}[], count: number}>} */
  presence(limit = 100) {
    return this.#ask("presence", { limit });
  }

  /** An ephemeral event of the application's own. @param {string} name @param {any} data */
  signal(name, data) {
    return this.#ask("signal", { name, data });
  }

  /** Call it on every keystroke; it tells the others often enough and not more often. */
  typing() {
    if (!this.isLive || Date.now() - this.#typedAt < TYPING_EVERY_MS) return;
    this.#typedAt = Date.now();
    this.#tell("typing", { active: true });
  }

  /** The text was given up. (Publishing ends the typing by itself.) */
  stopTyping() {
    if (!this.isLive || this.#typedAt === 0) return;
    this.#typedAt = 0;
    this.#tell("typing", { active: false });
  }

  /** Everything up to this seq has been read. Kept until it could be told, told not too often. */
  read(/** @type {number} */ seq) {
    this.#readWanted = Math.max(this.#readWanted, seq);
    if (!this.isLive || this.#readTimer || this.#readWanted <= this.#readSent) return;
    const wanted = (this.#readSent = this.#readWanted);
    this.#readTimer = later(READ_EVERY_MS, () => {
      this.#readTimer = 0;
      this.read(0);
    });
    this.#tell("read", { seq: wanted });
  }

  /** End the subscription. */
  unsubscribe() {
    if (this.isEnded) return;
    this.#tell("unsubscribe", {});
    this.#finish("left", "Unsubscribed.");
  }

  /** Ask for everything since the position, or for the newest messages. Repeating is harmless. */
  _subscribe() {
    const turn = ++this.#turn;
    clearTimeout(this.#timer);
    const fields = { room: this.id, history: this.#history };
    if (this.position) Object.assign(fields, { since: this.position });
    const isCurrent = () => turn === this.#turn && !this.isEnded;
    const done = (/** @type {any} */ reply) => isCurrent() && this.#begin(reply);
    const fail = (/** @type {ParleyError} */ error) => {
      if (!isCurrent() || error.code === "disconnected") return;
      if (RETRYABLE.has(error.code) || error.code === "timeout") this.#again(error.retryAfter ?? 1);
      else this.#finish(error.code, error.message);
    };
    this.#parley._ask("subscribe", fields, done, fail);
  }

  /** @param {any} reply */
  #begin(reply) {
    this.reply = reply;
    this.isLive = true;
    if (reply.recovered) {
      for (const event of reply.events) this._take({ ...event, room: this.id });
    } else {
      this.position = { epoch: reply.epoch, offset: reply.offset };
      this.emit("reset", { messages: reply.messages, reply });
    }
    this.emit("live", reply);
    this.#readSent = 0;
    this.read(0);
  }

  /** @param {EventFrame} frame */
  _take(frame) {
    if (frame.offset) {
      if (!this.position || frame.offset <= this.position.offset) return; // seen already
      if (frame.offset > this.position.offset + 1) {
        this._subscribe(); // never in one epoch; whatever it was, a resume mends it
        return;
      }
      this.position = { ...this.position, offset: frame.offset };
    }
    this.emit(frame.event, frame);
    this.emit("event", frame);
  }

  /** The server ended the subscription. @param {string} code @param {string} message */
  _end(code, message) {
    if (code !== "resync") {
      this.#finish(code, message);
      return;
    }
    this._pause();
    this.#again(1);
  }

  /** There is no connection. */
  _pause() {
    this.#turn += 1;
    clearTimeout(this.#timer);
    this.#typedAt = 0;
    if (!this.isLive) return;
    this.isLive = false;
    this.emit("paused");
  }

  /** @param {number} seconds */
  #again(seconds) {
    this.#timer = later(seconds * 1000 * (0.5 + Math.random() / 2), () => this._subscribe());
  }

  /** @param {string} code @param {string} message */
  #finish(code, message) {
    clearTimeout(this.#timer);
    this.isLive = false;
    this.isEnded = true;
    this.#parley._forget(this);
    this.emit("end", { code, message });
  }

  /** @param {string} type @param {object} fields */
  #ask(type, fields) {
    return this.#parley.request(type, { ...fields, room: this.id });
  }

  /** A command whose failure matters to nobody. @param {string} type @param {object} fields */
  #tell(type, fields) {
    this.#parley._ask(type, { ...fields, room: this.id }, () => {}, () => {});
  }
}

/** @param {number} delay @param {() => void} act @returns {any} */
const later = (delay, act) => setTimeout(act, delay);
/** @param {number} interval @param {() => void} act @returns {any} */
const every = (interval, act) => setInterval(act, interval);
