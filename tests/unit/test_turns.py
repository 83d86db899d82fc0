"""Who of the calls that wait goes next: single jobs, then the accounts in turn."""

import asyncio
from collections.abc import Coroutine
from typing import Any
from uuid import UUID, uuid4

from worker.turns import Turns, Waiting

ANN, BOB = uuid4(), uuid4()


def run(act: Coroutine[Any, Any, None]) -> None:
    asyncio.run(act)


def waits(turns: Turns, account_id: UUID = ANN, *, single: bool = False) -> Waiting:
    waiting = Waiting(account_id, single, movable=False, tokens=1)
    turns.add(waiting)
    return waiting


def popped(turns: Turns, most: int = 100) -> list[Waiting]:
    found: list[Waiting] = []
    while len(found) < most and (waiting := turns.peek()) is not None:
        turns.pop()
        found.append(waiting)
    return found


def test_accounts_take_turns_however_many_rows_one_of_them_has_waiting() -> None:
    async def act() -> None:
        turns = Turns()
        ann, bob = [waits(turns, ANN) for _ in range(4)], [waits(turns, BOB) for _ in range(2)]
        assert popped(turns) == [ann[0], bob[0], ann[1], bob[1], ann[2], ann[3]]
        assert len(turns) == 0

    run(act())


def test_a_single_job_goes_before_rows_that_were_there_first() -> None:
    async def act() -> None:
        turns = Turns()
        rows = [waits(turns) for _ in range(3)]
        single = waits(turns, BOB, single=True)
        assert popped(turns) == [single, *rows]

    run(act())


def test_what_is_put_back_goes_next_but_behind_a_single_job_that_came_meanwhile() -> None:
    async def act() -> None:
        turns = Turns()
        ann, bob = [waits(turns, ANN) for _ in range(3)], [waits(turns, BOB) for _ in range(3)]
        taken = popped(turns, 4)
        single = waits(turns, BOB, single=True)
        turns.put_back(taken)
        assert len(turns) == 7
        assert popped(turns) == [single, ann[0], bob[0], ann[1], bob[1], ann[2], bob[2]]

    run(act())


def test_a_call_that_is_stopped_while_it_waits_is_passed_over() -> None:
    async def act() -> None:
        turns = Turns()
        stopped, single = waits(turns), waits(turns, single=True)
        last = waits(turns)
        stopped.go.cancel()
        single.go.cancel()
        assert popped(turns) == [last]
        assert len(turns) == 0

    run(act())
