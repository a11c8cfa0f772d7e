"""What a rollback undoes, and in which order: pure, from the journal alone.

A cut is a prefix of the journal and nothing else: every prefix is a state that a crash could have left. What lies
behind it is undone backwards, over all branches. A completed step with an undo of its own is undone by that alone; one
without by the undos of what it called. A step that failed is taken for not done unless it says otherwise; of one that
was begun and has no outcome nobody knows.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import msgspec

from perdure.errors import DecodeError, PerdureError
from perdure.journal import (
    CHECKPOINT,
    CUT,
    INHERITED,
    INTENT,
    ROLLBACK,
    UNDO,
    cut_of,
    enclosing,
    is_outcome,
    live,
    name_of,
)
from perdure.records import Entry, Inbox

RETURNS = 20
"""So often may an execution's own code go back before it is blocked."""

CHILDREN = frozenset({"child", "start_child"})
BODIES = frozenset({"step", CHECKPOINT})

VOID = {
    "rollback": "it was rolled back, what it did is undone",
    "retry": "it failed, or came after what failed, and was tried again",
    "restart": "the execution has begun anew since, with another input",
}
"""What became of an entry that does not stand any more, by the reason of the cut."""


class Order(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was asked for. `to`: the last entry that stands; None: everything goes. `name`: as it was called.

    `cause`: "failure", "cancel", "asked" (from outside) or "code". `id` tells one wish from another. `generation`: in
    which one it was asked for from outside; it goes up when that is carried out.
    """

    id: str
    cause: str
    to: int | None = None
    name: str | None = None
    by: str | None = None
    reason: str | None = None
    force: bool = False
    generation: int | None = None

    @property
    def is_automatic(self) -> bool:
        """Nobody has looked at what it undoes."""
        return self.cause in ("failure", "cancel")

    def text(self) -> str:
        """As it is recorded: ASCII JSON."""
        return json.dumps(msgspec.to_builtins(self), separators=(",", ":"))


def order_of(text: str | None) -> Order | None:
    """The order that a wish or an entry holds; None if it holds none."""
    if text is None or not text.startswith("{"):
        return None
    try:
        return msgspec.json.decode(text, type=Order)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def wished(inbox: Inbox, carried_out: Container[str]) -> Order | None:
    """The rollback that somebody wishes, unless it was carried out before."""
    order = order_of(inbox.wish)
    return None if order is None or order.id in carried_out else replace(order, inbox.wish_by, inbox.wish_reason)


def replace(order: Order, by: str | None, reason: str | None) -> Order:
    """The same, asked for by somebody."""
    return msgspec.structs.replace(order, by=by, reason=reason)


class Means(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an intent says about its step: `undo` and `step` name functions as "module:name"."""

    kind: str
    undo: str | None = None
    step: str | None = None
    pivot: bool = False
    verify: bool = False
    on_unknown: bool = False
    on_error: bool = False

    def text(self) -> str:
        """As it is recorded: ASCII JSON."""
        return json.dumps(msgspec.to_builtins(self), separators=(",", ":"))


def means_of(entry: Entry | None) -> Means | None:
    """What an intent says; None if it is of a step that nothing undoes."""
    if entry is None or entry.kind != INTENT or not (entry.output or "").startswith("{"):
        return None
    try:
        return msgspec.json.decode(entry.output or "{}", type=Means)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DecodeError(
            f"the intent of {entry.key} is damaged: {error}", execution_id=entry.execution_id, key=entry.key
        ) from error


@dataclass(slots=True, frozen=True)
class Task:
    """One thing to undo. `kind`: "undo", "unknown" (it was begun, nobody knows more), "error" (it failed), "child".

    `entry` is the outcome, or the intent where there is none; `intent` the intent.
    """

    kind: str
    entry: Entry
    intent: Entry | None
    means: Means | None

    @property
    def seq(self) -> int:
        return self.entry.seq

    @property
    def key(self) -> str:
        return f"undo:{self.entry.key}"


@dataclass(slots=True, frozen=True)
class Plan:
    """What a rollback does. `to`: the last entry that stands. `pivot`: the key of a point of no return that was met."""

    to: int
    tasks: Sequence[Task]
    pivot: str | None = None
    voided: Sequence[Entry] = ()


def open_order(entries: Iterable[Entry]) -> tuple[Entry, Order] | None:
    """The rollback that is under way."""
    found: tuple[Entry, Order] | None = None
    for entry in entries:
        if entry.kind == ROLLBACK:
            order = order_of(entry.output)
            found = None if order is None else (entry, order)
        elif entry.kind == CUT:
            found = None
    return found


def called(entries: Sequence[Entry], name: str) -> list[Entry]:
    """The outcomes that a name is of: a key, else the name of checkpoints."""
    outcomes = [entry for entry in entries if is_outcome(entry)]
    return [entry for entry in outcomes if entry.key == name] or [
        entry for entry in outcomes if entry.kind == CHECKPOINT and name_of(entry.key) == name
    ]


def _missing(entries: Sequence[Entry], to: str | int) -> str:
    """Why nothing of that name stands, in words."""
    void = called(entries, to) if isinstance(to, str) else [entry for entry in entries if entry.seq == to]
    for entry in reversed(void):
        cuts = (cut for cut in entries if cut.kind == CUT and cut.seq > entry.seq)
        cut = next((cut for cut in cuts if cut_of(cut)["from_seq"] <= entry.seq), None)
        if cut is not None:
            why = VOID.get(cut_of(cut).get("reason", ""), "it was taken back")
            return (
                f"{entry.key} (entry {entry.seq}) is void since entry {cut.seq}: {why}. How it was then can be looked"
                f" at (`inspect(at={entry.seq})`, `perdure show --at {entry.seq}`), but nothing goes on from there"
            )
    return f"there is no checkpoint, key or entry {to!r} that stands{meant(live(entries), to)}"


def meant(entries: Sequence[Entry], to: str | int) -> str:
    """The call that may be meant by a key or name that is not there, as the rest of a sentence."""
    keys = [entry.key for entry in entries if is_outcome(entry) and entry.parent_key is None]
    named = [key for key in keys if name_of(key) == to]
    near = named[-1:] or get_close_matches(str(to), keys, 1)
    return f"; is {near[0]} meant?" if near else ""


def target(entries: Sequence[Entry], to: str | int, base: int = 0) -> int:
    """The seq of the entry that `to` names: a checkpoint (its latest), a key, or a number.

    Raises `PerdureError` where there is none, and for one inside a body whose outcome is recorded.
    """
    standing = live(entries)
    if isinstance(to, int) and not isinstance(to, bool):
        found = [entry for entry in standing if entry.seq == to]
        if to == base:
            return to
    else:
        found = called(standing, str(to))
    if not found:
        raise PerdureError(_missing(entries, to))
    entry = found[-1]
    if entry.parent_key is not None:
        bodies = {other.key for other in standing if is_outcome(other)}
        inside = [body for body in enclosing(entry.key) if body in bodies]
        if inside:
            raise PerdureError(
                f"{entry.key} lies inside {inside[0]}, whose outcome is recorded: it is undone as a whole. Name an"
                " entry outside of it"
            )
    return entry.seq


def plan(entries: Sequence[Entry], order: Order, base: int = 0) -> Plan:
    """What is undone, in order. `base`: the journal up to here is void. `entries` end where the rollback began."""
    standing = [entry for entry in live(entries) if entry.seq > base and entry.kind not in (ROLLBACK, UNDO)]
    inherited = max((entry.seq for entry in standing if entry.key == INHERITED), default=0)
    intents = {entry.key: entry for entry in standing if entry.kind == INTENT}
    outcomes = {e.key: e for e in standing if is_outcome(e) and e.kind in (BODIES | CHILDREN)}
    to, pivot = max(base if order.to is None else order.to, inherited), None
    passed = [
        e
        for e in outcomes.values()
        if e.seq > to and e.status == "completed" and (m := means_of(intents.get(e.key))) is not None and m.pivot
    ]
    if passed and not order.force:
        last = max(passed, key=lambda entry: entry.seq)
        to, pivot = last.seq, last.key
    tasks = []
    for entry in outcomes.values():
        if entry.seq > to:
            task = _of_outcome(entry, intents, outcomes, to)
            if task is not None:
                tasks.append(task)
    for key, intent in intents.items():
        if key not in outcomes and intent.seq > inherited:
            task = _of_intent(intent)
            if task is not None:
                tasks.append(task)
    tasks.sort(key=lambda task: -task.seq)
    return Plan(to, tasks, pivot, [entry for entry in standing if entry.seq > to])


def _of_outcome(entry: Entry, intents: dict[str, Entry], outcomes: dict[str, Entry], to: int) -> Task | None:
    intent = intents.get(entry.key)
    if entry.kind in CHILDREN:
        return Task("child", entry, intent, None)
    for body in enclosing(entry.key):
        around, outer = outcomes.get(body), means_of(intents.get(body))
        if around is not None and around.seq > to and around.status == "completed" and outer is not None and outer.undo:
            return None  # what undoes the body undoes this, too
    means = means_of(intent)
    if means is None or means.undo is None:
        return None
    if entry.status == "completed":
        return Task("undo", entry, intent, means)
    return Task("error", entry, intent, means) if means.on_error else None


def _of_intent(intent: Entry) -> Task | None:
    means = means_of(intent)
    if means is not None and means.undo is not None:
        return Task("unknown", intent, intent, means)
    if intent.output is not None and intent.output.strip('"') in CHILDREN:
        return Task("child", intent, intent, None)
    return None


def returns(entries: Iterable[Entry]) -> int:
    """How often its own code has gone back. What people ask for is no loop, and is not counted."""
    orders = [order_of(entry.output) for entry in entries if entry.kind == ROLLBACK]
    return sum(1 for order in orders if order is not None and order.cause == "code")
