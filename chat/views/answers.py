"""The doors of answers: ask, edit, regenerate, continue, follow, look, stop."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse

from chat import answers, readers, runner, sse
from chat.answers import Asked, Busy, Refused, Stream, Submitted
from chat.events import START, Position
from chat.models import Message
from chat.readers import Credential, Crowded, Reader
from chat.views.doors import door, is_htmx

BACKGROUND = "u=7"  # the urgency of work that nobody waits for, RFC 9218 section 4.1
ROOM_SECONDS = 5  # after which it is worth asking again whether there is room for one more stream


@door("POST")
async def new_conversation(request: HttpRequest) -> HttpResponseBase:
    """A first question: makes the conversation."""
    text, model, submitted = read_question(request)
    return await opened(request, partial(sync_to_async(answers.ask), request.user, text, model, submitted))


@door("POST")
async def new_message(request: HttpRequest, conversation: UUID) -> HttpResponseBase:
    """A further question."""
    text, model, submitted = read_question(request)
    ask = partial(sync_to_async(answers.ask), request.user, text, model, submitted, conversation)
    return await opened(request, ask)


@door("POST")
async def edit(request: HttpRequest, message: UUID) -> HttpResponseBase:
    """A question in other words."""
    text, model, submitted = read_question(request)
    ask = partial(after_stopping, answers.edit, request.user, message, text, model, submitted)
    return await opened(request, ask)


@door("POST")
async def regenerate(request: HttpRequest, answer: UUID) -> HttpResponseBase:
    """The same question once more."""
    return await another(request, answers.regenerate, answer)


@door("POST")
async def go_on(request: HttpRequest, answer: UUID) -> HttpResponseBase:
    """The rest of an answer that was cut off."""
    return await another(request, answers.go_on, answer)


async def another(request: HttpRequest, verb: Callable[..., Asked], answer: UUID) -> HttpResponseBase:
    """One more answer to the question of this one."""
    body = read_body(request)
    ask = partial(after_stopping, verb, request.user, answer, body.get("model", ""), submission(request, body))
    return await opened(request, ask, template="chat/_answer.html")


async def after_stopping(verb: Callable[..., Asked], *args: Any) -> Asked:
    """Do it; if an answer is being written there, stop that one first. What would be refused anyway stops nothing."""
    try:
        return await sync_to_async(verb)(*args)
    except Busy as busy:
        await answers.stop(busy.answer, by="user")
        return await sync_to_async(verb)(*args)


@door("GET")
async def events(request: HttpRequest, answer: UUID) -> HttpResponseBase:
    """The answer's event stream, from the position that the reader has."""
    row = await sync_to_async(own_answer)(request, answer)
    after = Position.parse(request.headers.get("Last-Event-ID") or request.GET.get("after"))
    if not row.is_open and after != START and after == row.final_position:
        return HttpResponse(status=204)
    if runner.is_draining():
        raise Refused("draining", "The server is restarting. Come back in a moment.", retry_after=1)
    async with admitted(request) as reader:
        return stream(reader, row, after)


@door("GET")
async def state(request: HttpRequest, answer: UUID) -> HttpResponseBase:
    """Where the answer stands, as JSON."""
    row = await sync_to_async(own_answer)(request, answer)
    return JsonResponse({**answers.state(row), "html": reverse("answer-html", args=[row.pk])})


@door("GET")
async def html(request: HttpRequest, answer: UUID) -> HttpResponseBase:
    """The answer as the page shows it: final, once it has ended."""

    def shown() -> HttpResponse:
        row = answers.render_final(own_answer(request, answer))
        return render(request, "chat/_answer.html", {"answer": row, "conversation": row.conversation})

    return await sync_to_async(shown)()


@door("POST")
async def stop(request: HttpRequest, answer: UUID) -> HttpResponseBase:
    """Stop the answer and return the receipt, after the request to the provider is closed."""
    row = await sync_to_async(own_answer)(request, answer)
    receipt = await answers.stop(row.pk, by="user")
    return JsonResponse(receipt.data())


def own_answer(request: HttpRequest, answer: UUID) -> Message:
    """The user's own answer. Raises Message.DoesNotExist for any other."""
    row: Message = Message.objects.of(request.user).answers().select_related("conversation").get(pk=answer)
    return row


def read_body(request: HttpRequest) -> dict[str, Any]:
    """The fields of a form or of a JSON object."""
    if request.content_type != "application/json":
        return request.POST.dict()
    try:
        body = json.loads(request.body)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise Refused("malformed", "The body is not a JSON object.")
    return body


def read_question(request: HttpRequest) -> tuple[Any, Any, Submitted]:
    """Text, model and submission of a question; what is wrong with them is said later, after the key's look-up."""
    body = read_body(request)
    return body.get("text", ""), body.get("model", ""), submission(request, body)


def submission(request: HttpRequest, body: dict[str, Any]) -> Submitted:
    """The request as its idempotency key remembers it, without what changes from try to try."""
    kept = {name: value for name, value in body.items() if name != "csrfmiddlewaretoken"}
    background = BACKGROUND in request.headers.get("Priority", "").replace(" ", "").split(",")
    return Submitted(request.headers.get("Idempotency-Key", ""), request.path, kept, background)


async def opened(
    request: HttpRequest, ask: Callable[[], Awaitable[Asked]], template: str = "chat/_exchange.html"
) -> HttpResponseBase:
    """Open an answer, and return it in the form that the asker reads: stream, JSON, fragment or page."""
    accept = request.headers.get("Accept", "")
    if "text/event-stream" in accept:
        async with admitted(request) as reader:
            return stream(reader, (await ask()).answer, START)
    asked = await ask()
    row, page = asked.answer, reverse("conversation", args=[asked.answer.conversation_id])
    status = 201 if asked.created else 200
    if is_htmx(request):
        response = await sync_to_async(fragment)(request, row, template, status)
        response["HX-Push-Url"] = page
    elif "application/json" in accept or not request.accepts("text/html"):
        links = {"question": str(row.parent_id), "events": reverse("answer-events", args=[row.pk])}
        response = JsonResponse({**answers.state(row), **links}, status=status)
    else:
        return redirect(page)
    response["Location"] = page
    return response


def fragment(request: HttpRequest, row: Message, template: str, status: int) -> HttpResponse:
    context = {"question": row.parent, "answer": answers.render_final(row), "conversation": row.conversation}
    return render(request, template, context, status=status)


@asynccontextmanager
async def admitted(request: HttpRequest) -> AsyncIterator[Reader]:
    """Room for one more stream, before anything is done for it; given back if the block fails."""
    session = request.session.session_key if not getattr(request, "token_digest", "") else None
    credential = Credential.of(request.user, session=session, token=getattr(request, "token_digest", ""))  # type: ignore[arg-type]
    reader = Reader(credential, page="answer")
    try:
        readers.admit(reader)
    except Crowded as crowded:
        if crowded.of_user:
            message = "You follow as many answers at once as this server allows. Close another page or program first."
            raise Refused("too_many_streams", message, retry_after=ROOM_SECONDS) from crowded
        message = "This server has no room for another stream now. Please try again in a moment."
        raise Refused("full", message, retry_after=ROOM_SECONDS) from crowded
    try:
        yield reader
    except BaseException:
        await readers.leave(reader)
        raise


def stream(reader: Reader, row: Message, after: Position) -> StreamingHttpResponse:
    """The event stream as a response. Joins the log when it is first read."""
    reader.answer = row.pk
    response = StreamingHttpResponse(Stream(reader, after), content_type="text/event-stream", headers=sse.HEADERS)
    response["Location"] = reverse("answer-events", args=[row.pk])
    return response
