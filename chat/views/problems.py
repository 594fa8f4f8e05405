"""What is said when a request reaches no door, in the form that its sender reads."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from chat.views.doors import is_htmx, refusal


def not_found(request: HttpRequest, exception: Any = None) -> HttpResponse:
    return refusal(request, "not_found", "There is nothing at this address.")


def forbidden(request: HttpRequest, exception: Any = None) -> HttpResponse:
    return refusal(request, "forbidden", "You may not do this.")


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return refusal(
        request, "forbidden", "This form came from another page or is too old. Reload the page and try again."
    )


def bad_request(request: HttpRequest, exception: Any = None) -> HttpResponse:
    """A malformed request; most often a host name that settings do not allow."""
    message = "The request is malformed."
    if type(exception).__name__ == "DisallowedHost":
        message = "This server is not set up for the host name in your address. Its administrator can add it to ALLOWED_HOSTS."
    if "text/html" in request.headers.get("Accept", "") and not is_htmx(request):
        return HttpResponse(f"{message}\n", status=400, content_type="text/plain")
    return JsonResponse({"code": "malformed", "message": message}, status=400)


def server_error(request: HttpRequest) -> HttpResponse:
    """Something broke. The page for people needs no context and no database."""
    message = "Something went wrong on this server. It has been noted."
    if "text/html" in request.headers.get("Accept", "") and not is_htmx(request):
        return render(None, "500.html", {"debug": settings.DEBUG}, status=500)  # type: ignore[arg-type]
    return JsonResponse({"code": "internal", "message": message}, status=500)
