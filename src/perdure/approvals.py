"""Approvals, pure: what is asked, who may decide it, and what the decisions so far lead to. No I/O, no clock.

A request asks for a message, details and actions; its digest binds every decision to exactly that. Its policy says who
decides: stages, one after the other, each with approvers and a quorum of different people (see `votes`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from perdure.clock import Duration, micros
from perdure.codec import CODEC
from perdure.errors import DecodeError, EncodeError
from perdure.records import Request
from perdure.schema import check, schema_of

APPROVAL = "approval"
APPROVE, REJECT = "approve", "reject"
APPROVED, REJECTED, EDITED = "approved", "rejected", "edited"
ON_EXPIRY = ("reject", "approve", "escalate", "raise")
EXPIRY = "expiry"
"""Who decided where the time was over."""

ROLE = "role:"
RULE = "rule:"


# As users write it ----------------------------------------------------------------------------------------


@dataclass(slots=True, frozen=True)
class Action:
    """One thing that is to be approved. `schema`: a type, or a JSON Schema, that its arguments and edits must fit."""

    id: str
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""
    schema: Any = None


@dataclass(slots=True, frozen=True)
class Edit:
    """Approves an action with other arguments; those that it does not name stay."""

    arguments: Mapping[str, Any]


@dataclass(slots=True, frozen=True)
class Approved:
    """An action that may be done, with these arguments. `edited`: they are not those that were asked for."""

    arguments: Mapping[str, Any] = field(default_factory=dict)
    edited: bool = False


@dataclass(slots=True, frozen=True)
class Rejected:
    """An action that must not be done."""

    reason: str | None = None


@dataclass(slots=True, frozen=True)
class Decision:
    """What came of an approval. `approved`: nothing of it was rejected. `decision["id"]`: what became of an action.

    `by`: whose word completed it; `rule:NAME` of a rule, `expiry` where the time was over.
    """

    approved: bool
    by: str | None
    comment: str | None
    decided_at: datetime
    actions: Mapping[str, Approved | Rejected] = field(default_factory=dict)

    def __getitem__(self, action_id: str) -> Approved | Rejected:
        return self.actions[action_id]


@dataclass(slots=True, frozen=True)
class Stage:
    """Who decides at one point of an approval: `quorum` different people of these. Nobody named: anybody."""

    approvers: Sequence[Any] = ()
    quorum: int = 1


@dataclass(slots=True, frozen=True)
class Approval:
    """What a guarded step asks before it is entered (`@step(approval=...)`), with the settings of `perdure.approval`.

    `message` may name the step's arguments in braces, as `str.format` takes them. `when`: is given the arguments, and
    says whether it is asked.
    """

    message: str
    when: Callable[..., Any] | None = None
    approvers: Sequence[Any] = ()
    quorum: int = 1
    stages: Sequence[Any] = ()
    exclude_requester: bool = False
    expires: Duration | None = None
    on_expiry: str = "reject"
    escalate_to: Sequence[Any] = ()
    reminders: Duration | None = None
    execute_within: Duration | None = None
    rules: Sequence[Callable[..., Any]] = ()


@dataclass(slots=True, frozen=True)
class Question:
    """What rules and functions that name approvers are given."""

    execution_id: str
    key: str
    requester: str | None
    message: str
    details: Any
    actions: Sequence[Action]


# What is asked --------------------------------------------------------------------------------------------


class StageRow(msgspec.Struct, omit_defaults=True):
    """A stage as it is recorded: names, and roles as `role:NAME`. `without`: who has handed it on."""

    approvers: list[str] = []
    quorum: int = 1
    without: list[str] = []


class Policy(msgspec.Struct, omit_defaults=True):
    """Who decides a request, as its row says it. Times are microseconds.

    `excluded`: who asked, and may not decide; "" where that is not known, so that it takes a name. `term`: how long it
    may stay open. `reminders`: the time between two of them, `reminded` how many there were. `actions`: their ids, what
    else is known of them stands in the details.
    """

    stages: list[StageRow] = []
    excluded: str | None = None
    on_expiry: str = "reject"
    escalate_to: list[str] = []
    escalated: bool = False
    term: int | None = None
    reminders: int | None = None
    reminded: int = 0
    execute_within: int | None = None
    actions: list[str] = []

    def text(self) -> str:
        """As it is recorded: ASCII."""
        return json.dumps(msgspec.to_builtins(self), separators=(",", ":"))


_POLICY = msgspec.json.Decoder(Policy)


def policy_of(request: Request) -> Policy:
    """The policy in a request's row. Raises `DecodeError`."""
    if not request.policy:
        return Policy([StageRow()])
    try:
        return _POLICY.decode(request.policy)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DecodeError(
            f"the policy of {request.id} is damaged: {error}", execution_id=request.execution_id
        ) from error


