// What the page tells: two regions for screen readers (short states; the final text once) and the problem area above the composer.
import * as words from "chat/words.js";

const status = document.getElementById("status");
const log = document.getElementById("log");
const problem = document.getElementById("problem");
const QUIET = 1000;   // ms between two announcements: the newest wins
let waiting = null, spoke = 0, timer = 0;
let resend = null;    // repeats what failed

/** Announce a short state. @param {string} text */
export function say(text) {
  waiting = text;
  clearTimeout(timer);
  timer = setTimeout(() => {
    spoke = Date.now();
    status.textContent = waiting;
  }, Math.max(0, spoke + QUIET - Date.now()));
}

/** Read out a finished answer, once. @param {string} text */
export function readOut(text) {
  const p = document.createElement("p");
  p.textContent = text;
  log.replaceChildren(p);
}

/** Show one of the page's prepared problems ("not-sent", "broken", "signed-out"). */
export function showProblem(name, values = {}) {
  const node = document.getElementById(name).content.cloneNode(true);
  for (const strong of node.querySelectorAll("p"))
    for (const part of strong.childNodes)
      if (part.nodeType === Node.TEXT_NODE) part.data = part.data.replace(/\{(\w+)\}/g, (all, key) => values[key] ?? all);
  problem.replaceChildren(node);
  prepare();
}

/** Show a sentence as a problem. */
export function showMessage(text) {
  const box = document.createElement("div"), p = document.createElement("p");
  box.className = "problem";
  p.textContent = text;
  box.append(p);
  problem.replaceChildren(box);
}

export function clearProblem() {
  problem.replaceChildren();
  resend = null;
}

/** What the Retry button of the problem area does. @param {function} repeat */
export function onResend(repeat) {
  resend = repeat;
}

/** Finish a problem that was just put in: the login link comes back here, Retry waits as long as the server asked. */
export function prepare() {
  const login = problem.querySelector("[data-login]");
  if (login) login.href = `/login/?next=${encodeURIComponent(location.pathname)}`;
  const button = problem.querySelector("[data-resend]");
  const until = Date.now() + 1000 * Number(problem.querySelector("[data-retry-after]")?.dataset.retryAfter || 0);
  if (!button) return;
  if (!resend) button.hidden = true;
  (function count() {
    const left = Math.ceil((until - Date.now()) / 1000);
    button.disabled = left > 0;
    button.textContent = left > 0 ? words.retryIn(left) : words.retry;
    if (left > 0 && button.isConnected) setTimeout(count, 1000);
  })();
}

problem.addEventListener("click", event => {
  if (event.target.closest("[data-dismiss]")) clearProblem();
  if (!event.target.closest("[data-resend]")) return;
  const repeat = resend;
  clearProblem();
  repeat?.();
});

const offline = document.getElementById("offline");
function network() {
  if (!offline.hidden && navigator.onLine) say(words.said.back);
  offline.hidden = navigator.onLine;
}
for (const change of ["online", "offline"]) addEventListener(change, network);
network();
