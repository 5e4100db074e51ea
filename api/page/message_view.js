/** How one message looks, and one that is on its way. What its buttons do comes from the room's view. */

import { avatar } from "./avatar.js";
import { h, icon, iconButton, linked, outsideLink } from "./dom.js";
import { exactTime, fileSize, gist, list, timeOf } from "./words.js";

export const REACTIONS = ["👍", "❤️", "😂", "🎉", "😮", "😢"];

/**
 * @param {import("../parley.js").Message} message
 * @param {object} context  `isOwn`, `isFirst` (of its group), `readers` (ids), `isChoosing` (a
 *   reaction), `mayDelete`, `mayReact`, `quoted` (the message it replies to, if loaded)
 * @param {any} people
 * @param {Object<string, (...args: any[]) => void>} actions
 */
export function messageView(message, context, people, actions) {
  const { isOwn, isFirst, quoted, readers } = context;
  const name = people.name(message.sender);
  const classes = ["message", isOwn && "is-own", isFirst && "is-first", message.sender === null && "is-system"];
  return h(
    "li",
    { class: classes.filter(Boolean).join(" "), "data-seq": message.seq },
    h(
      "article",
      { class: "bubble-row", tabindex: -1, "data-focus": "message", "aria-label": labelOf(message, name, isOwn, quoted, people) },
      isFirst && !isOwn && avatar(message.sender ?? "system", name),
      h(
        "div",
        { class: "bubble-column" },
        isFirst &&
          h(
            "p",
            { class: "byline" },
            !isOwn && h("span", { class: "sender", text: name }),
            h("time", { datetime: message.created_at, title: exactTime(message.created_at), text: timeOf(message.created_at) }),
          ),
        h(
          "div",
          { class: "bubble" },
          message.reply_to !== null && quote(message.reply_to, quoted, people, actions),
          message.deleted_at ? h("p", { class: "tombstone", text: "This message was deleted." }) : body(message),
          message.edited_at && !message.deleted_at && h("span", { class: "edited", title: exactTime(message.edited_at), text: "edited" }),
        ),
        reactions(message, people, context, actions),
        !message.deleted_at && toolbar(message, context, actions),
      ),
    ),
    readers.length > 0 && readMarks(readers, people),
  );
}

/** A message that has no answer yet. */
export function pendingView(entry, { discard }) {
  return h(
    "li",
    { class: `message is-own is-first ${entry.error ? "is-refused" : "is-pending"}` },
    h(
      "div",
      { class: "bubble-row" },
      h(
        "div",
        { class: "bubble-column" },
        h("div", { class: "bubble" }, body({ attachments: [], ...entry })),
        entry.error
          ? h("p", { class: "refusal", role: "alert" }, `Not sent: ${entry.error} `, h("button", { type: "button", class: "link-button", onclick: () => discard(entry), text: "Remove" }))
          : h("p", { class: "sending", text: "Sending …" }),
      ),
    ),
  );
}

function labelOf(message, name, isOwn, quoted, people) {
  const who = isOwn ? "You" : name;
  const answered = message.reply_to === null ? "" : `, in reply to ${quoted ? people.name(quoted.sender) : "an earlier message"}`;
  const edited = message.edited_at && !message.deleted_at ? ", edited" : "";
  return `${who}, ${timeOf(message.created_at)}${answered}${edited}: ${gist(message)}`;
}

function body({ content, attachments }) {
  return [
    content && h("p", { class: "content" }, linked(content)),
    attachments.length > 0 && h("ul", { class: "attachments" }, attachments.map(attachment)),
  ].filter(Boolean);
}

/** A card with a link; nothing is loaded from there until it is followed. */
function attachment({ url, name, mime, size }) {
  const facts = [mime, fileSize(size)].filter(Boolean).join(" · ");
  return h(
    "li",
    { class: "attachment" },
    icon("attach"),
    h("span", {}, outsideLink(url, name || url), facts && h("span", { class: "facts", text: facts })),
  );
}

function quote(seq, quoted, people, { jump }) {
  const text = quoted ? `${people.name(quoted.sender)}: ${gist(quoted)}` : "An earlier message";
  return h(
    "button",
    { type: "button", class: "quote", tabindex: -1, "data-focus": "quote", "aria-label": `Go to the message replied to. ${text}`, onclick: () => jump(seq) },
    h("span", { class: "quote-sender", text: quoted ? people.name(quoted.sender) : "Reply" }),
    h("span", { class: "quote-text", text: quoted ? gist(quoted) : "to an earlier message" }),
  );
}

function reactions(message, people, { mayReact }, { react }) {
  const kinds = Object.entries(message.reactions);
  if (!kinds.length) return null;
  return h(
    "div",
    { class: "reactions" },
    kinds.map(([reaction, { count, users, mine }]) => {
      const names = list(users.map((user) => people.name(user)), 5);
      return h(
        "button",
        {
          type: "button",
          class: "chip",
          "data-focus": `chip ${reaction}`,
          "aria-pressed": String(Boolean(mine)),
          "aria-label": `${reaction} ${count}: ${names}`,
          title: names,
          disabled: !mayReact,
          onclick: () => react(message, reaction),
        },
        h("span", { class: "emoji", text: reaction }),
        h("span", { text: String(count) }),
      );
    }),
  );
}

function toolbar(message, { isOwn, isChoosing, mayDelete, mayReact, mayPublish }, actions) {
  const button = (name, label, act, more = {}) =>
    iconButton(name, label, () => act(message), { tabindex: -1, "data-focus": name, ...more });
  return h(
    "div",
    { class: isChoosing ? "tools is-choosing" : "tools" },
    isChoosing &&
      h(
        "div",
        { class: "palette", role: "group", "aria-label": "Choose a reaction" },
        REACTIONS.map((reaction) =>
          h("button", { type: "button", class: "emoji", tabindex: -1, "data-focus": `choose ${reaction}`, "aria-label": `React with ${reaction}`, onclick: () => actions.react(message, reaction), text: reaction }),
        ),
      ),
    mayReact && button("react", "React", actions.choose, { "aria-expanded": String(isChoosing) }),
    mayPublish && button("reply", "Reply", actions.reply),
    isOwn && button("edit", "Edit", actions.edit),
    mayDelete && button("trash", "Delete", actions.remove),
  );
}

function readMarks(readers, people) {
  const names = readers.map((reader) => people.name(reader));
  return h(
    "p",
    { class: "read-marks", title: `Read by ${list(names, 10)}` },
    h("span", { class: "sr-only", text: `Read by ${list(names, 10)}` }),
    readers.slice(0, 5).map((reader) => avatar(reader, people.name(reader), { isSmall: true })),
  );
}
