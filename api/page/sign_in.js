/** The first screen: pick a user of the demo, or bring a token. */

import { h } from "./dom.js";
import { avatar } from "./avatar.js";

/**
 * @param {{demoUsers: string[], reason: ?string, pick: (user: string) => void, bring: (token: string) => void}} options
 */
export function signIn({ demoUsers, reason, pick, bring }) {
  const field = h("textarea", {
    id: "token",
    rows: 3,
    spellcheck: "false",
    autocomplete: "off",
    "aria-describedby": "token-hint",
  });
  const submit = (event) => {
    event.preventDefault();
    const token = field.value.trim();
    if (token) bring(token);
    else field.focus();
  };
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey) submit(event);
  });
  return h(
    "main",
    { class: "sign-in" },
    h("h1", { class: "brand", text: "Parley" }),
    reason && h("p", { class: "notice", role: "alert", text: reason }),
    demoUsers.length > 0 && demo(demoUsers, pick),
    h(
      "form",
      { onsubmit: submit },
      h("label", { for: "token", text: demoUsers.length ? "Or bring a token" : "Your token" }),
      field,
      h("p", {
        id: "token-hint",
        class: "hint",
        text: "A user token of this deployment. It stays in this tab and goes to this server alone.",
      }),
      h("button", { type: "submit", class: "button", text: "Sign in" }),
    ),
  );
}

function demo(users, pick) {
  return h(
    "section",
    { "aria-labelledby": "demo-heading" },
    h("h2", { id: "demo-heading", text: "Who are you?" }),
    h(
      "div",
      { class: "picks" },
      users.map((user) =>
        h(
          "button",
          { type: "button", class: "pick", onclick: () => pick(user) },
          avatar(user, nameOf(user)),
          h("span", { text: nameOf(user) }),
        ),
      ),
    ),
    h("p", { class: "hint", text: "Open this page in a second window and be somebody else there." }),
  );
}

const nameOf = (user) => user.charAt(0).toUpperCase() + user.slice(1);
