"""What workflow code holds while it is at rest: its variables, and where each branch of it stands.

Nothing is done for this at a call. When a picture is wanted (at a checkpoint's outcome, a park, a failure) the code is
at rest, so each task's frames are found from its coroutine on; on failure, in the traceback. What it gives is JSON to
be looked at: it is never decoded into a workflow, never compared, and cannot make a call fail.
"""

from __future__ import annotations

import functools
import inspect
import logging
import sys
from collections.abc import Iterator
from types import CodeType
from typing import TYPE_CHECKING, Any

from perdure.codec import checksum
from perdure.journal import CHECKPOINT
from perdure.places import frames_in_thread, frames_of, is_users
from perdure.protection import Protection
from perdure.records import Snapshot
from perdure.redaction import Redact, Redaction
from perdure.scope import CURRENT
from perdure.snapshots import Chain, Link
from perdure.variables import Shown

if TYPE_CHECKING:
    from perdure.executor import Run
    from perdure.loop import WorkflowTask
    from perdure.sequencer import Sequencer

logger = logging.getLogger("perdure")

ALL, NAMES, OFF = "all", "names", "off"
CAPTURES = (ALL, NAMES, OFF)

# Up to 3.12 reading a frame's variables fills the very dict that `locals()` gave to its code: that would change it.
_SHARED = sys.version_info < (3, 13)
_ASKING = ("locals", "vars", "exec", "eval")

Place = tuple[Any, int]
"""A frame, and the line at which it stands."""

State = dict[str, Any]


def check_capture(given: Any) -> str | None:
    """What `capture=` was told. Raises `ValueError`."""
    if given is not None and given not in CAPTURES:
        raise ValueError(f"capture= is one of {', '.join(map(repr, CAPTURES))}, not {given!r}")
    return given  # type: ignore[no-any-return]


def captured(sequencer: Sequencer, main: Any, shown: Shown, error: BaseException | None = None) -> State:
    """The state of workflow code at rest, or (`error`) of what it ended with. `main`: the workflow's function."""
    own = getattr(inspect.unwrap(main), "__code__", None)
    branches: dict[str, list[Place]]
    keys: dict[str, Place]
    branches, keys = ({}, {}) if error is None else ({"": list(_raised(error, own))}, {})
    if not branches.get("") and not sequencer.main.done():
        branches, keys = _branches(sequencer, own)
    told = {path: _branch(places, shown) for path, places in branches.items() if places}
    found = {key: _open(key, sequencer, told, keys.get(key)) for key in (*sequencer.open, *sequencer.timers)}
    return shown.veiled({"branches": told, "open": found})  # type: ignore[no-any-return]


def _branches(sequencer: Sequencer, own: CodeType | None) -> tuple[dict[str, list[Place]], dict[str, Place]]:
    """The user's frames of each branch, outermost first; where the code stands that awaits a call, by key."""
    found: dict[str, list[Place]] = {}
    keys: dict[str, Place] = {}
    awaited = {id(call.future): key for key, call in sequencer.open.items()}
    for task in (sequencer.main, *sequencer.loop.tasks.values()):
        if not task.done():
            places = list(_frames(task, own))
            found.setdefault(_path(task), []).extend(places)
            key = awaited.get(id(task._fut_waiter))  # type: ignore[attr-defined]
            if key is not None and places:
                keys[key] = places[-1]
    return found, keys


def _path(task: WorkflowTask) -> str:
    scope: Any = task.own_context.get(CURRENT)
    return getattr(scope, "path", "").rstrip("/")


def _frames(task: WorkflowTask, own: CodeType | None) -> Iterator[Place]:
    for frame in frames_of(task.get_coro()):
        code = frame.f_code
        if code is own or is_users(code.co_filename):
            yield frame, frame.f_lineno
        elif code.co_name == "drive":
            yield from ((each, each.f_lineno) for each in frames_in_thread(frame.f_locals.get("thread")))


def _raised(error: BaseException, own: CodeType | None) -> Iterator[Place]:
    traceback = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if code is own or is_users(code.co_filename):
            yield traceback.tb_frame, traceback.tb_lineno
        traceback = traceback.tb_next


