// The bar above a code block (language, Copy) and the copy buttons. The same bar is put on live and on final blocks; CSS keeps
// its room in both, so nothing moves.
import {say} from "chat/notice.js";
import * as words from "chat/words.js";

/** Give one figure.code its bar. @param {Element} figure @returns {Element} the figure */
export function dress(figure) {
  if (figure.querySelector(":scope > .code-bar")) return figure;
  const language = figure.dataset.language || "";
  const bar = document.createElement("figcaption"), name = document.createElement("span"), button = document.createElement("button");
  bar.className = "code-bar";
  name.textContent = language || words.plainCode;
  button.type = "button";
  button.textContent = words.copy;
  button.dataset.copyCode = "";
  bar.append(name, button);
  figure.prepend(bar);
  const pre = figure.querySelector("pre");
  pre?.setAttribute("role", "group");
  pre?.setAttribute("aria-label", words.codeLabel(language));
  return figure;
}

/** Dress every block below `root`. @param {ParentNode} root */
export function dressAll(root) {
  for (const figure of root.querySelectorAll("figure.code")) dress(figure);
}

async function write(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");   // plain http has no clipboard API
  area.value = text;
  area.className = "hidden";
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

async function copied(button, text) {
  await write(text);
  say(words.said.copied);
  button.dataset.done = "";
  const label = button.hasAttribute("data-copy-code");
  if (label) button.textContent = words.copied;
  setTimeout(() => {
    delete button.dataset.done;
    if (label) button.textContent = words.copy;
  }, 1600);
}

/** Listen for the copy buttons, once for the page. */
export function copyButtons() {
  document.addEventListener("click", event => {
    const code = event.target.closest("[data-copy-code]");
    if (code) copied(code, code.closest("figure").querySelector("code").textContent);
    const answer = event.target.closest("[data-copy-answer]");
    if (answer) copied(answer, answer.closest(".answer").querySelector("template.source").content.textContent);
  });
}
