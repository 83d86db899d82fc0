"""A thousand submissions at once, through two web processes, against a limit with room for exactly a hundred.

RACE_ROUNDS=5 repeats it so often for each limit.
"""

import asyncio
import json
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import aiohttp
import psycopg
import pytest

from common.reservations import Reserver
from local.stack import Stack
from tests import databases, work
from tests.conftest import redis_database
from tests.databases import one
from tests.exact import check_quotas_are_sums
from tests.process_settings import process_settings

SUBMISSIONS = 1_000
FIT = 100
LIMITS = ("tokens_per_month", "max_queued_tokens", "hard_cap")
ROUNDS = int(os.environ.get("RACE_ROUNDS", "1"))
CONNECTIONS = 250
BODY = {"model": "sim", "prompt": "Hi", "max_tokens": 100}


@pytest.fixture(scope="module")
def web_alone(services: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two web processes and no worker: nothing that was held is let go."""
    settings = {"REDIS_URL": redis_database(services, 3), "WEB_PROCESSES": "2"}
    home = tmp_path_factory.mktemp("races") / "home"
    with (
        databases.cloned(services) as urls,
        Stack(home, workers=0, extra_env=urls | settings, with_stripe=False, durable=False, keep=False) as running,
    ):
        yield running


@pytest.mark.parametrize("limit", LIMITS)
def test_of_a_thousand_submissions_at_once_those_that_fit_are_accepted(limit: str, web_alone: Stack) -> None:
    code = {"tokens_per_month": "quota_exceeded", "max_queued_tokens": "queue_full", "hard_cap": "spend_cap_reached"}
    with process_settings(web_alone.env), psycopg.connect(web_alone.env["DATABASE_URL"], autocommit=True) as database:
        for _ in range(ROUNDS):
            caller = work.caller()
            chat = {"model": "sim", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100}
            sent = json.dumps(chat, separators=(",", ":")).encode()
            _, tokens, cost = Reserver("/v1/chat/completions", caller.limits).hold(chat, sent)
            most = {"tokens_per_month": FIT * tokens, "max_queued_tokens": FIT * tokens, "hard_cap": FIT * cost}[limit]
            if limit == "hard_cap":
                database.execute("UPDATE accounts SET hard_cap = %s WHERE id = %s", [most, caller.account_id])
            else:
                own = json.dumps({limit: most})
                database.execute("UPDATE accounts SET overrides = %s::jsonb WHERE id = %s", [own, caller.account_id])
            answers = asyncio.run(_submit_all(web_alone.base_url, work.key_of(caller.account_id)))
            assert Counter(answers) == {(202, None): FIT, (429, code[limit]): SUBMISSIONS - FIT}
            held = one(
                database,
                "SELECT used + reserved, cost_used + cost_reserved FROM quotas WHERE account_id = %s",
                caller.account_id,
            )
            assert held == (FIT * tokens, FIT * cost)
            stored = "SELECT count(*) FROM jobs WHERE account_id = %s"
            assert one(database, stored, caller.account_id) == (FIT,)
        check_quotas_are_sums(database)


async def _submit_all(base_url: str, key: str) -> list[tuple[int, Any]]:
    """The status and the error's code of each submission."""
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(base_url, connector=connector, headers=headers) as session:

        async def submit() -> tuple[int, Any]:
            async with session.post("/v1/jobs", json=BODY) as response:
                answer = await response.json()
                if response.status == 429:
                    assert response.headers["x-should-retry"] == "false"
                return response.status, (answer["error"] or {}).get("code")

        return await asyncio.gather(*(submit() for _ in range(SUBMISSIONS)))
