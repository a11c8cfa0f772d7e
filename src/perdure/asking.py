"""`approval`, the durable call that asks people for a decision, and steps that are guarded by one."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from string import Formatter
from typing import TYPE_CHECKING, Any

from perdure.approvals import (
    APPROVAL,
    Action,
    Approval,
    Ask,
    Asked,
    Decision,
    Policy,
    StageRow,
    asked_actions,
    make_ask,
)
from perdure.arguments import hints_of
from perdure.clock import Duration, SystemClock
from perdure.codec import ANY, CODEC
from perdure.errors import ApprovalRejectedError, EncodeError, NoExecutionError, PerdureError
from perdure.records import Request
from perdure.schema import schema_of
from perdure.scope import ANSWERS, CURRENT, Call, Scope, answered
from perdure.sequencer import durable_call
from perdure.threads import only_async
from perdure.votes import Vote, decision_of, decision_text, parse, raw_arguments, state_of

if TYPE_CHECKING:
    from perdure.steps import StepSpec


class ApprovalSpec:
    """An approval as sequencer and executor see it; its outcome's text is the decision's."""

    __slots__ = ()
    kind = name = APPROVAL
    on_change = "strict"
    intent = False

    def decode(self, text: str) -> Decision:
        return decision_of(text)

    def normalize(self, text: str) -> str:
        return text


class GuardSpec(ApprovalSpec):
    """The approval of a guarded step: the step needs the arguments as they are recorded."""

    __slots__ = ()

    def decode(self, text: str) -> Any:
        return decision_of(text), text


_APPROVAL, _GUARD = ApprovalSpec(), GuardSpec()


@only_async
def approval(
    message: str,
    *,
    actions: Sequence[Action] = (),
    details: Any = None,
    approvers: Sequence[str | Callable[..., Any]] = (),
    quorum: int = 1,
    stages: Sequence[Any] = (),
    exclude_requester: bool = False,
    expires: Duration | None = None,
    on_expiry: str = "reject",
    escalate_to: Sequence[str | Callable[..., Any]] = (),
    reminders: Duration | None = None,
    execute_within: Duration | None = None,
    rules: Sequence[Callable[..., Any]] = (),
) -> Coroutine[Any, Any, Decision]:
    """Ask people for a decision and wait for it, however long. A rejection is a value, not an error.

    `actions`: what is to be approved, each approved, rejected, or approved with edited arguments. `approvers`: names,
    `role:NAME`, functions that are given the `Question` and name some; nobody named: anybody. `quorum`: so many
    different people. `stages`: `Stage`s (or lists of approvers) that decide one after the other. `exclude_requester`:
    not whoever started it (`by=` of its start; where that is not known, anybody who gives a name). `expires` (seconds
    or a timedelta), then `on_expiry`: "reject", "approve", "escalate" (`escalate_to` decide, in a term of the same
    length), or "raise" (`TimeoutError`). `reminders`: how often notifiers are told again. `execute_within`: a decision
    that is used later than that is asked for anew. `rules`: functions that are given the `Question` and may decide it
    at once ("approve", "reject", or by action). What could never be decided is a `ValueError`, in words.

    >>> decision = await approval(f"Charge {order.total}?", details=order, approvers=["role:finance"])
    """
    ask = make_ask(
        message,
        actions,
        details,
        approvers=approvers,
        quorum=quorum,
        stages=stages,
        exclude_requester=exclude_requester,
        expires=expires,
        on_expiry=on_expiry,
        escalate_to=escalate_to,
        reminders=reminders,
        execute_within=execute_within,
        rules=rules,
    )
    scope = CURRENT.get()
    if scope is None and ANSWERS.get() is not None:
        return _tested(ask, details)
    if scope is None:
        raise NoExecutionError("approval has a meaning inside an execution only: start the workflow with an Engine")
    if not isinstance(scope, Scope):
        raise NoExecutionError("approval belongs in workflow code: a step's body waits for nothing durable")
    return durable_call(_call(scope, scope.key(APPROVAL), ask, _APPROVAL))


def _call(scope: Scope, key: str, ask: Ask, spec: ApprovalSpec) -> Call:
    call = Call(scope.sequencer, spec, key, None, CODEC.encode({"message": ask.message}))
    call.extra = ask
    return call


# Guarded steps --------------------------------------------------------------------------------------------


def guarded(spec: StepSpec, scope: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Coroutine[Any, Any, Any]:
    """The durable call of a step that is asked for first. Its keys are allotted now, in code order."""
    if not isinstance(scope, Scope):
        raise NoExecutionError(
            f"{spec.name} asks for approval: it is called from workflow code, not from a step's body"
        )
    text, _ = spec.arguments.bind(args, kwargs)
    ask = _asked_of(spec, text, args, kwargs)
    asking = None if ask is None else _call(scope, scope.key(f"{spec.name}:{APPROVAL}"), ask, _GUARD)
    return _guarded(spec, scope, asking, Call(scope.sequencer, spec, scope.key(spec.name), None, text))


async def _guarded(spec: StepSpec, scope: Scope, asking: Call | None, call: Call) -> Any:
    if asking is not None:
        decision, text = await durable_call(asking)
        call.input = _permitted(spec, decision, text, call.key)
    return await durable_call(call)


def _permitted(spec: StepSpec, decision: Decision, text: str, key: str | None) -> str:
    """The arguments that may run. Raises `ApprovalRejectedError`."""
    raw = raw_arguments(text, spec.name)
    if raw is None:
        rejected = decision.actions.get(spec.name)
        why = getattr(rejected, "reason", None) or decision.comment
        words = f"{spec.name} was rejected by {decision.by or 'somebody'}" + (f": {why}" if why else "")
        raise ApprovalRejectedError(words, key=key)
    return spec.arguments.normalize(raw)


def _asked_of(spec: StepSpec, text: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Ask | None:
    """What a guarded step asks; None where it need not be asked."""
    guard: Approval = spec.options.approval  # type: ignore[assignment]
    given = _by_name(spec, args, kwargs)
    if guard.when is not None and not _applies(guard.when, given):
        return None
    action = Asked(spec.name, spec.name, json.loads(text), (spec.function.__doc__ or "").strip(), _schema_of(spec))
    return make_ask(_message(spec.name, guard, given), [action], **_settings(guard))


def _settings(guard: Approval) -> dict[str, Any]:
    return {each.name: getattr(guard, each.name) for each in fields(guard) if each.name not in ("message", "when")}


def _message(name: str, guard: Approval, given: Mapping[str, Any]) -> str:
    try:
        return guard.message.format(**given)
    except Exception as error:  # whatever the arguments' own classes raise
        raise PerdureError(
            f"{name}: the message of its approval, {guard.message!r}, does not fit its arguments: {error!r}"
        ) from error


def check_guard(name: str, function: Callable[..., Any], resources: Iterable[str], guard: Approval | None) -> None:
    """Raises `ValueError` at the declaration for a guard that could never ask."""
    if guard is None:
        return
    known = [each for each in inspect.signature(function).parameters if each not in resources]
    try:
        make_ask(guard.message, **_settings(guard))
        for field in _fields(guard.message):
            root = re.split(r"[.\[]", field, maxsplit=1)[0]
            if not root or root.isdigit():
                raise ValueError(f"the message {guard.message!r} names arguments by name, {{{field}}} does not")
            if root not in known:
                raise ValueError(f"the message {guard.message!r} names {root!r}; its arguments are {', '.join(known)}")
    except ValueError as error:
        raise ValueError(f"the approval of {name}: {error}") from error


def _fields(template: str) -> Iterator[str]:
    """What a template names, in its formats too."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"{template!r} is no template: {error}") from error
    for _, field, form, _ in parts:
        if field is not None:
            yield field
            yield from _fields(form or "")


