"""The options of the task `economy`, with what fits together."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from gradus.tasks.base import TaskConfig


class EconomyTaskConfig(TaskConfig):
    """Options of the task `economy`."""

    source: str = "generate"
    """``generate``: simulate what is needed, about 0.1 s per training context and 0.4 s per held-out one; or a folder
    that `gradus prepare economy` has written."""
    reward: Literal["counterfactual", "seed"] = "counterfactual"
    """``counterfactual``: what the decision is worth to the household over a year and beyond. ``seed``: the original
    project's formula, most of which no answer can change."""
    lang: Literal["en", "zh", "both"] = "en"
    """Language of the prompt; ``both``: every context once in each."""
    prompt: Literal["full", "compact"] = "full"
    """``compact``: one line of numbers, for policies of a few million parameters."""
    few_shot: Annotated[int, Field(ge=0, le=8)] = 0
    """Good decisions of similar households shown in the prompt; the reference project shows 3."""
    without_examples: bool = False
    """Held-out contexts also without examples, each a second problem: the report then tells what the examples do."""
    memory_contexts: Annotated[int, Field(ge=1, le=2000)] = 2000
    """Training contexts whose decisions may be shown, with ``source: generate``."""
    envelope: Literal["none", "answer"] = "none"
    """``none``: the whole completion is the decision. ``answer``: the last answer block of a reasoning policy is."""
    skip_contexts: Annotated[int, Field(ge=0)] = 0
    """Training contexts passed over at the beginning: those that a warm-up has learned from."""
    mode: Literal["table", "live"] = "table"
    """``table``: rewards from the stored value table. ``live``: every answer is simulated again, 10 ms each."""
    grid_penalty: Annotated[float, Field(ge=0, le=0.02)] = 0.0
    """Taken from answers that are not multiples of 0.02."""
    format_ladder: bool = False
    """-0.9 instead of -1.0 for an answer that only the lenient reading understands."""

    closed_loop_months: Annotated[int, Field(ge=0, le=240)] = 0
    """Months that whole economies are simulated with the policy deciding in them, at every evaluation; 0: none."""
    closed_loop_economies: Annotated[int, Field(ge=1, le=64)] = 10
    """How many; base and trained meet the same shocks."""
    closed_loop_share: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of the 100 households of each that the policy decides for; the others follow a fixed rule."""
    closed_loop_fallback: Literal["uniform", "last", "idle", "public"] = "uniform"
    """What a household does whose answer cannot be read: anything, its last decision, (0, 0.02), or (1, 0.5)."""
    allow_inert: bool = False
    """Train on a reward although much of its weight is in terms that no answer can change."""

    @model_validator(mode="after")
    def _fits_together(self) -> EconomyTaskConfig:
        if self.prompt == "compact" and (self.few_shot or self.lang != "en" or self.envelope != "none"):
            raise ValueError(
                f"prompt='compact' has no examples, languages or thought: few_shot={self.few_shot}, lang={self.lang!r}, "
                f"envelope={self.envelope!r}; use prompt='full', or few_shot=0, lang='en', envelope='none'"
            )
        if self.without_examples and not self.few_shot:
            raise ValueError("without_examples=True has no examples to leave out; set few_shot=3, or leave it off")
        if 0 < self.closed_loop_months < 24:
            raise ValueError(f"closed_loop_months={self.closed_loop_months} has no two years; use 24 or more, or 0")
        if self.mode == "live" and self.reward == "seed":
            raise ValueError("mode='live' simulates the counterfactual reward; use mode='table' with reward='seed'")
        return self
