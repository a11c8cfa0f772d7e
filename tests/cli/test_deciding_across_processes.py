"""An approval across the ends of processes, on every durable store: nothing of it lives in memory."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.crash.rows import Tables

from .conftest import Shell
from .test_deciding import DESK


@dataclass
class Placed(Shell):
    """A shell whose environment names the database."""

    url: str = ""

    def environment(self, **variables: str) -> dict[str, str]:
        return {**super().environment(**variables), "PERDURE_DATABASE_URL": self.url}

    def decisions(self) -> list[dict[str, Any]]:
        """The rows of decisions, read without the library."""
        if not self.url.startswith("file:"):
            with Tables(self.url) as tables:
                [rows] = tables.query("select * from approval_decisions order by request_id, ordinal")
            return rows
        lines = [line for file in (self.folder / "folder").rglob("*") if file.is_file() for line in _lines(file)]
        found = {row["request_id"] + str(row["ordinal"]): row for row in lines if "decided_by" in row}
        return list(found.values())

    def digests(self) -> list[str]:
        """Of the requests as they were asked, read in the same way."""
        if not self.url.startswith("file:"):
            with Tables(self.url) as tables:
                [rows] = tables.query("select digest from approval_requests order by id")
            return [row["digest"] for row in rows]
        lines = [line for file in (self.folder / "folder").rglob("*") if file.is_file() for line in _lines(file)]
        return sorted({row["digest"] for row in lines if "policy" in row and row.get("digest")})


def _lines(file: Path) -> list[dict[str, Any]]:
    """The objects that the lines of a file of the store hold, at any depth."""
    found: list[dict[str, Any]] = []

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            found.append(value)
        for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            collect(each)

    for line in file.read_text(errors="replace").splitlines():
        try:
            collect(json.loads(line))
        except ValueError:
            continue
    return found


@pytest.fixture(
    params=[
        "sqlite",
        "file",
        pytest.param("postgres", marks=pytest.mark.postgres),
        pytest.param("mysql", marks=pytest.mark.mysql),
    ]
)
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Placed:
    (tmp_path / "desk.py").write_text(DESK)
    match request.param:
        case "sqlite":
            url = f"sqlite:///{tmp_path}/perdure.db"
        case "file":
            url = f"file://{tmp_path}/folder"
        case server:
            url = request.getfixturevalue(f"{server}_url")
    return Placed(tmp_path, url)


def test_a_process_exits_at_the_request_ana_approves_and_a_worker_goes_on(desk: Placed) -> None:
    waits = desk("run", "desk:tidy", "3", "--id", "t")
    assert waits.code == 3, waits
    inbox = desk("inbox", "--json")
    [item] = inbox.json["items"]
    assert (item["id"], item["kind"], item["message"]) == ("t:wipe:approval#1", "approval", "Wipe 3 disks of r1?")
    assert desk("approve", "t", "--by", "bob").code == 1
    assert not desk.decisions()
    done = desk("approve", "t", "--by", "ana", "--comment", "they are old", "--json")
    assert (done.code, done.json["request"]["answered_by"]) == (0, "ana")
    assert desk("reject", "t:wipe:approval#1", "--by", "ana").code == 1
    assert not (desk.folder / "ledger.txt").exists()
    assert desk("inbox", "--json").json["items"] == []
    with desk.worker("desk"):
        assert desk("watch", "t").code == 0
    assert desk.ledger() == ["r1 3"]
    [row] = desk.decisions()
    said = (row["decided_by"], row["decided_via"], row["comment"], row["decision"])
    assert said == ("ana", "cli", "they are old", "approved")
    assert row["decided_at"]
    assert [row["digest"]] == desk.digests()
    assert desk("run", "desk:tidy", "3", "--id", "t").out == '"wiped 3"\n'
    assert desk.ledger() == ["r1 3"]
    audit = desk("audit", "t", "--json")
    assert (audit.code, audit.json["faults"]) == (0, [])
    whats = [moment["what"] for moment in audit.json["moments"]]
    assert whats == ["started", "asked", "approved", "consumed", "completed"]
    exported = json.loads(desk("export", "t").out)
    assert [each["decided_by"] for each in exported["decisions"]] == ["ana"]


def test_what_is_edited_runs_and_what_is_rejected_does_not(desk: Placed) -> None:
    for id in ("edited", "rejected"):
        assert desk("run", "desk:tidy", "3", "--id", id).code == 3
    assert desk("approve", "edited", "--by", "ana", "--edit", '{"n": "many"}').code == 1
    assert desk("approve", "edited", "--by", "ana", "--edit", '{"n": 2}').code == 0
    assert desk("reject", "rejected", "--by", "ana", "--reason", "keep them").code == 0
    with desk.worker("desk"):
        assert desk("watch", "edited").code == 0
        failed = desk("watch", "rejected")
    assert (failed.code, "wipe was rejected by ana: keep them" in failed.out + failed.err) == (1, True)
    assert desk.ledger() == ["r1 2"]
    words = {row["request_id"].partition(":")[0]: row["decision"] for row in desk.decisions()}
    assert words == {"edited": "edited", "rejected": "rejected"}
