/**
 * Text as elements: prose with its `code` and **bold**, JSON in colours, buttons that copy.
 */

import { announce, h } from "./dom.js";

const JSON_PART =
  /("(?:[^"\\]|\\.)*")(\s*:)?|\b(true|false|null)\b|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)/g;

/** A line of prose as nodes. */
export function prose(text) {
  return (text ?? "").split(/(`[^`]+`|\*\*[^*]+\*\*)/).map((part) => {
    if (/^`.+`$/s.test(part)) return h("code", { text: part.slice(1, -1) });
    if (/^\*\*.+\*\*$/s.test(part)) return h("strong", { text: part.slice(2, -2) });
    return document.createTextNode(part);
  });
}

/** Prose of several paragraphs. */
export function paragraphs(text) {
  const parts = (text ?? "").trim().split(/\n\s*\n/);
  return parts.filter(Boolean).map((part) => h("p", {}, ...prose(part)));
}

function coloured(text) {
  const nodes = [];
  let end = 0;
  for (const match of text.matchAll(JSON_PART)) {
    const [all, string, colon, word] = match;
    nodes.push(text.slice(end, match.index));
    const kind = string ? (colon ? "name" : "string") : word ? "word" : "number";
    nodes.push(h("span", { class: `json-${kind}`, text: string ?? all }), colon ?? "");
    end = match.index + all.length;
  }
  nodes.push(text.slice(end));
  return nodes;
}

/** A block of code that can be scrolled by keyboard. */
export function block(label, ...children) {
  return h("pre", { tabindex: 0, role: "group", "aria-label": label }, h("code", {}, ...children));
}

/** A value as indented JSON. */
export function jsonBlock(label, value) {
  return block(label, ...coloured(JSON.stringify(value, null, 2)));
}

/** A button that copies what the block shows; where browsers forbid that, it selects it. */
export function copyButton(label, target) {
  const onclick = async () => {
    try {
      await navigator.clipboard.writeText(target.textContent);
      announce("Copied.");
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy"), 1500);
    } catch {
      getSelection().selectAllChildren(target);
      announce("Selected: copy it with the keyboard.");
    }
  };
  const button = h("button", { type: "button", class: "quiet", "aria-label": label, onclick, text: "Copy" });
  return button;
}
