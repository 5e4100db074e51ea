/** Names of users: learned where an answer brings them, asked for where none did. */

const ASK_AFTER_MS = 50;

export class People extends EventTarget {
  #rest;
  #names = new Map();
  #asked = new Set();
  #wanted = new Set();

  /** @param {import("./rest.js").Rest} rest */
  constructor(rest) {
    super();
    this.#rest = rest;
  }

  /** The name to show, at once; `change` follows when a better one is known. */
  name(id) {
    if (id === null || id === undefined) return "System";
    if (!this.#names.has(id) && !this.#asked.has(id)) this.#want(id);
    return this.#names.get(id) ?? id;
  }

  learn(id, name) {
    if (!name || this.#names.get(id) === name) return;
    this.#names.set(id, name);
    this.dispatchEvent(new Event("change"));
  }

  #want(id) {
    this.#asked.add(id);
    this.#wanted.add(id);
    if (this.#wanted.size === 1) setTimeout(() => this.#ask(), ASK_AFTER_MS);
  }

  async #ask() {
    const ids = [...this.#wanted];
    this.#wanted.clear();
    try {
      for (const { id, display_name } of await this.#rest.users(ids)) this.learn(id, display_name);
    } catch {
      // The ids stand for themselves; the next sign-in asks again.
    }
  }
}
