"""`python -m local up`, as a person runs it: started, found running, disturbed and stopped."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest

from local.home import Home
from local.ports import free_port
from local.process import ROOT
from tests.waiting import wait_for

COMMAND = [sys.executable, "-m", "local", "up"]


class Up:
    """One run of the command, and the env file of its home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.settings = {**os.environ, "BATCHYARD_HOME": str(home), "PORT": str(free_port()), "WORKERS": "1"}
        self.process = subprocess.Popen(COMMAND, cwd=ROOT, env=self.settings, stdout=subprocess.PIPE, text=True)

    @property
    def env(self) -> dict[str, str]:
        lines = (self.home / "env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def wait_ready(self) -> None:
        assert self.process.stdout is not None
        assert "ready\n" in iter(self.process.stdout.readline, "")

    def stop(self) -> int:
        self.process.terminate()
        self.process.communicate(timeout=60)
        return self.process.returncode


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    up = Up(tmp_path / "home")
    try:
        up.wait_ready()
        yield up
    finally:
        if up.process.poll() is None:
            up.stop()
        Home(up.home).remove()


def test_the_stack_is_ready_found_running_kept_running_and_stopped_without_a_trace(up: Up) -> None:
    first = up.env
    accepted = httpx2.get(f"{first['BASE_URL']}/v1/jobs", headers={"Authorization": f"Bearer {first['API_KEY']}"})
    assert accepted.status_code == 200

    again = subprocess.run(COMMAND, cwd=ROOT, env=up.settings, capture_output=True, text=True)
    assert again.returncode == 1
    assert first["BASE_URL"] in again.stderr
    assert str(up.process.pid) in again.stderr
    assert up.env == first

    os.kill(int(first["WORKER_PIDS"]), signal.SIGKILL)
    second = wait_for(lambda: up.env, lambda env: env["WORKER_PIDS"] != first["WORKER_PIDS"])
    assert psutil.pid_exists(int(second["WORKER_PIDS"]))
    assert second["WEB_PID"] == first["WEB_PID"]
    os.kill(int(first["DELIVERER_PIDS"]), signal.SIGKILL)
    third = wait_for(lambda: up.env, lambda env: env["DELIVERER_PIDS"] != first["DELIVERER_PIDS"])
    assert psutil.pid_exists(int(third["DELIVERER_PIDS"]))
    assert third["WORKER_PIDS"] == second["WORKER_PIDS"]

    children = psutil.Process(up.process.pid).children(recursive=True)
    assert up.stop() == 0
    assert not [child for child in children if child.is_running()]
    assert not (up.home / "env").exists()


def test_who_signs_up_finds_the_link_in_what_the_stack_says_and_in_its_folder(up: Up) -> None:
    base_url = up.env["BASE_URL"]
    person = {"email": "ada@example.com", "password": "correct horse battery"}
    signed_up = httpx2.post(f"{base_url}/auth/sign-up", json=person | {"account_name": "Acme"})
    assert signed_up.status_code < 300, signed_up.text
    assert up.process.stdout is not None
    told = next(line for line in iter(up.process.stdout.readline, "") if line.startswith("mail to"))
    assert told.startswith("mail to ada@example.com: Confirm your address http")
    (file,) = Path(up.env["MAIL_FOLDER"]).glob("*.eml")
    assert str(file) in told

    link = told.split()[-2]
    assert link.startswith(base_url)
    token = link.partition("?token=")[2]
    verified = httpx2.post(f"{base_url}/auth/verify-email", json={"token": token})
    assert verified.status_code == 200, verified.text
    assert httpx2.post(f"{base_url}/auth/log-in", json=person).status_code == 200
