"""Countdown: reach a target with given numbers and the four operations."""

from gradus.tasks.countdown.score import Verdict, classify
from gradus.tasks.countdown.task import Countdown, CountdownConfig

__all__ = ["Countdown", "CountdownConfig", "Verdict", "classify"]
