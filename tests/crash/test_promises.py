"""What is excused of a worker that was stopped and overtaken, and what is not."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.codec import checksum
from tests.crash.ledger import ACK, ENTER, HEARD, Line
from tests.crash.promises import ends
from tests.crash.rows import Rows


def rows(*ids: str) -> Rows:
    """Executions that have ended under their second owner; the first one has recorded `work#1`."""
    text = checksum("[]", "1", None)
    executions: list[dict[str, Any]] = [
        {"id": id, "status": "completed", "parent_id": None, "owner": None, "fence": 2, "input": "[]", "output": "1"}
        | {"error": None, "checksum": text, "reason": None, "workflow": "w", "nudges": 0, "parent_key": None}
        for id in ids
    ]
    entries = [{"execution_id": id, "key": "work#1", "fence": 1} for id in ids]
    return Rows(executions, entries)


def of(id: str, what: str, *, fence: int = 1, key: str = "work#1", pid: int = 7) -> Line:
    return Line(what, id, key, "", 1, fence, "", pid)


def acknowledged(*ids: str) -> list[Line]:
    return [Line(ACK, id, "result", "1") for id in ids]


CASES: dict[str, tuple[list[Line], int]] = {
    "a body that was being entered": ([of("a", ENTER)], 0),
    "an outcome that was being handed over": ([of("a", HEARD)], 0),
    "and another one": ([of("a", HEARD), of("b", HEARD)], 1),
    "and another one, of the same": ([of("a", HEARD), of("a", HEARD)], 1),
    "one of another process": ([of("a", HEARD), of("b", HEARD, pid=8)], 0),
    "one that another has recorded": ([of("a", HEARD, key="work#2")], 1),
    "one of the last owner's": ([of("a", HEARD, fence=2)], 1),
    "a body of the last owner's": ([of("a", ENTER, fence=2)], 1),
    "one after each of two stops": ([of("a", HEARD), of("c", HEARD), of("b", HEARD)], 0),
}


@pytest.mark.parametrize("case", CASES)
def test_who_was_stopped_is_excused_for_what_was_under_way_and_no_more(case: str) -> None:
    lines, wrong = CASES[case]
    found = [
        words for words in ends([*acknowledged("a", "b"), *lines], rows("a", "b")) if "has ended, and then" in words
    ]
    assert len(found) == wrong, found
