// Reading comes first: the question just sent is carried near the top of the view and the view then stays where it is while the
// answer grows below. Following the newest text is the reader's choice: by scrolling to the end, by End, or by the jump button.

const ANCHOR = 24;   // px between the top of the view and the question just sent
const NEAR = 60;     // px from the end that count as being at the end
const FAR = 200;     // px of unseen text from which the jump button is offered

/**
 * @param {HTMLElement} box the scrolling element
 * @param {HTMLElement} list the turns in it; its min-height reserves the room an answer will fill
 * @param {HTMLElement} jump the button that goes to the end
 */
export function chatScroll(box, list, jump) {
  let follow = false;
  let carrying = false;   // a scroll of our own is under way
  let timer = 0;
  let lastTop = box.scrollTop;
  let left = null;        // where the view was, and the room there was, before the last question was carried up
  const gap = () => box.scrollHeight - box.scrollTop - box.clientHeight;
  const offer = () => { jump.hidden = follow || gap() < FAR; };

  function settled() {
    carrying = false;
    lastTop = box.scrollTop;
  }
  function toEnd() {
    box.scrollTop = box.scrollHeight;
    settled();
  }

  function followEnd() {
    follow = true;
    toEnd();
    offer();
  }

  for (const input of ["wheel", "touchstart", "keydown", "pointerdown"])
    box.addEventListener(input, settled, {passive: true});   // the reader takes over at once
  // Upwards is away from the end, said before the scroll itself begins: growing text would carry the view back to the end.
  box.addEventListener("wheel", event => { if (event.deltaY < 0) follow = false; }, {passive: true});
  box.addEventListener("touchmove", () => { follow = false; }, {passive: true});
  box.addEventListener("keydown", event => {
    if (["ArrowUp", "PageUp", "Home"].includes(event.key)) follow = false;
    if (event.key !== "End" || event.target.closest("pre, input, textarea, select")) return;
    event.preventDefault();   // the browser's own way there takes a while, and the end moves meanwhile
    followEnd();
  });
  box.addEventListener("scroll", () => {
    if (!carrying) {
      if (box.scrollTop < lastTop - 1) follow = false;
      else if (box.scrollTop > lastTop + 1 && gap() <= NEAR) follow = true;
    }
    lastTop = box.scrollTop;
    offer();
  }, {passive: true});
  jump.addEventListener("click", () => {
    followEnd();
    box.focus({preventScroll: true});   // the button disappears; End, PageUp and the arrows keep working
  });

  return {
    /** Carry `turn` near the top and keep room below it for an answer. */
    anchor(turn) {
      left = {top: box.scrollTop, room: list.style.minHeight};
      list.style.minHeight = "";
      const top = turn.getBoundingClientRect().top - box.getBoundingClientRect().top + box.scrollTop;
      const listTop = list.getBoundingClientRect().top - box.getBoundingClientRect().top + box.scrollTop;
      const target = Math.max(0, top - ANCHOR);
      list.style.minHeight = `${target + box.clientHeight - listTop}px`;
      const calm = matchMedia("(prefers-reduced-motion: reduce), (any-pointer: coarse)").matches;
      follow = false;
      carrying = true;
      box.scrollTo({top: target, behavior: calm ? "instant" : "smooth"});
      clearTimeout(timer);
      timer = setTimeout(settled, 1200);
      offer();
    },
    /** The question that was carried up is gone again: the view goes back to where it was. */
    release() {
      if (!left) return;
      list.style.minHeight = left.room;
      box.scrollTo({top: left.top, behavior: "instant"});
      left = null;
      settled();
      offer();
    },
    /** Tell that text was added. */
    grown() {
      if (follow) toEnd();
      offer();
    },
    /** Show the end, as when a conversation is opened; `stay` keeps following it. */
    end(stay) {
      follow = stay;
      toEnd();
      offer();
    },
  };
}
