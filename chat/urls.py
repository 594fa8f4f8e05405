"""Every address of the app."""

from django.contrib.auth import views as auth
from django.urls import path

from chat.views import accounts, answers, pages, staff

urlpatterns = [
    path("", pages.home, name="home"),
    path("c/<uuid:conversation>/", pages.conversation, name="conversation"),
    path("c/<uuid:conversation>/thread", pages.thread, name="thread"),
    path("c/<uuid:conversation>/rename", pages.rename, name="rename"),
    path("c/<uuid:conversation>/delete", pages.delete, name="delete"),
    path("sidebar", pages.sidebar, name="sidebar"),
    path("models", pages.models, name="models"),
    path("conversations", answers.new_conversation, name="new-conversation"),
    path("conversations/<uuid:conversation>/messages", answers.new_message, name="new-message"),
    path("answers/<uuid:answer>", answers.state, name="answer"),
    path("answers/<uuid:answer>/html", answers.html, name="answer-html"),
    path("answers/<uuid:answer>/events", answers.events, name="answer-events"),
    path("answers/<uuid:answer>/stop", answers.stop, name="stop"),
    path("answers/<uuid:answer>/regenerate", answers.regenerate, name="regenerate"),
    path("answers/<uuid:answer>/continue", answers.go_on, name="continue"),
    path("messages/<uuid:message>/edit", answers.edit, name="edit"),
    path("login/", auth.LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("logout/", auth.LogoutView.as_view(), name="logout"),
    path("signup/", accounts.signup, name="signup"),
    path("theme", accounts.theme, name="theme"),
    path("staff/live/", staff.live, name="live"),
    path("healthz", staff.healthz, name="healthz"),
    path("readyz", staff.readyz, name="readyz"),
]
