/** Everything between signing in and out: the connection, the rooms, which of them is open. */

import { Parley } from "../parley.js";
import { announce, h, iconButton } from "./dom.js";
import { avatar } from "./avatar.js";
import { People } from "./people.js";
import { Rest } from "./rest.js";
import { RoomList } from "./room_list.js";
import { Rooms } from "./rooms.js";
import { RoomView } from "./room_view.js";

const CALM_MS = 2500;

export class Session {
  #onend;
  #parley;
  #rest;
  #people;
  #rooms = null;
  #list = null;
  #view = null;
  #hadTrouble = false;
  #calmTimer = 0;
  #route = () => this.#show();
  /** Coming back to the page after a while: the list may be another one. */
  #look = () => document.visibilityState === "visible" && this.#parley.state === "online" && this.#load();

  /**
   * @param {object} options
   * @param {string} options.url
   * @param {?string} options.token  One that can not be renewed; null: `takeToken` brings new ones.
   * @param {(isFresh: boolean) => Promise<string>} options.takeToken
   * @param {(reason: ?string) => void} options.onend
   */
  constructor({ url, token, takeToken, onend }) {
    this.#onend = onend;
    this.#rest = new Rest(() => takeToken(false));
    this.#people = new People(this.#rest);
    this.#parley = new Parley({ url, token: token ?? (() => takeToken(true)) });
    this.status = h("div", { class: "status", role: "status" });
    this.me = h("div", { class: "me" });
    this.side = h("div", { class: "side" }, h("header", { class: "side-head" }, h("h1", { class: "brand", text: "Parley" })), this.me);
    this.main = h("main", { class: "main", id: "main", tabindex: -1 }, this.#placeholder());
    this.element = h("div", { class: "frame", "data-view": "rooms" }, this.status, this.side, this.main);
  }

  start() {
    this.#parley.on("state", (change) => this.#stateChanged(change));
    this.#parley.on("hello", ({ user }) => this.#greeted(user));
    this.#parley.connect();
  }

  #greeted(user) {
    if (!this.#rooms) {
      const parts = { me: user, parley: this.#parley, rest: this.#rest, people: this.#people };
      this.#rooms = new Rooms(parts);
      this.#rooms.addEventListener("change", () => this.#showUnread());
      this.#people.addEventListener("change", () => this.#showMe(user));
      this.#list = new RoomList({ rooms: this.#rooms, people: this.#people });
      this.side.insertBefore(this.#list.element, this.me);
      this.#showMe(user);
      addEventListener("hashchange", this.#route);
      document.addEventListener("visibilitychange", this.#look);
    }
    this.#load();
  }

  async #load() {
    try {
      await this.#rooms.load();
    } catch (error) {
      this.#say(`The list of rooms could not be loaded: ${error.message}`, false);
      setTimeout(() => this.#parley.state === "online" && this.#load(), 3000);
    }
    if (!this.#view) this.#show();
  }

  /** Open what the address names; on a wide screen the newest room if it names none. */
  #show() {
    const wanted = decodeURIComponent(location.hash.replace(/^#\/?/, ""));
    const isWide = matchMedia("(min-width: 720px)").matches;
    const id = wanted || (isWide ? (this.#rooms.all[0]?.id ?? "") : "");
    this.element.dataset.view = wanted ? "room" : "rooms";
    if (this.#view?.id !== id) this.#open(id);
    this.#list.select(id || null);
  }

  #open(id) {
    this.#view?.view.close();
    this.#view = null;
    if (!id) {
      this.main.replaceChildren(this.#placeholder());
      return;
    }
    const model = this.#rooms.get(id);
    const view = new RoomView({ model, people: this.#people, rest: this.#rest });
    this.#view = { id, view };
    this.main.replaceChildren(view.element);
    model.addEventListener("end", ({ detail }) => this.#view?.view === view && this.#left(model, detail));
    view.open();
    view.focus();
  }

  #left(model, { message }) {
    announce(`${model.title}: ${message}`);
    this.#open("");
    this.main.replaceChildren(h("p", { class: "placeholder", role: "alert", text: `${model.title} is closed to you: ${message}` }));
  }

  #placeholder() {
    return h("p", { class: "placeholder", text: "Choose a room." });
  }

  #showMe(user) {
    const name = this.#people.name(user);
    this.me.replaceChildren(
      avatar(user, name),
      h("span", { class: "me-name", text: name }),
      iconButton("leave", "Sign out", () => this.end(null)),
    );
  }

  #showUnread() {
    const { unread } = this.#rooms;
    document.title = unread ? `(${unread}) Parley` : "Parley";
  }

  #stateChanged({ state, code, reason }) {
    clearTimeout(this.#calmTimer);
    if (state === "closed") {
      this.#end(code === 1000 ? null : reason || "The server has ended the session.");
    } else if (state === "online") {
      if (this.#hadTrouble) this.#say("Connected again. Nothing was lost.", true);
      this.#hadTrouble = false;
    } else if (state === "waiting" || this.#hadTrouble) {
      this.#hadTrouble = true;
      this.#say("Connection lost. Trying again …", false);
    }
    this.element.dataset.state = state;
  }

  #say(text, isGood) {
    this.status.replaceChildren(h("span", { text }), ...(isGood ? [] : [h("button", { type: "button", class: "link-button", onclick: () => this.#parley.check(), text: "Try now" })]));
    this.status.dataset.mood = isGood ? "good" : "bad";
    if (isGood) this.#calmTimer = setTimeout(() => this.status.replaceChildren(), CALM_MS);
  }

  /** Sign out. @param {?string} reason */
  end(reason) {
    this.#end(reason);
  }

  #end(reason) {
    if (!this.#onend) return;
    const onend = this.#onend;
    this.#onend = null;
    removeEventListener("hashchange", this.#route);
    document.removeEventListener("visibilitychange", this.#look);
    this.#view?.view.close();
    document.title = "Parley";
    this.#parley.close();
    onend(reason);
  }
}
