"""What a fake model says: text that is a function of seed and position, and the script that paces it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, fields
from urllib.parse import parse_qsl

# Some words hold characters of two, three and four bytes, so every way to split a character happens.
WORDS = (
    *(
        "amber",
        "basin",
        "cedar",
        "delta",
        "ember",
        "fjord",
        "grove",
        "haven",
        "inlet",
        "jetty",
        "kelp",
        "larch",
    ),
    *(
        "marsh",
        "north",
        "ochre",
        "plume",
        "quartz",
        "reed",
        "stone",
        "tidal",
        "umber",
        "vale",
        "willow",
        "xenon",
    ),
    *("naïve", "œuvre", "straße", "дом", "日本", "ελιά", "किताब", "🙂", "🚀", "e\u0301"),
)
LINE = 24  # tokens in a line


def token(seed: int, i: int) -> str:
    """Token `i` of the answer with this seed. It carries its number, so a gap or a repeat shows."""
    word = WORDS[(seed * 31 + i * 7 + i // 5) % len(WORDS)]
    return f"{word}{i}\n" if i % LINE == LINE - 1 else f"{word}{i} "


def text(seed: int, n: int) -> str:
    """The first `n` tokens in one string: what a reader of such an answer must end up with."""
    return "".join(token(seed, i) for i in range(n))


class Gate:
    """Holds a stream until someone opens the gate, from any thread, for good: no test need sleep."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = False
        self._waiting: list[Callable[[], object]] = []

    def open(self) -> None:
        """Let every stream that waits here, or comes here later, go on."""
        with self._lock:
            self._open, waiting, self._waiting = True, self._waiting, []
        for resume in waiting:
            resume()

    def passes(self, resume: Callable[[], object]) -> bool:
        """True when open; otherwise `resume` is called once, by the thread that opens the gate."""
        with self._lock:
            if not self._open:
                self._waiting.append(resume)
            return self._open


@dataclass(frozen=True)
class Script:
    """One answer: how much, how fast, and what goes wrong.

    A field that is a number or a word can be part of a model name, `fake?tokens=200&rate=50&fault=cut&at=10`,
    so a process that controls nothing but a model name can ask for any behaviour.
    """

    tokens: int = 20
    rate: float = 0.0  # tokens a second; 0 is as fast as the socket takes them
    ttft: float = 0.0  # seconds before the first token
    seed: int = 0
    fault: str = ""  # a name of bench.faults.FAULTS
    at: int = 10  # tokens before the fault strikes, or before the gate
    fails: int = 1  # failures before the success, for the faults that end in "-once"
    retry_after: float = 1.0  # seconds, for the faults that send Retry-After
    finish: str = "stop"
    usage: str = "asked"  # a usage chunk: "asked" (when stream_options asks for it), "always" or "never"
    reasoning: int = 0  # thinking tokens before the visible ones, in delta.reasoning_content
    pieces: tuple[str, ...] = ()  # the deltas themselves, in place of the tokens of the seed
    gate: Gate | None = None  # waits here after `at` tokens

    @property
    def struck(self) -> int:
        """How many tokens go out before the fault."""
        return min(self.at, self.tokens)

    @property
    def whole(self) -> str:
        """The visible text of an answer that comes to its end."""
        return "".join(self.pieces) or text(self.seed, self.tokens)

    @property
    def part(self) -> str:
        """The visible text before the fault."""
        return text(self.seed, self.struck)

    @classmethod
    def of(cls, model: str) -> Script:
        """The script a model name asks for; ValueError for a key or a number that cannot be read."""
        values: dict[str, int | float | str] = {}
        _, mark, query = model.partition("?")
        for key, value in parse_qsl(query, keep_blank_values=True, strict_parsing=bool(mark)):
            if key not in _READ:
                raise ValueError(f"unknown key {key!r} in model name {model!r}")
            values[key] = _READ[key](value)
        return cls(**values)  # type: ignore[arg-type]  # _READ gives each field its own type


_TYPES: dict[str, Callable[[str], int | float | str]] = {"int": int, "float": float, "str": str}
_READ = {field.name: _TYPES[str(field.type)] for field in fields(Script) if str(field.type) in _TYPES}
