"""The documents say what the code does: every setting with its default, every event with its fields, every code."""

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from chat.events import KINDS
from chat.routing import websocket_urlpatterns
from chat.views.doors import STATUS

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()
SETTINGS = ROOT / "chatproject" / "settings.py"
SERVER = ROOT / "chatproject" / "server.py"

# Defaults that depend on something, in the words of the table.
IN_WORDS = {
    "CHAT_DEMO": "yes without a provider",
    "CHAT_MODELS": "what the provider lists",
    "CHAT_DATA_DIR": "var",
    "CHAT_DRAIN_SECONDS": "8, with Redis 60",
    "DATABASE_URL": "SQLite in CHAT_DATA_DIR",
    "OPENAI_BASE_URL": "https://api.openai.com/v1",  # once there is a key
    "SECRET_KEY": "made once, kept in CHAT_DATA_DIR",
}
# Verdicts that never leave the process: the answer belongs to somebody else by then.
INNER_CODES = {"lost"}


def table(text: str, *head: str) -> list[list[str]]:
    """The cells of the table with this head, without their back-ticks."""
    lines = iter(text.splitlines())
    for line in lines:
        if cells(line) == list(head):
            break
    else:
        raise AssertionError(f"there is no table | {' | '.join(head)} |")
    next(lines)
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append(cells(line))
    return rows


def cells(line: str) -> list[str]:
    return [cell.strip().replace("`", "") for cell in line.strip().strip("|").split("|")]


def calls_in(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call in a module, with the last part of the name that is called."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func).rpartition(".")[2], node


def written(default: ast.expr) -> str:
    """A default as the table writes it."""
    value = eval(compile(ast.Expression(default), "settings", "eval"), {})  # numbers, words and lists of them
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) or "none" if isinstance(value, list) else str(value) or "none"


def settings_read() -> dict[str, str]:
    """Name and default of everything that the environment can set."""
    found: dict[str, str] = {}
    readers = {"str", "list", "db_url", "number", "whole", "switch", "sizes", "get"}
    for path in (SETTINGS, SERVER):
        for reader, call in calls_in(path):
            first = call.args[0] if call.args else None
            if (
                reader not in readers
                or not isinstance(first, ast.Constant)
                or not re.fullmatch("[A-Z_]+", str(first.value))
                or "DATABASES" in ast.unparse(call.func)  # a part of another setting
            ):
                continue
            name, default = str(first.value), [*call.args[1:], *(keyword.value for keyword in call.keywords)][0]
            value = IN_WORDS.get(name) or written(default)
            if found.get(name, "none") == "none":
                found[name] = value
    return found


def test_every_setting_stands_in_the_readme_with_its_default_and_nothing_else_does():
    documented = {name: default for name, default, _ in table(README, "name", "default", "meaning")}
    assert documented == settings_read()


def test_every_setting_is_explained():
    for name, _, meaning in table(README, "name", "default", "meaning"):
        assert len(meaning.split()) >= 2, name


def test_no_other_setting_is_named_in_the_documents():
    known = set(settings_read())
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        named = set(re.findall(r"\b(?:CHAT|OPENAI|DATABASE|TRUSTED|ALLOWED)_[A-Z_]+\b", path.read_text()))
        assert named <= known, path


@pytest.mark.parametrize("name", KINDS)
def test_every_event_stands_in_the_protocol_with_its_fields(name):
    rows = {row[0]: row for row in table(PROTOCOL, "event", "id", "data", "meaning")}
    _, position, data, _ = rows[name]
    kind = KINDS[name]
    assert position == ("yes" if kind.logged else "no")
    assert [part for part in data.split(", ") if part] == [field.name for field in fields(kind)]
    assert set(rows) == set(KINDS)


def test_every_refusal_stands_in_the_protocol_with_its_status():
    documented = {
        (int(status), code)
        for status, codes, _ in table(PROTOCOL, "status", "code", "when")
        for code in codes.split(", ")
    }
    assert documented == {(status, code) for code, status in STATUS.items()} | {(500, "internal")}


def test_every_refusal_in_the_code_has_a_status():
    assert codes("Refused", "refuse") - frame_codes() <= set(STATUS)


def codes(*names: str) -> set[str]:
    """The codes that are given to these calls anywhere in chat/."""
    found: set[str] = set()
    for path in (ROOT / "chat").rglob("*.py"):
        for name, call in calls_in(path):
            if name in names and call.args:
                choices = (
                    [call.args[0].body, call.args[0].orelse] if isinstance(call.args[0], ast.IfExp) else call.args[:1]
                )
                found |= {str(choice.value) for choice in choices if isinstance(choice, ast.Constant)}
    return found


def test_every_code_of_a_failed_answer_stands_in_the_protocol_and_is_used():
    documented = {row[0] for row in table(PROTOCOL, "error code", "meaning")}
    used = {
        code for code in codes("ProviderError", "Error", "_error", "fail") if re.fullmatch("[a-z_]+", code)
    } - INNER_CODES
    assert documented == used


def frame_codes() -> set[str]:
    """The codes of error frames, as the protocol lists them."""
    [line] = [line for line in PROTOCOL.splitlines() if line.startswith("| `error` {code, message, answer}")]
    return set(re.findall(r"`(\w+)`", line.partition("refused:")[2]))


def test_every_code_of_an_error_frame_stands_in_the_protocol():
    refusals = [call.args[0] for name, call in calls_in(ROOT / "chat" / "consumers.py") if name == "refuse"]
    given = {str(code.value) for code in refusals if isinstance(code, ast.Constant)}
    assert given | {"stopping"} == frame_codes()  # that one is the verb's


def test_every_type_of_message_and_every_push_stands_in_the_protocol():
    doors = [name for pattern in websocket_urlpatterns for name in dir(pattern.callback.consumer_class)]
    said = {name.removeprefix("do_") for name in doors if name.startswith("do_")}
    calls = [found for path in (ROOT / "chat").rglob("*.py") for found in calls_in(path)]
    told = {name for kind, call in calls for name in pushes(kind, call)}
    assert told == {"answer.opened", "answer.ended", "conversation.changed"}
    for name in said | told | {"cancelled", "snapshot"}:
        assert f"`{name}`" in PROTOCOL, name
    for pattern in websocket_urlpatterns:
        assert f"`/{pattern.pattern}`" in PROTOCOL


def pushes(kind: str, call: ast.Call) -> list[str]:
    """The push that this call sends to a user's pages, if it does."""
    if kind not in ("_tell", "nudge"):
        return []
    return [str(arg.value) for arg in call.args if isinstance(arg, ast.Constant) and "." in str(arg.value)]


def test_every_file_that_a_document_links_to_is_there():
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for link in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", path.read_text()):
            assert (path.parent / link).exists(), (path, link)
