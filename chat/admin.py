"""The admin: conversations to review and the ledger of model calls, both to read and never to write."""

from typing import Any

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse

from chat import answers
from chat.models import ApiToken, Conversation, Message, ModelCall


class ReadOnly(admin.ModelAdmin):
    """Rows that the admin shows and does not touch."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class AnswerFilter(admin.SimpleListFilter):
    """Conversations that have an answer with this property."""

    field = ""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        values = Message.objects.answers().order_by(self.field).values_list(self.field, flat=True).distinct()
        return [(value, value) for value in values if value]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not self.value():
            return queryset
        found = Message.objects.answers().filter(**{self.field: self.value()})
        return queryset.filter(pk__in=found.values("conversation"))


class ModelFilter(AnswerFilter):
    title = "model"
    parameter_name = "model"
    field = "model"


class StatusFilter(AnswerFilter):
    title = "status of an answer"
    parameter_name = "status"
    field = "status"


@admin.register(Conversation)
class ConversationAdmin(ReadOnly):
    """Opens as the transcript that its owner sees, rendered by the app's own templates."""

    list_display = ("title", "owner", "messages_count", "updated_at")
    list_filter = (StatusFilter, ModelFilter, "updated_at", ("owner", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("owner",)
    search_fields = ("title", "owner__username", "id")
    date_hierarchy = "updated_at"
    change_form_template = "admin/chat/conversation/transcript.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Conversation]:
        rows: QuerySet[Conversation] = super().get_queryset(request)
        return rows.annotate(count=Count("messages"))

    @admin.display(description="messages", ordering="count")
    def messages_count(self, conversation: Any) -> int:
        return int(conversation.count)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        found = self.get_object(request, object_id)
        turns = answers.render_all(found.branch()) if found and self.has_view_permission(request, found) else []
        extra = {"turns": turns, "conversation": found, "read_only": True, **(extra_context or {})}
        return super().change_view(request, object_id, form_url, extra)


@admin.register(ModelCall)
class ModelCallAdmin(ReadOnly):
    """The ledger."""

    list_display = (
        "opened_at",
        "user",
        "provider",
        "model",
        "outcome",
        "error_code",
        "prompt_tokens",
        "completion_tokens",
        "estimated",
        "closed_at",
    )
    list_filter = ("outcome", "provider", "model", "opened_at", ("user", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("user",)
    search_fields = ("user__username", "model", "id", "answer__request_id", "error_code")
    date_hierarchy = "opened_at"

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(ApiToken)
class ApiTokenAdmin(ReadOnly):
    """Bearer tokens can be seen (never read) and deleted here; manage.py create_token makes them."""

    list_display = ("user", "name", "created_at")
    search_fields = ("user__username", "name")
