"""Settings that cannot work are refused at the start, with a sentence that says what to do; the safe ones are the defaults."""

import ast
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.parley import ROOT, clean_env

KEY = "a-key-of-fifty-random-characters-0123456789-abcdefgh"
PRODUCTION = {
    "CHAT_HTTPS": "yes",
    "SECRET_KEY": KEY,
    "ALLOWED_HOSTS": "chat.example.org",
    "TRUSTED_ORIGINS": "https://chat.example.org",
}


def manage(data: Path, *args: str, **env: str) -> tuple[int, str]:
    """Exit status and everything that a management command says."""
    command = [sys.executable, "manage.py", *args]
    done = subprocess.run(command, cwd=ROOT, env=clean_env(data) | env, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def check(data: Path, **env: str) -> tuple[int, str]:
    return manage(data, "check", **env)


def assert_clean(status: int, said: str) -> None:
    assert (status, said.partition(" (")[0]) == (0, "System check identified no issues"), said


REFUSED = [
    # numbers that are none
    *[
        ({name: "many"}, f"{name} must be a whole number, such as")
        for name in ("CHAT_MAX_OPEN_ANSWERS", "CHAT_CONTEXT_TOKENS")
    ],
    ({"CHAT_MAX_MESSAGE_CHARS": "1e5"}, "CHAT_MAX_MESSAGE_CHARS must be a whole number, such as 100000."),
    ({"CHAT_GAP_SECONDS": "a minute"}, "CHAT_GAP_SECONDS must be a number, such as 60."),
    ({"CHAT_ABANDON_AFTER": "sometimes"}, "CHAT_ABANDON_AFTER must be a number, such as 120."),
    ({"CHAT_FLUSH_MS": ""}, "CHAT_FLUSH_MS must be a number, such as 40."),
    ({"CHAT_GAP_SECONDS": "nan"}, "CHAT_GAP_SECONDS"),
    ({"CHAT_ANSWER_SECONDS": "inf"}, "CHAT_ANSWER_SECONDS"),
    # switches that say neither
    ({"CHAT_SIGNUP": "maybe"}, "CHAT_SIGNUP must be yes or no, not 'maybe'."),
    ({"CHAT_HTTPS": "https"}, "CHAT_HTTPS must be yes or no, not 'https'."),
    ({"DEBUG": "2"}, "DEBUG must be yes or no, not '2'."),
    ({"CHAT_DEMO": "y"}, "CHAT_DEMO must be yes or no, not 'y'."),
    # models whose size is none
    ({"CHAT_MODELS": "small=4096,large=big"}, "the context size in 'large=big' must be a whole number of tokens."),
    # what nothing can work with
    ({"CHAT_GAP_SECONDS": "-1"}, "CHAT_GAP_SECONDS must be greater than 0."),
    ({"CHAT_FIRST_TOKEN_SECONDS": "0"}, "Leave CHAT_FIRST_TOKEN_SECONDS out for its default."),
    ({"CHAT_MAX_OPEN_ANSWERS": "0"}, "CHAT_MAX_OPEN_ANSWERS must be greater than 0."),
    ({"CHAT_MAX_BODY_BYTES": "-5"}, "CHAT_MAX_BODY_BYTES must be greater than 0."),
    ({"CHAT_CONNECT_SECONDS": "0"}, "CHAT_CONNECT_SECONDS must be greater than 0."),
    ({"CHAT_PING_SECONDS": "-1"}, "CHAT_PING_SECONDS must be greater than 0."),
    ({"CHAT_SILENT_SECONDS": "0"}, "CHAT_SILENT_SECONDS must be greater than 0."),
    ({"CHAT_DRAIN_SECONDS": "-1"}, "CHAT_DRAIN_SECONDS"),
    ({"CHAT_MAX_TOKENS": "-1"}, "CHAT_MAX_TOKENS"),
    ({"CHAT_ABANDON_AFTER": "-1"}, 'Set CHAT_ABANDON_AFTER to seconds, 0 for at once, or "never".'),
    ({"CHAT_LEASE_SECONDS": "2.9"}, "Set CHAT_LEASE_SECONDS to at least three times CHAT_CHECKPOINT_SECONDS."),
    ({"CHAT_CHECKPOINT_SECONDS": "4"}, "Set CHAT_LEASE_SECONDS to at least three times CHAT_CHECKPOINT_SECONDS."),
    *[
        ({"REDIS_URL": url}, "REDIS_URL must be like redis://host:6379/0")
        for url in ("localhost:6379", "http://localhost", "redis://", "redis:///0", "unix://", "redis://a b")
    ],
    ({"REDIS_PREFIX": ""}, "REDIS_PREFIX must be 1 to 64 letters, digits"),
    ({"REDIS_PREFIX": "par ley"}, "REDIS_PREFIX must be 1 to 64 letters, digits"),
    ({"REDIS_PREFIX": "{tag}"}, "REDIS_PREFIX must be 1 to 64 letters, digits"),
    ({"WEB_CONCURRENCY": "4"}, "Set REDIS_URL, or leave WEB_CONCURRENCY out."),
    ({"WEB_CONCURRENCY": "many"}, "WEB_CONCURRENCY must be a whole number, such as 1."),
    ({"SECRET_KEY": "short"}, "Set SECRET_KEY to 50 random characters."),
]
TAKEN = [
    {},
    {"CHAT_LEASE_SECONDS": "3"},
    {"CHAT_ABANDON_AFTER": "0"},
    {"CHAT_ABANDON_AFTER": "Never"},
    {"CHAT_GAP_SECONDS": "0.5", "CHAT_DRAIN_SECONDS": "0", "CHAT_MAX_TOKENS": "0"},
    {"CHAT_MODELS": " small = 4096 , large ,"},
    {"CHAT_SIGNUP": "NO", "CHAT_DEMO": "On", "DEBUG": "0"},
    {"SECRET_KEY": KEY},
    {"WEB_CONCURRENCY": "1", "REDIS_PREFIX": "only.one:of-them_1"},
    {"WEB_CONCURRENCY": "4", "REDIS_URL": "redis://user:word@localhost:6379/3"},
    {"REDIS_URL": "unix:///run/redis.sock?db=1"},
    {"REDIS_URL": " rediss://localhost "},
]


@pytest.mark.parametrize(("env", "sentence"), REFUSED, ids=[str(env) for env, _ in REFUSED])
def test_a_setting_that_cannot_work_is_refused_with_what_to_do(tmp_path, env, sentence):
    status, said = check(tmp_path, **env)
    assert status != 0
    assert sentence in said


@pytest.mark.parametrize("env", TAKEN, ids=str)
def test_a_setting_that_can_work_is_taken(tmp_path, env):
    assert_clean(*check(tmp_path, **env))


def test_a_refused_setting_keeps_the_server_from_starting(tmp_path):
    command = [sys.executable, "-m", "chatproject.server", "--port", "0"]
    env = clean_env(tmp_path) | {"CHAT_SIGNUP": "maybe"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=30)
    assert done.returncode != 0
    assert "CHAT_SIGNUP must be yes or no" in done.stderr


def test_production_settings_pass_every_check_of_a_deployment(tmp_path):
    deploy = ("check", "--deploy", "--fail-level", "WARNING")
    assert_clean(*manage(tmp_path, *deploy, **PRODUCTION))


@pytest.mark.parametrize(
    ("env", "code"),
    [
        ({"ALLOWED_HOSTS": "*"}, "chat.W001"),
        ({"TRUSTED_ORIGINS": "https://*.example.org"}, "chat.W002"),
        ({"CHAT_HTTPS": "no"}, "chat.W003"),
        ({"DEBUG": "yes"}, "security.W018"),
    ],
    ids=str,
)
def test_what_is_careless_on_a_server_that_others_reach_is_warned_of(tmp_path, env, code):
    status, said = manage(tmp_path, "check", "--deploy", "--fail-level", "WARNING", **PRODUCTION | env)
    assert status != 0
    assert code in said


def test_the_secret_key_is_made_once_for_its_owner_alone(tmp_path):
    data = tmp_path / "new" / "place"
    with ThreadPoolExecutor(4) as threads:  # also when several processes begin at once
        outcomes = list(threads.map(lambda _: print_key(data), range(4)))
    assert len(set(outcomes)) == 1
    path = data / "secret_key"
    assert path.read_text() == outcomes[0]
    assert len(outcomes[0]) >= 50
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in data.iterdir() if "secret_key" in file.name] == ["secret_key"]
    assert print_key(data) == outcomes[0]
    assert print_key(tmp_path / "elsewhere") != outcomes[0]


