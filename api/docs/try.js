/**
 * "Try it": the fields of a request, the button that sends it, the answer, the curl command.
 *
 * What is typed as a key or token is kept in `secrets`, in the memory of this tab, and nowhere else.
 */

import { contentOf, credentialsOf, follow, HEADERS_OF_INTEREST } from "./document.js";
import { h } from "./dom.js";
import { CREDENTIALS, curlCommand, send } from "./requests.js";
import { block, copyButton, jsonBlock, prose } from "./text.js";

const SHOWN_CHARACTERS_MAX = 200_000; // more makes browsers slow
const secrets = { key: "", token: "" };

function labelled(text, field, ...notes) {
  return h("label", {}, h("span", { class: "label" }, text, ...notes), field);
}

/** The choice of a credential and its field; `values()` and `secret()` say what was chosen. */
function credentialFields(operation, onchange) {
  const names = credentialsOf(operation);
  if (!names.length) return { element: null, chosen: () => null };
  const field = h("input", {
    type: "password",
    autocomplete: "off",
    spellcheck: "false",
    name: "credential",
    oninput: () => (secrets[choice.value] = field.value.trim()),
  });
  const text = h("span", {});
  const update = () => {
    text.textContent = CREDENTIALS[choice.value]?.label ?? "";
    secret.hidden = choice.value === "";
    field.value = secrets[choice.value] ?? "";
    onchange();
  };
  const options = [...names.map((name) => [name, CREDENTIALS[name]?.label ?? name]), ["", "nothing"]];
  const choice = h(
    "select",
    { onchange: update },
    ...options.map(([value, label]) => h("option", { value, text: label })),
  );
  choice.value = names.find((name) => secrets[name]) ?? names[0];
  const secret = labelled(text, field, h("span", { class: "note", text: " stays in this tab's memory" }));
  // Another operation's form may have changed it.
  const element = h(
    "div",
    { class: "credential", onfocusin: () => (field.value = secrets[choice.value] ?? "") },
    labelled("Send as", choice),
    secret,
  );
  queueMicrotask(update);
  return { element, chosen: () => choice.value };
}

function parameterField(parameter, isFilled, onchange) {
  const schema = parameter.schema ?? {};
  const values = schema.enum ?? (schema.type === "boolean" ? [true, false] : null);
  const example = parameter.example === undefined ? "" : String(parameter.example);
  const field = values
    ? h("select", { onchange }, h("option", { value: "", text: "" }),
        ...values.map((value) => h("option", { value: String(value), text: String(value) })))
    : h("input", {
        type: "text",
        autocomplete: "off",
        autocapitalize: "none",
        spellcheck: "false",
        placeholder: example,
        oninput: onchange,
        "aria-required": parameter.required ? "true" : null,
      });
  field.dataset.parameter = parameter.name;
  if (isFilled && parameter.required) field.value = example;
  const note = h("span", { class: "note", text: ` ${parameter.in}${parameter.required ? ", required" : ""}` });
  return { parameter, field, element: labelled(h("code", { text: parameter.name }), field, note) };
}

function bodyField(operation, onchange) {
  const content = contentOf(operation.requestBody);
  if (!content) return { element: null, text: () => "" };
  const example = content.example === undefined ? "" : JSON.stringify(content.example, null, 2);
  const hint = h("p", { class: "hint", role: "status" });
  const check = () => {
    let said = "";
    if (field.value.trim() !== "") {
      try {
        JSON.parse(field.value);
      } catch (error) {
        said = `Not JSON: ${error.message}`;
      }
    }
    hint.textContent = said;
    onchange();
  };
  const field = h("textarea", {
    rows: Math.min(16, Math.max(4, example.split("\n").length)),
    spellcheck: "false",
    autocomplete: "off",
    oninput: check,
    value: example,
  });
  const note = operation.requestBody.required ? "" : " optional: empty it to send none";
  const reset = () => {
    field.value = example;
    check();
  };
  const element = h(
    "div",
    {},
    labelled("Body", field, h("span", { class: "note", text: note })),
    hint,
    h("button", { type: "button", class: "quiet", onclick: reset, text: "Back to the example" }),
  );
  return { element, text: () => field.value.trim() };
}

