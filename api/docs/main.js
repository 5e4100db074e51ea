/**
 * The page: the document is fetched once, then shown as a navigation and a list of operations.
 */

import { groupsOf, wordsOf } from "./document.js";
import { h } from "./dom.js";
import { badge, operationView } from "./operation.js";
import { paragraphs, prose } from "./text.js";

const place = document.getElementById("operations");
const contents = document.getElementById("contents");
const search = document.getElementById("search");
const found = document.getElementById("found");
const menu = document.querySelector(".menu");

function navigation(group) {
  const links = group.operations.map((operation) =>
    h("li", {}, h("a", { href: `#${operation.operationId}`, title: operation.summary },
      badge(operation.method), h("span", { class: "nav-path", text: operation.path }))),
  );
  return h("section", {}, h("h2", { text: group.name }), h("ul", {}, ...links));
}

function list(api, group) {
  return h(
    "section",
    { class: "group", "aria-label": group.name },
    h("h2", { text: group.name }),
    h("p", { class: "group-text" }, ...prose(group.description)),
    ...group.operations.map((operation) => operationView(api, operation)),
  );
}

function toggleMenu(isOpen) {
  menu.setAttribute("aria-expanded", String(isOpen));
  contents.classList.toggle("is-open", isOpen);
}

/** Open the operation that the address names. */
function openNamed() {
  const name = decodeURIComponent(location.hash.slice(1));
  const details = document.getElementById(name);
  for (const link of contents.querySelectorAll("a")) {
    if (link.hash === location.hash) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  if (!details?.classList.contains("operation")) return;
  toggleMenu(false);
  details.open = true;
  details.scrollIntoView();
  details.firstElementChild.focus({ preventScroll: true });
}

/** Show the operations that hold every word of the search. */
function filter(operations) {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const { text, parts } of operations) {
    const isFound = words.every((word) => text.includes(word));
    for (const part of parts) part.hidden = !isFound;
    count += isFound ? 1 : 0;
  }
  for (const group of document.querySelectorAll("nav section, .group")) {
    group.hidden = !group.querySelector("li:not([hidden]), .operation:not([hidden])");
  }
  found.textContent = words.length ? `${count} of ${operations.length} operations` : "";
}

function addKeys(operations) {
  search.addEventListener("input", () => filter(operations));
  search.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && search.value) {
      event.preventDefault();
      search.value = "";
      filter(operations);
    } else if (event.key === "Enter") {
      contents.querySelector("li:not([hidden]) a")?.click();
    }
  });
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.closest?.("input, textarea, select");
    if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    search.focus();
  });
}

function start(api) {
  const groups = groupsOf(api);
  document.title = `${api.info.title} REST API`;
  document.getElementById("version").textContent = api.info.version;
  document.getElementById("about").replaceChildren(...paragraphs(api.info.description));
  contents.replaceChildren(...groups.map(navigation));
  place.replaceChildren(...groups.map((group) => list(api, group)));
  const operations = groups.flatMap((group) => group.operations).map((operation) => {
    const link = contents.querySelector(`a[href="#${CSS.escape(operation.operationId)}"]`);
    const parts = [document.getElementById(operation.operationId), link.parentElement];
    return { text: wordsOf(operation), parts };
  });
  addKeys(operations);
  filter(operations);
  for (const { parts } of operations) {
    parts[0].firstElementChild.addEventListener("click", () => {
      if (!parts[0].open) history.replaceState(null, "", `#${parts[0].id}`);
    });
  }
  // A link to where one is already changes no hash.
  contents.addEventListener("click", (event) => {
    if (event.target.closest("a")?.hash === location.hash) openNamed();
  });
  menu.addEventListener("click", () => toggleMenu(menu.getAttribute("aria-expanded") !== "true"));
  addEventListener("hashchange", openNamed);
  openNamed();
}

async function load() {
  const answer = await fetch("openapi.json");
  if (!answer.ok) throw new Error(`openapi.json: ${answer.status}`);
  start(await answer.json());
}

load().catch((error) => {
  place.replaceChildren(
    h("p", { role: "alert", class: "problem", text: `The description can not be shown: ${error.message}` }),
  );
});
