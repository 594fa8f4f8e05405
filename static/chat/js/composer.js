// The message box: grows with its text, keeps a draft per conversation, sends with Enter.

const DRAFT = "parley:draft:";

/**
 * @param {HTMLFormElement} form
 * @param {{conversation: function, stop: function}} page
 */
export function composer(form, page) {
  const text = form.elements.text;
  const key = () => DRAFT + (page.conversation() || "new");
  const touch = matchMedia("(pointer: coarse)");
  const grows = CSS.supports("field-sizing", "content");

  function fit() {
    if (grows) return;
    text.style.height = "auto";
    text.style.height = `${text.scrollHeight}px`;
  }
  function keep() {
    try {
      if (text.value) localStorage.setItem(key(), text.value);
      else localStorage.removeItem(key());
    } catch { /* storage is full or forbidden: the draft lives as long as the page */ }
  }
  function set(value) {
    text.value = value;
    fit();
    keep();
  }

  text.addEventListener("input", () => { fit(); keep(); });
  text.addEventListener("keydown", event => {
    if (event.isComposing) return;
    if (event.key === "Escape") return page.stop();
    if (event.key !== "Enter" || event.shiftKey || event.altKey) return;
    if (touch.matches && !event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    form.requestSubmit();
  });
  for (const out of document.querySelectorAll('form[action="/logout/"]'))
    out.addEventListener("submit", () => {   // drafts are private; they go with the one who wrote them
      for (const name of Object.keys(localStorage)) if (name.startsWith(DRAFT)) localStorage.removeItem(name);
    });
  try {
    if (!text.value) text.value = localStorage.getItem(key()) || "";
  } catch { /* no storage, no draft */ }
  fit();

  return {
    set,
    /** Empty the box for a message under way; its text stays stored as the draft until `sent`. */
    lift() {
      const value = text.value;
      text.value = "";
      fit();
      return value;
    },
    /** The message arrived: forget its draft, which was stored under the address it was written at. */
    sent(draftKey) {
      try { localStorage.removeItem(draftKey); } catch { /* nothing was stored */ }
      keep();
    },
    /** The message did not arrive: put it back before what was typed meanwhile. */
    giveBack(value) { set(text.value ? `${value}\n${text.value}` : value); },
    focus() { text.focus({preventScroll: true}); },
    get key() { return key(); },
  };
}
