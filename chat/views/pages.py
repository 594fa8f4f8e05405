"""The pages: an empty chat, a conversation, the list beside them, and what can be done with a conversation."""

from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect, render

from chat import answers, groups, providers
from chat.answers import Refused
from chat.models import Conversation, Message
from chat.text import flaw
from chat.views.doors import door, is_htmx

# The list begins with so many conversations, and grows by as many when it is asked to.
SIDEBAR_CONVERSATIONS = 100


@door("GET", page=True)
async def home(request: HttpRequest) -> HttpResponseBase:
    """An empty chat."""
    return await sync_to_async(page)(request, None)


@door("GET", page=True)
async def conversation(request: HttpRequest, conversation: UUID) -> HttpResponseBase:
    """A conversation of the user's."""
    return await sync_to_async(page)(request, conversation)


@door("GET")
async def thread(request: HttpRequest, conversation: UUID) -> HttpResponseBase:
    """The turns alone, for a page that may have missed some."""

    def shown() -> HttpResponse:
        found = own(request, conversation)
        return render(request, "chat/_thread.html", {"conversation": found, **turns_of(found)})

    return await sync_to_async(shown)()


@door("GET")
async def sidebar(request: HttpRequest) -> HttpResponseBase:
    """The list of conversations."""
    return await sync_to_async(sidebar_fragment)(request)


@door("POST")
async def rename(request: HttpRequest, conversation: UUID) -> HttpResponseBase:
    """Give a conversation another title."""

    title = " ".join(request.POST.get("title", "").split())

    def renamed() -> HttpResponse:
        found = own(request, conversation)
        if not title or len(title) > 120:
            raise Refused("too_large" if title else "empty", "A title has between 1 and 120 characters.")
        if problem := flaw(title):
            raise Refused("bad_text", problem)
        Conversation.objects.filter(pk=found.pk).update(title=title)
        return sidebar_fragment(request) if is_htmx(request) else redirect("conversation", found.pk)

    response = await sync_to_async(renamed)()
    await tell(request, conversation, title=title)
    return response


@door("POST")
async def delete(request: HttpRequest, conversation: UUID) -> HttpResponseBase:
    """Delete a conversation for good. An answer that is being written in it is stopped first."""
    found = await sync_to_async(own)(request, conversation)
    async for answer in found.messages.filter(status="open").values_list("pk", flat=True):
        await answers.stop(answer, by="user")
    await sync_to_async(found.delete)()
    await tell(request, conversation, title="")
    if not is_htmx(request):
        return redirect("home")
    response = await sync_to_async(sidebar_fragment)(request)
    if request.POST.get("current") == str(conversation):
        response["HX-Redirect"] = "/"
    return response


@door("GET", "POST")
async def models(request: HttpRequest) -> HttpResponseBase:
    """The models on offer; POST reads them anew from the providers first."""
    problems = await providers.refresh() if request.method == "POST" else {}
    offer = answers.models_on_offer()
    if is_htmx(request):
        context = {"models": offer, "problems": problems, "model": request.POST.get("model", "")}
        return await sync_to_async(render)(request, "chat/_models.html", context)
    listed = [{"name": model.name, "context": model.context, "demo": model.demo} for model in offer]
    return JsonResponse({"models": listed, "problems": problems})


def own(request: HttpRequest, conversation: UUID) -> Conversation:
    """The user's own conversation. Raises Conversation.DoesNotExist for any other."""
    found: Conversation = Conversation.objects.of(request.user).get(pk=conversation)
    return found


def page(request: HttpRequest, pk: UUID | None) -> HttpResponse:
    """The whole chat page."""
    found = own(request, pk) if pk else None
    turns = turns_of(found) if found else {"turns": [], "open_answer": None}
    offer = answers.models_on_offer()
    used = turns["turns"] if found else last_turns(request)
    names = [model.name for model in offer]
    known = [turn.model for turn in used if turn.model in names]
    chosen = known[-1] if known else next(iter(names), "")
    context = {"conversation": found, **turns, **sidebar_context(request), "models": offer, "model": chosen}
    return render(request, "chat/page.html", context)


def last_turns(request: HttpRequest) -> list[Message]:
    """The turns of the user's newest conversation: a new one begins with the model that was used there."""
    newest = Conversation.objects.of(request.user).first()
    return list(newest.messages.only("model")) if newest else []


def turns_of(found: Conversation) -> dict[str, Any]:
    """The shown branch of a conversation, and its open answer."""
    turns = answers.render_all(found.branch())
    return {"turns": turns, "open_answer": next((turn for turn in turns if turn.is_open), None)}


def sidebar_context(request: HttpRequest) -> dict[str, Any]:
    asked = request.GET.get("shown", "")
    shown = int(asked) if asked.isascii() and asked.isdecimal() and len(asked) < 6 else SIDEBAR_CONVERSATIONS
    listed = list(Conversation.objects.of(request.user)[: shown + 1])
    return {
        "conversations": listed[:shown],
        "more": shown + SIDEBAR_CONVERSATIONS if len(listed) > shown else None,
        "current": request.GET.get("current") or request.POST.get("current", ""),
    }


def sidebar_fragment(request: HttpRequest) -> HttpResponse:
    return render(request, "chat/_sidebar.html", sidebar_context(request))


async def tell(request: HttpRequest, conversation: UUID, **data: str) -> None:
    """Nudge the user's other pages."""
    group = groups.user_group(request.user.pk)
    await groups.nudge(group, "conversation.changed", conversation=str(conversation), **data)