/** The whole form of an operation. */
export function tryForm(document, operation) {
  const command = block(`curl command of ${operation.operationId}`);
  const answer = h("div", { class: "result" });
  const status = h("p", { class: "result-status", role: "status" });
  const show = () => (command.firstChild.textContent = curlCommand(operation, values()));
  const credential = credentialFields(operation, show);
  // What deletes has to be named by hand: an example may be there.
  const isFilled = operation.method !== "DELETE";
  const fields = (operation.parameters ?? []).map((one) => parameterField(one, isFilled, show));
  const body = bodyField(operation, show);
  const button = h("button", { type: "submit", class: "send", text: "Send" });

  function values() {
    const found = { path: {}, query: {}, headers: {}, credential: credential.chosen(), body: body.text() };
    for (const { parameter, field } of fields) {
      const place = parameter.in === "header" ? found.headers : found[parameter.in];
      if (place && field.value !== "") place[parameter.name] = field.value;
    }
    return found;
  }

  async function submit(event) {
    event.preventDefault();
    const missing = fields.filter(({ parameter, field }) => {
      const isMissing = parameter.in === "path" && field.value === "";
      field.setAttribute("aria-invalid", String(isMissing));
      return isMissing;
    });
    answer.replaceChildren();
    if (missing.length) {
      status.textContent = `Fill in ${missing[0].parameter.name} first.`;
      missing[0].field.focus();
      return;
    }
    button.disabled = true;
    status.textContent = "Sending…";
    try {
      const given = values();
      const result = await send(operation, given, secrets[given.credential]);
      const said = follow(document, operation.responses?.[result.status]).description;
      showAnswer({ ...result, said }, status, answer);
    } catch (error) {
      status.textContent = `Nothing came back: ${error.message}`;
    } finally {
      button.disabled = false;
    }
  }

  show();
  return h(
    "form",
    { class: "try", onsubmit: submit, novalidate: true, autocomplete: "off" },
    h("h3", { text: "Try it" }),
    credential.element,
    ...fields.map(({ element }) => element),
    body.element,
    h("p", { class: "actions" }, button),
    status,
    answer,
    h("div", { class: "code" },
      h("p", { class: "code-head" }, "The same with curl ", copyButton("Copy the curl command", command)),
      command),
  );
}

function showAnswer(result, status, answer) {
  const problem = result.status >= 400 ? parsed(result) : undefined;
  status.replaceChildren(
    h("span", { class: `status is-${String(result.status)[0]}xx`, text: result.status }),
    " ",
    // What the document says of a refusal names every code that there might be.
    ...prose(problem?.title ?? result.said ?? result.phrase),
    " ",
    h("span", { class: "note", text: `in ${result.milliseconds} ms` }),
  );
  const headers = HEADERS_OF_INTEREST.filter((name) => result.headers.has(name));
  const lines = headers.flatMap((name) => [
    h("dt", { text: name }),
    h("dd", { text: result.headers.get(name) }),
  ]);
  answer.replaceChildren(problemLine(problem), h("dl", { class: "headers" }, ...lines), bodyView(result));
}

function parsed(result) {
  try {
    return JSON.parse(result.text);
  } catch {
    return undefined;
  }
}

function problemLine(problem) {
  if (!problem?.code) return "";
  const field = problem.field ? [" Field: ", h("code", { text: problem.field }), "."] : [];
  return h("p", { class: "problem" }, h("code", { text: problem.code }), ` ${problem.detail ?? ""}`, ...field);
}

function bodyView(result) {
  if (result.text === "") return h("p", { class: "note", text: "No body." });
  const value = parsed(result);
  if (value === undefined || result.text.length > SHOWN_CHARACTERS_MAX) {
    return block("Body of the answer", result.text.slice(0, SHOWN_CHARACTERS_MAX));
  }
  return jsonBlock("Body of the answer", value);
}
