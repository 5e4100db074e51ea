/** The page's beginning: who is it? Remembered for this tab, so that two tabs can be two users. */

import { h } from "./dom.js";
import { fetchAbout, fetchDemoToken } from "./rest.js";
import { Session } from "./session.js";
import { signIn } from "./sign_in.js";

const KEY = "parley";
const RETRY_MS = 2000;

const app = document.getElementById("app");
const remembered = () => JSON.parse(sessionStorage.getItem(KEY) ?? "null");

function show(element) {
  app.replaceChildren(element);
}

/** @param {{broker_url: ?string, demo_users: string[]}} about @param {?string} [reason] */
function askWho(about, reason = null) {
  const enter = (who) => {
    sessionStorage.setItem(KEY, JSON.stringify(who));
    begin(about, who);
  };
  show(
    signIn({
      demoUsers: about.demo_users,
      reason,
      pick: (demo) => enter({ demo }),
      bring: (token) => enter({ token }),
    }),
  );
  app.querySelector("button, textarea")?.focus();
}

/** @param {any} about @param {{demo?: string, token?: string}} who */
function begin(about, who) {
  let kept = null;
  const takeToken = async (isFresh) => {
    if (who.token) return who.token;
    if (isFresh || !kept) kept = await fetchDemoToken(who.demo);
    return kept;
  };
  const session = new Session({
    url: about.broker_url ?? ownBroker(),
    takeToken,
    token: who.token ?? null,
    onend: (reason) => {
      sessionStorage.removeItem(KEY);
      askWho(about, reason);
    },
  });
  show(session.element);
  session.start();
}

/** The broker beside the page: the same host, the same path. */
function ownBroker() {
  const url = new URL("v1/connect", location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.hash = "";
  return url.href;
}

async function start() {
  let about;
  try {
    about = await fetchAbout();
  } catch (error) {
    show(h("p", { class: "placeholder", role: "status", text: `${error.message} Trying again …` }));
    setTimeout(start, RETRY_MS);
    return;
  }
  const who = remembered();
  const isUsable = who?.token || about.demo_users.includes(who?.demo);
  if (isUsable) begin(about, who);
  else askWho(about);
}

start();
