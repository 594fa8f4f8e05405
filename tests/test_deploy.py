"""What deploy/ ships fits the code and itself: its files and numbers agree, and the programs that read them accept them."""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.proxies import Nginx, program, replaced
from chatproject import settings
from tests.parley import ROOT, clean_env, free_port
from tests.test_docs import settings_read

DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
WEBS = [COMPOSE["services"][name] for name in ("web1", "web2", "web3")]
UNITS = sorted([*DEPLOY.glob("*.service"), *DEPLOY.glob("*.target")])
PORTS = {"8001", "8002", "8003"}
# What the settings say when Redis is there, as it is in all that deploy/ describes.
DRAIN_SECONDS = 60
COMPOSE_NAMES = {"PARLEY_HOST", "POSTGRES_PASSWORD"}


def example() -> dict[str, str]:
    """The values in env.example."""
    lines = (DEPLOY / "env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def filled() -> dict[str, str]:
    """The same, with what an operator has to fill in."""
    return example() | {"SECRET_KEY": "0123456789-" * 5, "OPENAI_API_KEY": "key", "POSTGRES_PASSWORD": "secret"}


def unit(name: str) -> dict[str, list[str]]:
    """The lines of a systemd unit by their names."""
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / name).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            found.setdefault(line.partition("=")[0], []).append(line.partition("=")[2])
    return found


def run(*command: str | Path, env: dict[str, str] | None = None, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True, timeout=120)


def needs(name: str) -> str:
    """The program; without it the test is skipped, by name."""
    found = program(name)
    if not found:
        pytest.skip(f"{name} is not installed here, so it could not check what deploy/ ships")
    return found


def test_the_example_settings_are_settings_and_pass_the_checks_for_a_server_that_others_reach(tmp_path):
    assert set(example()) <= set(settings_read()) | COMPOSE_NAMES
    checked = run(sys.executable, "manage.py", "check", "--deploy", env=clean_env(tmp_path) | filled())
    assert checked.returncode == 0, checked.stderr
    assert "no issues" in checked.stdout, checked.stdout + checked.stderr


def test_a_process_that_is_told_to_stop_is_given_longer_than_its_drain():
    assert int(filled()["CHAT_DRAIN_SECONDS"]) == DRAIN_SECONDS
    assert int(unit("parley@.service")["TimeoutStopSec"][0]) >= DRAIN_SECONDS + 20
    for web in WEBS:
        assert int(web["stop_grace_period"].removesuffix("s")) >= DRAIN_SECONDS + 20
        assert web["environment"]["CHAT_DRAIN_SECONDS"] == str(DRAIN_SECONDS)


def test_proxies_take_bodies_that_parley_takes_and_wait_longer_than_two_heartbeats():
    site, cfg = (DEPLOY / "nginx.conf").read_text(), (DEPLOY / "haproxy.cfg").read_text()
    [megabytes] = re.findall(r"client_max_body_size (\d+)m;", site)
    [most] = re.findall(r"req\.hdr_val\(content-length\) gt (\d+)", cfg)
    assert int(megabytes) << 20 == int(most) > settings.CHAT_MAX_BODY_BYTES
    waits = re.findall(r"proxy_read_timeout (\d+)s", site) + re.findall(r"timeout (?:server|client|tunnel) (\d+)s", cfg)
    waits += re.findall(r"\sread_timeout (\d+)s", (DEPLOY / "Caddyfile").read_text())
    assert len(waits) == 5
    assert min(map(int, waits)) > 2 * settings.CHAT_PING_SECONDS


def test_all_proxies_and_units_know_the_same_processes():
    for name in ("nginx.conf", "Caddyfile", "haproxy.cfg"):
        assert set(re.findall(r"127\.0\.0\.1:(80\d\d)", (DEPLOY / name).read_text())) == PORTS, name
    assert set(re.findall(r"parley@(80\d\d)", (DEPLOY / "parley@.service").read_text())) == PORTS


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_what_a_unit_names_is_there(path):
    lines = unit(path.name)
    for command in [line for name, found in lines.items() if name.startswith("Exec") for line in found]:
        python, script, *_ = command.split()
        assert python == "/opt/parley/.venv/bin/python"
        assert script == "-m" or (ROOT / script).is_file(), command
    for address in lines["Documentation"]:
        assert (ROOT / address.removeprefix("file:/opt/parley/")).is_file()
    for other in re.findall(
        r"parley[\w@%-]*\.(?:service|target)", " ".join(lines.get("After", []) + lines.get("Wants", []))
    ):
        assert (DEPLOY / other).is_file()


def test_systemd_accepts_the_units(tmp_path):
    analyze = needs("systemd-analyze")
    for path in UNITS:
        (tmp_path / path.name).write_text(path.read_text().replace("/opt/parley/.venv/bin/python", sys.executable))
    checked = run(analyze, "verify", *sorted(tmp_path.iterdir()), env=os.environ | {"SYSTEMD_LOG_LEVEL": "warning"})
    about = [line for line in (checked.stdout + checked.stderr).splitlines() if "parley" in line]
    assert (checked.returncode, about) == (0, [])


