/** The user's rooms: read once from REST, kept right by the user's own channel and the rooms' events. */

import { RoomModel } from "./room_model.js";

/** Rooms followed live, the most recent ones: each costs a subscription, and shows who is there. */
const FOLLOWED_MAX = 40;

export class Rooms extends EventTarget {
  #parts;
  #models = new Map();

  /** @param {{me: string, parley: import("../parley.js").Parley, rest: any, people: any}} parts */
  constructor(parts) {
    super();
    this.#parts = parts;
    const { parley } = parts;
    parley.on("notification.message", ({ room, data }) => this.#note(room, data));
    parley.on("notification.read", ({ room, data }) => this.#models.get(room)?.noteUnread(data));
    parley.on("notification.added", () => this.load());
    parley.on("notification.removed", ({ room }) => this.#remove(room));
  }

  /** By activity. */
  get all() {
    return [...this.#models.values()].sort((a, b) => (a.newestAt < b.newestAt ? 1 : -1));
  }

  get unread() {
    return this.all.reduce((sum, { unread }) => sum + unread, 0);
  }

  /** The room of this id, also if it is in no list (a public one). */
  get(id) {
    let model = this.#models.get(id);
    if (!model) {
      model = new RoomModel({ id, ...this.#parts });
      model.addEventListener("change", () => this.#tell());
      model.addEventListener("end", () => this.#remove(id));
      this.#models.set(id, model);
    }
    return model;
  }

  /** Ask for the list again: at the start, and after every reconnect. */
  async load() {
    const items = await this.#parts.rest.rooms();
    items.forEach((item) => this.get(item.id).learn(item));
    this.all.slice(0, FOLLOWED_MAX).forEach((model) => model.follow());
    this.#tell();
  }

  #note(id, data) {
    if (this.#models.has(id)) this.#models.get(id).noteUnread(data);
    else this.load().catch(() => {}); // the next reconnect asks again
  }

  #remove(id) {
    this.#models.delete(id);
    this.#tell();
  }

  #tell() {
    this.dispatchEvent(new Event("change"));
  }
}
