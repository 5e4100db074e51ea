/**
 * One operation: its line in the list, and, once it is opened, everything about it.
 */

import { answersOf, contentOf, credentialsOf, follow } from "./document.js";
import { h } from "./dom.js";
import { fieldRow, schemaView } from "./schema.js";
import { copyButton, jsonBlock, paragraphs, prose } from "./text.js";
import { tryForm } from "./try.js";

const PLACES = { path: "path", query: "query", header: "header" };

export function badge(method) {
  return h("span", { class: `method is-${method.toLowerCase()}`, text: method });
}

function credentialTags(operation) {
  const names = credentialsOf(operation);
  if (!names.length) return [h("span", { class: "tag", text: "open" })];
  return names.map((name) => h("span", { class: "tag is-credential", text: name }));
}

/** The operation, closed. Its details are made when it is first opened. */
export function operationView(document, operation) {
  const details = h(
    "details",
    { class: "operation", id: operation.operationId },
    h(
      "summary",
      {},
      badge(operation.method),
      h("code", { class: "path", text: operation.path }),
      h("span", { class: "summary-text" }, ...prose(operation.summary)),
      h("span", { class: "tags" }, ...credentialTags(operation)),
    ),
  );
  details.addEventListener("toggle", () => {
    if (details.open && details.children.length === 1) details.append(body(document, operation));
  });
  return details;
}

function body(document, operation) {
  const { answers, problems } = answersOf(document, operation);
  return h(
    "div",
    { class: "operation-body" },
    h(
      "div",
      { class: "asked" },
      ...paragraphs(operation.description),
      credentialSection(document, operation),
      parameterSection(operation),
      bodySection(document, operation),
    ),
    tryForm(document, operation),
    h(
      "div",
      { class: "answered" },
      h("h3", { text: "Responses" }),
      ...answers.map((answer, index) => answerView(document, answer, index === 0)),
      problemSection(document, problems),
    ),
  );
}

function credentialSection(document, operation) {
  const schemes = document.components?.securitySchemes ?? {};
  const names = credentialsOf(operation);
  const lines = names.map((name) => {
    const scheme = schemes[name] ?? {};
    const shown = scheme.type === "http" ? "Authorization: Bearer" : (scheme.name ?? name);
    return h("li", {}, h("code", { text: shown }), " ", ...prose(scheme.description));
  });
  const heading = names.length > 1 ? "Credential: one of" : "Credential";
  return h(
    "section",
    {},
    h("h3", { text: heading }),
    names.length ? h("ul", { class: "plain" }, ...lines) : h("p", { text: "None is needed." }),
  );
}

function parameterSection(operation) {
  const parameters = operation.parameters ?? [];
  if (!parameters.length) return null;
  const rows = parameters.map((parameter) =>
    fieldRow({
      name: parameter.name,
      schema: parameter.schema ?? {},
      tag: parameter.required ? "required" : null,
      description: parameter.description,
      note: PLACES[parameter.in] ?? parameter.in,
    }),
  );
  return h("section", {}, h("h3", { text: "Parameters" }), h("ul", { class: "fields" }, ...rows));
}

function bodySection(document, operation) {
  const content = contentOf(operation.requestBody);
  if (!content) return null;
  return h(
    "section",
    {},
    h("h3", {}, "Body ", h("span", { class: "tag", text: content.type }), " ",
      operation.requestBody.required ? null : h("span", { class: "tag", text: "optional" })),
    example(`Example of the body of ${operation.operationId}`, content.example),
    schemaView(document, content.schema),
  );
}

function example(label, value) {
  if (value === undefined) return null;
  const shown = jsonBlock(label, value);
  return h(
    "details",
    { class: "inner" },
    h("summary", { text: "Example" }),
    h("div", { class: "code" }, copyButton(`Copy: ${label}`, shown), shown),
  );
}

function statusTag(status) {
  return h("span", { class: `status is-${String(status)[0]}xx`, text: status });
}

function answerView(document, { status, response, content }, isOpen) {
  const headers = Object.entries(response.headers ?? {}).map(([name, part]) => {
    const header = follow(document, part);
    return h("li", {}, h("code", { text: name }), " ", ...prose(header.description));
  });
  return h(
    "details",
    { class: "answer", open: isOpen },
    h("summary", {}, statusTag(status), " ", ...prose(response.description)),
    content ? example(`Example of an answer with ${status}`, content.example) : null,
    content ? schemaView(document, content.schema, { isAnswer: true }) : null,
    headers.length
      ? h("details", { class: "inner" }, h("summary", { text: "Headers" }), h("ul", { class: "plain" }, ...headers))
      : null,
  );
}

function problemSection(document, problems) {
  if (!problems.length) return null;
  const rows = problems.map(({ status, code, meaning }) =>
    h("tr", {},
      h("td", {}, statusTag(status)),
      h("td", {}, h("code", { text: code })),
      h("td", { text: meaning })),
  );
  const head = ["Status", "Code", "Meaning"].map((text) => h("th", { scope: "col", text }));
  return h(
    "details",
    { class: "answer", open: true },
    h("summary", { text: `Problems (${problems.length})` }),
    h("table", {}, h("thead", {}, h("tr", {}, ...head)), h("tbody", {}, ...rows)),
    example("Example of a problem", problems[0].content.example),
    h("details", { class: "inner" }, h("summary", { text: "Fields of a problem" }),
      schemaView(document, problems[0].content.schema, { isAnswer: true })),
  );
}
