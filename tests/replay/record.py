"""`python -m tests.replay.record`: record the journals of all shapes on this version of Python.

They are kept in `journals/`, so that every version replays what every other one wrote.
"""

import asyncio
import json
import sys
from pathlib import Path

from perdure import Completed
from perdure.testing.clock import Clock
from perdure.testing.replaying import play
from tests.replay.shapes import SHAPES, World

FOLDER = Path(__file__).parent / "journals"
SEEDS = (3, 4)


async def record() -> None:
    found = []
    for shape in SHAPES:
        for seed in SEEDS:
            clock = Clock(seed=seed)
            World.reset(seed, clock)
            played = await play(shape, clock=clock)
            assert isinstance(played.outcome, Completed)
            found.append({"shape": shape.name, "result": played.outcome.value, "journal": played.journal})
    path = FOLDER / f"python{sys.version_info.major}.{sys.version_info.minor}.json"
    path.write_text("[\n" + ",\n".join(json.dumps(one) for one in found) + "\n]\n")
    print(f"{len(found)} journals in {path.name}")


if __name__ == "__main__":
    asyncio.run(record())
