"""Votes, pure: what people said of an approval, and what that leads to.

One person's part is a *vote*, kept as one row for each action (or a single one for the whole). What a vote comes to is
its *content*: for each action the arguments that are approved, or None. While a stage lasts, the latest vote of each
person counts. It is over when its quorum of people is of one content; it ends the request when it is the last one, or
when somebody rejects everything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from perdure.approvals import (
    APPROVE,
    APPROVED,
    EDITED,
    REJECT,
    REJECTED,
    ROLE,
    Approved,
    Asked,
    Decision,
    Edit,
    Policy,
    Rejected,
    StageRow,
    dump,
    members,
)
from perdure.clock import to_datetime
from perdure.codec import CODEC
from perdure.errors import DecodeError, EncodeError, InvalidAnswerError
from perdure.records import DecisionRow, Request
from perdure.schema import check

Word = tuple[str, str | None]
"""What a vote says of an action: ("approved", None), ("edited", arguments as text), ("rejected", None)."""

IN_PART = "approved in part"
_WORDS = {APPROVE: APPROVED, REJECT: REJECTED}

Content = Mapping[str, str | None]
"""What a vote comes to: by action (or "", for the whole) the arguments that are approved; None: rejected."""


@dataclass(slots=True)
class Vote:
    """One person's part in a request."""

    by: str | None
    via: str | None
    at: int
    comment: str | None
    words: dict[str, Word]
    reasons: dict[str, str | None] = field(default_factory=dict)
    whole: bool = True

    @property
    def said(self) -> str:
        """The vote in one word, or a few."""
        kinds = {word for word, _ in self.words.values()}
        if kinds == {REJECTED}:
            return REJECTED
        if REJECTED in kinds:
            return IN_PART
        return EDITED if EDITED in kinds else APPROVED

    def rows(self, request: Request, ordinal: int) -> list[DecisionRow]:
        """As it is recorded, from this ordinal on."""
        words = {"": next(iter(self.words.values()))} if self.whole else self.words
        return [
            DecisionRow(
                request_id=request.id,
                ordinal=ordinal + n,
                execution_id=request.execution_id,
                action_id=id or None,
                decision=word,
                arguments=text,
                comment=self.reasons.get(id) or self.comment,
                digest=request.digest,
                decided_by=self.by,
                decided_via=self.via,
                decided_at=self.at,
            )
            for n, (id, (word, text)) in enumerate(words.items())
        ]


def votes_of(rows: Sequence[DecisionRow], actions: Sequence[Asked]) -> list[Vote]:
    """The votes that these rows of one request tell of, in their order."""
    votes: list[Vote] = []
    for row in rows:
        last = votes[-1] if votes else None
        if (
            last is None
            or row.action_id is None
            or last.whole
            or row.action_id in last.words
            or (last.by, last.at) != (row.decided_by, row.decided_at)
        ):
            last = Vote(row.decided_by, row.decided_via, row.decided_at, row.comment, {}, {}, row.action_id is None)
            votes.append(last)
        ids = [row.action_id] if row.action_id else [action.id for action in actions] or [""]
        for id in ids:
            last.words[id] = (row.decision, row.arguments)
            last.reasons[id] = row.comment if row.decision == REJECTED else None
    return votes


