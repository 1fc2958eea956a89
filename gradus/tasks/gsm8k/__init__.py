"""GSM8K: grade-school word problems with one number as the answer; and synthetic ones, for a start without data."""

from gradus.tasks.gsm8k.score import Verdict, grade, judge
from gradus.tasks.gsm8k.task import Gsm8k, Gsm8kConfig

__all__ = ["Gsm8k", "Gsm8kConfig", "Verdict", "grade", "judge"]
