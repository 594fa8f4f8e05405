"""Between the provider and the log: neighbouring deltas of one kind become one event."""

from chat.events import Event, Reasoning, Token


class Coalescer:
    """Collects events and joins texts, without joining strings more than once."""

    def __init__(self) -> None:
        self._whole: list[Event] = []
        self._kind: type[Token] | type[Reasoning] = Token
        self._parts: list[str] = []
        self._deltas = 0

    def add(self, event: Event) -> None:
        """Take one event; its place in the order is kept."""
        if not isinstance(event, Token | Reasoning):
            self._seal()
            self._whole.append(event)
            return
        if type(event) is not self._kind:
            self._seal()
            self._kind = type(event)
        self._parts.append(event.text)
        self._deltas += event.n

    def take(self) -> list[Event]:
        """Everything collected since the last time, in as few events as possible."""
        self._seal()
        events, self._whole = self._whole, []
        return events

    def _seal(self) -> None:
        if self._parts:
            self._whole.append(self._kind("".join(self._parts), self._deltas))
            self._parts, self._deltas = [], 0