def parse(decision: Any, actions: Sequence[Asked], standing: Content) -> tuple[dict[str, Word], dict[str, str | None]]:
    """What was decided, as words and reasons by action. Raises `InvalidAnswerError`: nothing is changed then.

    `standing`: the arguments as they stand, which an edit changes.
    """
    if decision in (APPROVE, REJECT) and isinstance(decision, str):
        said: Word = (_WORDS[decision], None)
        return {action.id: said for action in actions} or {"": said}, {}
    pairs = list(decision.items()) if isinstance(decision, Mapping) else decision
    if not isinstance(pairs, list | tuple) or not all(isinstance(p, list | tuple) and len(p) == 2 for p in pairs):
        raise _invalid(f"a decision is 'approve', 'reject', or says which for each action, not {decision!r:.100}")
    known = {action.id: action for action in actions}
    words: dict[str, Word] = {}
    reasons: dict[str, str | None] = {}
    for id, word in pairs:
        if id not in known:
            raise _invalid(f"there is no action {id!r}: it is one of {', '.join(known) or 'none'}")
        if id in words:
            raise _invalid(f"action {id!r} is decided twice")
        if isinstance(word, Rejected):
            words[id], reasons[id] = (REJECTED, None), word.reason
        elif isinstance(word, Edit):
            words[id] = EDITED, _edited(known[id], word, standing)
        elif isinstance(word, str) and word in (APPROVE, REJECT):
            words[id] = _WORDS[word], None
        else:
            raise _invalid(f"action {id!r} is decided by 'approve', 'reject' or Edit({{...}}), not {word!r:.100}")
    if missing := [id for id in known if id not in words]:
        raise _invalid(f"these actions are not decided: {', '.join(missing)}")
    return {action.id: words[action.id] for action in actions}, reasons


def _edited(action: Asked, edit: Edit, standing: Content) -> str:
    """The arguments after an edit, as text."""
    given: Any = edit.arguments
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise _invalid(f"Edit() takes the arguments of {action.id!r} by name, not {given!r:.100}")
    try:
        changed = members(given, action.id) if action.schema is None else json.loads(msgspec.json.encode(given))
    except (EncodeError, TypeError, ValueError, msgspec.MsgspecError) as error:
        raise _invalid(f"the arguments of {action.id!r} cannot be recorded: {error}") from error
    whole = {**json.loads(standing.get(action.id) or dump(dict(action.arguments))), **changed}
    if action.schema is not None:
        partial = {name: value for name, value in action.schema.items() if name != "required"}
        problem = check(dump(partial), dump(changed))
        lacking = [name for name in action.schema.get("required", ()) if name not in whole]
        if problem is None and lacking:
            problem = f"{lacking[0]!r} is missing"
        if problem is not None:
            raise _invalid(f"the arguments of {action.id!r} do not fit: {problem}")
    return dump(whole)


def _invalid(words: str) -> InvalidAnswerError:
    return InvalidAnswerError(f"{words}; nothing was changed")


# What votes lead to ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class State:
    """How a request stands after its votes. `standing`: what the last stage that is over came to, or what was asked.

    `voices`: what the latest vote of each person in this stage comes to, in their order. `verdict`: what it is decided
    to be, once it is; `last`: whose vote that was.
    """

    stage: int
    standing: dict[str, str | None]
    voices: dict[str | None, Content] = field(default_factory=dict)
    verdict: Content | None = None
    last: Vote | None = None
    reasons: dict[str, str | None] = field(default_factory=dict)

    @property
    def split(self) -> dict[str, str]:
        """What each person says now, in words, where people say different things; else nothing."""
        said = list(self.voices.values())
        if all(content == said[0] for content in said):
            return {}
        return {by or "somebody": self._in_words(content) for by, content in self.voices.items()}

    def _in_words(self, content: Content) -> str:
        told = {id: _change(stood, content[id]) for id, stood in self.standing.items() if stood is not None}
        if len(told) == 1 or set(told.values()) == {APPROVED}:
            return next(iter(told.values()))
        return ", ".join(f"{id} {words}" for id, words in told.items())


def _change(stood: str, now: str | None) -> str:
    if now is None:
        return REJECTED
    before, after = json.loads(stood), json.loads(now)
    changed = {name: value for name, value in after.items() if name not in before or before[name] != value}
    return f"{EDITED} to {dump(changed)}" if changed else APPROVED


def content_of(vote: Vote, standing: Content) -> dict[str, str | None]:
    """What a vote comes to. What an earlier stage has rejected stays rejected."""
    found: dict[str, str | None] = {}
    for id, (word, text) in vote.words.items():
        stands = standing.get(id)
        found[id] = None if word == REJECTED or stands is None else text if word == EDITED else stands
    return found


