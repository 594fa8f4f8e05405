"""Markdown of a finished answer as HTML: the same bytes on the page, after a reload, in the admin and in exports.

Model output is text from a stranger. HTML in it is shown as text, images become links (loading one would tell its host
who reads), links lead only to http, https and mailto addresses, and nh3 checks the result against an allow-list last.
"""

import re
from collections.abc import Callable, MutableMapping, Sequence
from contextlib import suppress
from html import escape
from typing import Any

import nh3
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock, blockquote, list_block
from markdown_it.token import Token
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

# Raise this when the same Markdown would give other HTML: stored HTML of another version is rendered anew.
VERSION = "3"

# Pygments is linear for most lexers, yet a megabyte of code helps nobody in colour.
MAX_HIGHLIGHTED = 100_000
# Nesting deeper than this is an attack or an accident; what is deeper is shown as text.
MAX_NESTING = 30

ALLOWED: dict[str, set[str]] = {
    "a": {"href", "title", "class", "target"},
    "code": {"class"},
    "div": {"class", "tabindex", "role", "aria-label"},
    "figure": {"class", "data-language"},
    "ol": {"start"},
    "pre": {"tabindex"},
    "span": {"class"},
    "td": {"class"},
    "th": {"class"},
}
TAGS = {*ALLOWED, "blockquote", "br", "del", "em", "h3", "h4", "h5", "h6", "hr", "li", "p", "strong"} | {
    "table",
    "tbody",
    "thead",
    "tr",
    "ul",
}

SCHEMES = {"http", "https", "mailto"}
ADDRESS = re.compile(r"(?:https?|mailto):", re.IGNORECASE)

_formatter = HtmlFormatter(nowrap=True)


class Renderer(RendererHTML):
    """markdown-it's HTML with our code blocks, tables, headings, links and images."""

    def fence(self, tokens: Sequence[Token], idx: int, options: Any, env: MutableMapping[str, Any]) -> str:
        info = tokens[idx].info.strip().split(maxsplit=1)
        return code_block(tokens[idx].content, info[0] if info else "")

    def code_block(self, tokens: Sequence[Token], idx: int, options: Any, env: MutableMapping[str, Any]) -> str:
        return code_block(tokens[idx].content, "")

    def heading_open(self, tokens: Sequence[Token], idx: int, options: Any, env: MutableMapping[str, Any]) -> str:
        return f"<{lowered(tokens[idx].tag)}>"

    def heading_close(self, tokens: Sequence[Token], idx: int, options: Any, env: MutableMapping[str, Any]) -> str:
        return f"</{lowered(tokens[idx].tag)}>\n"

    def table_open(self, tokens: Sequence[Token], idx: int, options: Any, env: MutableMapping[str, Any]) -> str:
        return '<div class="table" tabindex="0" role="region" aria-label="Table"><table>\n'

    def table_close(self, tokens: Sequence[Token], idx: int, options: Any, env: MutableMapping[str, Any]) -> str:
        return "</table></div>\n"

    def th_open(self, tokens: Sequence[Token], idx: int, options: Any, env: MutableMapping[str, Any]) -> str:
        return cell(tokens[idx])

    td_open = th_open

    def image(self, tokens: Sequence[Token], idx: int, options: Any, env: MutableMapping[str, Any]) -> str:
        source = str(tokens[idx].attrs.get("src", ""))
        label = tokens[idx].content or source
        return f'<a class="image-link" href="{escape(source)}" target="_blank">🖼 {escape(label)}</a>'

    def s_open(self, tokens: Sequence[Token], idx: int, options: Any, env: MutableMapping[str, Any]) -> str:
        return "<del>"

    def s_close(self, tokens: Sequence[Token], idx: int, options: Any, env: MutableMapping[str, Any]) -> str:
        return "</del>"

    def link_open(self, tokens: Sequence[Token], idx: int, options: Any, env: MutableMapping[str, Any]) -> str:
        tokens[idx].attrSet("target", "_blank")
        return self.renderToken(tokens, idx, options, env)


def lowered(tag: str) -> str:
    """Headings of an answer stand below those of the page: h1 becomes h3, h6 stays."""
    return f"h{min(6, int(tag[1]) + 2)}"


def cell(token: Token) -> str:
    """A table cell whose alignment is a class, since the page allows no style attributes."""
    align = str(token.attrs.get("style", "")).removeprefix("text-align:")
    return f'<{token.tag} class="ta-{align}">' if align else f"<{token.tag}>"


def code_block(code: str, language: str) -> str:
    """A figure with highlighted code; an unknown language stays plain."""
    name = escape("".join(c for c in language if c.isalnum() or c in "_+#-")[:40])
    body = escape(code, quote=False)
    if name and len(code) <= MAX_HIGHLIGHTED:
        with suppress(ClassNotFound):
            body = highlight(code, get_lexer_by_name(name, stripnl=False, ensurenl=False), _formatter)
    kind = f' class="language-{name}"' if name else ""
    return f'<figure class="code" data-language="{name}"><pre tabindex="0"><code{kind}>{body}</code></pre></figure>\n'


BlockRule = Callable[[StateBlock, int, int, bool], bool]


class Parser(MarkdownIt):
    """markdown-it with our addresses: a link to any other, such as a path on this server, is shown as it was written."""

    def validateLink(self, url: str) -> bool:  # noqa: N802 - markdown-it's name
        return bool(ADDRESS.match(url))


def shallow(rule: BlockRule) -> BlockRule:
    """A block rule that declines when it is nested deeply: markdown-it would leave out what is below its limit."""

    def declining(state: StateBlock, start: int, end: int, silent: bool) -> bool:
        return state.level < MAX_NESTING and rule(state, start, end, silent)

    return declining


_parser = Parser("commonmark", {"html": False, "maxNesting": 2 * MAX_NESTING}, renderer_cls=Renderer)
_parser.enable(["table", "strikethrough"])
_parser.block.ruler.at("blockquote", shallow(blockquote), {"alt": ["paragraph", "reference", "blockquote", "list"]})
_parser.block.ruler.at("list", shallow(list_block), {"alt": ["paragraph", "reference", "blockquote"]})


def render(text: str) -> SafeString:
    """The text as HTML that may stand in any page. Never raises for any text."""
    html = nh3.clean(
        _parser.render(text),
        tags=TAGS,
        attributes=ALLOWED,
        url_schemes=SCHEMES,
        url_relative="deny",
        link_rel="noopener noreferrer nofollow",
    )
    return mark_safe(html)  # noqa: S308 - nh3 has just checked it


def trusted(html: str) -> SafeString:
    """HTML that `render` made and a row has kept."""
    return mark_safe(html)  # noqa: S308 - only render() writes that column
