"use strict";
const make = (name, text, parent) => {
  const element = document.createElement(name);
  if (text) element.textContent = text;
  if (parent) parent.append(element);
  return element;
};
const resolve = (schema, all, depth) => {
  if (!schema || depth > 5) return "…";
  if (schema.$ref) return resolve(all[schema.$ref.split("/").pop()], all, depth + 1);
  if (schema.anyOf) return schema.anyOf.map(s => resolve(s, all, depth)).find(s => s !== "null") ?? "null";
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.type === "array") return [resolve(schema.items, all, depth + 1)];
  if (schema.type === "object" && schema.properties) return Object.fromEntries(
    Object.entries(schema.properties).map(([name, s]) => [name, resolve(s, all, depth + 1)]));
  return schema.type ?? "any";
};
const show = (path, method, operation, all, parent) => {
  const box = make("details", "", parent);
  const head = make("summary", "", box);
  make("span", method.toUpperCase(), head).className = "method";
  make("code", path, head);
  make("span", "  " + (operation.summary ?? ""), head).className = "note";
  if (operation.description?.trim()) make("p", operation.description.trim(), box);
  const query = (operation.parameters ?? []).filter(p => p.in === "query");
  if (query.length) {
    const table = make("table", "", box);
    for (const p of query) {
      const row = make("tr", "", table);
      make("code", p.name, make("td", "", row));
      make("td", String(resolve(p.schema, all, 0)), row);
    }
  }
  const body = operation.requestBody?.content?.["application/json"]?.schema;
  if (body) { make("p", "Body", box); make("pre", JSON.stringify(resolve(body, all, 0), null, 2), box); }
  for (const [status, answer] of Object.entries(operation.responses ?? {})) {
    const schema = answer.content?.["application/json"]?.schema;
    if (schema) { make("p", status, box); make("pre", JSON.stringify(resolve(schema, all, 0), null, 2), box); }
  }
};
fetch("openapi.json").then(answer => answer.json()).then(document_ => {
  const all = document_.components?.schemas ?? {};
  const place = document.getElementById("operations");
  const groups = new Map();
  for (const [path, methods] of Object.entries(document_.paths))
    for (const [method, operation] of Object.entries(methods)) {
      if (method === "head" || method === "options") continue;
      const group = operation.tags?.[0] ?? "other";
      if (!groups.has(group)) { make("h2", group, place); groups.set(group, make("div", "", place)); }
      show(path, method, operation, all, groups.get(group));
    }
});
