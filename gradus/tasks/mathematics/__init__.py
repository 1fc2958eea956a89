"""Competition mathematics: problems with boxed solutions (NuminaMath-TIR, MATH, own files), and generated exercises."""

from gradus.tasks.mathematics.score import format_reward, grade
from gradus.tasks.mathematics.task import Mathematics, MathematicsConfig, read_gold

__all__ = ["Mathematics", "MathematicsConfig", "format_reward", "grade", "read_gold"]
