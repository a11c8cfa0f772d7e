"""Queues with limits, and schedules."""

import asyncio
import bisect
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from perdure import Engine, MemoryStore, NotFoundError, Query, Queue, current, sleep, step, workflow
from perdure.clock import from_datetime, to_datetime
from perdure.limits import Place, admit
from perdure.records import Limit, Schedule, Status
from perdure.schedules import due, latest_tick, next_tick
from perdure.testing.clock import Clock
from tests.kernel.test_calls import over, virtual

INSIDE: Counter[Any] = Counter()
MOST: Counter[Any] = Counter()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    INSIDE.clear()
    MOST.clear()


@step
async def crowd() -> None:
    who = current().attributes.get("customer")
    for key in ("all", who):
        INSIDE[key] += 1
        MOST[key] = max(MOST[key], INSIDE[key])
    for _ in range(20):
        await asyncio.sleep(0)
    for key in ("all", who):
        INSIDE[key] -= 1


@workflow
async def crowded() -> None:
    await crowd()


async def test_a_queues_concurrency_holds_over_two_workers() -> None:
    store = MemoryStore()
    queues = (Queue("narrow", concurrency=3),)
    async with (
        Engine(store, workflows=[crowded], queues=queues, poll=0.01) as one,
        Engine(store, workflows=[crowded], queues=queues, poll=0.01),
    ):
        handles = [await one.start(crowded.options(queue="narrow")) for _ in range(40)]
        await asyncio.gather(*[handle.result() for handle in handles])
    assert MOST["all"] == 3


async def test_per_an_attribute_each_value_has_its_own_room() -> None:
    async with Engine(
        "memory://", workflows=[crowded], queues=(Queue("narrow", concurrency=2, per="customer"),), poll=0.01
    ) as engine:
        options = [crowded.options(queue="narrow", attributes={"customer": n % 3}) for n in range(30)]
        handles = [await engine.start(made) for made in options]
        await asyncio.gather(*[handle.result() for handle in handles])
    assert [MOST[n] for n in range(3)] == [2, 2, 2]
    assert MOST["all"] == 6


@workflow
async def starts() -> None:
    """Ends at once."""


async def test_a_rate_lets_so_many_start_in_so_long() -> None:
    async with virtual(starts, queues=(Queue("slow", rate=(5, 60.0)),)) as (engine, clock):
        handles = [await engine.start(starts.options(queue="slow")) for _ in range(12)]
        await clock.advance(1.0)
        ended = [await h.status() == Status.COMPLETED for h in handles]
        assert sum(ended) == 5
        await clock.advance(58.0)
        assert sum([await h.status() == Status.COMPLETED for h in handles]) == 5
        await clock.advance(3.0)
        assert sum([await h.status() == Status.COMPLETED for h in handles]) == 10
        await clock.advance(62.0)
        assert sum([await h.status() == Status.COMPLETED for h in handles]) == 12


def test_admission_is_by_order_and_counts_what_comes_back_against_concurrency_only() -> None:
    limit = Limit("q", concurrency=3, starts=1, window=60, per=None)
    running = [Place("r", None, 1)]
    waiting = [Place("new1", None, None), Place("new2", None, None), Place("back", None, 5), Place("back2", None, 5)]
    assert admit(limit, running, [], waiting) == ["new1", "back"]
    assert admit(limit, running, [Place("r", None, 1)], waiting) == ["back", "back2"]


def test_a_queue_that_makes_no_sense_is_refused() -> None:
    for name, values in {
        "concurrency": (0, "x", 1.5),
        "rate": ((0, 60), (5, 0), 5, (5,), ("5", 60), (5, "x"), (5, float("nan"))),
        "per": (5, ""),
    }.items():
        for value in values:
            with pytest.raises(ValueError, match=rf"{name}= .* not "):
                Queue("q", **{name: value})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="give the limit"):
        Queue("q", per="customer")


# Schedules ------------------------------------------------------------------------------------------------


HOUR = 3600_000_000


def ticks(cron: str, zone: str, start: str, n: int) -> list[str]:
    at: int | None = from_datetime(datetime.fromisoformat(start).astimezone(UTC))
    found = []
    for _ in range(n):
        assert at is not None
        at = next_tick(cron, zone, at)
        assert at is not None
        found.append(f"{to_datetime(at):%d %H:%M}")
    return found


def test_both_changes_of_the_clocks_give_each_nightly_tick_once() -> None:
    # Berlin: on 29 March 2026 02:30 does not exist, on 25 October it comes twice.
    assert ticks("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00+01:00", 3) == ["29 01:00", "30 00:30", "31 00:30"]
    assert ticks("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00+02:00", 3) == ["25 00:30", "26 01:30", "27 01:30"]
    assert ticks("30 * * * *", "Europe/Berlin", "2026-10-25T01:45+02:00", 3) == ["25 00:30", "25 01:30", "25 02:30"]