@dataclass(slots=True, frozen=True)
class Ask:
    """What an approval was asked with. `details`: text, with the actions if there are any; `rules` and the functions
    among the approvers are called where the execution runs, when the request is made."""

    message: str
    details: str | None
    actions: Sequence[str]
    stages: Sequence[Stage]
    exclude_requester: bool = False
    term: int | None = None
    on_expiry: str = "reject"
    escalate_to: Sequence[Any] = ()
    reminders: int | None = None
    execute_within: int | None = None
    rules: Sequence[Callable[..., Any]] = ()

    def digest(self, execution_id: str, key: str, generation: int) -> str:
        """SHA-256 of exactly what is asked: decisions are bound to it."""
        return _hash(execution_id, key, generation, self.message, self.details, list(self.actions))

    @property
    def calls(self) -> bool:
        """Has it functions that must be asked first?"""
        named = [*self.escalate_to, *(each for stage in self.stages for each in stage.approvers)]
        return bool(self.rules) or any(callable(each) for each in named)


def make_ask(
    message: str,
    actions: Sequence[Action | Asked] = (),
    details: Any = None,
    *,
    approvers: Sequence[Any] = (),
    quorum: int = 1,
    stages: Sequence[Any] = (),
    exclude_requester: bool = False,
    expires: Duration | None = None,
    on_expiry: str = "reject",
    escalate_to: Sequence[Any] = (),
    reminders: Duration | None = None,
    execute_within: Duration | None = None,
    rules: Sequence[Callable[..., Any]] = (),
) -> Ask:
    """What is asked, checked. Raises `ValueError`, `TypeError`, `EncodeError`."""
    if "\0" in message or any("\ud800" <= c <= "\udfff" for c in message):
        raise EncodeError("the message of an approval is text for people: no NUL and no lone surrogates")
    if on_expiry not in ON_EXPIRY:
        raise ValueError(f"on_expiry is one of {', '.join(ON_EXPIRY)}, not {on_expiry!r}")
    if on_expiry != "reject" and expires is None:
        raise ValueError(f"on_expiry={on_expiry!r} says what happens when the time is over: it needs expires=")
    if on_expiry == "escalate" and not escalate_to:
        raise ValueError("on_expiry='escalate' needs escalate_to=: who decides then")
    if escalate_to and on_expiry != "escalate":
        raise ValueError("escalate_to= names who decides later: it needs on_expiry='escalate' and expires=")
    if stages and approvers:
        raise ValueError("give approvers= and quorum=, or stages=, not both")
    ids = [action.id for action in actions]
    if len(set(ids)) != len(ids) or not all(ids):
        raise ValueError(f"each action has an id of its own: {ids}")
    decide = [_stage(each) for each in stages] or [_stage(Stage(approvers, quorum))]
    short = lacking(decide)
    if short is not None:
        raise ValueError(f"{short}: nobody decides in two stages, so it can never be decided")
    return Ask(
        message=message,
        details=_details(details, actions),
        actions=ids,
        stages=decide,
        exclude_requester=exclude_requester,
        term=_term(expires, "expires"),
        on_expiry=on_expiry,
        escalate_to=_names(escalate_to),
        reminders=_term(reminders, "reminders"),
        execute_within=_term(execute_within, "execute_within"),
        rules=list(rules),
    )


