/**
 * Elements, built from values. Text becomes text nodes and nothing else: no function here, and
 * none of the page, ever parses HTML (the page's policy forbids it too).
 */

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  attach: "M13.5 7.5 8 13a2.5 2.5 0 0 1-3.5-3.5l6-6a3.5 3.5 0 0 1 5 5l-6 6a5 5 0 0 1-7-7l5-5",
  back: "M11 4 5 10l6 6",
  close: "M5 5l10 10M15 5 5 15",
  down: "M5 8l5 5 5-5",
  edit: "M4 16l1-4 8-8 3 3-8 8-4 1z",
  react: "M10 17a7 7 0 1 0 0-14 7 7 0 0 0 0 14zM7.5 8.5v.01M12.5 8.5v.01M7 11.5a3.5 3.5 0 0 0 6 0",
  reply: "M8 5 4 9l4 4M4 9h7a5 5 0 0 1 5 5v1",
  search: "M9 14A5 5 0 1 0 9 4a5 5 0 0 0 0 10zM13 13l4 4",
  send: "M4 10l12-6-4 12-3-5-5-1z",
  leave: "M8 4H5v12h3M12 7l3 3-3 3M15 10H8",
  trash: "M5 6h10M8 6V4h4v2M6 6l1 10h6l1-10",
};

/**
 * An element. `on…` are listeners, `class`, `text` and properties such as `value` as named;
 * everything else is an attribute (`true`: an empty one, null and false: none).
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "text") element.textContent = value;
    else if (name === "value" || name === "tabIndex") element[name] = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, String(value));
    }
  }
  element.append(...children.flat().filter((child) => child !== null && child !== false));
  return element;
}

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** A button that shows an icon and says its label. */
export function iconButton(name, label, onclick, attributes = {}) {
  return h(
    "button",
    { type: "button", class: "icon-button", "aria-label": label, title: label, onclick, ...attributes },
    icon(name),
  );
}

/** The address if it may be followed from here (http and https alone), else null. */
export function safeUrl(text) {
  try {
    const url = new URL(text);
    return url.protocol === "https:" || url.protocol === "http:" ? url.href : null;
  } catch {
    return null;
  }
}

/** A link to somewhere else, or plain text if the address is none that may be followed. */
export function outsideLink(address, label, attributes = {}) {
  const href = safeUrl(address);
  if (!href) return h("span", { ...attributes, text: label });
  return h("a", { ...attributes, href, target: "_blank", rel: "noopener noreferrer", text: label });
}

/** Text with its web addresses as links. */
export function linked(text) {
  return text.split(/(https?:\/\/[^\s<>"']+[^\s<>"'.,;:!?)\]])/).map((part, index) =>
    index % 2 ? outsideLink(part, part) : document.createTextNode(part),
  );
}

/** Say something to who listens instead of looking. */
export function announce(text) {
  const region = document.getElementById("announcer");
  if (!region) return;
  const line = h("p", { text });
  region.append(line);
  setTimeout(() => line.remove(), 4000);
}

/** Make `parent` show exactly these children, keeping those that are there already. */
export function reconcile(parent, children) {
  const wanted = new Set(children);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  children.forEach((child, index) => {
    if (parent.children[index] !== child) parent.insertBefore(child, parent.children[index] ?? null);
  });
}