def test_where_minutes_or_hours_begin_with_a_star_it_is_an_interval() -> None:
    spring, autumn = "2026-03-29T00:45+01:00", "2026-10-25T00:45+02:00"
    assert ticks("0,30 2 * * *", "Europe/Berlin", spring, 2) == ["29 01:00", "30 00:00"]
    assert ticks("0,30 2 * * *", "Europe/Berlin", autumn, 3) == ["25 00:00", "25 00:30", "26 01:00"]
    assert ticks("*/30 2 * * *", "Europe/Berlin", spring, 2) == ["30 00:00", "30 00:30"]
    assert ticks("*/30 2 * * *", "Europe/Berlin", autumn, 4) == ["25 00:00", "25 00:30", "25 01:00", "25 01:30"]
    assert ticks("30 */2 * * *", "Europe/Berlin", spring, 2) == ["29 02:30", "29 04:30"]
    assert ticks("30 */2 * * *", "Europe/Berlin", autumn, 3) == ["25 00:30", "25 01:30", "25 03:30"]


ZONES = ["UTC", "Europe/Berlin", "America/New_York", "America/St_Johns", "Australia/Sydney", "America/Santiago"]
CRONS = ["30 2 * * *", "30 * * * *", "*/20 * * * *", "0 0 * * *", "15 1,2,3 * * *", "45 1 * * 0", "* * 31 12 *"]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("cron", CRONS)
def test_from_wherever_one_looks_the_next_tick_and_the_last_one_are_the_same_all_through_a_year(
    cron: str, zone: str
) -> None:
    begin, end = (from_datetime(datetime(year, 1, 1, tzinfo=UTC)) for year in (2026, 2027))
    chain: list[int] = []
    at: int | None = begin
    while at is not None and at < end:
        at = next_tick(cron, zone, at)
        assert at is not None
        chain.append(at)
    assert chain == sorted(set(chain))
    chance = random.Random(cron + zone)
    changes = [
        datetime(2026, *day, tzinfo=UTC) for day in ((3, 8), (3, 29), (4, 4), (9, 5), (10, 3), (10, 25), (11, 1))
    ]
    around = [from_datetime(day) - 14 * HOUR + n * HOUR // 3 for day in changes for n in range(3 * 40)]
    for look in around:
        assert next_tick(cron, zone, look) == chain[bisect.bisect_right(chain, look)]
    for look in chance.sample(around, 20):
        place = bisect.bisect_right(chain, look)
        if place:
            assert latest_tick(cron, zone, chain[chance.randrange(place)], look) == chain[place - 1]


def test_a_schedule_that_was_forgotten_for_years_has_one_tick_to_start_which_is_found_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = []

    def counted(cron: str, zone: str, after: int) -> int | None:
        looks.append(after)
        return next_tick(cron, zone, after)

    monkeypatch.setattr("perdure.schedules.next_tick", counted)
    minute = 60_000_000
    now = 15 * 366 * 24 * 60 * minute + 1
    assert due(schedule_row(cron="* * * * *", next_at=minute), now) == ([now - 1], now - 1 + minute)
    assert len(looks) < 200


@pytest.mark.parametrize(
    ("cron", "zone"), [("* * *", "UTC"), ("99 * * * *", "UTC"), ("0 0 30 2 *", "UTC"), ("* * * * *", "Mars/Olympus")]
)
def test_what_is_no_expression_or_zone_is_refused(cron: str, zone: str) -> None:
    with pytest.raises(ValueError, match="is no"):
        next_tick(cron, zone, 0)


def schedule_row(**changes: Any) -> Schedule:
    made = Schedule("s", "w", 1, "0 * * * *", "UTC", "skip", False, "{}", next_at=3600_000_000)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def test_missed_ticks_are_all_caught_up_with_only_where_asked_for() -> None:
    now = 5 * 3600_000_000 + 1
    assert due(schedule_row(), now) == ([5 * 3600_000_000], 6 * 3600_000_000)
    assert due(schedule_row(backfill=True), now) == ([n * 3600_000_000 for n in range(1, 6)], 6 * 3600_000_000)
    assert due(schedule_row(next_at=now + 5), now) == ([], now + 5)


@step
async def note_tick() -> str:
    tick: str = current().attributes["tick"]
    TICKS.append(tick)
    return tick


TICKS: list[str] = []


@workflow
async def nightly(wait: float) -> str:
    tick = await note_tick()
    await sleep(wait)
    return tick


async def start_of(engine: Engine, **options: Any) -> None:
    await engine.schedule("n", nightly, cron="0 2 * * *", args=(options.pop("wait", 0.0),), **options)


async def test_each_tick_starts_once_whoever_looks() -> None:
    TICKS.clear()
    store, clock = MemoryStore(), Clock()
    async with (
        Engine(store, clock=clock, workflows=[nightly]) as one,
        Engine(store, clock=clock, workflows=[nightly]) as two,
    ):
        await start_of(one)
        await start_of(two)
        assert [s.name for s in await two.schedules()] == ["n"]
        await clock.advance(timedelta(days=3))
        assert len(TICKS) == 3
        assert len(set(TICKS)) == 3
        page = await one.list(Query(by="schedule:n"))
        assert {row.id for row in page.items} == {f"n@{tick}" for tick in TICKS}


async def test_a_clock_set_back_starts_no_tick_again() -> None:
    TICKS.clear()
    async with virtual(nightly) as (engine, clock):
        await start_of(engine)
        await clock.advance(timedelta(days=1))
        assert len(TICKS) == 1
        clock._now -= 5 * 3600_000_000
        await clock.advance(timedelta(hours=6))
        assert len(TICKS) == 1


@pytest.mark.parametrize(("month", "day"), [(3, 27), (10, 23)])
async def test_through_both_changes_and_with_a_clock_set_back_each_tick_starts_once(month: int, day: int) -> None:
    TICKS.clear()
    zone = "Europe/Berlin"
    store, clock = MemoryStore(), Clock(start=from_datetime(datetime(2026, month, day, 12, tzinfo=UTC)))
    expected, at = set(), clock.now()
    while (tick := next_tick("15,45 1-3 * * *", zone, at)) is not None and tick <= clock.now() + 96 * HOUR:
        expected.add(f"{to_datetime(tick):%Y-%m-%dT%H:%M:%SZ}")
        at = tick
    async with (
        Engine(store, clock=clock, workflows=[nightly]) as one,
        Engine(store, clock=clock, workflows=[nightly]),
    ):
        await one.schedule("n", nightly, cron="15,45 1-3 * * *", timezone=zone, overlap="allow", args=(0.0,))
        for _ in range(32):
            await clock.advance(timedelta(hours=4))
            clock._now -= HOUR
            await one.pause_schedule("n")
            await one.resume_schedule("n")  # which asks for the next tick anew, by the clock that was set back
        assert len(TICKS) == len(set(TICKS))
        assert set(TICKS) == expected


async def test_overlaps_are_skipped_queued_or_allowed() -> None:
    found = {}
    for overlap in ("skip", "queue", "allow"):
        TICKS.clear()
        async with virtual(nightly) as (engine, clock):
            await start_of(engine, overlap=overlap, wait=36 * 3600.0)
            await clock.advance(timedelta(days=4, hours=6))
            found[overlap] = [tick[8:10] for tick in TICKS]
    assert found["skip"] == ["01", "03", "05"]
    assert found["allow"] == ["01", "02", "03", "04", "05"]
    assert found["queue"] == ["01", "02", "04"], "the second began when the first had ended, the third was overtaken"


async def test_a_paused_schedule_starts_nothing_and_goes_on_from_now() -> None:
    TICKS.clear()
    async with virtual(nightly) as (engine, clock):
        await start_of(engine)
        await engine.pause_schedule("n")
        await clock.advance(timedelta(days=3))
        assert not TICKS
        await engine.resume_schedule("n")
        await clock.advance(timedelta(days=1))
        assert len(TICKS) == 1
        await engine.remove_schedule("n")
        await clock.advance(timedelta(days=2))
        assert len(TICKS) == 1
        for act in (engine.pause_schedule, engine.resume_schedule, engine.remove_schedule):
            with pytest.raises(NotFoundError):
                await act("n")


# Bulk, pruning, numbers -----------------------------------------------------------------------------------


@workflow
async def stays(seconds: float) -> None:
    await sleep(seconds)


async def test_bulk_verbs_take_a_query_and_can_be_tried_out() -> None:
    async with virtual(stays) as (engine, clock):
        handles = [await engine.start(stays.options(attributes={"n": n % 2}), 1e6) for n in range(6)]
        for handle in handles:
            await over(clock, handle.outcome())
        odd = Query(attributes={"n": 1})
        would = await engine.cancel(odd, dry_run=True)
        assert would.dry_run
        assert set(would.ids) == {h.id for h in handles[1::2]}
        assert await engine.count() == {"waiting": 6}
        await over(clock, engine.pause(odd))
        assert await engine.count() == {"waiting": 3, "paused": 3}
        assert len((await engine.resume(Query(status="paused"))).ids) == 3
        done = await over(clock, engine.cancel(odd, by="ana"))
        assert set(done.ids) == set(would.ids)
        assert not done.errors
        assert await engine.count() == {"waiting": 3, "cancelled": 3}
        stats = await engine.stats()
        assert {(t.status, t.number) for t in stats.executions} == {("waiting", 3), ("cancelled", 3)}


async def test_pruning_removes_what_has_ended_and_retention_does_so_by_itself() -> None:
    async with virtual(stays) as (engine, clock):
        old = await engine.start(stays, 0.0)
        await over(clock, old.result())
        await clock.advance(timedelta(days=2))
        fresh, waits = await engine.start(stays, 0.0), await engine.start(stays, 1e9)
        await over(clock, fresh.result())
        assert list((await engine.prune(older_than=timedelta(days=1), dry_run=True)).ids) == [old.id]
        assert list((await engine.prune(older_than=timedelta(days=1))).ids) == [old.id]
        with pytest.raises(NotFoundError):
            await old.status()
        assert await fresh.status() == Status.COMPLETED
        assert await waits.status() == Status.WAITING
    async with virtual(stays, retention=timedelta(hours=1)) as (engine, clock):
        old = await engine.start(stays, 0.0)
        await over(clock, old.result())
        await clock.advance(timedelta(hours=2))
        with pytest.raises(NotFoundError):
            await old.status()