def state_of(policy: Policy, actions: Sequence[Asked], votes: Sequence[Vote]) -> State:
    """How a request stands."""
    state = State(0, {action.id: dump(dict(action.arguments)) for action in actions} or {"": "{}"})
    for vote in votes:
        count(state, policy, vote)
    return state


def count(state: State, policy: Policy, vote: Vote) -> None:
    """Add a vote."""
    content = content_of(vote, state.standing)
    state.last = vote
    state.reasons |= {id: vote.reasons.get(id) or vote.comment for id, text in content.items() if text is None}
    if all(text is None for text in content.values()):
        state.verdict = content
        return
    state.voices.pop(vote.by, None)
    state.voices[vote.by] = content
    if sum(each == content for each in state.voices.values()) < stage_of(policy, state).quorum:
        return
    state.stage += 1
    state.standing = content
    state.voices = {}
    if state.stage >= len(policy.stages):
        state.verdict = content


def stage_of(policy: Policy, state: State) -> StageRow:
    """The stage that is decided now."""
    return policy.stages[min(state.stage, len(policy.stages) - 1)] if policy.stages else StageRow()


def is_named(stage: StageRow, name: str | None, roles: Sequence[str]) -> bool:
    """May this person decide here? Where nobody is named, anybody may, but a quorum needs names."""
    if not stage.approvers:
        return name is not None or stage.quorum == 1
    if name is None or name.startswith(ROLE) or name in stage.without:
        return False
    return name in stage.approvers or any(f"{ROLE}{role}" in stage.approvers for role in roles)


# Decisions as text ----------------------------------------------------------------------------------------


def decision_text(request: Request, actions: Sequence[Asked], state: State, at: int) -> str:
    """What a decided request's answer, and later the execution's journal, say."""
    assert state.verdict is not None
    assert state.last is not None
    settled: dict[str, Any] = {}
    for action in actions:
        if action.id not in state.verdict:
            raise DecodeError(f"the decisions on {request.id} are damaged: none is on {action.id}")
        text = state.verdict[action.id]
        if text is None:
            settled[action.id] = {"approved": False, "reason": state.reasons.get(action.id)}
            continue
        try:
            arguments = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DecodeError(f"the edited arguments of {action.id} are damaged: {error}") from error
        settled[action.id] = {"approved": True, "arguments": arguments, "edited": arguments != dict(action.arguments)}
    return dump(
        {
            "approved": all(text is not None for text in state.verdict.values()),
            "by": state.last.by,
            "comment": state.last.comment,
            "decided_at": at,
            "digest": request.digest,
            "actions": settled,
        }
    )


def decision_of(text: str) -> Decision:
    """A decision from its text. Raises `DecodeError`."""
    try:
        tree = json.loads(text)
        actions: dict[str, Approved | Rejected] = {}
        for id, said in tree["actions"].items():
            if said["approved"]:
                arguments = {name: CODEC.decode(dump(value)) for name, value in said["arguments"].items()}
                actions[id] = Approved(arguments, said["edited"])
            else:
                actions[id] = Rejected(said["reason"])
        return Decision(tree["approved"], tree["by"], tree["comment"], to_datetime(tree["decided_at"]), actions)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise DecodeError(f"a recorded decision is damaged: {error!r}") from error


def said_of(text: str) -> str:
    """A decision's text in one word, or a few. Raises `DecodeError`."""
    decision = decision_of(text)
    settled = decision.actions.values()
    if not decision.approved:
        return IN_PART if any(isinstance(each, Approved) for each in settled) else REJECTED
    return EDITED if any(isinstance(each, Approved) and each.edited for each in settled) else APPROVED


def raw_arguments(text: str, action_id: str) -> str | None:
    """The approved arguments of an action as their recorded JSON; None if it was rejected."""
    said = json.loads(text)["actions"][action_id]
    return dump(said["arguments"]) if said["approved"] else None
