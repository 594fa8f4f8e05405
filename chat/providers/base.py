"""The contract of a provider: one async method that yields event values, and a list of its models."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from chat.events import Event
from chat.history import Turn


@dataclass(frozen=True, slots=True)
class Model:
    """A model that people can choose. `context` is its size in tokens, `demo` says that no real model answers."""

    name: str
    context: int
    provider: str
    demo: bool = False


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is sent to a provider."""

    model: str
    turns: Sequence[Turn]


class ProviderError(Exception):
    """A request that failed, in words for people.

    `code` is one of docs/protocol.md. `retry` says that the same request may be sent again by itself, if nothing has
    been heard yet, not before `retry_after` seconds. `retryable` says that a person may try again.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        retry: bool = False,
        retryable: bool = True,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry = retry
        self.retryable = retryable
        self.retry_after = retry_after


def truncated() -> ProviderError:
    """The error for a stream that ended without saying that it had finished.

    A new one each time: an exception that is raised again keeps the frames of every time before.
    """
    return ProviderError("truncated", "The provider ended the answer before it was finished. What came is kept.")


class Provider(ABC):
    """A source of answers. Made once per process, on the running event loop."""

    name: str

    @abstractmethod
    def stream(self, prompt: Prompt) -> AsyncIterator[Event]:
        """Send the prompt and yield Token, Reasoning, Usage, and exactly one Done, which may precede the Usage.

        Sends one request, or none. Raises ProviderError for everything that goes wrong. Closing the iterator, or
        cancelling its task, closes the request at once. Texts are clean (chat.text).
        """

    @abstractmethod
    async def models(self) -> list[Model]:
        """The models on offer now. Raises ProviderError when the provider cannot be asked."""

    async def close(self) -> None:  # noqa: B027 - a provider without connections has nothing to close
        """Give back connections. Nothing may be called afterwards."""
