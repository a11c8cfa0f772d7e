"""What an execution in memory waits for in time: timers, the next attempts of steps, the ends of requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure import approvals, bodies, budgets, errands
from perdure.journal import TIMER
from perdure.loop import Timer

if TYPE_CHECKING:
    from perdure.executor import Run


def set_timers(run: Run) -> None:
    """Record the deadlines of new timers, before any new body enters (R6)."""
    sequencer = run.sequencer
    for timer in sequencer.timers.values():
        if timer.deadline is None:
            ahead = max(0, round(timer.requested * 1_000_000) - sequencer.time)
            timer.set_at = run.now()
            timer.deadline = timer.set_at + ahead
            run.local(timer.key, TIMER, "set", str(timer.deadline))
    arm(run)


def wake_at(run: Run) -> int | None:
    """When the first of it is due."""
    times = [t.deadline for t in run.sequencer.timers.values() if t.deadline is not None]
    times += [call.wake for call in run.backoffs.values()]
    times += [at for key in run.asked if (at := approvals.due(run.requests[key])) is not None]
    return min(times, default=None)


def arm(run: Run) -> None:
    """Have the earliest of what waits for time call back."""
    if run.alarm is not None:
        run.alarm.cancel()
        run.alarm = None
    times = [t.deadline for t in run.sequencer.timers.values() if not t.fired and t.deadline is not None]
    times += [call.wake for call in run.backoffs.values()]
    waiting = (run.requests[key] for key in run.asked)
    times += [at for r in waiting if r.status == "open" and (at := approvals.due(r)) is not None]
    if times:
        run.alarm = run.worker.clock.call_at(min(times), lambda: _due(run))


def _due(run: Run) -> None:
    try:
        _ring(run)
    except Exception as error:
        run.broken(error)


def _ring(run: Run) -> None:
    run.alarm = None
    if run.abandoned or run.ended or run.parking or run.stopping is not None:
        return
    now = run.now()
    timers = run.sequencer.timers.values()
    due = [t for t in timers if not t.fired and t.deadline is not None and t.deadline <= now]
    for timer in sorted(due, key=lambda t: (t.deadline, t.ordinal)):
        timer.fired = True
        _put(run, timer)
    for call in [c for c in run.backoffs.values() if c.wake <= now]:
        del run.backoffs[call.key]
        if run.purse is None or budgets.admit(run, run.purse, call):
            bodies.start(run, call)
    for key in list(run.asked):
        request = run.requests[key]
        if (at := approvals.due(request)) is not None and at <= now:
            errands.expire(run.worker, run, request)
    arm(run)
    if run.purse is not None and run.purse.held:
        run.rest()  # what was due is held by the budget: it may park now


def _put(run: Run, timer: Timer) -> None:
    run.flush()
    run.seq += 1
    run.flying += 1
    entry = run.entry(timer.key, TIMER, "completed", None, timer.set_at)
    run.committer.items.append((run, timer, entry))
    run.committer.kick()
