"""python -m tests.chaos --server postgres|mariadb [--seconds 120] [--executions 2000] [--seed N]"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter

from tests.chaos.run import run
from tests.chaos.servers import database, folder


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--server", choices=("postgres", "mariadb"), required=True)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--executions", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--patience", type=float, default=600.0)
    parser.add_argument("--keep", action="store_true", help="leave the ledger and what workers said")
    given = parser.parse_args()
    begun = time.monotonic()
    with folder(keep=given.keep) as book, database(given.server) as (server, url):
        print(f"seed {given.seed}, {given.executions} executions, {given.seconds:g} s on {given.server}", flush=True)
        if given.keep:
            print(book, flush=True)
        numbers = {"seed": given.seed, "executions": given.executions}
        found = asyncio.run(run(server, url, book, **numbers, seconds=given.seconds, patience=given.patience))
    for name, number in found.counts.items():
        print(f"{number:8,} {name}")
    for line, times in Counter(found.log).most_common(20):
        print(f"{times} x {line}")
    for line in found.wrong[:40]:
        print("WRONG", line)
    print(f"{len(found.wrong)} promises broken; {time.monotonic() - begun:.0f} s in all")
    return bool(found.wrong)


if __name__ == "__main__":
    sys.exit(main())
