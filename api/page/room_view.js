/**
 * A room on the screen: its head, the messages, who types, the composer, the search.
 *
 * The messages are a list with one stop for the Tab key: arrows move from message to message, and
 * the buttons of the current one follow. Elements are built anew only when what they show changed,
 * so that focus, selection and the place in the list stay.
 */

import { Composer } from "./composer.js";
import { announce, h, iconButton, reconcile } from "./dom.js";
import { messageView, pendingView } from "./message_view.js";
import { SearchView } from "./search_view.js";
import { dayOf, gist, isSameDay, list, plural } from "./words.js";

const GROUP_MS = 5 * 60_000;
/** So near to the end counts as there. */
const NEAR_PX = 80;

export class RoomView {
  #model;
  #people;
  #rest;
  #elements = new Map();
  #choosing = null;
  #current = null;
  #isAtEnd = true;
  #newFrom = null;
  #oldest = null;
  #isClosed = false;
  #stops = [];

  /** @param {{model: any, people: any, rest: any}} parts */
  constructor({ model, people, rest }) {
    this.#model = model;
    this.#people = people;
    this.#rest = rest;
    this.title = h("h2", { id: "room-title", tabindex: -1 });
    this.subtitle = h("p", { class: "subtitle" });
    this.older = h("button", { type: "button", class: "link-button older", onclick: () => this.#loadOlder(), text: "Show earlier messages" });
    this.log = h("ol", { class: "log", "aria-labelledby": "room-title", onkeydown: (event) => this.#pressed(event), onfocusin: (event) => this.#focused(event) });
    this.scroller = h("div", { class: "scroller", onscroll: () => this.#scrolled() }, this.older, this.log);
    this.toEnd = h("button", { type: "button", class: "to-end", hidden: true, onclick: () => this.scrollToEnd(), text: "Newest messages" });
    this.typing = h("p", { class: "typing", "aria-live": "off" });
    this.composer = new Composer({ model, people, onsent: () => this.scrollToEnd(), editLast: () => this.#editLast() });
    this.search = new SearchView({ model, rest, people, jump: (seq) => this.jump(seq), onclose: () => this.#toggleSearch(false) });
    this.search.element.hidden = true;
    this.searchButton = iconButton("search", "Search in this room", () => this.#toggleSearch(true), { "aria-expanded": "false" });
    this.element = h(
      "section",
      { class: "room-view", "aria-labelledby": "room-title" },
      h(
        "header",
        { class: "room-head" },
        h("a", { class: "icon-button back", href: "#/", "aria-label": "All rooms", text: "←" }),
        h("div", { class: "room-heading" }, this.title, this.subtitle),
        this.searchButton,
      ),
      this.search.element,
      h("div", { class: "log-area" }, this.scroller, this.toEnd),
      this.typing,
      this.composer.element,
    );
    this.#newFrom = model.unread > 0 ? model.readSeq : null;
    this.#listen(model, "change", () => this.render());
    this.#listen(people, "change", () => this.render());
    this.#listen(model, "arrived", ({ detail }) => this.#arrived(detail));
    this.#listen(document, "visibilitychange", () => this.#readIfSeen());
    this.#listen(window, "focus", () => this.#readIfSeen());
    this.#observeTop();
  }

  /** After it has been put into the document. */
  open() {
    this.#model.follow();
    this.render();
    this.scrollToEnd();
  }

  close() {
    this.#isClosed = true;
    this.#model.subscription?.stopTyping();
    this.#stops.forEach((stop) => stop());
  }

  focus() {
    // On a phone the keyboard would cover what one came to read.
    if (matchMedia("(min-width: 720px)").matches) this.composer.focus();
    else this.title.focus();
  }

  openSearch() {
    this.#toggleSearch(true);
  }

  render() {
    if (this.#isClosed) return;
    const model = this.#model;
    this.title.textContent = model.title;
    this.subtitle.textContent = this.#subtitle();
    this.older.hidden = !model.timeline.hasMore;
    this.typing.textContent = this.#typingLine();
    this.composer.setEnabled(!model.isLoaded || model.mayPublish, "You can read here, but not write.");
    const focus = this.#rememberFocus();
    const height = this.scroller.scrollHeight - this.scroller.scrollTop;
    const oldest = this.#oldest;
    this.#oldest = model.timeline.oldest;
    reconcile(this.log, this.#entries());
    if (this.#isAtEnd) this.scroller.scrollTop = this.scroller.scrollHeight;
    else if (oldest !== null && oldest !== this.#oldest) this.scroller.scrollTop = this.scroller.scrollHeight - height;
    this.#placeTabStop();
    focus?.();
    this.#readIfSeen();
  }

  scrollToEnd() {
    this.#isAtEnd = true;
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.toEnd.hidden = true;
    this.#readIfSeen();
  }

  /** Show a message, loading what is needed. */
  async jump(seq) {
    const isThere = await this.#model.loadUntil(seq).catch(() => false);
    if (!isThere) {
      announce("This message is too far back.");
      return;
    }
    this.render();
    const item = this.#itemOf(seq);
    if (!item) return;
    this.#isAtEnd = false;
    item.scrollIntoView({ block: "center" });
    item.classList.add("is-found");
    setTimeout(() => item.classList.remove("is-found"), 2000);
    this.#current = seq;
    this.#placeTabStop();
    item.querySelector("article")?.focus({ preventScroll: true });
  }

  #listen(target, type, listener) {
    target.addEventListener(type, listener);
    this.#stops.push(() => target.removeEventListener(type, listener));
  }

  /** The top coming into view loads the page before. */
  #observeTop() {
    const observer = new IntersectionObserver(
      ([entry]) => entry.isIntersecting && !this.older.hidden && this.#loadOlder(),
      { root: this.scroller, rootMargin: "200px 0px 0px 0px" },
    );
    observer.observe(this.older);
    this.#stops.push(() => observer.disconnect());
  }

  async #loadOlder() {
    if (!this.#model.subscription?.isLive) return;
    this.older.textContent = "Loading …";
    const isFocused = document.activeElement === this.older;
    const oldest = this.#model.timeline.oldest;
    await this.#model.loadOlder().catch(() => {}); // offline: the button stays
    this.older.textContent = "Show earlier messages";
    if (isFocused && this.older.hidden) this.#itemOf(oldest)?.querySelector("article")?.focus();
  }

  #entries() {
    const { timeline, pending } = this.#model;
    const { messages } = timeline;
    const readers = this.#readersBySeq(messages);
    const firstNew = this.#firstNew(messages);
    const entries = [];
    const used = new Set();
    const keep = (key, signature, build) => {
      used.add(key);
      const known = this.#elements.get(key);
      if (known?.signature === signature) return entries.push(known.element);
      const element = build();
      this.#elements.set(key, { signature, element });
      return entries.push(element);
    };
    let previous = null;
    for (const message of messages) {
      if (!previous || !isSameDay(previous.created_at, message.created_at)) {
        const day = dayOf(message.created_at);
        keep(`day ${message.created_at.slice(0, 10)}`, day, () => h("li", { class: "divider" }, h("span", { text: day })));
        previous = null;
      }
      if (message.seq === firstNew) {
        keep("new", "", () => h("li", { class: "divider is-new" }, h("span", { text: "New" })));
        previous = null;
      }
      const context = this.#context(message, previous, readers);
      const signature = JSON.stringify([message, context, this.#namesIn(message, context)]);
      keep(`seq ${message.seq}`, signature, () => messageView(message, context, this.#people, this.#actions));
      previous = message;
    }
    for (const entry of pending) {
      keep(`pending ${entry.client_id}`, String(entry.error), () => pendingView(entry, { discard: (it) => this.#model.discard(it) }));
    }
    for (const key of this.#elements.keys()) if (!used.has(key)) this.#elements.delete(key);
    return entries;
  }

  /** The first message that was unread when the room was opened. */
  #firstNew(messages) {
    if (this.#newFrom === null) return null;
    const isNew = ({ seq, sender }) => seq > this.#newFrom && sender !== this.#model.me;
    return messages.find(isNew)?.seq ?? null;
  }

  #context(message, previous, readers) {
    const model = this.#model;
    const isOwn = message.sender === model.me;
    const gap = previous ? Date.parse(message.created_at) - Date.parse(previous.created_at) : Infinity;
    return {
      isOwn,
      isFirst: !previous || previous.sender !== message.sender || gap > GROUP_MS,
      readers: readers.get(message.seq) ?? [],
      isChoosing: this.#choosing === message.seq,
      mayDelete: isOwn || model.mayModerate,
      mayReact: model.role !== null,
      mayPublish: model.mayPublish,
      quoted: message.reply_to === null ? null : model.timeline.get(message.reply_to),
    };
  }

  #namesIn(message, { quoted, readers }) {
    const reacting = Object.values(message.reactions).flatMap(({ users }) => users);
    return [message.sender, quoted?.sender, ...readers, ...reacting].map((id) => id && this.#people.name(id));
  }

  /** The others, each at the newest loaded message that it has read, own ones at least. */
  #readersBySeq(messages) {
    const found = new Map();
    for (const [user, seq] of this.#model.reads) {
      if (user === this.#model.me) continue;
      const at = messages.findLast((message) => message.seq <= seq)?.seq;
      // A mark at one's own message says nothing that the message does not.
      if (at === undefined || this.#model.timeline.get(at).sender === user) continue;
      found.set(at, [...(found.get(at) ?? []), user]);
    }
    return found;
  }

  #actions = {
    jump: (seq) => this.jump(seq),
    reply: (message) => this.composer.reply(message),
    edit: (message) => this.composer.edit(message),
    remove: (message) => this.#remove(message),
    choose: (message) => {
      this.#choosing = this.#choosing === message.seq ? null : message.seq;
      this.render();
      if (this.#choosing) this.#itemOf(message.seq)?.querySelector(".palette button")?.focus();
    },
    react: (message, reaction) => this.#react(message, reaction),
  };

  async #react(message, reaction) {
    const isMine = message.reactions[reaction]?.mine;
    const wasChoosing = this.#choosing === message.seq;
    this.#choosing = null;
    this.render();
    if (wasChoosing) this.#itemOf(message.seq)?.querySelector("[data-focus=react]")?.focus();
    const { subscription } = this.#model;
    await this.#attempt(() => (isMine ? subscription.unreact(message.seq, reaction) : subscription.react(message.seq, reaction)));
  }

  #remove(message) {
    const dialog = h(
      "dialog",
      { class: "dialog", "aria-labelledby": "delete-title" },
      h("h2", { id: "delete-title", text: "Delete this message?" }),
      h("p", { text: gist(message) }),
      h(
        "form",
        { method: "dialog", class: "dialog-row" },
        h("button", { class: "button is-quiet", value: "cancel", text: "Cancel" }),
        h("button", { class: "button is-danger", value: "delete", text: "Delete" }),
      ),
    );
    dialog.addEventListener("close", () => {
      const isSure = dialog.returnValue === "delete";
      dialog.remove();
      this.#itemOf(message.seq)?.querySelector("article")?.focus();
      if (isSure) this.#attempt(() => this.#model.subscription.delete(message.seq));
    });
    document.body.append(dialog);
    dialog.showModal();
  }

  /** A command whose refusal is said where the eyes are. */
  async #attempt(act) {
    try {
      await act();
    } catch (error) {
      this.composer.problem.textContent = error.code === "disconnected" ? "Not done: there is no connection." : error.message;
    }
  }

  #editLast() {
    const own = this.#model.timeline.messages.findLast((message) => message.sender === this.#model.me && !message.deleted_at);
    if (own) this.composer.edit(own);
  }

  #toggleSearch(isOpen) {
    this.search.element.hidden = !isOpen;
    this.searchButton.setAttribute("aria-expanded", String(isOpen));
    if (isOpen) this.search.focus();
    else this.searchButton.focus();
  }

  #subtitle() {
    const { info, online, onlineCount, me } = this.#model;
    const others = [...online.keys()].filter((user) => user !== me).map((user) => this.#people.name(user));
    let here = onlineCount > 1 ? `${plural(onlineCount, "person", "people")} online` : "Only you are here";
    if (others.length) here = `${list(others, 4)} ${others.length === 1 ? "is" : "are"} here`;
    if (!this.#model.isLoaded) here = "";
    return [info.topic, here].filter(Boolean).join(" · ");
  }

  #typingLine() {
    const names = this.#model.typing.map((user) => this.#people.name(user));
    return names.length ? `${list(names)} ${names.length === 1 ? "is" : "are"} typing …` : "";
  }

  #arrived(message) {
    if (message.sender === this.#model.me) return;
    announce(`${this.#people.name(message.sender)}: ${gist(message)}`);
    if (!this.#isAtEnd) this.toEnd.hidden = false;
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    this.#isAtEnd = scrollHeight - scrollTop - clientHeight < NEAR_PX;
    if (this.#isAtEnd) this.toEnd.hidden = true;
    this.#readIfSeen();
  }

  #readIfSeen() {
    if (this.#isAtEnd && !this.#isClosed && document.visibilityState === "visible" && document.hasFocus()) {
      this.#model.markRead();
    }
  }

  #itemOf(seq) {
    return this.#elements.get(`seq ${seq}`)?.element ?? null;
  }

  /** How to give the focus back to what is focused now, once its message has been built anew. */
  #rememberFocus() {
    const focused = document.activeElement;
    const seq = focused?.closest?.(".message[data-seq]")?.dataset.seq;
    const key = focused?.dataset?.focus;
    if (!seq || !key || !this.log.contains(focused)) return null;
    return () => {
      if (focused.isConnected) return;
      const item = this.#itemOf(Number(seq));
      const again = [...(item?.querySelectorAll("[data-focus]") ?? [])].find((element) => element.dataset.focus === key);
      (again ?? item?.querySelector("article"))?.focus({ preventScroll: true });
    };
  }

  /** One message can be reached by Tab, and its buttons after it. */
  #placeTabStop() {
    const { timeline } = this.#model;
    const seq = this.#current !== null && timeline.get(this.#current) ? this.#current : timeline.newest;
    for (const [key, { element }] of this.#elements) {
      if (!key.startsWith("seq ")) continue;
      const index = key === `seq ${seq}` ? 0 : -1;
      if (element.querySelector("article").tabIndex === index) continue;
      for (const stop of element.querySelectorAll("[data-focus]")) stop.tabIndex = index;
    }
  }

  #focused({ target }) {
    const seq = Number(target.closest("[data-seq]")?.dataset.seq);
    if (!seq || seq === this.#current) return;
    this.#current = seq;
    this.#placeTabStop();
  }

  #pressed(event) {
    const item = event.target.closest("[data-seq]");
    if (!item || event.ctrlKey || event.metaKey || event.altKey) return;
    const message = this.#model.timeline.get(Number(item.dataset.seq));
    const items = [...this.log.querySelectorAll("[data-seq]")];
    const at = items.indexOf(item);
    const target = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: items.length - 1 }[event.key];
    if (target !== undefined) {
      event.preventDefault();
      items[Math.max(0, Math.min(target, items.length - 1))].querySelector("article").focus();
    } else if (event.key === "Escape" && this.#choosing !== null) {
      this.#actions.choose({ seq: this.#choosing });
      item.querySelector("article").focus();
    } else if (event.key === "Escape") {
      this.composer.focus();
    } else if (!message.deleted_at && event.target.dataset.focus === "message") {
      this.#shortcut(event, message);
    }
  }

  /** Keys on a message itself: r, e, Delete, + */
  #shortcut(event, message) {
    const isOwn = message.sender === this.#model.me;
    const act = {
      r: this.#model.mayPublish && this.#actions.reply,
      e: isOwn && this.#actions.edit,
      Delete: (isOwn || this.#model.mayModerate) && this.#actions.remove,
      "+": this.#model.role !== null && this.#actions.choose,
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act(message);
  }
}
