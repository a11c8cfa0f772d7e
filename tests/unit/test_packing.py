"""Large texts as differences: whole again, or an error in words."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.errors import DecodeError
from perdure.packing import Unpacker, Window, digest_of, is_packed, pack_pair, same


def journal_of(texts: list[str]) -> tuple[dict[tuple[int, str], str], int]:
    """Each text packed as an entry's input, and how much that takes."""
    window, recorded = Window(), {}
    for seq, text in enumerate(texts, 1):
        packed, _, encoding = pack_pair(window, seq, text, None, is_base=True, is_body=True)
        assert packed is not None
        assert (encoding == "packed") == is_packed(packed)
        recorded[seq, "i"] = packed
    return recorded, sum(map(len, recorded.values()))


def whole(recorded: dict[tuple[int, str], str], seq: int) -> str:
    return Unpacker(lambda s, c: recorded.get((s, c))).text(seq, "i")


def words(seed: int, n: int) -> str:
    return "".join(random.Random(seed).choices("abcdefghijklmnop ", k=n))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.integers(0, 9000), st.integers(0, 4000), st.text(st.characters(codec="ascii"), max_size=300)),
        min_size=1,
        max_size=12,
    ),
    st.integers(0, 1000),
)
def test_whatever_is_edited_comes_back_whole(edits: list[tuple[int, int, str]], seed: int) -> None:
    texts = [words(seed, 6000)]
    for at, removed, put in edits:
        last = texts[-1]
        texts.append(last[:at] + put + last[at + removed :])
    recorded, _ = journal_of(texts)
    for seq, text in enumerate(texts, 1):
        assert whole(recorded, seq) == text
        assert same(recorded[seq, "i"], text)
        assert not same(recorded[seq, "i"], text + "x")


def test_a_history_that_grows_is_stored_about_once() -> None:
    history: list[dict[str, str]] = []
    texts = []
    for n in range(300):
        history.append({"role": "user", "content": words(n, 1000)})
        texts.append(json.dumps({"history": history, "n": n}))
    recorded, size = journal_of(texts)
    assert size < 1.3 * len(texts[-1])
    assert whole(recorded, 300) == texts[-1]


def test_a_sliding_window_is_stored_about_once() -> None:
    messages = [{"role": "user", "content": words(n, 1000)} for n in range(200)]
    texts = [json.dumps({"history": messages[n : n + 50]}) for n in range(150)]
    _, size = journal_of(texts)
    assert size < 1.3 * len(json.dumps(messages))


def test_what_repeats_itself_is_compressed() -> None:
    text = json.dumps(["the same again"] * 5000)
    recorded, size = journal_of([text])
    assert size < len(text) / 10
    assert whole(recorded, 1) == text


def test_small_texts_stay_as_they_are() -> None:
    recorded, _ = journal_of(["x" * 2000, "x" * 2000])
    assert recorded[2, "i"] == "x" * 2000


def damaged(packed: str) -> list[str]:
    header, _, body = packed[1:].partition("\n")
    tree = json.loads(header)
    return [
        "~[]\n",
        "~" + header,
        f"~{json.dumps(['pickle', *tree[1:]])}\n{body}",
        f"~{json.dumps([tree[0], 'f' * 32, *tree[2:]])}\n{body}",
        f"~{json.dumps([*tree[:2], tree[2] + 1, *tree[3:]])}\n{body}",
        f"~{json.dumps([*tree[:3], [[9, 'i']], tree[4]])}\n{body}",
        f"~{json.dumps([*tree[:3], [[2, 'i']], tree[4]])}\n{body}",
        f"~{json.dumps([*tree[:3], [['x', 'i']], tree[4]])}\n{body}",
        f"~{json.dumps([*tree[:4], [[7, 0, 5]]])}\n{body}",
        f"~{json.dumps([*tree[:4], 'nonsense'])}\n{body}",
        packed[: len(packed) // 2],
        packed[:-1] + ("a" if packed[-1] != "a" else "b"),
    ]


def test_what_is_damaged_is_an_error_and_never_a_text() -> None:
    first = words(1, 5000)
    second = first[:2000] + words(2, 400) + first[2000:]
    recorded, _ = journal_of([first, second])
    assert digest_of(recorded[2, "i"])
    for text in damaged(recorded[2, "i"]):
        if text == recorded[2, "i"]:
            continue
        with pytest.raises(DecodeError):
            whole({**recorded, (2, "i"): text}, 2)
    with pytest.raises(DecodeError, match="missing"):
        whole({(2, "i"): recorded[2, "i"]}, 2)
    with pytest.raises(DecodeError):
        whole({(1, "i"): words(3, 5000), (2, "i"): recorded[2, "i"]}, 2)
