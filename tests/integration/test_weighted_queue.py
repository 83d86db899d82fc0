"""Which plan's ticket is taken next: by weight and by what it could use, and none for ever last."""

from collections import Counter

import pytest
from rq.job import Job

from common import queue
from common.plans import plans
from common.queue import INGESTS_QUEUE, TASKS_QUEUE, plan_queues
from worker.weighted_queue import TAKEN_TTL_SECONDS, WeightedQueues

pytestmark = pytest.mark.usefixtures("settings")

WEIGHTS = {"plan-free": 1.0, "plan-pro": 3.0, "plan-team": 6.0}
NAMES = list(WEIGHTS)


def fill(name: str, tickets: int) -> Job:
    """One ticket that stands in its queue so many times: what is drawn are ids, and this makes thousands at once."""
    target = queue.queue(name)
    ticket = target.create_job("worker.tasks.serve", args=[name])
    ticket.save()
    queue.redis().rpush(target.key, *[ticket.id] * tickets)
    return ticket


def taken_from(queues: WeightedQueues, names: list[str]) -> str | None:
    found = queues.take(names)
    return found[1].name if found is not None else None


def test_the_plans_are_weighted_one_to_three_to_six() -> None:
    assert {plan.name: plan.weight for plan in plans().values()} == {"free": 1, "pro": 3, "team": 6}


def test_queues_are_drawn_in_proportion_to_their_weights_and_none_starves() -> None:
    rounds = 30
    for name in NAMES:
        fill(name, 10 * rounds)
    queues = WeightedQueues(queue.redis(), WEIGHTS)
    for number in range(1, rounds + 1):
        taken = Counter(taken_from(queues, NAMES) for _ in range(10))
        if number > 1:
            # In any ten draws, but that each may come one sooner or later.
            assert all(abs(taken[name] - weight) <= 1 for name, weight in WEIGHTS.items()), taken


def test_a_queue_that_could_use_little_of_its_turns_has_more_of_them() -> None:
    for name in NAMES:
        fill(name, 1_000)
    queues = WeightedQueues(queue.redis(), WEIGHTS)
    used: Counter[str] = Counter()
    parts = {"plan-free": 0.25, "plan-pro": 1.0, "plan-team": 0.5}
    for _ in range(400):
        served = taken_from(queues, NAMES) or ""
        queues.settle(served, parts[served])
        used[served] += round(parts[served] * 100)
    for name, weight in WEIGHTS.items():
        assert abs(used[name] / used.total() - weight / sum(WEIGHTS.values())) < 0.01, used


def test_a_queue_that_was_empty_is_served_next_and_has_nothing_else_in_store() -> None:
    fill("plan-team", 200)
    queues = WeightedQueues(queue.redis(), WEIGHTS)
    assert Counter(taken_from(queues, NAMES) for _ in range(100)) == {"plan-team": 100}
    fill("plan-free", 50)
    assert taken_from(queues, NAMES) == "plan-free"
    taken = Counter(taken_from(queues, NAMES) for _ in range(70))
    assert 9 <= taken["plan-free"] <= 11, taken


def test_a_plan_whose_turns_find_nothing_holds_up_no_other_for_long() -> None:
    for name in NAMES:
        fill(name, 1_000)
    queues = WeightedQueues(queue.redis(), WEIGHTS)
    taken: Counter[str] = Counter()
    for _ in range(400):
        served = taken_from(queues, NAMES) or ""
        taken[served] += 1
        if served == "plan-team":
            queues.settle(served, 0.0)
    assert min(taken["plan-free"], taken["plan-pro"] // 3) >= 3, taken


def test_every_ticket_is_taken_once_the_heavier_queues_being_empty_too() -> None:
    for name in NAMES:
        fill(name, 20)
    queues = WeightedQueues(queue.redis(), WEIGHTS)
    assert Counter(taken_from(queues, NAMES) for _ in range(60)) == dict.fromkeys(NAMES, 20)
    assert queues.take(NAMES) is None


def test_only_the_queues_that_are_asked_for_are_drawn() -> None:
    for name in NAMES:
        fill(name, 5)
    queues = WeightedQueues(queue.redis(), WEIGHTS)
    assert {taken_from(queues, NAMES[:1]) for _ in range(5)} == {NAMES[0]}
    assert queues.take(NAMES[:1]) is None
    assert queues.take([]) is None


def test_what_is_taken_and_never_done_goes_by_itself() -> None:
    ticket = fill(NAMES[0], 1)
    assert queue.redis().ttl(ticket.key) == -1
    taken = WeightedQueues(queue.redis(), WEIGHTS).take(NAMES)
    assert taken is not None
    assert taken[0].id == ticket.id
    assert taken[0].args == [NAMES[0]]
    assert 0 < queue.redis().ttl(ticket.key) <= TAKEN_TTL_SECONDS
    assert queue.redis().keys(f"{taken[1].key}*") == []


def test_a_ticket_whose_data_has_gone_is_dropped_and_the_next_one_taken() -> None:
    lost = fill(NAMES[0], 3)
    queue.redis().delete(lost.key)
    kept = fill(NAMES[0], 1)
    taken = WeightedQueues(queue.redis(), WEIGHTS).take(NAMES)
    assert taken is not None
    assert taken[0].id == kept.id


def test_a_plan_never_has_more_tickets_than_it_needs() -> None:
    for _ in range(50):
        queue.announce_work("pro")
    assert queue.redis().llen(queue.queue("plan-pro").key) == queue.MAX_TICKETS_PER_PLAN


def test_plans_and_tasks_have_queues_apart() -> None:
    assert not {TASKS_QUEUE, INGESTS_QUEUE} & set(plan_queues())
    assert list(plan_queues()) == NAMES
