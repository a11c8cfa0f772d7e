"""For tests of one's own: a virtual clock, a store's conformance, simulated workers that crash, replays."""

from perdure.testing.answers import Answers, answers
from perdure.testing.check_store import check_store
from perdure.testing.clock import Clock
from perdure.testing.replaying import Played, play
from perdure.testing.simulation import simulate

__all__ = ["Answers", "Clock", "Played", "answers", "check_store", "play", "simulate"]