def image_steps() -> list[str]:
    """The instructions of the Dockerfile, each in one line."""
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps this path out of the image."""
    kept = [line[1:].rstrip("/") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    return not any(path == one or path.startswith(f"{one}/") for one in kept)


def test_the_image_holds_all_that_the_server_needs_and_is_not_root(tmp_path):
    home = tmp_path / "opt"
    home.mkdir()
    steps = image_steps()
    for _, source, target in [step.split() for step in steps if step.startswith("COPY")]:
        assert not ignored(source.rstrip("/")), f"{source} is kept out by .dockerignore"
        if source.endswith("/"):
            shutil.copytree(ROOT / source, home / target)
        else:
            (home / target).mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, home / target)
    env = clean_env(tmp_path / "data") | {"PORT": str(free_port()), "HOST": "127.0.0.1"}
    [collect] = [step for step in steps if step.startswith("RUN") and "manage.py" in step]
    words = collect.removeprefix("RUN ").split()
    made = run(sys.executable, *words[2:], env=env | dict([words[0].split("=")]), cwd=home)
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "data" / "static" / "staticfiles.json").is_file()
    assert not (tmp_path / "data" / "secret_key").exists(), "the image must not bring a key"
    assert steps.index("USER parley") < steps.index(collect)
    assert run(sys.executable, "manage.py", "migrate", "-v0", env=env, cwd=home).returncode == 0
    [serve] = [yaml.safe_load(step.removeprefix("CMD ")) for step in steps if step.startswith("CMD")]
    [check] = [yaml.safe_load(step.partition("CMD ")[2]) for step in steps if step.startswith("HEALTHCHECK")]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen([sys.executable, *serve[1:]], cwd=home, env=env, stdout=log, stderr=log)
    try:
        healthy = [sys.executable, *check[1:], "--wait", "60"]
        assert run(*healthy, env=env, cwd=home).returncode == 0, (tmp_path / "log").read_text()
    finally:
        server.terminate()
        server.wait(30)
    gone = run(sys.executable, *check[1:], env=env, cwd=home)
    assert gone.returncode == 1
    assert env["PORT"] in gone.stderr


def test_the_health_check_asks_by_a_name_that_is_served(serve):
    server = serve(ALLOWED_HOSTS=".example.org,127.0.0.1", CHAT_HTTPS="yes")
    asked = [sys.executable, DEPLOY / "healthcheck.py", "--port", str(server.port)]
    assert run(*asked, env={"ALLOWED_HOSTS": ".example.org"}).returncode == 0
    wrong = run(*asked, env={"ALLOWED_HOSTS": "elsewhere.example"})
    assert (wrong.returncode, "status 400" in wrong.stderr) == (1, True)


def test_the_health_check_sees_a_process_that_is_frozen():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = str(silent.getsockname()[1])
        assert run(sys.executable, DEPLOY / "healthcheck.py", "--port", port).returncode == 1


def test_compose_uses_variables_and_files_that_are_there():
    text = (DEPLOY / "compose.yaml").read_text()
    assert set(re.findall(r"\$\{(\w+)", text)) == COMPOSE_NAMES
    assert set(example()) >= COMPOSE_NAMES
    for name, service in COMPOSE["services"].items():
        for other in service.get("depends_on", []):
            assert other in COMPOSE["services"], name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or source.startswith("/") or (DEPLOY / source).is_file(), volume
        if "build" in service:
            context = (DEPLOY / service["build"]["context"]).resolve()
            assert context == ROOT
            assert (context / service["build"]["dockerfile"]).is_file()


def test_compose_waits_for_the_database_and_keeps_what_redis_holds():
    for web in WEBS:
        assert web["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert COMPOSE["services"]["migrate"]["depends_on"]["postgres"] == {"condition": "service_healthy"}
    redis = " ".join(COMPOSE["services"]["redis"]["command"])
    assert "--appendonly yes --appendfsync everysec" in redis
    assert "--maxmemory-policy noeviction" in redis


def test_compose_gives_nginx_the_addresses_of_its_own_network(tmp_path):
    needs("nginx")
    shell, option, script = COMPOSE["services"]["nginx"]["command"]
    script = script.replace("$$", "$").replace("/parley/nginx.conf", str(DEPLOY / "nginx.conf"))
    script = script.replace("/etc/nginx/conf.d/default.conf", str(tmp_path / "site.conf")).partition("&& exec")[0]
    done = run(shell, option, script, env={"PARLEY_HOST": "talk.example.net", "PATH": os.environ["PATH"]})
    assert done.returncode == 0, done.stderr
    site = (tmp_path / "site.conf").read_text()
    webs = [web["networks"]["inside"]["ipv4_address"] for web in WEBS]
    assert re.findall(r"server (\S+):8000 max_fails=0;", site) == webs
    assert "chat.example.org" not in site
    assert site.count("server_name talk.example.net;") == 2
    port = free_port()
    site = replaced(
        site, {r"listen 80;": f"listen 127.0.0.1:{port};", r"listen 443 ssl http2;": "", r"^ *ssl_.*;$": ""}
    )
    nginx = Nginx(["127.0.0.1:1"], tmp_path / "static")
    try:
        nginx.write(site)
        assert "successful" in nginx.check()
    finally:
        nginx.close()


def test_compose_accepts_the_file(tmp_path):
    place = tmp_path / "deploy"
    shutil.copytree(DEPLOY, place)
    (place / ".env").write_text("".join(f"{name}={value}\n" for name, value in filled().items()))
    for command in (["docker", "compose"], ["docker-compose"]):
        if program(command[0]) and run(*command, "version").returncode == 0:
            break
    else:
        pytest.skip(
            "neither docker compose nor docker-compose is installed here, so compose.yaml was only read as YAML"
        )
    if re.search(r"version v?1\.", run(*command, "version").stdout):  # the old one does not know a project's name
        (place / "compose.yaml").write_text((place / "compose.yaml").read_text().replace("name: parley\n", ""))
    checked = run(*command, "-f", "compose.yaml", "config", "--quiet", cwd=place)
    assert checked.returncode == 0, checked.stderr
