"""What one execution wants recorded is cut in two so that a crash between the parts leaves what one could have left."""

from typing import Any

from perdure.gathering import Work
from perdure.journal import INTENT
from perdure.records import Change, Entry, Execution, Status


def entry(seq: int, key: str, kind: str = "step") -> Entry:
    return Entry("x", seq, 0, key, kind, "completed", 1, 1, None, "{}", "1", None, "json", 0, "b", 0, 0)


def item(made: Entry) -> Any:
    return None, object(), made


def child(key: str) -> Any:
    return Execution(f"x/{key}", "child", parent_id="x", parent_key=key), lambda verdict, error: None


def test_a_child_goes_with_its_intent_and_a_message_with_its_receive_and_the_end_comes_last() -> None:
    work = Work()
    work.items = [item(entry(n, f"c#{n}", INTENT)) for n in (1, 2)] + [item(entry(3, "receive#1", "receive"))]
    work.creates = [child("c#2"), child("c#1")]
    work.takes = [("x", "m", 3)]
    work.untakes = [("x", 0)]
    work.changes = [(object(), Change("x", 1, 0, Status.WAITING, 0))]  # type: ignore[list-item]
    parts = work.split()
    assert parts is not None
    first, rest = parts
    assert [[i[2].seq for i in part.items] for part in parts] == [[1, 2], [3]]
    assert [c[0].parent_key for c in first.creates] == ["c#2", "c#1"]
    assert (first.takes, first.untakes, first.changes) == ([], [], [])
    assert (rest.creates, rest.takes, rest.untakes, rest.changes) == ([], work.takes, work.untakes, work.changes)
    again = first.split()
    assert again is not None
    assert [(c[0].parent_key, part.items[0][2].key) for part in again for c in part.creates] == [
        ("c#1", "c#1"),
        ("c#2", "c#2"),
    ]


def test_what_stands_alone_is_not_cut() -> None:
    work = Work()
    assert work.split() is None
    work.items = [item(entry(1, "c#1", INTENT))]
    work.creates = [child("c#1")]
    assert work.split() is None