def of_frame(frame: Any, shown: Shown) -> dict[str, State]:
    """The one branch of code that has ended; `frame` was held. None, if it never was at rest."""
    return {} if frame is None else {"": _branch([(frame, frame.f_lineno)], shown)}


def _branch(places: list[Place], shown: Shown) -> State:
    """One branch: where it stands (its innermost place), and the variables of its own function (the outermost)."""
    first, last = places[0][0], places[-1][0]
    asks = _SHARED and any(name in first.f_code.co_names for name in _ASKING)
    return {
        "function": last.f_code.co_qualname,
        "file": last.f_code.co_filename,
        "line": places[-1][1],
        "stack": [f"{f.f_code.co_filename}:{line} {f.f_code.co_qualname}" for f, line in places[:-1]],
        "variables": {} if asks else shown.variables((n, v) for n, v in first.f_locals.items() if n[:1] != "."),
    }


def _open(key: str, sequencer: Sequencer, told: dict[str, State], place: Place | None) -> State:
    call = sequencer.open.get(key)
    path = key.rsplit("/", 1)[0] if "/" in key else ""
    branch = told.get(path) or told.get("") or {}
    return {
        "kind": "timer" if call is None else call.spec.kind,
        "branch": path if path in told else "",
        "file": branch.get("file") if place is None else place[0].f_code.co_filename,
        "line": branch.get("line") if place is None else place[1],
    }


# Pictures that are recorded -------------------------------------------------------------------------------


class Album:
    """The pictures that one owner takes of one execution. It begins anew, in full: nothing is read for this.

    Checkpoints are a chain. What is parked leaves memory, and what failed too: their pictures stand alone.
    """

    __slots__ = ("chain", "redaction", "seqs", "values")

    def __init__(self, redaction: Redaction, values: bool) -> None:
        self.redaction = redaction
        self.values = values
        self.chain: Chain | None = None
        self.seqs: dict[str, int] = {}

    def add(self, cause: str, state: State) -> Link:
        """The next picture."""
        if cause != CHECKPOINT:
            return Chain().add(state)
        if self.chain is None:
            self.chain = Chain()
        return self.chain.add(state)


@functools.lru_cache(maxsize=256)
def _hiding(protection: Protection, redact: Redact | None) -> Redaction:
    """What is hidden in the pictures of a workflow: made once, as each park needs it."""
    return protection.hiding(redact)


def picture(run: Run, cause: str, name: str | None = None, error: BaseException | None = None) -> None:
    """Have the state recorded with what is committed next. Never raises."""
    capture = run.workflow.options_.capture or run.worker.capture
    if capture == OFF:
        return
    try:
        _picture(run, capture, cause, name, error)
    except Exception as defect:  # it is only to be looked at
        logger.debug("%s: no picture was taken: %r", run.id, defect, exc_info=defect)


def _picture(run: Run, capture: str, cause: str, name: str | None, error: BaseException | None) -> None:
    album = run.album
    if album is None:
        protection, redact = run.worker.protection, run.workflow.options_.redact
        try:
            redaction = _hiding(protection, redact)  # type: ignore[arg-type]
        except TypeError:  # a function of the user's that has no hash
            redaction = protection.hiding(redact)
        album = run.album = Album(redaction, capture == ALL)
    if album.seqs.get(cause) == run.seq:
        return  # it is parked once more, and nothing has come since
    album.seqs[cause] = run.seq
    shown = Shown(album.redaction, values=album.values)
    state = captured(run.sequencer, run.workflow.function, shown, error)
    link = album.add(cause, state)
    run.committer.picture(
        Snapshot(
            execution_id=run.id,
            seq=run.seq,
            branch=f"{cause}:{run.fence}",
            generation=run.generation,
            name=name,
            cause=cause,
            kind=link.kind,
            base_digest=link.base_digest,
            digest=link.digest,
            state=link.text,
            encoding="json",
            checksum=checksum(link.text),
            created_at=run.now(),
        )
    )
