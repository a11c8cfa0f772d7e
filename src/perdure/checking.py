"""What users hand over, looked at where they do, so that a slip is named there and not somewhere inside."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from difflib import get_close_matches
from typing import Any, Protocol

from perdure.clock import from_datetime, micros
from perdure.deliveries import MOST_WAITING
from perdure.errors import NotFoundError, PerdureError, TooLargeError
from perdure.queues import check_queue
from perdure.records import Verdict

VALUE_LIMIT = 64 * 1024 * 1024
"""The largest text of one value, in characters (ASCII, so bytes)."""


def check_size(text: str, what: str) -> None:
    """Raises `TooLargeError` for a text above the limit of one value."""
    if len(text) > VALUE_LIMIT:
        raise TooLargeError(f"{what} takes {len(text):,} bytes; the limit is {VALUE_LIMIT:,}. Nothing was recorded")


def refused_message(verdict: Verdict, to: str, name: str) -> PerdureError | None:
    """Why a message was not delivered, if it was not."""
    match verdict:
        case Verdict.GONE:
            return NotFoundError(f"there is no execution {to} to send {name!r} to")
        case Verdict.ENDED:
            return PerdureError(f"{to} has ended: {name!r} was not delivered", execution_id=to)
        case Verdict.FULL:
            return TooLargeError(
                f"{MOST_WAITING:,} messages wait at {to} to be received, which is the limit: {name!r} was not"
                " delivered. Send it again when some have been received",
                execution_id=to,
            )
        case _:
            return None


class Named(Protocol):
    """Whoever has a name: a `User`."""

    @property
    def id(self) -> str: ...


def check_settings(given: Mapping[str, Any], known: Collection[str], what: str, marked: Any = len) -> None:
    """Raises `TypeError` for an option that there is not: a slip of the pen must not be passed over.

    And for something that is `marked` and no function.
    """
    if not callable(marked):
        raise TypeError(f"{marked!r}: {what} marks a function")
    for name in given:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"; is {near[0]}= meant?" if near else f". It knows {', '.join(sorted(known))}"
            raise TypeError(f"{what} has no option {name}={hint}")


def check_positive(name: str, value: Any) -> None:
    """Raises `ValueError` for what is no whole number of 1 or more."""
    if type(value) is not int or value < 1:
        raise ValueError(f"{name}= must be at least 1, a whole number, not {value!r:.100}")


def check_version(version: Any) -> int:
    """A workflow's version. Raises `ValueError`."""
    if type(version) is not int or not 0 <= version < 2**31:
        raise ValueError(f"version= is a whole number, not {version!r}")
    return version


def start_options(given: dict[str, Any], signal: type) -> dict[str, Any]:
    """What `Workflow.options` was given, as it is kept. Raises `ValueError` and `TypeError`."""
    options = dict(given)
    if "delay" in options and "at" in options:
        raise ValueError("give delay= or at=, not both")
    if "delay" in options:
        options |= {"delay": micros(options["delay"]), "wake_at": None}
    priority = options.get("priority", 0)
    if type(priority) is not int or abs(priority) > 2**31 - 1:
        raise ValueError(f"priority= is a whole number of 32 bits, not {priority!r}")
    check_queue(options.get("queue"))
    if "at" in options:
        options |= {"wake_at": _time(options.pop("at")), "delay": None}
    if "by" in options:
        options["by"] = name_of(options["by"])
    if options.get("signal") is not None and not isinstance(options["signal"], signal):
        raise TypeError(f"signal= is a Signal(name, value), not {options['signal']!r}")
    attributes = options.get("attributes")
    if attributes is not None and not (
        isinstance(attributes, Mapping) and all(isinstance(name, str) for name in attributes)
    ):
        raise TypeError(f"attributes= are names with values, not {attributes!r:.100}")
    return options


def _time(when: Any) -> int:
    if not isinstance(when, datetime):
        raise TypeError(f"at= is a datetime with a time zone, not {when!r}")
    if when.tzinfo is None:
        raise ValueError("at= needs a time zone: datetime(..., tzinfo=...)")
    return from_datetime(when)


def name_of(by: Any) -> str | None:
    """The name of who does something: a text, or a `User`. Raises `TypeError`."""
    name = getattr(by, "id", by)
    if name is not None and not isinstance(name, str):
        raise TypeError(f"by= is a name or a User, not {by!r}")
    return name


def check_message_name(name: Any) -> str:
    """The name of a message or of a published value. Raises `TypeError`."""
    if not isinstance(name, str) or not name:
        raise TypeError(f"the name of a message is a text that is not empty, not {name!r}")
    return name
