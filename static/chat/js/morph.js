// The server's HTML put into the page without replacing what is already right: focus, selection and open details stay.
// Loaded when the first answer is opened.
import {Idiomorph} from "idiomorph";
import {dressAll} from "chat/code.js";

const ours = new Set(["style", "open", "data-live"]);   // set by the page, unknown to the server

/** Morph `old` into `fresh`. Turns that are being written, or sent, are left alone when a whole thread is morphed. */
export function morph(old, fresh) {
  dressAll(fresh);
  const busy = node => node !== old && node.matches?.("[data-live], .pending");
  Idiomorph.morph(old, fresh, {
    morphStyle: "outerHTML",
    callbacks: {
      beforeNodeMorphed: node => !busy(node),
      beforeNodeRemoved: node => !busy(node),
      beforeAttributeUpdated: name => !ours.has(name),
    },
  });
  htmx.process(old);
}

/** Fetch a fragment. @param {string} url @returns {Promise<{status: number, node: ?Element}>} status 0: no answer at all */
export async function fragment(url) {
  const answer = await fetch(url, {headers: {"HX-Request": "true"}}).catch(() => null);
  if (!answer?.ok) return {status: answer?.status ?? 0, node: null};
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  return {status: answer.status, node: page.body.firstElementChild};
}

/**
 * Put the final form of an ended answer in place; asks again for a while when the server cannot be reached.
 * @param {function} before called just before the page is changed
 * @returns {Promise<number>} 0, or the status that ended the attempts (-1: never an answer)
 */
export async function arrive(article, url, before) {
  for (let wait = 500; wait < 10_000; wait *= 2) {
    const {status, node} = await fragment(url);
    if (node?.matches(".answer")) {
      before();
      morph(article, node);
      return 0;
    }
    if (status === 401 || status === 404) return status;
    await new Promise(resume => setTimeout(resume, wait));
  }
  return -1;
}
