"""The site: the admin and the app."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("chat.urls")),
]

handler400 = "chat.views.problems.bad_request"
handler403 = "chat.views.problems.forbidden"
handler404 = "chat.views.problems.not_found"
handler500 = "chat.views.problems.server_error"
