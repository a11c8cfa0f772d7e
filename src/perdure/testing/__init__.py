"""For tests of one's own: a virtual clock, a store's conformance, simulated workers that crash, replays."""

from perdure.testing.answers import Answers, answers
from perdure.testing.check_store import check_store
from perdure.testing.clock import Clock
from perdure.testing.crashing import CrashReport, crash_everywhere
from perdure.testing.replaying import Played, play, replay
from perdure.testing.simulation import simulate

__all__ = [
    "Answers",
    "Clock",
    "CrashReport",
    "Played",
    "answers",
    "check_store",
    "crash_everywhere",
    "play",
    "replay",
    "simulate",
]
