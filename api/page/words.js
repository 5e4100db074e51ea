/** How times, names and messages are put into words. */

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: "long" });
const date = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "long", year: "numeric" });
const short = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const DAY_MS = 86_400_000;

const midnight = (time) => new Date(time).setHours(0, 0, 0, 0);
const daysAgo = (time) => Math.round((midnight(Date.now()) - midnight(time)) / DAY_MS);

export const timeOf = (time) => clock.format(new Date(time));
export const exactTime = (time) => exact.format(new Date(time));
export const isSameDay = (a, b) => midnight(a) === midnight(b);

/** The heading of a day's messages. */
export function dayOf(time) {
  const ago = daysAgo(time);
  if (ago === 0) return "Today";
  if (ago === 1) return "Yesterday";
  return ago > 0 && ago < 7 ? weekday.format(new Date(time)) : date.format(new Date(time));
}

/** When, in a narrow column. */
export function whenShort(time) {
  const ago = daysAgo(time);
  if (ago === 0) return timeOf(time);
  return ago > 0 && ago < 7 ? weekday.format(new Date(time)).slice(0, 3) : short.format(new Date(time));
}

/** One or two letters for who has no picture. */
export function initials(name) {
  const words = name.split(/[\s._@|:-]+/).filter(Boolean);
  const letters = words.length > 1 ? [words[0], words.at(-1)] : words;
  return letters.map((word) => [...word][0]).join("").toUpperCase() || "?";
}

/** One of eight colours, always the same for one id. */
export function hue(id) {
  let sum = 0;
  for (const character of id) sum = (sum * 31 + character.codePointAt(0)) >>> 0;
  return sum % 8;
}

export const plural = (count, one, many) => `${count} ${count === 1 ? one : many}`;

/** "Alice", "Alice and Bob", "Alice, Bob and 3 others". */
export function list(names, most = 3) {
  if (names.length <= 1) return names[0] ?? "";
  const shown = names.length > most ? names.slice(0, most - 1) : names.slice(0, -1);
  const last = names.length > most ? plural(names.length - shown.length, "other", "others") : names.at(-1);
  return `${shown.join(", ")} and ${last}`;
}

/** A message in one line. */
export function gist({ content, attachments = [], deleted_at, kind }) {
  if (deleted_at) return "Message deleted";
  if (content) return content.replace(/\s+/g, " ").slice(0, 140);
  const [first] = attachments;
  return first ? (first.name ?? first.url ?? "Attachment") : (kind ?? "");
}

export function fileSize(bytes) {
  if (!bytes) return "";
  const units = ["B", "KB", "MB", "GB"];
  const power = Math.min(Math.floor(Math.log10(bytes) / 3), 3);
  return `${(bytes / 1000 ** power).toFixed(power && bytes / 1000 ** power < 10 ? 1 : 0)} ${units[power]}`;
}
