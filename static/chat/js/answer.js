// One running answer on the page: its stream, its text, the line below it, and its end.
import {stateLine} from "chat/line.js";
import {markdownStream} from "chat/markdown.js";
import {readOut, say, showProblem} from "chat/notice.js";
import {openAnswer} from "chat/stream.js";
import * as words from "chat/words.js";

const FLUSH = 34;      // ms between two writes to the page: 30 a second read as fluent
const TICK = 250;      // ms between two looks at the line below
const STILL = 7000;    // ms between two "Still generating"

/**
 * @param {HTMLElement} article the open answer's element
 * @param {{grown: function, ended: function}} page grown: text was added; ended: the final form is in place
 */
export function follow(article, page) {
  const find = selector => article.querySelector(selector);
  const body = find(".body"), reasoning = find(".reasoning"), thought = find(".thought"), now = find(".now");
  const line = stateLine();
  const atFirstToken = [];
  let write = markdownStream(body);
  let text = "", thinking = "";          // came, and not yet on the page
  let anew = false;                      // what the page shows is of an attempt before, or of the answer that this one continues
  let scheduled = false, finished = false, flushed = 0, said = performance.now();

  article.dataset.live = "";
  import("chat/morph.js").catch(() => {});   // needed at the end; fetched while the model is thinking
  say(words.said.generating);

  function flush(end = false) {
    if (anew) {
      body.replaceChildren();
      thought.replaceChildren();
      write = markdownStream(body);
      anew = false;
    }
    if (text || end) write(text, end);
    if (thinking) thought.append(thinking);
    text = thinking = "";
    flushed = performance.now();
    page.grown();
  }
  function soon() {
    if (scheduled || finished) return;
    scheduled = true;
    const frame = document.hidden ? run => setTimeout(run, TICK) : requestAnimationFrame;
    frame(function paint() {
      if (finished) return;
      if (performance.now() - flushed < FLUSH) return frame(paint);
      scheduled = false;
      flush();
    });
  }
  function show() {
    const sentence = line.sentence;
    if (now.textContent !== sentence) now.textContent = sentence;
    if (finished || performance.now() - said < STILL) return;
    said = performance.now();
    say(line.broken ? words.said.reconnecting : words.said.still);
  }
  const ticking = setInterval(show, TICK);

  const stream = openAnswer(article.dataset.events, {
    started() {
      text = thinking = "";
      anew = true;
      line.restart();
      soon();
    },
    token(data) {
      const first = !line.started, thoughtFor = line.came("token", data.n);
      if (thoughtFor) find("summary").textContent = words.thought(thoughtFor);
      if (first) for (const act of atFirstToken.splice(0)) act();
      text += data.text;
      soon();
    },
    reasoning(data) {
      reasoning.hidden = false;
      line.came("reasoning", data.n);
      thinking += data.text;
      soon();
    },
    status(data) { line.told(data); show(); },
    state(state) {
      line.connected(state !== "reconnecting");
      if (state === "ended") finish();
      if (state === "gone") leave(words.line.gone());
      if (state === "signed-out") {
        leave(words.line.signedOut());
        showProblem("signed-out");
      }
    },
    done: finish,
    error: finish,
  });

  function settle() {
    finished = true;
    clearInterval(ticking);
    delete article.dataset.live;
  }
  function leave(sentence) {
    if (!finished) flush();
    settle();
    line.fixed = sentence;
    show();
    article.removeAttribute("aria-busy");
    page.ended();
  }
  async function finish() {
    if (finished) return;
    flush(true);
    finished = true;
    const {arrive} = await import("chat/morph.js");
    const missing = await arrive(article, article.dataset.html, settle);
    if (missing) return leave(missing === 404 ? words.line.gone() : words.line.unread());
    const final = find(".body").textContent, status = article.dataset.status;
    const outcome = status === "stopped" ? words.said.stopped : status === "done" ? words.said.complete(final) : words.said.failed;
    say(outcome);
    readOut(final || outcome);
    page.grown();
    page.ended();
  }

  return {
    article,
    get stopping() { return line.stopping; },
    /** Show that a stop was asked for, or (false) that it was refused. */
    stop(asked) { line.stopping = asked; show(); },
    /** Show the receipt of a stop until the final form is here. */
    receipt(data) { line.fixed = words.stopped(data); show(); },
    /** Break the connection for `ms`, `after` ms after the first token: shows that nothing is lost. */
    demonstrateCut(after, ms) { atFirstToken.push(() => setTimeout(() => stream.cut(ms), after)); },
  };
}
