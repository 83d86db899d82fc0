"""Embedded PostgreSQL and Redis, the home folder and the watch: real servers, killed for real."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.retry import Retry

from local import environment, left_overs
from local.errors import AlreadyRunning, StackError
from local.home import Home
from local.ports import free_port
from local.process import ROOT, Process
from local.stack import Stack
from local.watch import Watch
from tests.waiting import wait_for

HOLDER = """
import sys, time
from pathlib import Path
from local.stack import Stack
stack = Stack.services_only(Path(sys.argv[1]))
stack.start()
print("ready", flush=True)
# Until it is killed.
time.sleep(600)
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Services that survive a crash of the machine, as those of `make up` do."""
    with Stack.services_only(tmp_path_factory.mktemp("running") / "home", durable=True) as stack:
        yield stack


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """The path of a home. What a test leaves there is removed, also the data that lies elsewhere as root."""
    path = tmp_path / "home"
    yield path
    if path.exists():
        Home(path).remove()


def ask(stack: Stack, question: str) -> str:
    with psycopg.connect(stack.env["DATABASE_URL"]) as connection:
        row = connection.execute(question.encode()).fetchone()
    assert row is not None
    return str(row[0])


def answers(stack: Stack) -> bool:
    try:
        with Redis.from_url(stack.env["REDIS_URL"]) as client:
            return ask(stack, "SELECT 1") == "1" and bool(client.ping())
    except (psycopg.OperationalError, RedisError):
        return False


def kill(stack: Stack, name: str) -> None:
    process = stack.processes[name]
    process.send(signal.SIGKILL)
    assert process.wait(10)


def test_postgres_is_18_in_utf8_with_checksums_and_durable(running: Stack) -> None:
    assert ask(running, "SHOW server_version_num").startswith("18")
    assert ask(running, "SHOW server_encoding") == "UTF8"
    assert ask(running, "SHOW data_checksums") == "on"
    assert ask(running, "SHOW fsync") == "on"
    assert ask(running, "SHOW synchronous_commit") == "on"


def test_nobody_gets_in_without_the_password(running: Stack) -> None:
    url = running.env["DATABASE_URL"]
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url.replace(str(urlsplit(url).password), "wrong"))
    port = urlsplit(running.env["REDIS_URL"]).port
    assert port is not None
    with Redis(port=port, retry=Retry(NoBackoff(), 0)) as client, pytest.raises(AuthenticationError):
        client.ping()


def test_a_killed_postgres_starts_again_at_once_with_what_was_committed(running: Stack) -> None:
    with psycopg.connect(running.env["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        kill(running, "postgres")
        running.processes["postgres"].start()
    wait_for(lambda: answers(running), bool)
    assert ask(running, "SELECT answer FROM kept") == "42"


def test_a_killed_redis_starts_again_with_what_it_held(running: Stack) -> None:
    with Redis.from_url(running.env["REDIS_URL"]) as client:
        client.set("kept", "42")
        # everysec: what is older than a second is on the disk, and so is what was written before a kill of Redis alone.
        kill(running, "redis")
        running.processes["redis"].start()
        wait_for(lambda: answers(running), bool)
        assert client.get("kept") == b"42"


def test_a_service_that_died_is_started_again_on_its_port(running: Stack) -> None:
    kill(running, "postgres")

    def answers_when_tended() -> bool:
        running.tend()
        return running.processes["postgres"].running and answers(running)

    wait_for(answers_when_tended, bool)


def test_a_second_start_in_the_same_home_is_refused_and_disturbs_nothing(running: Stack) -> None:
    with pytest.raises(AlreadyRunning, match=f"pid {os.getpid()}"):
        Stack.services_only(running.home.path).start()
    assert running.home.env_file.exists()
    assert answers(running)


def test_services_named_by_the_caller_are_used_and_none_is_started(running: Stack, home: Path) -> None:
    named = {name: running.env[name] for name in ("DATABASE_URL", "REDIS_URL")}
    with Stack(home, extra_env=named, with_processes=False) as stack:
        assert not stack.processes
        assert {name: stack.env[name] for name in named} == named
        assert stack.env["WEB_DATABASE_URL"].startswith("postgresql://batchyard_web:")


def test_what_the_env_file_put_into_the_shell_is_not_taken_for_services_of_the_caller(running: Stack) -> None:
    assert environment.without_our_own(running.home, {**running.env, "LOG_LEVEL": "DEBUG"}).keys() >= {"LOG_LEVEL"}
    assert not environment.without_our_own(running.home, running.env).keys() & {
        "DATABASE_URL",
        "WEB_DATABASE_URL",
        "REDIS_URL",
        "PROVIDER_URL",
        "PROVIDER_API_KEY",
        "SMTP_URL",
        "PUBLIC_URL",
    }
    theirs = {**running.env, "PUBLIC_URL": "https://batches.example"}
    assert environment.without_our_own(running.home, theirs)["PUBLIC_URL"] == "https://batches.example"


def test_the_standin_of_an_earlier_start_is_not_taken_for_an_account_at_stripe(running: Stack) -> None:
    earlier = {"STRIPE_SECRET_KEY": environment.STANDIN_KEY, "STRIPE_API_BASE": "http://127.0.0.1:1"}
    assert environment.without_our_own(running.home, earlier) == {}
    theirs = {"STRIPE_SECRET_KEY": "sk_test_of_a_person", "STRIPE_WEBHOOK_SECRET": "whsec_of_a_person"}
    assert environment.without_our_own(running.home, theirs) == theirs


def test_data_secrets_and_ports_outlive_a_stop(home: Path) -> None:
    with Stack.services_only(home, keep=True) as stack:
        first = stack.env
        with psycopg.connect(first["DATABASE_URL"]) as connection:
            connection.execute("CREATE TABLE kept ()")
    assert not (home / "env").exists()
    with Stack.services_only(home, keep=True) as stack:
        names = ("DATABASE_URL", "REDIS_URL", "SECRET_KEY")
        assert {name: stack.env[name] for name in names} == {name: first[name] for name in names}
        assert ask(stack, "SELECT count(*) FROM kept") == "0"


def test_a_home_that_was_deleted_by_hand_starts_afresh(home: Path) -> None:
    with Stack.services_only(home, keep=True) as stack, psycopg.connect(stack.env["DATABASE_URL"]) as connection:
        connection.execute("CREATE TABLE forgotten ()")
    shutil.rmtree(home)
    with Stack.services_only(home) as stack:
        assert ask(stack, "SELECT to_regclass('forgotten')") == "None"


def test_a_home_that_is_not_kept_leaves_nothing(home: Path) -> None:
    with Stack.services_only(home) as stack:
        data = (home / "postgres").resolve()
        assert ask(stack, "SELECT 1") == "1"
    assert not home.exists()
    assert not data.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ties children to their parent on Linux alone")
def test_a_killed_stack_leaves_no_process_and_its_home_starts_again(home: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(home)], cwd=ROOT, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        children = psutil.Process(holder.pid).children(recursive=True)
        assert children
        holder.kill()
    wait_for(lambda: [child for child in children if child.is_running()], lambda left: not left)
    with Stack.services_only(home) as stack:
        assert answers(stack)


def test_what_a_killed_stack_left_running_is_ended_by_the_next_start(home: Path) -> None:
    left = Process("sleeper", ["sleep", "600"], Home(home).log("sleeper"), os.environ)
    left.start()
    left_overs.remember(home / "processes.json", [left])
    with Stack.services_only(home):
        assert not left.running
        assert not psutil.pid_exists(left.pid)


def test_a_taken_port_is_refused_before_anything_is_started(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        stack = Stack(home, port=taken.getsockname()[1])
        with pytest.raises(StackError, match="in use"):
            stack.start()
    assert not stack.processes
    assert not stack.home.held


def test_secrets_and_the_env_file_are_for_their_owner_alone(running: Stack) -> None:
    for name in ("env", "secrets.json", "redis/redis.conf"):
        assert stat.S_IMODE((running.home.path / name).stat().st_mode) == 0o600


def test_a_shell_reads_from_the_env_file_what_was_written(home: Path) -> None:
    values = {"PLAIN": "by_1234", "ODD": 'it\'s $HOME & `more` "quoted"\\', "EMPTY": ""}
    Home(home).write_env(values)
    script = f'. {home}/env; printf "%s\\n" "$PLAIN" "$ODD" "$EMPTY"'
    shown = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines() == [*values.values()]


def test_a_process_that_keeps_dying_is_started_after_ever_longer_waits(home: Path) -> None:
    told: list[str] = []
    watch = Watch(told.append)
    failing = Process("failing", ["sh", "-c", "exit 3"], Home(home).log("failing"), os.environ)
    failing.start()

    def waits() -> list[str]:
        watch.tend([failing])
        return [line.split(" in ")[1].split(":")[0] for line in told if "exit status 3" in line]

    assert wait_for(waits, lambda waits: len(waits) == 3) == ["1 s", "2 s", "4 s"]


def test_a_stopped_process_is_not_started_again(home: Path) -> None:
    told: list[str] = []
    process = Process("sleeper", ["sleep", "600"], Home(home).log("sleeper"), os.environ)
    process.start()
    process.stop()
    assert not Watch(told.append).tend([process])
    assert not told


def test_a_process_that_ignores_the_signal_is_killed_after_its_grace(home: Path) -> None:
    stubborn = ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"]
    process = Process("stubborn", stubborn, Home(home).log("stubborn"), os.environ, grace_seconds=0.2)
    process.start()
    wait_for(process.log.read_text, lambda text: text == "up\n")
    process.stop()
    assert process.exit_status == -signal.SIGKILL


def test_a_free_port_can_be_listened_on() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as server:
        assert server.getsockname()[1] < 32_768
