"""Text from outside: what a model streams is made safe once, what a person sends is checked once.

PostgreSQL refuses NUL, SQLite and UTF-8 refuse lone surrogates; both can arrive through JSON escapes.
"""

import re

_LONE = re.compile("[\ud800-\udfff]")
_PAIR = re.compile("([\ud800-\udbff])([\udc00-\udfff])")


def _join(match: re.Match[str]) -> str:
    high, low = ord(match[1]), ord(match[2])
    return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))


def clean(text: str) -> str:
    """The text with surrogate pairs joined, lone surrogates replaced by U+FFFD, and NUL removed."""
    if text.isascii():
        return text.replace("\0", "")
    return _LONE.sub("\ufffd", _PAIR.sub(_join, text)).replace("\0", "")


class Cleaner:
    """`clean` for a stream of deltas: a surrogate pair split over two deltas becomes the one character it is."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, delta: str) -> str:
        """The safe text of this delta; an unfinished pair at its end is kept for the next one."""
        text, self._held = self._held + delta, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._held = text[:-1], text[-1]
        return clean(text)

    def rest(self) -> str:
        """What was kept, when nothing more will come."""
        held, self._held = self._held, ""
        return clean(held)


def flaw(text: str) -> str:
    """A sentence for people about why this text cannot be stored, or an empty string."""
    if "\0" in text:
        return "The text contains a NUL character, which cannot be stored. Please remove it."
    if not text.isascii() and _LONE.search(text):
        return "The text contains half of a character (a lone surrogate). Please remove it."
    return ""


def estimate_tokens(text: str) -> int:
    """About how many tokens a model sees in the text: one per three bytes of UTF-8, rounded up.

    English has about four bytes a token and most other scripts about three, so this rather counts too many,
    which is the safe side for fitting a context. Always labelled as an estimate where people see it.
    """
    return -(-len(text.encode(errors="replace")) // 3)
