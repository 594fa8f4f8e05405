// The staff board: one snapshot a second replaces the last; rows are patched in place, so focus and selection stay.
import {liveSocket} from "chat/live.js";
import {board as words, time} from "chat/words.js";

const STALE = 5000;   // ms without news while answers are running
const byId = id => document.getElementById(id);
const link = byId("link"), pauseButton = byId("pause"), body = byId("answers").tBodies[0];
const rows = new Map();        // answer -> its row
const stopping = new Set();    // answers this page asked to stop
let snapshot = null, received = 0, paused = false, connection = "connecting", closedWhy = "";

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function newRow(answer) {
  const row = byId("row").content.cloneNode(true).firstElementChild;
  row.dataset.answer = answer.answer;
  rows.set(answer.answer, row);
  return row;
}

function patch(row, answer, age) {
  const cell = name => row.querySelector(`[data-col="${name}"]`);
  const asked = stopping.has(answer.answer) || answer.state === "stopping";
  const state = asked ? "stopping" : answer.state;
  const chip = row.querySelector(".chip"), button = row.querySelector("button");
  put(cell("user"), answer.user);
  put(cell("model"), answer.model);
  put(chip, words.states[state] ?? state);
  chip.dataset.what = state;
  put(cell("age"), time(answer.age_ms + age));
  put(cell("ttft"), answer.ttft_ms === null ? "–" : time(answer.ttft_ms));
  put(cell("tokens"), words.number(answer.tokens));
  put(cell("speed"), answer.tok_s === null ? "–" : words.number(Math.round(answer.tok_s)));
  put(cell("viewers"), words.number(answer.viewers));
  put(button, asked ? words.stopping : words.stop);
  button.setAttribute("aria-label", words.stopOf(answer.user));
  button.setAttribute("aria-disabled", String(asked));
}

function people(online) {
  const list = byId("people");
  const lines = online.map(one => [one.user, [words.tabs(one.tabs), ...(one.pages || []), words.idle(one.idle_s)].filter(Boolean).join(", ")]);
  while (list.children.length > lines.length) list.lastChild.remove();
  lines.forEach(([user, rest], i) => {
    const item = list.children[i] ?? list.appendChild(document.createElement("li"));
    if (!item.firstChild) item.append("", document.createElement("span"));
    if (item.firstChild.data !== `${user} `) item.firstChild.data = `${user} `;
    put(item.lastChild, rest);
  });
  byId("no-people").hidden = lines.length > 0;
}

function figures({online, answers, ttft}) {
  put(byId("n-online"), words.number(online.length));
  put(byId("n-answers"), words.number(answers.length));
  put(byId("n-speed"), words.number(Math.round(answers.reduce((sum, one) => sum + (one.tok_s ?? 0), 0))));
  put(byId("n-p50"), ttft?.p50 == null ? "–" : time(ttft.p50));
  put(byId("n-p95"), ttft?.p95 == null ? "–" : time(ttft.p95));
  put(byId("n-count"), ttft ? words.count(ttft.count, ttft.minutes) : "");
}

function paint() {
  const {answers} = snapshot, known = new Set(answers.map(one => one.answer));
  for (const [id, row] of rows) {
    if (known.has(id)) continue;
    if (row.contains(document.activeElement)) (row.nextElementSibling ?? row.previousElementSibling)?.querySelector("button").focus();
    row.remove();
    rows.delete(id);
    stopping.delete(id);
  }
  answers.forEach((answer, i) => {
    const row = rows.get(answer.answer) ?? newRow(answer);
    patch(row, answer, 0);
    if (body.children[i] !== row && !row.contains(document.activeElement)) body.insertBefore(row, body.children[i] ?? null);
    else if (!row.isConnected) body.append(row);
  });
  byId("answers").hidden = !answers.length;
  byId("no-answers").hidden = answers.length > 0;
  people(snapshot.online);
  figures(snapshot);
}

function lamp() {
  const age = Date.now() - received;
  const stale = connection === "live" && snapshot?.answers.length && age > STALE;
  const state = paused && connection === "live" ? "paused" : stale ? "stale" : connection;
  link.dataset.state = state;
  const text = [closedWhy || words.link[state], received && state !== "live" ? words.updated(age / 1000) : ""].filter(Boolean).join(", ");
  put(byId("link-text"), text);
}

const live = liveSocket("/ws/dashboard/", {
  open() { connection = "live"; received = Date.now(); lamp(); },
  closed(code) { connection = "disconnected"; closedWhy = words.closed[code] ?? ""; lamp(); },
  snapshot(message) {
    snapshot = message;
    received = Date.now();
    if (!paused) paint();
    lamp();
  },
  cancelled({answer}) { stopping.add(answer); if (snapshot && !paused) paint(); },
  error({message, answer}) {
    if (answer) stopping.delete(answer);
    byId("board-problem").textContent = message;
    if (snapshot && !paused) paint();
  },
});

body.addEventListener("click", event => {
  const row = event.target.closest("button")?.closest("tr");
  if (!row || stopping.has(row.dataset.answer)) return;
  byId("board-problem").textContent = "";
  if (live.send({type: "cancel", answer: row.dataset.answer})) stopping.add(row.dataset.answer);
  patch(row, snapshot.answers.find(one => one.answer === row.dataset.answer), 0);
});
pauseButton.addEventListener("click", () => {
  paused = !paused;
  pauseButton.setAttribute("aria-pressed", String(paused));
  put(pauseButton.querySelector("span"), paused ? words.resume : words.pause);
  if (!paused && snapshot) paint();
  lamp();
});
setInterval(lamp, 1000);
