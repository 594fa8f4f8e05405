// Markdown to DOM while it is still being written. No HTML strings anywhere: what the model sends can only become text nodes
// and the elements named here. Finished blocks are written once; only the open last block is rendered again, and of a
// growing list or table only its last item. The server's final HTML has the same structure.
import {Marked} from "marked";
import {dress} from "chat/code.js";
import {table as tableLabel} from "chat/words.js";

const marked = new Marked({tokenizer: {url: () => undefined}});   // the server makes no links of bare addresses either
const SAFE = /^(https?:|mailto:)/i;
const ENTITIES = {amp: "&", lt: "<", gt: ">", quot: '"', "#39": "'"};
const make = (tag, className = "") => Object.assign(document.createElement(tag), className ? {className} : {});
const decoded = text => text.replace(/&(amp|lt|gt|quot|#39);/g, (_, name) => ENTITIES[name]);

function fill(node, tokens, render) {
  node.append(...(tokens || []).map(render).filter(Boolean));
  return node;
}

function link({type, href, raw, text}, tokens, className) {
  const asWritten = type === "link" && raw[0] === "[" ? [{raw: "["}, ...tokens, {raw: raw.slice(1 + text.length)}] : [{raw}];
  if (!SAFE.test(href)) return fill(document.createDocumentFragment(), asWritten, inline);   // the server does the same
  const anchor = Object.assign(make("a", className), {href, rel: "noopener noreferrer nofollow", target: "_blank"});
  return fill(anchor, tokens, inline);
}

function inline(token) {
  switch (token.type) {
    case "strong": case "em": case "del": return fill(make(token.type), token.tokens, inline);
    case "codespan": return Object.assign(make("code"), {textContent: token.text});
    case "br": return make("br");
    case "link": return link(token, token.tokens);
    case "image": return link(token, [{type: "escape", text: `🖼 ${token.text || token.href}`}], "image-link");   // never loaded
    case "text": return token.tokens ? fill(document.createDocumentFragment(), token.tokens, inline) : document.createTextNode(decoded(token.text));
    case "escape": return document.createTextNode(decoded(token.text));
    default: return document.createTextNode(token.raw);   // raw HTML is shown as it was written
  }
}

function codeBlock(token) {
  const figure = make("figure", "code"), pre = make("pre"), code = make("code");
  const language = (token.lang || "").trim().split(/\s/)[0].replace(/[^\p{L}\p{N}_+#-]/gu, "").slice(0, 40);
  figure.dataset.language = language;
  if (language) code.className = `language-${language}`;
  pre.tabIndex = 0;
  code.textContent = token.text && `${token.text}\n`;
  pre.append(code);
  figure.append(pre);
  return dress(figure);
}

function item(token) {
  const li = make("li");
  return fill(li, token.tokens, part => (part.type === "text" && token.loose ? fill(make("p"), part.tokens, inline) : block(part)));
}

function row(cells, tag) {
  const tr = make("tr");
  for (const cell of cells) tr.append(fill(make(tag, cell.align ? `ta-${cell.align}` : ""), cell.tokens, inline));
  return tr;
}

function tableBlock(token) {
  const box = Object.assign(make("div", "table"), {tabIndex: 0}), table = make("table");
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", tableLabel);
  table.createTHead().append(row(token.header, "th"));
  table.createTBody().append(...token.rows.map(cells => row(cells, "td")));
  box.append(table);
  return box;
}

function listBlock(token) {
  const list = make(token.ordered ? "ol" : "ul");
  if (token.ordered && token.start !== 1) list.start = token.start;
  list.append(...token.items.map(item));
  return list;
}

function block(token) {
  switch (token.type) {
    case "space": case "def": return null;
    case "heading": return fill(make(`h${Math.min(6, token.depth + 2)}`), token.tokens, inline);   // h1 and h2 belong to the page
    case "paragraph": return fill(make("p"), token.tokens, inline);
    case "blockquote": return fill(make("blockquote"), token.tokens, block);
    case "hr": return make("hr");
    case "code": return codeBlock(token);
    case "list": return listBlock(token);
    case "table": return tableBlock(token);
    case "html": return Object.assign(make("p"), {textContent: token.raw.trim()});
    default: return inline(token);
  }
}

const parts = token => (token.type === "list" ? token.items.map(one => one.raw) : token.rows.map(cells => cells.map(c => c.text).join("|")));

// Change the rendered open list or table into its longer self; false when it is not simply longer.
function grow(node, before, now) {
  if (before?.type !== now.type || !["list", "table"].includes(now.type)) return false;
  if (now.ordered !== before.ordered || now.loose !== before.loose || String(now.align) !== String(before.align)) return false;
  const old = parts(before), fresh = parts(now), home = now.type === "list" ? node : node.querySelector("tbody");
  let same = 0;
  while (same < old.length && old[same] === fresh[same]) same++;
  while (home.children.length > same) home.lastChild.remove();
  const more = now.type === "list" ? now.items.map(one => () => item(one)) : now.rows.map(cells => () => row(cells, "td"));
  home.append(...more.slice(same).map(build => build()));
  return true;
}

/**
 * @param {Element} root receives the blocks
 * @returns {function(string, boolean=)} write(text, end): append text; `end` closes what is open
 */
export function markdownStream(root) {
  let tail = "";        // Markdown of the open block
  let open = null;      // its node
  let openToken = null;
  let code = null;      // the text node of an open fence: text is appended to it directly
  let fence = "";

  return function write(text, end = false) {
    tail += text;
    if (code && !tail.includes(`\n${fence}`, fence.length)) {
      code.appendData(text);
      if (!end) return;
    }
    code = null;
    const tokens = marked.lexer(tail).filter((token, i, all) => token.type !== "space" || i < all.length - 1);
    let used = 0, lastIndex = tokens.length - 1;
    tokens.forEach((token, i) => {
      const kept = i === 0 && open && grow(open, openToken, token);
      if (!kept) {
        if (i === 0) open?.remove();
        open = block(token.type === "text" ? {...token, type: "paragraph"} : token);
        if (open) root.append(open);
      }
      openToken = token;
      if (i === lastIndex) return;
      used += token.raw.length;
      open = openToken = null;
    });
    if (end) return;
    tail = tail.slice(used);
    const start = /^(`{3,}|~{3,})[^\n]*\n/.exec(tail);
    if (!start || !open || tail.includes(`\n${start[1]}`, start[0].length - 1)) return;
    const node = open.querySelector("code");
    node.textContent = tail.slice(start[0].length);
    code = node.firstChild || node.appendChild(document.createTextNode(""));
    fence = start[1];
  };
}
