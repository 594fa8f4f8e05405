// The chat page: joins the parts.
import {follow} from "chat/answer.js";
import {copyButtons, dressAll} from "chat/code.js";
import {composer as messageBox} from "chat/composer.js";
import {liveSocket} from "chat/live.js";
import {clearProblem, showMessage, showProblem} from "chat/notice.js";
import {chatScroll} from "chat/scroll.js";
import {sending} from "chat/send.js";
import {listen, mark, refreshSidebar} from "chat/sidebar.js";
import * as words from "chat/words.js";

const byId = id => document.getElementById(id);
const form = byId("composer"), stopButton = byId("stop"), sendButton = byId("send");
const turns = () => byId("turns");
const conversation = () => turns().dataset.conversation || "";
const scroll = chatScroll(byId("thread"), turns(), byId("jump"));
const answers = new Map();   // id -> what follow() returned
const RECEIPT = 2000;        // ms the socket has to bring the receipt before the stop is posted as well
let busySaid = false;        // "An answer is being written" is shown
let cutNext = false;         // the next answer demonstrates a broken connection

const composer = messageBox(form, {conversation, stop});
const sender = sending(form, {
  composer, scroll, turns, conversation,
  busy: () => answers.size > 0,
  refused() {
    showMessage(words.said.busy);
    busySaid = true;
  },
  opened(id) {
    const first = id && !conversation();
    if (id) turns().dataset.conversation = id;
    if (first) mark(id, null);   // its answer may have ended before this page knew that it is its own
    dropTwins();
    followOpen(true);
    if (first) live.send({type: "watch", conversation: id});
    refreshSidebar();
  },
});

function controls() {
  const busy = answers.size > 0, focused = document.activeElement === stopButton;
  stopButton.hidden = !busy;
  sendButton.hidden = busy;
  if (!busy && busySaid) clearProblem();
  busySaid &&= busy;
  if (!busy && focused) composer.focus();
}

// What is carried up: the question; of an answer that is continued its last block, or where it goes on below a long one.
function whereToRead(article) {
  const last = article.querySelector(".body").lastElementChild;
  if (!last) return article.previousElementSibling || article;
  return last.offsetHeight < byId("thread").clientHeight / 2 ? last : article.querySelector(".state");
}

function followOpen(asked = false) {
  dressAll(turns());
  for (const article of turns().querySelectorAll('.answer[data-status="open"]')) {
    const id = article.dataset.answer;
    if (answers.has(id)) continue;
    answers.set(id, follow(article, {grown: scroll.grown, ended: () => { answers.delete(id); controls(); }}));
    if (cutNext && asked) answers.get(id).demonstrateCut(2000, 3500);
    if (asked) scroll.anchor(whereToRead(article));
  }
  cutNext = false;
  controls();
}

// A push may have brought a turn before the answer to our own post did: the first copy stays.
function dropTwins() {
  const known = new Set();
  for (const turn of [...turns().children]) known.has(turn.id) ? turn.remove() : known.add(turn.id);
}

async function refreshThread() {
  if (!conversation() || sender.running) return;
  const {fragment, morph} = await import("chat/morph.js");
  const {node} = await fragment(`/c/${conversation()}/thread`);
  if (!node?.matches("#turns") || sender.running) return;
  const here = new Set([...turns().children].map(turn => turn.id));
  morph(turns(), node);
  followOpen();
  if ([...turns().children].some(turn => !here.has(turn.id))) scroll.grown();
}

async function post(url) {
  const headers = JSON.parse(document.body.getAttribute("hx-headers"));
  const answer = await fetch(url, {method: "POST", headers: {...headers, Accept: "application/json"}}).catch(() => null);
  return answer?.ok ? answer.json() : null;
}

async function stop() {
  const [id, running] = [...answers].at(-1) ?? [];
  if (!running || running.stopping) return;
  running.stop(true);
  if (live.send({type: "cancel", answer: id})) await new Promise(resume => setTimeout(resume, RECEIPT));
  if (!answers.has(id) || running.received) return;
  const receipt = await post(running.article.dataset.stop);
  if (receipt) return running.receipt(receipt);
  if (answers.has(id)) running.stop(false);
}

const live = liveSocket("/ws/chat/", {
  open(again) {
    if (conversation()) live.send({type: "watch", conversation: conversation()});
    if (!again) return;
    refreshSidebar();
    refreshThread();
  },
  closed(code) { if (code === 4401) showProblem("signed-out"); },
  cancelled(receipt) {
    const running = answers.get(receipt.answer);
    if (!running) return;
    running.received = true;
    running.receipt(receipt);
  },
  "answer.opened"({conversation: where, answer}) {
    if (where !== conversation()) return sender.running || mark(where, "running");
    if (!byId(`m-${answer}`)) refreshThread();
  },
  "answer.ended"({conversation: where, answer}) {
    if (where !== conversation()) return mark(where, "unread");
    if (!byId(`m-${answer}`)) refreshThread();
  },
  "conversation.changed": refreshSidebar,
  error: ({message}) => showMessage(message || words.refused),
});

listen({
  conversation,
  titled(title) {
    byId("title").textContent = title;
    document.title = `${title} · Parley`;
  },
});
copyButtons();
stopButton.addEventListener("click", stop);
byId("welcome")?.addEventListener("click", event => {
  const idea = event.target.closest(".idea");
  if (!idea) return;
  const {text, model, act} = idea.dataset, models = form.elements.model;
  composer.set(text);
  if (model && [...models.options].some(option => option.value === model)) models.value = model;
  if ("fill" in idea.dataset) return composer.focus();
  cutNext = act === "cut";
  form.requestSubmit();
});

const running = turns().querySelector('.answer[data-status="open"]') !== null;
followOpen();
if (turns().children.length) scroll.end(running);
