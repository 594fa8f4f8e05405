"""Django's middleware without its detours through threads, static files, bearer tokens, and what every template knows."""

from collections.abc import Awaitable, Callable
from typing import Any, cast

from asgiref.sync import markcoroutinefunction, sync_to_async
from csp.middleware import CSPMiddleware
from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.db import OperationalError
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.common import CommonMiddleware
from django.middleware.csrf import CsrfViewMiddleware
from django.middleware.security import SecurityMiddleware
from django.utils.decorators import async_only_middleware
from whitenoise.middleware import WhiteNoiseMiddleware

from chat.models import ApiToken

Respond = Callable[[HttpRequest], Awaitable[HttpResponseBase]]


def on_the_loop(kind: type[Any]) -> type[Any]:
    """The middleware with its hooks called right here. Django calls each hook in a thread, in case it waits for something.

    For middleware that only looks at headers, cookies and settings: seven of them cost fourteen changes of threads a request.
    """

    class OnTheLoop(kind):  # type: ignore[misc]
        async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
            response = self.process_request(request) if hasattr(self, "process_request") else None
            response = response or await self.get_response(request)
            if hasattr(self, "process_response"):
                response = self.process_response(request, response)
            return response  # type: ignore[no-any-return]  # the hooks are untyped

        if hasattr(kind, "process_view"):

            async def process_view(self, *args: Any, **kwargs: Any) -> Any:
                return super().process_view(*args, **kwargs)

    OnTheLoop.__name__ = OnTheLoop.__qualname__ = kind.__name__
    return OnTheLoop


Authentication = on_the_loop(AuthenticationMiddleware)
ClickJacking = on_the_loop(XFrameOptionsMiddleware)
Common = on_the_loop(CommonMiddleware)
ContentSecurityPolicy = on_the_loop(CSPMiddleware)
Csrf = on_the_loop(CsrfViewMiddleware)
Messages = on_the_loop(MessageMiddleware)  # with messages in a cookie
Security = on_the_loop(SecurityMiddleware)


class Sessions(SessionMiddleware):
    """Django's sessions. A thread is needed only to save one that has changed; reading is left to who asks."""

    async def __acall__(self, request: HttpRequest) -> Any:
        self.process_request(request)
        response: Any = await cast(Respond, self.get_response)(request)
        if request.session.modified:
            return await sync_to_async(self.process_response)(request, response)
        return self.process_response(request, response)


class StaticFiles(WhiteNoiseMiddleware):
    """WhiteNoise for async servers. Its own `__call__` is sync, so Django would take a thread for every request."""

    sync_capable, async_capable = False, True

    def __init__(self, get_response: Respond) -> None:
        super().__init__(get_response)
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        find = self.find_file if self.autorefresh else self.files.get
        found = find(request.path_info)
        response: HttpResponseBase = self.serve(found, request) if found else await self.get_response(request)
        return response


def find_token(token: str) -> ApiToken | None:
    """The living token, with its user."""
    found = ApiToken.objects.filter(digest=ApiToken.hash(token), user__is_active=True)
    return found.select_related("user").first()


@async_only_middleware
def bearer_tokens(get_response: Any) -> Any:
    """`Authorization: Bearer ...` signs a program in without a cookie, and then without CSRF: it sends no cookie to abuse."""

    async def respond(request: HttpRequest) -> HttpResponseBase:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            try:
                found = await sync_to_async(find_token)(token.strip())
            except OperationalError:
                message = "The database is busy. Please try again in a moment."
                return JsonResponse({"code": "database", "message": message}, status=503, headers={"Retry-After": "2"})
            if found is None:
                message = "This token is not valid, or not any more. Make one with manage.py create_token."
                return JsonResponse({"code": "signed_out", "message": message}, status=401)
            user = found.user
            request.user = user

            async def auser() -> Any:
                return user

            request.auser = auser  # type: ignore[attr-defined]
            request.token_digest = found.digest  # type: ignore[attr-defined]
            request._dont_enforce_csrf_checks = True  # type: ignore[attr-defined]
        response: HttpResponseBase = await get_response(request)
        return response

    return respond


def page_context(request: HttpRequest) -> dict[str, Any]:
    """The theme that the reader chose, whether only the demo model answers, and whether people may sign up."""
    theme = request.COOKIES.get("theme", "system")
    return {
        "theme": theme if theme in ("light", "dark") else "system",
        "demo": "openai" not in settings.CHAT_PROVIDERS,
        "signup_open": settings.CHAT_SIGNUP,
    }
