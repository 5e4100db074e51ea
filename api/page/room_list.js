/** The list of rooms: unread messages, the last one, who is there. */

import { avatar } from "./avatar.js";
import { h, reconcile } from "./dom.js";
import { gist, plural, whenShort } from "./words.js";

export class RoomList {
  #rooms;
  #people;
  #items = new Map();
  #list = h("ul", { class: "rooms" });
  #empty = h("p", { class: "hint", text: "No rooms yet. Be added to one, and it appears here." });
  #current = null;

  constructor({ rooms, people }) {
    this.#rooms = rooms;
    this.#people = people;
    this.element = h("nav", { class: "room-list", "aria-label": "Rooms" }, this.#list, this.#empty);
    rooms.addEventListener("change", () => this.render());
    people.addEventListener("change", () => this.render());
    this.render();
  }

  /** @param {?string} id */
  select(id) {
    this.#current = id;
    this.render();
  }

  render() {
    const models = this.#rooms.all;
    this.#empty.hidden = models.length > 0;
    reconcile(this.#list, models.map((model) => this.#item(model)));
    for (const id of this.#items.keys()) {
      if (!models.some((model) => model.id === id)) this.#items.delete(id);
    }
  }

  /** The entry of a room, built anew only when it looks different. */
  #item(model) {
    const isCurrent = model.id === this.#current;
    const last = this.#lastLine(model);
    const facts = [model.title, last, model.unread, model.onlineCount, isCurrent, this.#presence(model)];
    const signature = JSON.stringify([facts, model.newestAt]);
    const known = this.#items.get(model.id);
    if (known?.signature === signature) return known.element;
    const element = known?.element ?? h("li");
    element.replaceChildren(this.#link(model, last, isCurrent));
    this.#items.set(model.id, { signature, element });
    return element;
  }

  #link(model, last, isCurrent) {
    const { unread } = model;
    const presence = this.#presence(model);
    const hadFocus = document.activeElement?.getAttribute("href") === hrefOf(model.id);
    const link = h(
      "a",
      { href: hrefOf(model.id), class: unread ? "room is-unread" : "room", "aria-current": isCurrent && "page" },
      avatar(model.otherUser ?? model.id, model.title, { isOnline: this.#isAnybodyHere(model) }),
      h(
        "span",
        { class: "room-lines" },
        h("span", { class: "room-title", text: model.title }),
        h("span", { class: "room-last", text: last }),
      ),
      h(
        "span",
        { class: "room-facts" },
        model.newestAt && h("time", { datetime: model.newestAt, text: whenShort(model.newestAt) }),
        unread > 0 && h("span", { class: "badge", "aria-label": plural(unread, "unread message", "unread messages"), text: unread > 99 ? "99+" : String(unread), role: "img" }),
      ),
      presence && h("span", { class: "sr-only", text: `, ${presence}` }),
    );
    if (hadFocus) queueMicrotask(() => link.focus());
    return link;
  }

  #lastLine({ last, typing, me }) {
    if (typing.length) return `${this.#people.name(typing[0])} is typing …`;
    if (!last) return "No messages yet";
    const text = gist(last);
    if (last.sender === me) return `You: ${text}`;
    return last.sender ? `${this.#people.name(last.sender)}: ${text}` : text;
  }

  #isAnybodyHere(model) {
    if (model.info.kind === "direct") return model.online.has(model.otherUser);
    return model.onlineCount > (model.online.has(model.me) || model.subscription?.isLive ? 1 : 0);
  }

  #presence(model) {
    if (model.info.kind === "direct") return model.online.has(model.otherUser) ? "online" : "";
    return model.onlineCount ? `${model.onlineCount} online` : "";
  }
}

export const hrefOf = (id) => `#/${encodeURIComponent(id)}`;
