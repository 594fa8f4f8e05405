// One answer = one EventSource. The browser's own reconnect is used where it works; where it gives up (any status but 200)
// this module asks why and reopens with ?after=<last id>. Ids are "<fence>-<seq>", opaque but for their order.

const SILENCE = 45_000;   // ms; the server sends `ping` every 15 s, so three are missing
const HIDDEN = 60_000;    // ms; a tab hidden for longer gives its connection back (a browser has six per host)
const LONGEST_WAIT = 8_000;   // ms between two attempts

function later(a, b) {
  const [fence, seq] = a.split("-").map(Number);
  const [otherFence, otherSeq] = b.split("-").map(Number);
  return fence > otherFence || (fence === otherFence && seq > otherSeq);
}

/**
 * Follow an answer until it ends.
 * @param {string} url its events URL
 * @param {Object<string, function>} handlers started, token, reasoning, usage, done, error, status (each gets the event's data)
 *   and state ("live" | "reconnecting" | "ended" | "signed-out" | "gone")
 * @returns {{close: function, cut: function(number), last: string}}
 */
export function openAnswer(url, handlers) {
  let source, watchdog, timer, hiding;
  let last = "0-0";     // position to resume from
  let seen = "";        // lastEventId of the event before, on this connection
  let tries = 0;
  let over = false;     // the final event was read
  let paused = false;   // closed because the tab is hidden
  let closed = false;
  const tell = (name, data) => handlers[name]?.(data);

  function alive() {
    clearTimeout(watchdog);
    watchdog = setTimeout(open, SILENCE);
  }

  // True when the event is new. Row replay sends text without ids: then lastEventId repeats that of `started`.
  function fresh(event) {
    alive();
    tries = 0;
    if (event.lastEventId === seen) return true;
    seen = event.lastEventId;
    if (!later(seen, last)) return false;
    last = seen;
    return true;
  }

  function open() {
    if (closed) return;
    clearTimeout(timer);
    source?.close();
    seen = "";
    paused = false;
    source = new EventSource(`${url}?after=${last}`);
    alive();
    source.onopen = () => { tell("state", "live"); alive(); };
    for (const name of ["token", "reasoning", "usage"])
      source.addEventListener(name, event => { if (fresh(event)) tell(name, JSON.parse(event.data)); });
    source.addEventListener("started", event => {   // also the head of every replay from the start, so it always counts
      alive();
      tries = 0;
      last = seen = event.lastEventId;
      tell("started", JSON.parse(event.data));
    });
    source.addEventListener("status", event => { alive(); tell("status", JSON.parse(event.data)); });
    source.addEventListener("ping", alive);
    source.addEventListener("done", event => final("done", event));
    source.addEventListener("reconnect", () => { tell("state", "reconnecting"); retry(); });
    source.addEventListener("close", () => {
      if (over) return close();
      source.close();   // the right to read has ended, or the answer is gone: find out which
      ask();
    });
    source.addEventListener("error", event => {
      if (event.data) return final("error", event);   // the server's own event of that name; the browser's has no data
      if (over) return close();
      tell("state", "reconnecting");
      if (source.readyState === EventSource.CLOSED) ask();   // 204, 401, 404, 503, a proxy's page: it will not retry by itself
    });
  }

  function final(name, event) {
    if (over) return;
    over = true;
    clearTimeout(watchdog);
    tell(name, JSON.parse(event.data));
  }

  async function ask() {
    const answer = await fetch(url.replace(/\/events$/, ""), {headers: {Accept: "application/json"}}).catch(() => null);
    if (closed || over) return;
    if (answer?.status === 401) return leave("signed-out");
    if (answer?.status === 404) return leave("gone");
    if (answer?.ok) {
      const {status} = await answer.json().catch(() => ({status: "open"}));
      if (status !== "open") return leave("ended");
    }
    retry(1000 * Number(answer?.headers.get("Retry-After") || 0));
  }

  function retry(atLeast = 0) {
    source.close();
    clearTimeout(timer);
    clearTimeout(watchdog);
    const wait = Math.min(LONGEST_WAIT, 250 * 2 ** tries++) * (0.7 + 0.6 * Math.random());
    timer = setTimeout(open, Math.max(atLeast, wait));
  }

  function visibility() {
    clearTimeout(hiding);
    if (!document.hidden) return paused ? open() : undefined;
    hiding = setTimeout(() => {
      if (over) return;
      paused = true;
      source.close();
      clearTimeout(timer);
      clearTimeout(watchdog);
    }, HIDDEN);
  }

  function leave(state) {
    close();
    tell("state", state);
  }

  function close() {
    closed = true;
    source.close();
    for (const running of [watchdog, timer, hiding]) clearTimeout(running);
    removeEventListener("online", open);
    document.removeEventListener("visibilitychange", visibility);
  }

  addEventListener("online", open);
  document.addEventListener("visibilitychange", visibility);
  open();
  return {
    close,
    /** Break the connection on purpose and come back after `ms`. */
    cut(ms) {
      if (over || closed) return;
      retry(ms);
      tell("state", "reconnecting");
    },
    get last() { return last; },
  };
}
