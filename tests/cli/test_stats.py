"""`stats` and `export`: a database in numbers, an execution as a document."""

from __future__ import annotations

import json

from .conftest import Shell


def test_stats_count_executions_workers_and_requests(shell: Shell) -> None:
    for n in range(3):
        shell("run", "app:add", str(n))
    shell("run", "app:order")
    shell("start", "app:elsewhere")
    document = shell("stats", "--json").json
    assert document["statuses"] == {"completed": 3, "waiting": 1, "pending": 1}
    assert {(t["workflow"], t["queue"], t["status"], t["number"]) for t in document["executions"]} == {
        ("add", "default", "completed", 3),
        ("order", "default", "waiting", 1),
        ("elsewhere", "slow", "pending", 1),
    }
    assert document["open_requests"] == 1
    assert document["workers"] == []
    said = shell("stats")
    assert said.code == 0
    assert "No live worker." in said.out
    assert "1 open request." in said.out
    assert "inbox" in said.err


def test_stats_show_who_is_at_work(shell: Shell) -> None:
    with shell.worker("app", "--queues", "default,slow") as said:
        [worker] = shell("stats", "--json").json["workers"]
        assert "default, slow" in shell("stats").out
    assert f"worker {worker['id']} (pid {worker['pid']})" in said
    assert {"name": "fulfil", "version": 1} in worker["workflows"]


def test_an_export_holds_row_journal_and_requests(shell: Shell) -> None:
    shell("run", "app:fulfil", '"a lamp"', "--id", "order-42")
    said = shell("export", "order-4")
    assert said.code == 0
    document = json.loads(said.out)
    assert document == shell("export", "order-42", "--json").json
    assert document["execution"]["id"] == "order-42"
    assert [entry["key"] for entry in document["journal"]] == ["note#1"]
    assert document["requests"][0]["message"] == "Where to?"
