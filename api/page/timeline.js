/**
 * The messages of one room as far as they are loaded, and what events do to them.
 *
 * The rules are those of docs/protocol.md, "Resuming": storing twice changes nothing, a tombstone
 * stays, reactions are set operations. Nothing here touches the page or the network.
 */

export class Timeline {
  /** @type {Map<number, import("../parley.js").Message>} */
  #bySeq = new Map();
  #order = [];
  #me;
  /** Whether there are older messages than the loaded ones. */
  hasMore = false;

  /** @param {string} me  Whose view it is: for `mine`. */
  constructor(me) {
    this.#me = me;
  }

  /** Ascending. */
  get messages() {
    return this.#order.map((seq) => this.#bySeq.get(seq));
  }

  get oldest() {
    return this.#order[0] ?? null;
  }

  get newest() {
    return this.#order.at(-1) ?? 0;
  }

  get(seq) {
    return this.#bySeq.get(seq) ?? null;
  }

  /** Show exactly these. */
  reset(messages, hasMore) {
    this.#bySeq.clear();
    this.#order = [];
    this.hasMore = hasMore;
    messages.forEach((message) => this.#store(message));
  }

  /** An older page. */
  prepend(messages, hasMore) {
    messages.forEach((message) => this.#store(message));
    this.hasMore = hasMore;
  }

  /** Apply a durable event of the room. */
  apply({ event, data }) {
    if (event === "message.created") {
      if (this.#bySeq.has(data.seq)) return;
      this.#store(data);
      const parent = this.#bySeq.get(data.reply_to);
      if (parent) this.#change(parent, { reply_count: parent.reply_count + 1 });
      return;
    }
    const message = this.#bySeq.get(data.seq);
    if (!message || message.deleted_at) return;
    if (event === "message.edited") {
      const { content, metadata, attachments, edited_at } = { ...message, ...data };
      this.#change(message, { content, metadata, attachments, edited_at });
    } else if (event === "message.deleted") {
      this.#change(message, {
        content: null,
        metadata: {},
        attachments: [],
        mentions: [],
        reactions: {},
        deleted_at: data.deleted_at,
        deleted_by: data.by,
      });
    } else if (event === "reaction.added" || event === "reaction.removed") {
      this.#change(message, { reactions: this.#react(message.reactions, event, data) });
    }
  }

  #react(reactions, event, { user, reaction }) {
    // Any text is a reaction, also the name of something that every object has.
    const known = Object.hasOwn(reactions, reaction) ? reactions[reaction] : undefined;
    const { count, users, mine } = known ?? { count: 0, users: [], mine: false };
    const isMine = user === this.#me;
    const had = isMine ? (mine ?? users.includes(user)) : users.includes(user);
    const isAdded = event === "reaction.added";
    // A page may know already what the event tells; beyond the listed users that can not be seen.
    if (isAdded === had && (isMine || count <= users.length)) return reactions;
    const left = users.filter((name) => name !== user);
    const changed = {
      count: isAdded ? count + 1 : count - 1,
      users: isAdded && left.length < 10 ? [...left, user] : left,
      mine: isMine ? isAdded : (mine ?? users.includes(this.#me)),
    };
    const { [reaction]: _, ...others } = reactions;
    return changed.count > 0 ? { ...others, [reaction]: changed } : others;
  }

  #store(message) {
    if (!this.#bySeq.has(message.seq)) {
      this.#order.push(message.seq);
      if (this.#order.at(-2) > message.seq) this.#order.sort((a, b) => a - b);
    }
    this.#bySeq.set(message.seq, message);
  }

  #change(message, fields) {
    this.#bySeq.set(message.seq, { ...message, ...fields });
  }
}
