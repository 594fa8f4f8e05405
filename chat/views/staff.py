"""The staff's live board, and the sign that this process is alive."""

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render

from chat import dashboard
from chat.views.doors import door


@door("GET", staff=True, page=True)
async def live(request: HttpRequest) -> HttpResponseBase:
    """The board; its figures come over /ws/dashboard/."""
    return await sync_to_async(render)(request, "dashboard/live.html", {"minutes": dashboard.TTFT_MINUTES})


async def healthz(request: HttpRequest) -> HttpResponse:
    """Alive, and nothing else."""
    return HttpResponse("ok\n", content_type="text/plain")
