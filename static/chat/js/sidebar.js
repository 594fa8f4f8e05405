// The list of conversations: drawer on narrow screens, renaming in place, the row menu, dots for what happens elsewhere.
import * as words from "chat/words.js";

const sidebar = document.getElementById("sidebar");
const side = document.getElementById("side");
const room = document.getElementById("room");
const veil = document.getElementById("veil");
const opener = document.getElementById("side-open");
const rowMenu = document.getElementById("row-menu");
const dots = new Map();   // conversation -> "running" | "unread"
let row = null;           // the entry the menu belongs to
let owed = false;         // a refresh waits for the end of a renaming

function drawer(open) {
  side.classList.toggle("open", open);
  veil.hidden = !open;
  room.inert = open;
  opener.setAttribute("aria-expanded", String(open));
  (open ? document.getElementById("side-close") : opener).focus();
}

function rename(entry, on) {
  const form = entry.querySelector(".rename"), link = entry.querySelector("a");
  form.hidden = !on;
  link.hidden = on;
  if (on) form.elements.title.select();
  else {
    form.reset();
    link.focus();
    if (owed) refreshSidebar();
  }
}
const renaming = () => sidebar.querySelector(".rename:not([hidden])");

function rowMenuFor(button) {
  row = button.closest(".entry");
  const at = button.getBoundingClientRect();
  rowMenu.showPopover();
  rowMenu.style.insetBlockStart = `${Math.min(at.bottom, innerHeight - rowMenu.offsetHeight - 8)}px`;
  rowMenu.style.insetInlineStart = `${Math.max(8, Math.min(at.left, innerWidth - rowMenu.offsetWidth - 8))}px`;
  rowMenu.querySelector("button").focus();
}

/** Fetch the list again, unless a title is being edited. */
export function refreshSidebar() {
  owed = Boolean(renaming());
  if (!owed) htmx.trigger(sidebar, "chat:sidebar");
}

/** Mark what happens in a conversation that is not on this page. @param {"running"|"unread"|null} what */
export function mark(conversation, what) {
  if (what) dots.set(conversation, what);
  else dots.delete(conversation);
  if (what === "unread" && !document.title.startsWith(words.dot)) document.title = words.dot + document.title;
  if (what && !document.getElementById(`s-${conversation}`)) refreshSidebar();   // begun elsewhere: not in the list yet
  paint();
}

function paint() {
  for (const [conversation, what] of dots) {
    const dot = document.getElementById(`s-${conversation}`)?.querySelector(".dot");
    if (!dot) continue;
    dot.hidden = false;
    dot.dataset.what = what;
    dot.title = what === "running" ? words.runningElsewhere : words.endedElsewhere;
  }
  for (const dot of sidebar.querySelectorAll(".dot:not([hidden])"))
    if (!dots.has(dot.closest(".entry").dataset.conversation)) dot.hidden = true;
}

// The page's own dialog in place of window.confirm: deleting asks first.
function confirming(event) {
  if (!event.detail.question) return;
  event.preventDefault();
  const dialog = document.getElementById("confirm");
  document.getElementById("confirm-text").textContent = event.detail.question;
  dialog.returnValue = "no";
  dialog.onclose = () => { if (dialog.returnValue === "yes") event.detail.issueRequest(true); };
  dialog.showModal();
}

/** @param {{conversation: function, titled: function(string)}} page */
export function listen(page) {
  opener.addEventListener("click", () => drawer(true));
  veil.addEventListener("click", () => drawer(false));
  document.getElementById("side-close").addEventListener("click", () => drawer(false));
  side.addEventListener("keydown", event => {
    if (event.key !== "Escape") return;
    if (renaming()) return rename(renaming().closest(".entry"), false);
    if (side.classList.contains("open") && !side.querySelector(":popover-open")) drawer(false);
  });
  sidebar.addEventListener("click", event => {
    const more = event.target.closest("[data-more]");
    if (more) rowMenuFor(more);
  });
  sidebar.addEventListener("focusout", event => {
    const form = event.target.closest(".rename");
    if (!form || form.hidden || "sent" in form.dataset || form.contains(event.relatedTarget)) return;
    if (event.target.value.trim() && event.target.value !== event.target.defaultValue) form.requestSubmit();
    else rename(form.closest(".entry"), false);
  });
  // A form under way is about to be replaced, and its field loses the focus then: that is no second submit.
  sidebar.addEventListener("submit", event => { event.target.dataset.sent = ""; });
  document.body.addEventListener("htmx:afterRequest", ({detail}) => { delete detail.elt.dataset.sent; });
  rowMenu.addEventListener("click", event => {
    const what = event.target.closest("[data-row]")?.dataset.row;
    if (!what) return;
    rowMenu.hidePopover();
    if (what === "rename") rename(row, true);
    else row.querySelector(".delete").requestSubmit();
  });
  document.body.addEventListener("htmx:confirm", confirming);
  document.body.addEventListener("htmx:configRequest", ({detail}) => {
    if (sidebar.contains(detail.elt) && page.conversation()) detail.parameters.current = page.conversation();
  });
  document.body.addEventListener("htmx:afterSwap", ({detail}) => {
    if (detail.target !== sidebar) return;
    owed = false;
    const entry = document.getElementById(`s-${page.conversation()}`);
    entry?.querySelector("a").setAttribute("aria-current", "page");
    if (entry) page.titled(entry.querySelector("a").textContent);
    if (detail.requestConfig.verb === "get") return paint();
    const touched = document.getElementById(row?.id) ?? entry ?? sidebar;   // the row itself, or what is left after deleting it
    touched.querySelector("a")?.focus({preventScroll: true});
    paint();
  });
}