def print_key(data: Path) -> str:
    status, said = manage(data, "shell", "-v0", "-c", "from django.conf import settings; print(settings.SECRET_KEY)")
    assert status == 0, said
    return said.split()[-1]


def test_a_key_that_is_given_is_used_and_none_is_made(tmp_path):
    code = "from django.conf import settings; print(settings.SECRET_KEY)"
    assert manage(tmp_path, "shell", "-v0", "-c", code, SECRET_KEY=KEY)[1].split()[-1] == KEY
    assert not (tmp_path / "secret_key").exists()


SHIPPED = {
    "CHAT_FIRST_TOKEN_SECONDS": 30,
    "CHAT_GAP_SECONDS": 60,
    "CHAT_ANSWER_SECONDS": 600,
    "CHAT_ABANDON_AFTER": 120,
    "CHAT_LEASE_SECONDS": 10,
    "CHAT_DRAIN_SECONDS": 8,
    "CHAT_SILENT_SECONDS": 5,
    "CHAT_PING_SECONDS": 15,
    "DEBUG": False,
    "CHAT_PROVIDERS": {"demo": "chat.providers.demo.DemoProvider"},
}


def test_the_shipped_settings_are_these(tmp_path):
    code = f"from django.conf import settings; print({{name: getattr(settings, name) for name in {list(SHIPPED)}}})"
    assert ast.literal_eval(manage(tmp_path, "shell", "-v0", "-c", code)[1]) == SHIPPED


def test_with_redis_everything_that_processes_share_is_there_and_they_have_time_to_finish(tmp_path):
    names = ["CHAT_LOG", "CHAT_PRESENCE", "CHAT_DRAIN_SECONDS"]
    code = f"from django.conf import settings; print({{name: getattr(settings, name) for name in {names}}})"
    env = {"REDIS_URL": "redis://localhost"}
    assert ast.literal_eval(manage(tmp_path, "shell", "-v0", "-c", code, **env)[1]) == {
        "CHAT_LOG": "chat.replay.redis.RedisLog",
        "CHAT_PRESENCE": "chat.presence.redis.RedisPresence",
        "CHAT_DRAIN_SECONDS": 60,
    }
    code = "from channels.layers import get_channel_layer; print(type(get_channel_layer()).__name__)"
    assert manage(tmp_path, "shell", "-v0", "-c", code, **env)[1].strip() == "RedisPubSubChannelLayer"


def test_umask_and_working_directory_do_not_matter_for_the_data(tmp_path):
    data = tmp_path / "data"
    code = "import os; os.umask(0); from chatproject import settings; print(settings.DATABASES['default']['NAME'])"
    env = clean_env(data) | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(data / "db.sqlite3")
    assert stat.S_IMODE((data / "secret_key").stat().st_mode) == 0o600
    assert [file.name for file in data.iterdir()] == ["secret_key"]
