/**
 * The request that a form describes: sent, or as a command for a shell.
 *
 * The command never holds a secret: it names the variable that does.
 */

export const CREDENTIALS = {
  key: { label: "API key", header: "X-API-Key", prefix: "", variable: "$API_KEY" },
  token: { label: "Token", header: "Authorization", prefix: "Bearer ", variable: "$TOKEN" },
};

/** The address of an operation, seen from this page (which may be served below a path). */
export function addressOf(operation, values) {
  const path = operation.path.replace(/\{(\w+)\}/g, (_, name) =>
    encodeURIComponent(values.path[name] ?? ""),
  );
  const query = new URLSearchParams(Object.entries(values.query)).toString();
  const base = new URL(".", globalThis.location.href).href.replace(/\/$/, "");
  return base + path + (query && `?${query}`);
}

function quote(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** The same request for curl, with `$API_KEY` or `$TOKEN` in place of what was typed. */
export function curlCommand(operation, values) {
  const { method } = operation;
  const lines = [`curl ${method === "GET" ? "" : `-X ${method} `}${quote(addressOf(operation, values))}`];
  const credential = CREDENTIALS[values.credential];
  if (credential) {
    lines.push(`-H "${credential.header}: ${credential.prefix}${credential.variable}"`);
  }
  for (const [name, value] of Object.entries(values.headers)) {
    lines.push(`-H ${quote(`${name}: ${value}`)}`);
  }
  if (values.body) {
    lines.push("-H 'Content-Type: application/json'", `--data-raw ${quote(values.body)}`);
  }
  return lines.join(" \\\n  ");
}

/** Send it: { status, phrase, headers, text, milliseconds }. What fails before an answer throws. */
export async function send(operation, values, secret) {
  const headers = new Headers(values.headers);
  const credential = CREDENTIALS[values.credential];
  if (credential && secret) headers.set(credential.header, credential.prefix + secret);
  if (values.body) headers.set("Content-Type", "application/json");
  const started = performance.now();
  const answer = await fetch(addressOf(operation, values), {
    method: operation.method,
    headers,
    body: values.body || undefined,
    cache: "no-store",
    credentials: "omit",
    redirect: "error",
    referrerPolicy: "no-referrer",
  });
  const text = await answer.text();
  return {
    status: answer.status,
    phrase: answer.statusText,
    headers: answer.headers,
    text,
    milliseconds: Math.round(performance.now() - started),
  };
}
