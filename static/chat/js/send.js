// Sending: the question is shown at once and replaced by the server's; each submit has one Idempotency-Key, and the same message
// sent again after a failure has the same one, so that it is never answered twice.
import {clearProblem, onResend, prepare, showProblem} from "chat/notice.js";

const uuid = () => crypto.randomUUID?.() ?? "10000000-1000-4000-8000-100000000000".replace(/[018]/g, c =>   // no randomUUID on plain http
  (c ^ (crypto.getRandomValues(new Uint8Array(1))[0] & (15 >> (c / 4)))).toString(16));

/**
 * @param {HTMLFormElement} form the composer
 * @param {object} page composer, scroll, turns(), conversation(), busy(), refused(), opened(conversation)
 */
export function sending(form, page) {
  const keys = new Map();   // what was asked -> its key, until it succeeded
  let message = null;       // {text, draft} under way
  let running = 0;          // posts that will open an answer
  let kept = null;          // the text of the answer that is being continued
  const opens = path => /^\/conversations(\/|$)|\/(regenerate|continue)$/.test(path);
  const keyOf = detail => [detail.path, detail.parameters?.text ?? "", detail.parameters?.model ?? ""].join("\n");

  document.body.addEventListener("htmx:configRequest", event => {
    const {detail} = event;
    if (detail.elt === form) {
      const id = page.conversation();
      if (id) detail.path = `/conversations/${id}/messages`;
      const empty = !form.elements.text.value.trim();
      if (empty || message || page.busy()) {
        event.preventDefault();
        if (!empty) page.refused();
        return;
      }
    }
    if (!opens(detail.path)) return;
    const asked = keyOf(detail);
    if (!keys.has(asked)) keys.set(asked, uuid());
    detail.headers["Idempotency-Key"] = keys.get(asked);
    detail.elt.asked = asked;
  });

  document.body.addEventListener("htmx:beforeSend", ({detail}) => {
    if (detail.requestConfig.verb !== "get") clearProblem();   // a list fetched by itself is no reason to forget a problem
    if (!opens(detail.pathInfo.requestPath)) return;
    running++;
    if (detail.elt !== form) return;
    message = {draft: page.composer.key, text: page.composer.lift()};
    const question = document.getElementById("new-question").content.cloneNode(true).firstElementChild;
    question.querySelector(".said").textContent = message.text;
    page.turns().append(question);
    document.getElementById("welcome")?.setAttribute("hidden", "");
    page.scroll.anchor(question);
  });

  document.body.addEventListener("htmx:beforeSwap", ({detail}) => {
    const status = detail.xhr.status;
    if (status < 400) {
      if (detail.elt === form) document.getElementById("pending")?.remove();
      kept = detail.pathInfo.requestPath.endsWith("/continue") && detail.target.querySelector(".body");
      return;
    }
    if (detail.xhr.getResponseHeader("HX-Retarget") === "#problem") return;
    detail.shouldSwap = false;   // a proxy's page, or a debug page: not ours to show
    onResend(repeatOf(detail.elt));
    showProblem(status === 401 ? "signed-out" : "broken", {status});
  });

  document.body.addEventListener("htmx:afterSwap", ({detail}) => {
    if (kept) document.querySelector('.answer[data-status="open"] .body:empty')?.append(...kept.childNodes);   // until its stream brings it
    kept = null;
    if (detail.target.id !== "problem") return;
    onResend(repeatOf(detail.requestConfig.elt));
    prepare();
  });

  for (const failure of ["htmx:sendError", "htmx:timeout"])
    document.body.addEventListener(failure, ({detail}) => {
      if (detail.requestConfig.verb === "get") return;
      onResend(repeatOf(detail.elt));
      showProblem("not-sent");
    });

  document.body.addEventListener("htmx:afterRequest", ({detail}) => {
    const ok = detail.successful;
    if (ok && detail.elt.asked) keys.delete(detail.elt.asked);
    if (!opens(detail.pathInfo.requestPath)) return;
    running--;
    if (detail.elt !== form) return ok && page.opened(null);
    document.getElementById("pending")?.remove();
    const {text, draft} = message;
    message = null;
    if (ok) {
      page.composer.sent(draft);
      page.opened(/\/c\/([0-9a-f-]+)\//.exec(detail.xhr.getResponseHeader("Location") || location.pathname)?.[1]);
    } else {
      page.composer.giveBack(text);
      page.scroll.release();
      if (!page.turns().children.length) document.getElementById("welcome")?.removeAttribute("hidden");
    }
  });

  function repeatOf(elt) {
    if (elt === form) return () => form.requestSubmit();
    return elt.isConnected && elt.matches("button") ? () => elt.click() : null;
  }

  return {get running() { return running > 0; }};
}
