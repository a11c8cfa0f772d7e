"""The complete state of an execution, and what differs between two of them, as `show` says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from perdure.cli import documents
from perdure.cli.session import Session
from perdure.cli.words import LONGEST, cut, to_json
from perdure.engine import Engine
from perdure.errors import DecodeError
from perdure.handle import Handle
from perdure.state import Place, State


def entry_of(text: str) -> str | int:
    """An entry as it is typed: a number, a key or a checkpoint's name."""
    return int(text) if text.isdigit() else text


def document(state: State) -> dict[str, Any]:
    """A state as `--json` gives it."""
    return {
        "id": state.id,
        "workflow": state.workflow,
        "version": state.version,
        "status": str(state.status),
        "at": state.at,
        "source": state.source,
        "of": state.of,
        "note": state.note,
        "variables": dict(state.variables),
        "position": {
            "active": [_place(place) for place in state.position.active],
            "waiting": [_place(place) for place in state.position.waiting],
            "completed": list(state.position.completed),
            "branches": [
                {**asdict(branch), "requests": [documents.request(each) for each in branch.requests]}
                for branch in state.position.branches
            ],
        },
        "attempts": dict(state.attempts),
        "errors": [asdict(error) for error in state.errors],
        "requests": [documents.request(request) for request in state.requests],
        "decisions": {id: [asdict(voice) for voice in said] for id, said in state.decisions.items()},
        "usage": documents.usage(state.usage),
        "metadata": dict(state.metadata),
    }


def _place(place: Place) -> dict[str, Any]:
    request = None if place.request is None else place.request.id
    return {**{name: getattr(place, name) for name in ("key", "kind", "branch", "file", "line")}, "request": request}


async def stands(session: Session, engine: Engine, handle: Handle[Any]) -> dict[str, Any] | None:
    """The state as it is now; None where what is recorded of it is damaged, which is said."""
    try:
        return document(await handle.inspect())
    except DecodeError as error:
        session.hint(f"Its state cannot be told: {error}")
        return None


def tell_branches(session: Session, told: Mapping[str, Any] | None) -> None:
    """Where the code stands, branch by branch, with the variables there."""
    branches = told["position"]["branches"] if told is not None else []
    if told is None or not branches:
        return
    source = "" if told["source"] == "code" else f", as recorded behind entry {told['of']}"
    session.say(f"\nWhere it stands{source}:")
    for branch in branches:
        session.say(f"  {branch['name']:<8}{branch['function']}  {branch['file']}:{branch['line']}")
        for name, value in branch["variables"].items():
            session.say(f"    {name} = {cut(to_json(value), LONGEST)}")
        if branch["waits"]:
            session.say(f"    awaits {', '.join(branch['waits'])}")


def tell(session: Session, state: State) -> None:
    """A state behind an entry."""
    session.say(f"{state.id}  behind entry {state.at}: {state.status}")
    if state.note is not None:
        session.hint(f"Variables and places are of entry {state.of}: {state.note}")
    tell_branches(session, document(state))
    for title, places in (("Under way", state.position.active), ("It waits for", state.position.waiting)):
        if places:
            session.say(f"\n{title}:")
            for place in places:
                asked = f": {place.request.message}" if place.request is not None else ""
                session.say(f"  {place.key} ({place.kind}) at {place.file}:{place.line}{asked}")
    if state.position.completed:
        session.say(f"\nCompleted: {', '.join(state.position.completed)}")
    for error in state.errors:
        session.say(f"\n{error.key or 'the workflow'}, attempt {error.attempt}: {error.error}")
    lineage = state.metadata["lineage"]
    if lineage["forked_from"] is not None:
        session.say(f"\nA fork of {lineage['forked_from']}, from entry {lineage['forked_at']} on")


def differences(a: State, b: State) -> list[tuple[str, Any, Any]]:
    """(name, before, after) of all variables and lists of calls that differ; what is not there is None."""
    return list(_differ("", _compared(a), _compared(b)))


def _compared(state: State) -> dict[str, Any]:
    return {
        "variables": {branch.name: dict(branch.variables) for branch in state.position.branches},
        "places": {branch.name: f"{branch.file}:{branch.line}" for branch in state.position.branches},
        "completed": list(state.position.completed),
        "active": [place.key for place in state.position.active],
        "waiting": [place.key for place in state.position.waiting],
        "attempts": dict(state.attempts),
    }


def _differ(path: str, a: Any, b: Any) -> Sequence[tuple[str, Any, Any]]:
    if isinstance(a, dict) and isinstance(b, dict):
        found: list[tuple[str, Any, Any]] = []
        for name in [*a, *(name for name in b if name not in a)]:
            found += _differ(f"{path}.{name}" if path else str(name), a.get(name), b.get(name))
        return found
    return [] if a == b and type(a) is type(b) else [(path, a, b)]


def tell_differences(session: Session, a: State, b: State, found: Sequence[tuple[str, Any, Any]]) -> None:
    """What differs, a line before and a line after each."""
    session.say(f"{a.id}  from entry {a.at} to entry {b.at}")
    for name, before, after in found:
        session.say(f"\n{name}")
        if before is not None:
            session.say(f"  - {cut(to_json(before), LONGEST)}")
        if after is not None:
            session.say(f"  + {cut(to_json(after), LONGEST)}")
    if not found:
        session.say("Nothing differs.")
