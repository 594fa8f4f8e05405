"""Signing up, and choosing a theme. Signing in and out are Django's own views."""

from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.forms import UserCreationForm
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from chat.views.doors import is_htmx

THEMES = ("system", "light", "dark")
YEAR_SECONDS = 365 * 24 * 3600


@never_cache
@require_http_methods(["GET", "POST"])
def signup(request: HttpRequest) -> HttpResponse:
    """Make an account and sign it in, where settings allow it."""
    if not settings.CHAT_SIGNUP:
        raise Http404
    form: UserCreationForm = UserCreationForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        login(request, form.save(), backend="django.contrib.auth.backends.ModelBackend")
        return redirect("home")
    return render(request, "registration/signup.html", {"form": form})


@require_POST
def theme(request: HttpRequest) -> HttpResponse:
    """Remember a theme in a cookie, so that the server can write it into the next page."""
    chosen = request.POST.get("theme", "")
    if chosen not in THEMES:
        return HttpResponse("The theme is system, light or dark.", status=422, content_type="text/plain")
    back = request.headers.get("Referer", "")
    allowed = url_has_allowed_host_and_scheme(back, {request.get_host()}, require_https=request.is_secure())
    response = HttpResponse(status=204) if is_htmx(request) else redirect(back if allowed else "home")
    if is_htmx(request):
        response["HX-Refresh"] = "true"
    response.set_cookie(
        "theme", chosen, max_age=YEAR_SECONDS, samesite="Lax", httponly=True, secure=request.is_secure()
    )
    return response