def _by_name(spec: StepSpec, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    signature = inspect.signature(spec.function)
    kept = [p for p in signature.parameters.values() if p.name not in spec.resources]
    bound = signature.replace(parameters=kept).bind(*args, **kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)


def _applies(when: Callable[..., Any], given: Mapping[str, Any]) -> bool:
    """Ask `when` with those of the arguments that it names; with all of them, in order, if it names others."""
    names = inspect.signature(when).parameters
    if all(name in given for name in names):
        return bool(when(**{name: given[name] for name in names}))
    return bool(when(*given.values()))


def _schema_of(spec: StepSpec) -> dict[str, Any]:
    """The JSON Schema of a step's arguments."""
    hints = hints_of(spec.function)
    properties: dict[str, Any] = {}
    shared: dict[str, Any] = {}
    for parameter in inspect.signature(spec.function).parameters.values():
        if parameter.name in spec.resources:
            continue
        try:
            made = json.loads(schema_of(hints.get(parameter.name, ANY)) or "{}")
        except EncodeError:
            made = {}
        shared |= made.pop("$defs", {})
        if parameter.kind is parameter.VAR_POSITIONAL:
            made = {"type": "array", "items": made}
        elif parameter.kind is parameter.VAR_KEYWORD:
            made = {"type": "object", "additionalProperties": made}
        properties[parameter.name] = made
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**schema, "$defs": shared} if shared else schema


# Unit tests -----------------------------------------------------------------------------------------------


async def _tested(ask: Ask, details: Any) -> Decision:
    return decision_of(_decided(ask, await answered(APPROVAL, ask.message, details)))


def tested_arguments(
    spec: StepSpec, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a guarded step runs with outside of an execution, where a unit test decides. Raises as the guard would."""
    text, _ = spec.arguments.bind(args, kwargs)
    ask = _asked_of(spec, text, args, kwargs)
    if ask is None:
        return args, kwargs
    decided = _decided(ask, ANSWERS.get().take(APPROVAL, ask.message, None))
    return spec.arguments.unbind(_permitted(spec, decision_of(decided), decided, None))


def _decided(ask: Ask, given: Any) -> str:
    """The text of the decision that a unit test gives: True, "approve", or by action."""
    decision = {True: "approve", False: "reject"}.get(given, given) if isinstance(given, bool) else given
    policy = Policy([StageRow()], actions=list(ask.actions))
    request = Request("test", "test", APPROVAL, 0, APPROVAL, ask.message, ask.details, policy=policy.text())
    actions = asked_actions(request)
    words, reasons = parse(decision, actions, {})
    now = SystemClock().now()
    state = state_of(policy, actions, [Vote("test", None, now, None, words, reasons)])
    if state.verdict is None:
        raise PerdureError(f"{given!r} decides nothing of {ask.message!r}")
    return decision_text(request, actions, state, now)
