/** Searching in a room: a field, and the messages found, newest first. */

import { h, iconButton } from "./dom.js";
import { dayOf, gist, plural, timeOf } from "./words.js";

export class SearchView {
  #model;
  #rest;
  #people;
  #turn = 0;

  /** @param {{model: any, rest: any, people: any, jump: (seq: number) => void, onclose: () => void}} parts */
  constructor({ model, rest, people, jump, onclose }) {
    this.#model = model;
    this.#rest = rest;
    this.#people = people;
    this.jump = jump;
    this.field = h("input", { id: "search", type: "search", autocomplete: "off", placeholder: "All of these words" });
    this.state = h("p", { class: "hint", role: "status" });
    this.found = h("ol", { class: "found" });
    this.element = h(
      "section",
      { class: "search", "aria-label": "Search in this room", onkeydown: (event) => event.key === "Escape" && onclose() },
      h(
        "form",
        { class: "search-row", role: "search", onsubmit: (event) => this.#search(event) },
        h("label", { for: "search", class: "sr-only", text: "Search in this room" }),
        this.field,
        h("button", { type: "submit", class: "button is-quiet", text: "Search" }),
        iconButton("close", "Close the search", onclose),
      ),
      this.state,
      this.found,
    );
  }

  focus() {
    this.field.focus();
  }

  async #search(event) {
    event.preventDefault();
    const words = this.field.value.trim();
    if (!words) return;
    const turn = ++this.#turn;
    this.state.textContent = "Searching …";
    let items = [];
    let problem = null;
    try {
      items = await this.#rest.search(this.#model.id, words);
    } catch (error) {
      problem = error.message;
    }
    if (turn !== this.#turn) return;
    this.state.textContent = problem ?? (items.length ? `${plural(items.length, "message", "messages")} found` : "Nothing found");
    this.found.replaceChildren(...items.map((message) => this.#item(message)));
  }

  #item(message) {
    return h(
      "li",
      {},
      h(
        "button",
        { type: "button", class: "hit", onclick: () => this.jump(message.seq) },
        h("span", { class: "hit-head" }, h("strong", { text: this.#people.name(message.sender) }), h("time", { datetime: message.created_at, text: `${dayOf(message.created_at)}, ${timeOf(message.created_at)}` })),
        h("span", { text: gist(message) }),
      ),
    );
  }
}
