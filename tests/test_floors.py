"""The house stands: a room imports only from the floors below it, and the ground rules of its modules hold."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import chat

FLOORS = [
    {"events", "text"},  # 0 values
    {"sse", "history", "redis_client"},  # 0 values made of values, and what needs nothing of the house
    {"models", "replay", "providers", "groups", "presence", "markdown", "database"},  # 1 the outside world
    {"runner", "readers"},  # 2 the work
    {"answers", "dashboard"},  # 3 the verbs
    {"views", "consumers", "admin", "management", "middleware", "service", "templatetags"},  # 4 the doors
    {"urls", "routing", "apps"},  # 5 the maps
]
ROOMS = [(floor, room) for floor, rooms in enumerate(FLOORS) for room in sorted(rooms)]
NO_ROOMS = {"__init__", "migrations", "__pycache__"}

ROOT = Path(__file__).resolve().parent.parent
CHAT = ROOT / "chat"
MODULES = [path for name in ("chat", "chatproject") for path in sorted((ROOT / name).rglob("*.py"))]
MODULES = [path for path in MODULES if "migrations" not in path.parts]
IDS = [str(path.relative_to(ROOT)) for path in MODULES]
MAX_LINES = 300


def imported_rooms(path: Path) -> Iterator[str]:
    """The room behind every import of `chat.<room>` in the file, relative ones and nested ones too."""
    package = ["chat", *path.relative_to(CHAT).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            stem = [*base, *filter(None, [node.module])]
            names = [".".join([*stem, alias.name]) for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "chat" and len(parts) > 1:
                yield parts[1]


def files_of(room: str) -> list[Path]:
    return sorted((CHAT / room).rglob("*.py")) or [CHAT / f"{room}.py"]


@pytest.mark.parametrize(("floor", "room"), ROOMS)
def test_a_room_imports_only_from_lower_floors(floor, room):
    below = {room}.union(*FLOORS[:floor])
    for path in files_of(room):
        assert set(imported_rooms(path)) <= below, path


def test_every_room_has_a_floor():
    rooms = {path.stem for path in CHAT.glob("*.py")} | {path.name for path in CHAT.iterdir() if path.is_dir()}
    assert rooms - NO_ROOMS == set().union(*FLOORS)


def test_the_app_tells_its_reader_the_same_floors():
    told = re.split(r"\n    \d [a-z]+ ", str(chat.__doc__))[1:]
    everything = set().union(*FLOORS)
    named = [set(re.findall("[a-z_]+", re.sub(r"\([^)]*\)", "", floor))) & everything for floor in told]
    assert named == [FLOORS[0] | FLOORS[1], *FLOORS[2:]]


def test_chat_does_not_know_the_project_that_serves_it():
    for path in CHAT.rglob("*.py"):
        imports = [
            node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom | ast.Import)
        ]
        names = {str(getattr(node, "module", "") or node.names[0].name).partition(".")[0] for node in imports}
        assert ("chatproject" in names) == (path.name == "runserver.py"), path  # which is the project's own server


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_imports_stand_at_the_top(path):
    tree = ast.parse(path.read_text())
    functions = [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    ]
    hidden = [node.lineno for f in functions for node in ast.walk(f) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert hidden == []
    if path.name != "asgi.py":  # which sets Django up between its imports
        late = [n.lineno for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
        first = [n.lineno for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
        assert not (late and first) or max(late) < min(first)


# Who else reads the environment, and what of it.
READERS = {"server.py": {"HOST", "PORT"}, "asgi.py": {"DJANGO_SETTINGS_MODULE"}}


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_only_settings_read_the_environment(path):
    text = path.read_text()
    reads = "environ" in text or "getenv" in text
    if path.name in ("settings.py", "environment.py"):
        assert reads
        return
    allowed = READERS.get(path.name, set()) if path.parent.name == "chatproject" else set()
    assert reads == bool(allowed), path
    if allowed:
        assert set(re.findall(r'(?:env\.get|environ\.\w+)\("(\w+)"', text)) == allowed


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_a_module_can_be_read_in_one_sitting(path):
    assert len(path.read_text().splitlines()) < MAX_LINES


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_a_module_says_what_it_is_for(path):
    assert ast.get_docstring(ast.parse(path.read_text())) or not path.read_text().strip()
