// The line below a running answer: what is happening now, and how fast.
import * as words from "chat/words.js";

const PATIENCE = 1000;   // ms a broken connection may last before it is worth a word
const WINDOW = 3000;     // ms the live speed looks back
const REPLAY = 400;      // ms after a (re)connect in which text is a replay and says nothing about speed

/** The state of one running answer, as a sentence. */
export function stateLine() {
  const began = performance.now();
  let status = null;       // the server's last `status`, with our time of it
  let samples = [], count = 0, caughtUp = 0;
  let thoughtAt = 0, tokenAt = 0, brokenAt = 0;

  function speed(at) {
    samples = samples.filter(([when]) => at - when < WINDOW);
    if (samples.length < 2 || at - samples[0][0] < REPLAY) return 0;
    const n = samples.reduce((sum, [, many]) => sum + many, -samples[0][1]);
    return (1000 * n) / (at - samples[0][0]);
  }

  return {
    stopping: false,
    fixed: "",            // a sentence that stays, such as a receipt
    restart() {
      samples = [];
      count = thoughtAt = tokenAt = 0;
      caughtUp = performance.now() + REPLAY;
    },
    connected(yes) {
      if (!yes) return void (brokenAt ||= performance.now());
      brokenAt = 0;
      caughtUp = performance.now() + REPLAY;
    },
    /** @returns {number} ms of thinking before the first token; 0 unless this is it and there was some */
    came(kind, n = 1) {
      const at = performance.now();
      if (at > caughtUp || status?.state !== "recovering") status = null;   // a replay is no recovery
      if (!n) return 0;   // text that is kept, not written now
      count += n;
      if (at > caughtUp) samples.push([at, n]);
      if (kind === "reasoning") thoughtAt ||= at;
      else if (!tokenAt) {
        tokenAt = at;
        return thoughtAt && at - thoughtAt;
      }
      return 0;
    },
    told(news) { status = {...news, at: performance.now()}; },
    get broken() { return brokenAt > 0; },
    get started() { return tokenAt > 0; },
    get sentence() {
      const at = performance.now();
      if (this.fixed) return this.fixed;
      if (this.stopping) return words.line.stopping();
      if (brokenAt && at - brokenAt > PATIENCE) return words.line.reconnecting();
      const told = status && (status.seconds || 0) + (at - status.at) / 1000;
      if (status && status.state !== "waiting") return words.line[status.state]?.(status.state === "queued" ? status.position : told) ?? "";
      if (tokenAt) return words.line.streaming(speed(at), count, at - tokenAt);
      if (thoughtAt) return words.line.thinking((at - thoughtAt) / 1000);
      return words.line.waiting(told ?? (at - began) / 1000);
    },
  };
}
