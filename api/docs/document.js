/**
 * What the OpenAPI document says, found and put into words. Nothing here touches the page.
 */

/** Headers that tell a developer something, in the order in which they are shown. */
export const HEADERS_OF_INTEREST = [
  "Content-Type",
  "Location",
  "ETag",
  "Retry-After",
  "WWW-Authenticate",
  "RateLimit-Limit",
  "RateLimit-Remaining",
  "RateLimit-Reset",
  "Cache-Control",
  "X-Request-Id",
];

/** The part itself, or what its `$ref` points at. */
export function follow(document, part) {
  let found = part;
  for (let step = 0; found?.$ref && step < 16; step += 1) {
    const names = found.$ref.replace(/^#\//, "").split("/");
    const target = names.reduce((at, name) => at?.[name], document);
    const { $ref: _, ...more } = found;
    found = { ...target, ...more };
  }
  return found ?? {};
}

/** The operations by heading, in the document's order: [{ name, description, operations }]. */
export function groupsOf(document) {
  const groups = new Map(
    (document.tags ?? []).map((tag) => [tag.name, { ...tag, operations: [] }]),
  );
  for (const [path, methods] of Object.entries(document.paths ?? {})) {
    for (const [method, operation] of Object.entries(methods)) {
      const name = operation.tags?.[0] ?? "other";
      if (!groups.has(name)) groups.set(name, { name, operations: [] });
      groups.get(name).operations.push({ ...operation, path, method: method.toUpperCase() });
    }
  }
  return [...groups.values()].filter((group) => group.operations.length);
}

/** What the search looks at. */
export function wordsOf(operation) {
  const parameters = (operation.parameters ?? []).map((parameter) => parameter.name);
  return [
    operation.method,
    operation.path,
    operation.operationId,
    operation.summary,
    operation.description,
    operation.tags?.join(" "),
    ...parameters,
  ]
    .join(" ")
    .toLowerCase();
}

/** The names of the credentials that an operation takes: "key", "token". */
export function credentialsOf(operation) {
  return (operation.security ?? []).flatMap((choice) => Object.keys(choice));
}

// The schemas that a value may be of, without null.
function alternativesOf(schema) {
  return (schema.anyOf ?? schema.oneOf ?? [schema]).filter((one) => one.type !== "null");
}

/** The type of a value, in words: "string or null", "list of Member". */
export function typeWords(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return [...new Set(choices.map(typeWords))].join(" or ");
  if (schema.allOf) return schema.allOf.map(typeWords).join(" and ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.type === "array") {
    const items = schema.items ? typeWords(schema.items) : "any JSON";
    return `list of ${items.includes(" or ") ? `(${items})` : items}`;
  }
  if (schema.type === "object" && typeof schema.additionalProperties === "object") {
    return `object of ${typeWords(schema.additionalProperties)}`;
  }
  const kind = Array.isArray(schema.type) ? schema.type.join(" or ") : (schema.type ?? "any JSON");
  return schema.format ? `${kind} (${schema.format})` : kind;
}

function between(least, most, unit) {
  if (least === undefined && most === undefined) return null;
  if (least === most) return `exactly ${most}${unit}`;
  if (least === undefined) return `at most ${most}${unit}`;
  if (most === undefined) return `at least ${least}${unit}`;
  return `${least} to ${most}${unit}`;
}

/** The limits of a value, in words, one an entry. */
export function limitWords(schema) {
  const inner = { ...alternativesOf(schema)[0], ...schema };
  const bytes = inner["x-utf8-bytes-max"] ?? inner["x-json-bytes-max"];
  const above = inner.exclusiveMinimum;
  return [
    between(inner.minimum, inner.maximum, ""),
    above === undefined ? null : `more than ${above}`,
    between(inner.minLength, inner.maxLength, " characters"),
    between(inner.minItems, inner.maxItems, " items"),
    bytes === undefined ? null : `at most ${bytes} bytes`,
    inner.pattern ? `matches ${inner.pattern}` : null,
    inner.default === undefined || inner.default === null
      ? null
      : `default ${JSON.stringify(inner.default)}`,
  ].filter((words) => words !== null);
}

/** Which fields an object needs besides those that are required, in words; null: none. */
export function ruleWords(schema) {
  const choices = schema.anyOf ?? schema.oneOf;
  if (!schema.properties || !choices) return null;
  const names = choices.map((choice) => `\`${(choice.required ?? []).join(" with ")}\``);
  return `${schema.oneOf ? "Exactly" : "At least"} one of ${names.join(", ")} is required.`;
}

/** What a body holds: its media type, schema and (first) example; null if there is none. */
export function contentOf(part) {
  const [found] = Object.entries(part?.content ?? {});
  if (!found) return null;
  const [type, { schema = {}, example, examples = {} }] = found;
  return { type, schema, example: example ?? Object.values(examples)[0]?.value, examples };
}

/**
 * The answers of an operation: those that do what was asked, and the problems as
 * [{ status, code, meaning, example }].
 */
export function answersOf(document, operation) {
  const answers = [];
  const problems = [];
  for (const [status, part] of Object.entries(operation.responses ?? {})) {
    const response = follow(document, part);
    const content = contentOf(response);
    if (content?.type !== "application/problem+json") {
      answers.push({ status, response, content });
      continue;
    }
    for (const [code, { value }] of Object.entries(content.examples)) {
      problems.push({ status, code, meaning: value?.detail ?? response.description, content });
    }
  }
  return { answers, problems };
}
