"""Schedules: executions started by the clock.

Every worker looks after all schedules. A tick's execution has an id made of the schedule's name and the tick's time, so
that it is started at most once, whoever is first; then the schedule moves on by comparing what it was.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from perdure.clock import from_datetime, to_datetime
from perdure.codec import CODEC, checksum
from perdure.errors import AlreadyExistsError
from perdure.keys import check_execution_id
from perdure.records import ENDED, Execution, Schedule
from perdure.store import Store

logger = logging.getLogger("perdure")

OVERLAPS = ("skip", "queue", "allow")
MISSED = 1000
"""Ticks that are caught up with in one go, at most."""


@dataclass(slots=True, frozen=True)
class ScheduleView:
    """A schedule as people see it. `next_at` is None where the expression never comes true again."""

    name: str
    workflow: str
    version: int
    cron: str
    timezone: str
    overlap: str
    backfill: bool
    paused: bool
    next_at: datetime | None
    last_at: datetime | None
    last_id: str | None


def view(row: Schedule) -> ScheduleView:
    return ScheduleView(
        row.name,
        row.workflow,
        row.version,
        row.cron,
        row.timezone,
        row.overlap,
        row.backfill,
        row.paused,
        None if row.next_at is None else to_datetime(row.next_at),
        None if row.last_at is None else to_datetime(row.last_at),
        row.last_id,
    )


def next_tick(cron: str, timezone: str, after: int) -> int | None:
    """The first time behind `after` (both microseconds) at which the expression comes true; None if it never does.

    As Debian's cron does it: of fixed times, what a change to summer time skips comes right after the gap, and what the
    change back repeats comes once; of intervals (minutes or hours begin with `*`) nothing comes for the gap, and what
    is repeated comes twice. Raises `ValueError` for what is no expression or zone.
    """
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{timezone!r} is no time zone known here (for example 'Europe/Berlin')") from error
    if len(cron.split()) != 5:
        raise ValueError(f"{cron!r} is no cron expression: it has five fields")
    try:
        ticks = CronSim(cron, to_datetime(after).astimezone(zone))
    except CronSimError as error:
        raise ValueError(f"{cron!r} is no cron expression: {error}") from error
    found = (from_datetime(tick.astimezone(UTC)) for tick in ticks)
    # In an hour that comes twice a tick of its first time is found again from the second.
    return next((at for at in found if at > after), None)


def latest_tick(cron: str, timezone: str, first: int, now: int) -> int:
    """The last time up to `now` at which the expression comes true; at `first` it does. However many lie between."""
    last, most = first, now
    while (following := next_tick(cron, timezone, last)) is not None and following <= now:
        last = following
        middle = (last + most) // 2
        behind = next_tick(cron, timezone, middle)
        if behind is not None and behind <= now:
            last = behind
        else:
            most = middle
    return last


def make(schedule: Schedule, known: Schedule | None, now: int) -> Schedule:
    """A schedule to be kept; one that was there with the same times goes on as it was. Raises `ValueError`."""
    if schedule.overlap not in OVERLAPS:
        raise ValueError(f"overlap is one of {', '.join(OVERLAPS)}, not {schedule.overlap!r}")
    problem = check_execution_id(tick_id(schedule.name, now))
    if problem is not None or not schedule.name:
        raise ValueError(f"{schedule.name!r:.100} is no name for a schedule: {problem or 'it is empty'}")
    following = next_tick(schedule.cron, schedule.timezone, now)
    if known is not None:
        schedule = replace(
            schedule, paused=known.paused, last_at=known.last_at, last_id=known.last_id, created_at=known.created_at
        )
        if (known.cron, known.timezone) == (schedule.cron, schedule.timezone):
            following = known.next_at
    return replace(schedule, next_at=following)


def tick_id(name: str, at: int) -> str:
    """The id of the execution that a tick starts."""
    return f"{name}@{to_datetime(at):%Y-%m-%dT%H:%M:%SZ}"


def due(schedule: Schedule, now: int) -> tuple[list[int], int | None]:
    """The ticks to start now, oldest first, and the next one after them."""
    ticks: list[int] = []
    at = schedule.next_at
    if at is not None and at <= now and not schedule.backfill:
        at = latest_tick(schedule.cron, schedule.timezone, at, now)
    while at is not None and at <= now and len(ticks) < MISSED:
        ticks.append(at)
        at = next_tick(schedule.cron, schedule.timezone, at)
    return ticks, at


Start = Callable[[Execution], Awaitable[None]]
"""Starts an execution; `AlreadyExistsError` if one of its id is there that is no tick of this schedule."""


async def look_after(store: Store, start: Start, now: int) -> int | None:
    """Start what is due; gives when the next tick is, if there is one."""
    following = []
    for schedule in await store.schedules():
        if schedule.paused or schedule.next_at is None:
            continue
        if schedule.next_at <= now:
            try:
                schedule = await _tick(store, start, schedule, now)
            except ValueError as error:  # written by hand, or its zone is unknown here
                logger.error("schedule %s cannot be kept: %s", schedule.name, error)
                continue
        if schedule.next_at is not None and schedule.next_at > now:  # else it waits for its last one to end
            following.append(schedule.next_at)
    return min(following, default=None)


async def _tick(store: Store, start: Start, schedule: Schedule, now: int) -> Schedule:
    expected = schedule.next_at
    ticks, following = due(schedule, now)
    for tick in ticks:
        if schedule.overlap != "allow" and schedule.last_id is not None:
            last = (await store.get([schedule.last_id])).get(schedule.last_id)
            if last is not None and last.status not in ENDED:
                if schedule.overlap == "queue":
                    # The rest waits here until the last one has ended.
                    return await _move(store, replace(schedule, next_at=tick), expected)
                logger.info("schedule %s skips %s: %s has not ended", schedule.name, to_datetime(tick), last.id)
                continue
        execution = execution_of(schedule, tick, now)
        try:
            await start(execution)
        except AlreadyExistsError as error:
            logger.error("schedule %s: %s", schedule.name, error)
        schedule = replace(schedule, last_id=execution.id, last_at=tick)
    return await _move(store, replace(schedule, next_at=following), expected)


async def _move(store: Store, schedule: Schedule, expected: int | None) -> Schedule:
    await store.move_schedule(schedule, expected)  # another worker may have been faster: then it is moved already
    return schedule


def execution_of(schedule: Schedule, tick: int, now: int) -> Execution:
    """The execution that a tick starts."""
    attributes = {"schedule": schedule.name, "tick": f"{to_datetime(tick):%Y-%m-%dT%H:%M:%SZ}"}
    return Execution(
        id=tick_id(schedule.name, tick),
        workflow=schedule.workflow,
        version=schedule.version,
        queue=schedule.queue or "default",
        input=schedule.input,
        checksum=checksum(schedule.input, None, None),
        started_by=f"schedule:{schedule.name}",
        attributes=CODEC.encode(attributes),
        created_at=now,
        updated_at=now,
    )