def _stage(given: Any) -> Stage:
    stage = given if isinstance(given, Stage) else Stage(given)
    if type(stage.quorum) is not int or stage.quorum < 1:
        raise ValueError(f"quorum= is a number of people, at least 1, not {stage.quorum!r}")
    names = _names(stage.approvers)
    plain = names and not any(callable(each) or each.startswith(ROLE) for each in names)
    if plain and stage.quorum > len(set(names)):
        raise ValueError(f"a quorum of {stage.quorum} of {len(set(names))} approvers can never be reached")
    return Stage(names, stage.quorum)


def lacking(stages: Sequence[Stage | StageRow], excluded: str | None = None) -> str | None:
    """None, or which stage has too few people of its own, in words.

    Only stages that name nobody but people are counted: who has a role, or is named by a function, is not known here.
    """
    places: dict[tuple[int, int], list[str]] = {}
    for number, stage in enumerate(stages, 1):
        names = stage.approvers
        if names and not any(callable(each) or each.startswith(ROLE) for each in names):
            people = sorted({str(name) for name in names} - {excluded})
            places |= {(number, n): people for n in range(stage.quorum)}
    seats: dict[str, tuple[int, int]] = {}
    for place in places:
        if not _seat(place, places, seats, set()):
            quorum, names = stages[place[0] - 1].quorum, ", ".join(places[place]) or "nobody"
            return f"too few people are left for stage {place[0]} of {len(stages)}, a quorum of {quorum} of {names}"
    return None


def _seat(
    place: tuple[int, int], places: Mapping[tuple[int, int], list[str]], seats: dict[str, Any], tried: set[str]
) -> bool:
    """Find somebody for a place, if need be by moving those who have one."""
    for name in places[place]:
        if name not in tried:
            tried.add(name)
            if name not in seats or _seat(seats[name], places, seats, tried):
                seats[name] = place
                return True
    return False


def _names(given: Sequence[Any]) -> list[Any]:
    if isinstance(given, str):
        raise TypeError(f"approvers are a list: [{given!r}]")
    for each in given:
        if not callable(each):
            check_approver(each)
    return list(given)


def check_approver(given: Any) -> None:
    """Raises `TypeError` for what is no name, `ValueError` for a name that nobody can have."""
    words = f"an approver is a name, 'role:NAME', or a function that gives some, not {given!r:.100}"
    if not isinstance(given, str) or not given:
        raise TypeError(words)
    if given == EXPIRY or given.startswith(RULE) or not given.removeprefix(ROLE).strip():
        raise ValueError(f"{words}: nobody is called so")


def _term(given: Duration | None, name: str) -> int | None:
    if given is None:
        return None
    term = micros(given)
    if term < 0:
        raise ValueError(f"{name}= is not negative: {given!r}")
    return term


def _tree(value: Any, path: str) -> Any:
    """A value as its recorded JSON, parsed: its classes need not be known where it is read."""
    return json.loads(CODEC.encode(value, path=path))


def members(arguments: Any, path: str) -> dict[str, Any]:
    """Arguments as recorded, each by itself."""
    if not isinstance(arguments, Mapping) or not all(isinstance(name, str) for name in arguments):
        raise TypeError(f"{path}: arguments are names with values, not {arguments!r:.100}")
    return {name: _tree(value, f"{path}.{name}") for name, value in arguments.items()}


def _details(details: Any, actions: Sequence[Action | Asked]) -> str | None:
    if not actions:
        return None if details is None else CODEC.encode(details, path="details")
    listed = [asdict(action if isinstance(action, Asked) else _asked(action)) for action in actions]
    return dump({"details": None if details is None else _tree(details, "details"), "actions": listed})


def _asked(action: Action) -> Asked:
    arguments, schema = members(action.arguments, f"actions[{action.id}]"), _schema(action.schema)
    problem = None if schema is None else check(dump(schema), _plain(action.arguments, arguments))
    if problem is not None:
        raise ValueError(f"the arguments of {action.id!r} do not fit its schema: {problem}")
    return Asked(action.id, action.name, arguments, action.description, schema)


