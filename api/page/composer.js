/** Where a message is written: text, links to attach, a reply's quote, or an edit. */

import { h, iconButton, safeUrl } from "./dom.js";
import { gist } from "./words.js";

const CONTENT_BYTES_MAX = 32768;
const size = (text) => new TextEncoder().encode(text).length;

export class Composer {
  #model;
  #people;
  #mode = { kind: "new" };
  #draft = "";
  #links = [];

  /** @param {{model: any, people: any, onsent: () => void, editLast: () => void}} parts */
  constructor({ model, people, onsent, editLast }) {
    this.#model = model;
    this.#people = people;
    this.onsent = onsent;
    this.editLast = editLast;
    this.text = h("textarea", { id: "composer", rows: 1, placeholder: "Write a message", "aria-describedby": "composer-problem", oninput: () => this.#typed(), onkeydown: (event) => this.#pressed(event) });
    this.banner = h("div", { class: "composer-banner", hidden: true });
    this.links = h("ul", { class: "attachments composer-links", hidden: true });
    this.problem = h("p", { id: "composer-problem", class: "problem", role: "alert" });
    this.linkField = this.#buildLinkField();
    this.element = h(
      "form",
      { class: "composer", "aria-label": "New message", onsubmit: (event) => this.#submit(event) },
      this.banner,
      this.linkField,
      this.links,
      this.problem,
      h(
        "div",
        { class: "composer-row" },
        iconButton("attach", "Attach a link", () => this.#toggleLinkField(), { "aria-expanded": "false", "data-attach": true }),
        h("label", { for: "composer", class: "sr-only", text: "Message" }),
        this.text,
        iconButton("send", "Send", () => this.#submit(), { class: "icon-button is-send" }),
      ),
    );
  }

  focus() {
    this.text.focus();
  }

  get isEmpty() {
    return !this.text.value && !this.#links.length && this.#mode.kind === "new";
  }

  reply(message) {
    this.#leaveEdit();
    this.#mode = { kind: "reply", message };
    this.#showBanner(`Replying to ${this.#people.name(message.sender)}`, gist(message));
  }

  edit(message) {
    if (this.#mode.kind !== "edit") this.#draft = this.text.value;
    this.#mode = { kind: "edit", message };
    this.#setText(message.content ?? "");
    this.#showBanner("Editing your message", gist(message));
  }

  /** Back to a new message, without losing what had been written before an edit. */
  cancel() {
    this.#leaveEdit();
    this.#mode = { kind: "new" };
    this.banner.hidden = true;
    this.problem.textContent = "";
    this.focus();
  }

  setEnabled(isEnabled, reason) {
    this.element.inert = !isEnabled;
    this.text.placeholder = isEnabled ? "Write a message" : reason;
  }

  #leaveEdit() {
    if (this.#mode.kind === "edit") this.#setText(this.#draft);
    this.#draft = "";
  }

  #showBanner(title, line) {
    this.banner.replaceChildren(
      h("span", { class: "banner-lines" }, h("strong", { text: title }), h("span", { text: line })),
      iconButton("close", "Cancel", () => this.cancel()),
    );
    this.banner.hidden = false;
    this.focus();
  }

  #typed() {
    this.#fit();
    this.problem.textContent = "";
    if (this.#mode.kind === "edit") return;
    if (this.text.value) this.#model.subscription?.typing();
    else this.#model.subscription?.stopTyping();
  }

  #pressed(event) {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      this.#submit();
    } else if (event.key === "Escape" && this.#mode.kind !== "new") {
      event.preventDefault();
      this.cancel();
    } else if (event.key === "ArrowUp" && this.isEmpty) {
      event.preventDefault();
      this.editLast();
    }
  }

  #submit(event) {
    event?.preventDefault();
    const content = this.text.value.trim();
    if (size(content) > CONTENT_BYTES_MAX) {
      this.problem.textContent = "This is too long for one message (32 KiB).";
      return;
    }
    if (this.#mode.kind === "edit") this.#sendEdit(content);
    else this.#sendNew(content);
  }

  #sendNew(content) {
    if (!content && !this.#links.length) return;
    const draft = {};
    if (content) draft.content = content;
    if (this.#links.length) draft.attachments = this.#links;
    if (this.#mode.kind === "reply") draft.reply_to = this.#mode.message.seq;
    this.#model.send(draft);
    this.#links = [];
    this.#renderLinks();
    this.#setText("");
    this.cancel();
    this.onsent();
  }

  async #sendEdit(content) {
    const { message } = this.#mode;
    if (content !== (message.content ?? "")) {
      try {
        await this.#model.subscription.edit(message.seq, { content });
      } catch (error) {
        this.problem.textContent = `Not changed: ${error.message}`;
        return;
      }
    }
    this.cancel();
  }

  #buildLinkField() {
    const field = h("input", { id: "link", type: "url", placeholder: "https://…", autocomplete: "off" });
    field.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#toggleLinkField();
      if (event.key !== "Enter") return;
      event.preventDefault();
      this.#addLink(field);
    });
    return h(
      "div",
      { class: "link-field", hidden: true },
      h("label", { for: "link", text: "Address of the file" }),
      h("div", { class: "link-row" }, field, h("button", { type: "button", class: "button is-quiet", onclick: () => this.#addLink(field), text: "Attach" })),
    );
  }

  #toggleLinkField() {
    const isOpen = (this.linkField.hidden = !this.linkField.hidden) === false;
    this.element.querySelector("[data-attach]").setAttribute("aria-expanded", String(isOpen));
    if (isOpen) this.linkField.querySelector("input").focus();
    else this.focus();
  }

  #addLink(field) {
    const url = safeUrl(field.value.trim());
    if (!url) {
      this.problem.textContent = "An address begins with https:// or http://.";
      field.focus();
      return;
    }
    this.problem.textContent = "";
    const name = decodeURIComponent(new URL(url).pathname.split("/").at(-1) ?? "") || new URL(url).host;
    this.#links = [...this.#links, { url, name }];
    field.value = "";
    this.#renderLinks();
    this.#toggleLinkField();
  }

  #renderLinks() {
    this.links.hidden = !this.#links.length;
    this.links.replaceChildren(
      ...this.#links.map((link) =>
        h(
          "li",
          { class: "attachment" },
          h("span", { text: link.name }),
          iconButton("close", `Remove ${link.name}`, () => {
            this.#links = this.#links.filter((other) => other !== link);
            this.#renderLinks();
          }),
        ),
      ),
    );
  }

  #setText(text) {
    this.text.value = text;
    this.#fit();
  }

  /** As high as its text, up to the limit of the style sheet. */
  #fit() {
    this.text.style.height = "auto";
    this.text.style.height = `${this.text.scrollHeight}px`;
  }
}
