"""Any server that speaks OpenAI's chat completions: OpenAI, Ollama, vLLM, llama.cpp, LiteLLM, LM Studio ...

Uses the official SDK for the request, its errors and its transport, but reads chunks as plain dicts: the typed models cost
eight times the time. A stream counts as a success only if a `finish_reason` was seen, since the SDK takes a broken
stream for a finished one.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from functools import cached_property
from math import isnan
from time import time
from typing import Any, TypeGuard

import openai
from django.conf import settings
from openai import AsyncOpenAI, AsyncStream, DefaultAioHttpClient

from chat.events import Done, Event, Reasoning, Token, Usage
from chat.providers.base import Model, Prompt, Provider, ProviderError, truncated
from chat.text import Cleaner, flaw

logger = logging.getLogger(__name__)

REASONS = {"stop": "stop", "length": "length", "content_filter": "content_filter"}
# More bytes than this without a complete event is no token stream.
MAX_EVENT_BYTES = 1 << 20
# Longer names do not fit the column, and nobody could choose by them.
MAX_NAME_CHARS = 200
# OpenAI lists everything it has. What is missing here is offered in vain; what is named here can be named in CHAT_MODELS.
NO_CHAT = re.compile(
    r"(^|[-/:.])(embed\w*|rerank\w*|whisper|tts|dall-e|image|moderation|transcribe|realtime|audio|babbage|davinci|sora)"
    r"($|[-/:.0-9])",
    re.IGNORECASE,
)
PROTOCOL = "The provider sent something that is not an answer. Its address may be wrong, or it is in trouble."

NO_LIST = "There is no list of models at the provider's address. OPENAI_BASE_URL usually ends in /v1."


class BoundedDecoder:
    """The SDK's decoder of Server-Sent Events, with a limit on one event and an eye on `event: error`."""

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder
        self._pending = 0

    async def aiter_bytes(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for sse in self._decoder.aiter_bytes(self._counted(chunks)):
            self._pending = 0
            if sse.event == "error":
                raise ProviderError("provider", "The provider reported an error while it was answering.")
            yield sse

    async def _counted(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            self._pending += len(chunk)
            if self._pending > MAX_EVENT_BYTES:
                raise ProviderError("protocol", PROTOCOL)
            yield chunk


class Client(AsyncOpenAI):
    """The SDK's client with our decoder."""

    def _make_sse_decoder(self) -> Any:
        return BoundedDecoder(super()._make_sse_decoder())


class OpenAIProvider(Provider):
    name = "openai"

    @cached_property
    def _client(self) -> Client:
        """One client per process, made on the loop that uses it. Deadlines of the answer are the runner's."""
        longest = max(settings.CHAT_FIRST_TOKEN_SECONDS, settings.CHAT_GAP_SECONDS) + 5
        return Client(
            api_key=settings.OPENAI_API_KEY or "none",  # local servers want no key, the SDK wants a string
            base_url=settings.OPENAI_BASE_URL,
            max_retries=0,  # the runner repeats requests, so that each one has its row in the ledger
            http_client=DefaultAioHttpClient(
                timeout=openai.Timeout(longest, connect=settings.CHAT_CONNECT_SECONDS),
                limits=openai.DEFAULT_CONNECTION_LIMITS,
                follow_redirects=False,  # one request a call, and to nobody but the operator's provider
            ),
        )

    async def stream(self, prompt: Prompt) -> AsyncIterator[Event]:
        begun = False
        try:
            response = await self._client.post(
                "/chat/completions",
                cast_to=object,
                body=self._body(prompt),
                stream=True,
                stream_cls=AsyncStream[object],
            )
            begun = True
            async with response:
                self._check(response.response)
                async for event in read_chunks(response):
                    yield event
        except (ProviderError, asyncio.CancelledError, GeneratorExit):
            raise
        except openai.APIError as error:
            if begun and isinstance(error, openai.APIConnectionError):
                raise truncated() from error
            raise self._translate(error) from error
        except Exception as error:  # decoding errors come through the SDK as they are
            logger.warning("provider sent garbage: %s", type(error).__name__)
            raise ProviderError("protocol", PROTOCOL) from error

    def _body(self, prompt: Prompt) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": prompt.model,
            "messages": [{"role": turn.role, "content": turn.text} for turn in prompt.turns],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if settings.CHAT_MAX_TOKENS:
            # OpenAI's newer models refuse the name that everybody else understands.
            name = "max_completion_tokens" if "api.openai.com" in settings.OPENAI_BASE_URL else "max_tokens"
            body[name] = settings.CHAT_MAX_TOKENS
        return body

    @staticmethod
    def _check(response: Any) -> None:
        """A page or a plain JSON document with status 200 is no stream."""
        kind = response.headers.get("content-type", "")
        if kind.startswith(("text/html", "application/json")):
            raise ProviderError("protocol", PROTOCOL)

    async def models(self) -> list[Model]:
        """The models that settings name, or else those that the server lists."""
        sizes: dict[str, int] = settings.CHAT_MODELS
        if sizes:
            return [Model(name, context, self.name) for name, context in sizes.items()]
        try:
            page = await self._client.get("/models", cast_to=object, options={"timeout": settings.CHAT_CONNECT_SECONDS})
        except openai.NotFoundError as error:
            raise ProviderError("protocol", NO_LIST) from error
        except openai.APIError as error:
            raise self._translate(error) from error
        except Exception as error:
            raise ProviderError("protocol", PROTOCOL) from error
        return [Model(name, settings.CHAT_CONTEXT_TOKENS, self.name) for name in read_names(page)]

    async def close(self) -> None:
        await self._client.close()

    @staticmethod
    def _translate(error: openai.APIError) -> ProviderError:
        """The SDK's error as ours. The provider's own words go nowhere, not even into the log: they may quote the key."""
        cause = error.__cause__ or error
        status = getattr(error, "status_code", "no")
        logger.warning("provider error: %s, status %s", type(cause).__name__, status)
        if isinstance(error, openai.APIStatusError):
            return by_status(error.status_code, error.response.headers, str(error.code or ""))
        if isinstance(error, openai.APIConnectionError):
            return ProviderError("unreachable", "The provider cannot be reached.", retry=True)
        return ProviderError("provider", "The provider reported an error while it was answering.")


async def read_chunks(chunks: AsyncIterator[object]) -> AsyncIterator[Event]:
    """The events in a stream of chat completion chunks. Raises ProviderError if it ends without a reason."""
    visible, hidden = Cleaner(), Cleaner()
    done: Done | None = None
    async for chunk in chunks:
        if not isinstance(chunk, dict):
            raise ProviderError("protocol", PROTOCOL)
        choice = first(chunk.get("choices"))
        delta = choice.get("delta")
        if isinstance(delta, dict) and done is None:
            thought = delta.get("reasoning_content") or delta.get("reasoning")
            if isinstance(thought, str) and (text := hidden.feed(thought)):
                yield Reasoning(text)
            content = delta.get("content")
            if isinstance(content, str) and content and (text := visible.feed(content)):
                yield Token(text)
        if done is None and (reason := choice.get("finish_reason")):
            if text := visible.rest():
                yield Token(text, 0)
            done = Done(REASONS.get(reason, "stop") if isinstance(reason, str) else "stop")
            yield done
        if usage := read_usage(chunk.get("usage")):
            yield usage
    if done is None:
        raise truncated()


def read_names(page: Any) -> list[str]:
    """The names in a list of models, newest first, without those that plainly cannot chat.

    Raises ProviderError for what is no list of models.
    """
    entries = page.get("data") if isinstance(page, dict) else None
    if not isinstance(entries, list):
        raise ProviderError("protocol", PROTOCOL)
    ages: dict[str, float] = {}
    for entry in entries:
        name, created = (entry.get("id"), entry.get("created")) if isinstance(entry, dict) else (None, None)
        if isinstance(name, str) and 0 < len(name) <= MAX_NAME_CHARS and not flaw(name) and not NO_CHAT.search(name):
            ages[name] = -created if is_count(created) else 0
    return sorted(ages, key=lambda name: (ages[name], name))


def first(choices: Any) -> dict[str, Any]:
    """The one choice of a chunk that was asked for; some chunks have none, or null, or others."""
    if not isinstance(choices, list):
        return {}
    return next((choice for choice in choices if isinstance(choice, dict) and not choice.get("index")), {})


def read_usage(usage: Any) -> Usage | None:
    """The tokens as billed, if this chunk has them."""
    if not isinstance(usage, dict):
        return None
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return Usage(prompt, completion) if is_count(prompt) and is_count(completion) else None


def is_count(value: Any) -> TypeGuard[int]:
    """A number of tokens that fits a column."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31


def by_status(status: int, headers: Any, code: str) -> ProviderError:
    """The error for an HTTP status, with the time that the provider asks to wait."""
    wait = retry_after(headers)
    if status < 400:
        return ProviderError("protocol", PROTOCOL)
    if status in (401, 403):
        return ProviderError(
            "unauthorized",
            "The provider refused this server's key. Its administrator must check OPENAI_API_KEY.",
            retryable=False,
        )
    if status == 404:
        return ProviderError("no_model", "The provider does not have this model. Choose another one.", retryable=False)
    if status == 413 or code == "context_length_exceeded":
        return ProviderError("too_long", "This conversation is too long for the model.", retryable=False)
    if status == 429:
        return ProviderError(
            "rate_limited", "The provider is being asked too much. Try again in a moment.", retry=True, retry_after=wait
        )
    if status in (408, 409) or status >= 500:
        return ProviderError(
            "provider", "The provider has a problem. Try again in a moment.", retry=True, retry_after=wait
        )
    return ProviderError("refused", "The provider did not accept this request.", retryable=False)


def retry_after(headers: Any) -> float | None:
    """Seconds that the header asks to wait, as a number or until a date; None without a readable one."""
    said = headers.get("retry-after", "")
    try:
        wait = float(said)
    except ValueError:
        try:
            wait = parsedate_to_datetime(said).timestamp() - time()
        except (ValueError, OverflowError):
            return None
    return None if isnan(wait) else max(0.0, wait)
