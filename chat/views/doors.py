"""What every door has in common: who may enter, by which verb, and how a refusal is told.

A program gets `{code, message}`; the page gets the partial `_problem.html` at `#problem`, its draft untouched.
"""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import ObjectDoesNotExist
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import render

from chat.answers import Refused

STATUS = {
    "malformed": 400,
    "signed_out": 401,
    "forbidden": 403,
    "not_found": 404,
    "method": 405,
    "busy": 409,
    "finished": 409,
    "deleted": 410,
    "too_large": 413,
    "empty": 422,
    "bad_text": 422,
    "unknown_model": 422,
    "key_reused": 422,
    "too_many": 429,
    "too_many_streams": 429,
    "no_models": 503,
    "draining": 503,
    "full": 503,
    "stopping": 503,
    "database": 503,
}

View = Callable[..., Coroutine[Any, Any, HttpResponseBase]]


def wants_json(request: HttpRequest) -> bool:
    """A program that reads JSON, or an event stream, and no page."""
    accept = request.headers.get("Accept", "")
    return "text/html" not in accept and ("application/json" in accept or "text/event-stream" in accept)


def is_htmx(request: HttpRequest) -> bool:
    return bool(getattr(request, "htmx", False))


def refusal(request: HttpRequest, code: str, message: str, retry_after: int | None = None) -> HttpResponse:
    """The answer to a request that is refused, in the form that its sender reads."""
    status = STATUS[code]
    response: HttpResponse
    if is_htmx(request):
        context = {"code": code, "message": message, "retry_after": retry_after}
        response = render(request, "chat/_problem.html", context, status=status)
        response["HX-Retarget"], response["HX-Reswap"] = "#problem", "innerHTML"
    elif "text/html" not in request.headers.get("Accept", ""):
        response = JsonResponse({"code": code, "message": message}, status=status)
    else:
        response = render(request, "problem.html", {"code": code, "message": message}, status=status)
    if retry_after is not None:
        response["Retry-After"] = str(retry_after)
    response["Cache-Control"] = "no-store"
    return response


def door(*methods: str, staff: bool = False, page: bool = False) -> Callable[[View], View]:
    """A view for signed-in users (or staff) and these verbs. Refusals of the verbs become responses here.

    A person who is not signed in is sent to the login only from a `page`; everything else answers 401.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        async def entered(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            async def refuse(code: str, message: str, retry_after: int | None = None) -> HttpResponseBase:
                return await sync_to_async(refusal)(request, code, message, retry_after)

            verb = "GET" if page and request.method == "HEAD" else request.method
            if verb not in methods:
                response = await refuse("method", f"This address takes {' and '.join(methods)} only.")
                response["Allow"] = ", ".join(methods)
                return response
            try:
                user = request.user = await request.auser()  # type: ignore[attr-defined]
                if not user.is_authenticated:
                    if page and not is_htmx(request) and not wants_json(request):
                        return redirect_to_login(request.get_full_path())
                    return await refuse("signed_out", "You are signed out. Sign in and try again; nothing is lost.")
                if staff and not user.is_staff:
                    return await refuse("forbidden", "This page is for staff.")
                response = await view(request, *args, **kwargs)
            except Refused as refused:
                return await refuse(refused.code, refused.message, refused.retry_after)
            except ObjectDoesNotExist:
                return await refuse("not_found", "There is nothing here, or it is not yours.")
            except OperationalError:
                return await refuse("database", "The database is busy. Please try again in a moment.", 2)
            response.headers.setdefault("Cache-Control", "no-store")
            return response

        return entered

    return decorate
