/** The REST API as the page needs it: GET and POST with the user's token. */

export class RestError extends Error {
  constructor({ status = 0, code = "unavailable", detail = "The server can not be reached." }) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

async function send(method, path, { token = null, body = null } = {}) {
  const headers = {};
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  let response;
  try {
    // Relative: the page may be served below a path of a proxy.
    response = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  } catch {
    throw new RestError({});
  }
  const isJson = /json/.test(response.headers.get("Content-Type") ?? "");
  const answer = isJson ? await response.json() : null;
  if (!response.ok) throw new RestError({ ...answer, status: response.status });
  return answer;
}

/** Where the broker is, and whom a visitor of the demo may be. */
export const fetchAbout = () => send("GET", "page.json");

/** A token of a user of the demo. */
export const fetchDemoToken = async (user) =>
  (await send("POST", "page/token", { body: { user } })).token;

export class Rest {
  #takeToken;

  /** @param {() => Promise<string>} takeToken */
  constructor(takeToken) {
    this.#takeToken = takeToken;
  }

  async #get(path) {
    return send("GET", path, { token: await this.#takeToken() });
  }

  /** The user's rooms, by activity. */
  async rooms() {
    return (await this.#get("v1/me/rooms?limit=100")).items;
  }

  async me() {
    return this.#get("v1/me");
  }

  /** Names of people one shares a room with. */
  async users(ids) {
    const query = ids.slice(0, 100).map(encodeURIComponent).join(",");
    return (await this.#get(`v1/users?ids=${query}`)).items;
  }

  async receipts(room) {
    return (await this.#get(`v1/rooms/${encodeURIComponent(room)}/receipts`)).items;
  }

  async search(room, words) {
    const query = new URLSearchParams({ q: words, limit: "30" });
    return (await this.#get(`v1/rooms/${encodeURIComponent(room)}/search?${query}`)).items;
  }
}
