/**
 * The fields of a schema as a list. What a field holds is opened on demand, so a type may hold
 * itself.
 */

import { follow, limitWords, ruleWords, typeWords } from "./document.js";
import { h } from "./dom.js";
import { prose } from "./text.js";

/** One named value: its type, whether it is there, its limits, what it means. */
export function fieldRow({ name, schema, tag, description, note }, ...more) {
  const limits = limitWords(schema);
  return h(
    "li",
    { class: "field" },
    h(
      "p",
      { class: "field-head" },
      h("code", { class: "field-name", text: name }),
      " ",
      h("span", { class: "field-type", text: typeWords(schema) }),
      " ",
      note ? h("span", { class: "tag", text: note }) : null,
      " ",
      tag ? h("span", { class: `tag ${tag === "required" ? "is-needed" : ""}`, text: tag }) : null,
    ),
    description ? h("p", { class: "field-text" }, ...prose(description)) : null,
    limits.length ? h("p", { class: "field-limits", text: limits.join(" · ") }) : null,
    ...more,
  );
}

/** The objects that a schema is, or holds as items or values. */
function objectsIn(document, schema) {
  const found = follow(document, schema);
  if (found.allOf) return found.allOf.flatMap((part) => objectsIn(document, part));
  // Beside fields, alternatives are a rule about them (`ruleWords`) and no types.
  if (found.properties) return [{ name: typeWords(schema), schema: found }];
  if (found.items) return objectsIn(document, found.items);
  if (typeof found.additionalProperties === "object") {
    return objectsIn(document, found.additionalProperties);
  }
  return (found.anyOf ?? found.oneOf ?? []).flatMap((one) => objectsIn(document, one));
}

function inner(document, { name, schema }, isAnswer) {
  const summary = h("summary", {}, "Fields of ", h("code", { text: name }));
  const details = h("details", { class: "inner" }, summary);
  details.addEventListener("toggle", () => {
    if (details.open && details.children.length === 1) details.append(fields(document, schema, isAnswer));
  });
  return details;
}

function fields(document, schema, isAnswer) {
  const required = new Set(schema.required ?? []);
  // Senders ask what they must give, readers what they may miss.
  const tagOf = (name) => {
    if (isAnswer) return required.has(name) ? null : "not always";
    return required.has(name) ? "required" : null;
  };
  return h(
    "ul",
    { class: "fields" },
    ...Object.entries(schema.properties).map(([name, field]) =>
      fieldRow(
        { name, schema: field, tag: tagOf(name), description: field.description },
        ...objectsIn(document, field).map((object) => inner(document, object, isAnswer)),
      ),
    ),
  );
}

/** The whole schema of a body that is sent or, `isAnswer`, received. */
export function schemaView(document, schema, { isAnswer = false } = {}) {
  const objects = objectsIn(document, schema);
  if (!objects.length) return h("p", { class: "field-limits", text: typeWords(schema) });
  const views = objects.map((object) => {
    const said = [object.schema.description, ruleWords(object.schema)].filter(Boolean).join(" ");
    return h(
      "div",
      {},
      said ? h("p", { class: "field-text" }, ...prose(said)) : null,
      fields(document, object.schema, isAnswer),
    );
  });
  return h("div", { class: "schema" }, ...views);
}
