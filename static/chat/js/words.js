// Every sentence the scripts show or announce, in one place.

const number = new Intl.NumberFormat(document.documentElement.lang || "en");
const digits = n => new Intl.NumberFormat(document.documentElement.lang || "en", {maximumFractionDigits: n, minimumFractionDigits: n});
const oneDigit = digits(1), twoDigits = digits(2);
const plural = (n, one, many) => `${number.format(n)} ${n === 1 ? one : many}`;

/** @param {number} ms @returns {string} "0.38 s", "4.1 s", "12 s", "1 min 5 s" */
export function time(ms) {
  const seconds = ms / 1000;
  if (seconds < 1) return `${twoDigits.format(seconds)} s`;
  if (seconds < 10) return `${oneDigit.format(seconds)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
}

const whole = seconds => `${number.format(Math.max(0, Math.floor(seconds)))} s`;
export const tokens = n => plural(n, "token", "tokens");

/** What the line below a running answer says. */
export const line = {
  waiting: seconds => (seconds < 1 ? "Waiting for model…" : `Waiting for model… ${whole(seconds)}`),
  queued: position => (position > 1 ? `Waiting for a free place: ${number.format(position - 1)} before you` : "Waiting for a free place: you are next"),
  silent: seconds => `The provider has been silent for ${whole(seconds)}`,
  recovering: () => "The server is recovering; nothing is lost",
  reconnecting: () => "Reconnecting… the answer goes on at the server",
  thinking: seconds => `Thinking… ${whole(seconds)}`,
  streaming: (speed, count, ms) => [speed && `${number.format(Math.round(speed))} tok/s`, tokens(count), time(ms)].filter(Boolean).join(" · "),
  stopping: () => "Stopping…",
  signedOut: () => "Signed out. The answer goes on at the server.",
  gone: () => "This answer was deleted.",
  unread: () => "Ended. Reload the page to see its final form.",
};

/** @param {{completion_tokens: ?number, estimated: boolean}} receipt */
export function stopped({completion_tokens: n, estimated}) {
  if (n === null || n === undefined) return "Stopped by you";
  return `Stopped by you · ${estimated ? `≈ ${tokens(n)}` : `${tokens(n)} billed`}`;
}

/** What screen readers hear; short, never the text of a running answer. */
export const said = {
  generating: "Generating",
  still: "Still generating",
  complete: text => `Answer complete, ${plural(text.split(/\s+/).filter(Boolean).length, "word", "words")}`,
  stopped: "Stopped",
  failed: "The answer failed",
  reconnecting: "Reconnecting",
  back: "Back online",
  busy: "An answer is being written. Stop it, or wait for its end.",
  copied: "Copied",
};

export const thinking = "Thinking…";
export const thought = ms => `Thought for ${time(ms)}`;
export const copy = "Copy";
export const copied = "Copied";
export const codeLabel = language => (language ? `Code, ${language}` : "Code");
export const plainCode = "text";
export const table = "Table";
export const retryIn = seconds => `Retry in ${whole(seconds)}`;
export const retry = "Retry";
export const endedElsewhere = "new answer";
export const runningElsewhere = "being written";
export const dot = "• ";
export const refused = "The server refused that.";

/** The staff board. */
export const board = {
  link: {connecting: "Connecting…", live: "Live", paused: "Paused", stale: "No news from the server", disconnected: "Disconnected"},
  updated: seconds => `updated ${whole(seconds)} ago`,
  closed: {4401: "Signed out", 4403: "Staff only"},
  states: {waiting: "waiting", streaming: "streaming", silent: "silent", stopping: "stopping…"},
  pause: "Pause",
  resume: "Resume",
  stop: "Stop",
  stopping: "Stopping…",
  stopOf: user => `Stop the answer of ${user}`,
  count: (n, minutes) => `${plural(n, "answer", "answers")} in ${number.format(minutes)} min`,
  tabs: n => plural(n, "tab", "tabs"),
  idle: seconds => (!seconds || seconds < 60 ? "" : `idle ${time(seconds * 1000)}`),
  number: n => number.format(n),
};
