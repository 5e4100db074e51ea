/** A person, or a room, as a small round of letters: no picture is fetched from anywhere. */

import { h } from "./dom.js";
import { hue, initials } from "./words.js";

export function avatar(id, name, { isOnline = false, isSmall = false } = {}) {
  const classes = ["avatar", `hue-${hue(id)}`, isOnline && "is-online", isSmall && "is-small"];
  return h("span", {
    class: classes.filter(Boolean).join(" "),
    "aria-hidden": "true",
    text: isSmall ? initials(name).slice(0, 1) : initials(name),
  });
}