def _plain(arguments: Mapping[str, Any], recorded: Mapping[str, Any]) -> str:
    """Arguments as a JSON Schema sees them: dates and the like are texts there, as in edits."""
    try:
        return msgspec.json.encode(arguments).decode()
    except (TypeError, ValueError, msgspec.MsgspecError):
        return dump(recorded)


def _schema(given: Any) -> Any:
    """A JSON Schema: of a type, or as it was given."""
    if given is None or isinstance(given, Mapping):
        return given
    text = given if isinstance(given, str) else schema_of(given)
    return None if text is None else json.loads(text)


def dump(tree: Any) -> str:
    """A tree as recorded: ASCII."""
    return json.dumps(tree, separators=(",", ":"))


@dataclass(slots=True, frozen=True)
class Asked:
    """An action as recorded: arguments and schema as parsed JSON."""

    id: str
    name: str
    arguments: Mapping[str, Any]
    description: str
    schema: Any

    def view(self) -> Action:
        """As people and programs see it."""
        return Action(self.id, self.name, values(self.arguments), self.description, self.schema)


def values(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Recorded arguments as values; what cannot be read here stays as it is recorded."""
    found = {}
    for name, member in tree.items():
        try:
            found[name] = CODEC.decode(dump(member))
        except DecodeError:
            found[name] = member
    return found


def asked_actions(request: Request) -> list[Asked]:
    """The actions that a request asks for. Raises `DecodeError` for details that cannot be opened here."""
    if not policy_of(request).actions:
        return []
    try:
        found = json.loads(request.details or "")["actions"]
        actions: list[Any] = [Asked(**each) for each in found]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DecodeError(f"the actions of {request.id} cannot be read here: {error!r}") from error
    for action in actions:
        if not (isinstance(action.id, str) and isinstance(action.arguments, dict)):
            raise DecodeError(f"the actions of {request.id} are damaged", execution_id=request.execution_id)
    return actions


def details_text(request: Request) -> str | None:
    """The details alone, without the actions."""
    if request.details is None or not policy_of(request).actions:
        return request.details
    try:
        found = json.loads(request.details)["details"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return request.details
    return None if found is None else dump(found)


def _hash(*said: Any) -> str:
    return hashlib.sha256(dump(said).encode()).hexdigest()


def digest_of(request: Request) -> str:
    """The digest of what a request's row asks."""
    actions = policy_of(request).actions
    return _hash(request.execution_id, request.key, request.generation, request.message, request.details, actions)


def answered_digest(request: Request) -> str | None:
    """Of what a request's answer says it decides. Raises `DecodeError`."""
    try:
        found = json.loads(request.answer or "null")
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"the decision of {request.id} is damaged: {error}") from error
    digest = found.get("digest") if isinstance(found, dict) else None
    return digest if isinstance(digest, str) else None


def is_ruled(request: Request) -> bool:
    """Was it a rule that decided it, when it was asked?"""
    return (request.answered_by or "").startswith(RULE) and request.decided_at == request.created_at


def seal(answer: str) -> str:
    """SHA-256 of a decision's text: the chain of events bears it, so that the text cannot be another one later."""
    return hashlib.sha256(answer.encode("utf-8", "surrogatepass")).hexdigest()


def round_of(request_id: str) -> int:
    """How often its call has asked, this time included: what is asked anew has an id that ends in `~2`."""
    tail = request_id.rpartition("~")
    return int(tail[2]) if tail[1] and tail[2].isdigit() else 1


def due(request: Request) -> int | None:
    """When something is to be done about an open request: it expires, or somebody is reminded."""
    if request.policy is None:
        return request.expires_at
    policy = policy_of(request)
    times = [] if request.expires_at is None else [request.expires_at]
    if policy.reminders:
        times.append(request.created_at + policy.reminders * (policy.reminded + 1))
    return min(times, default=None)
