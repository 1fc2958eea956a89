"""The task of competition mathematics: options, problems, scorer and oracle put together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import islice
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from gradus.data.intake import Intake
from gradus.data.sources import Source
from gradus.seeds import unit_share
from gradus.tasks import answers, cas, splits, user_reward
from gradus.tasks.base import Task, TaskConfig
from gradus.tasks.equivalence import equal, is_readable
from gradus.tasks.mathematics import generated, text
from gradus.tasks.mathematics.checks import self_test
from gradus.tasks.mathematics.score import PRESETS, Preset, answered, score
from gradus.types import SPLITS, Finish, Message, Problem, Score, Split

HUB = "hub:AI-MO/NuminaMath-TIR"
FIELDS = ("problem", "solution", "answer", "level", "type")
_LEVEL = re.compile(r"(?:Level )?([1-5])")


class MathematicsConfig(TaskConfig):
    """Options of the task `math`."""

    source: str = HUB
    """``hub:OWNER/NAME[@REVISION][#CONFIG]``, a .jsonl, .json or .parquet file, a folder with train and test files, or
    ``generate``: exercises from templates, which are no competition problems."""
    columns: dict[str, str] = Field(default_factory=dict)
    """``problem``, ``solution``, ``answer``, ``level`` and ``type`` to the source's names, where they differ."""
    style: Literal["tags", "boxed"] = "tags"
    """Where the strict answer stands: in a box in an answer tag after the thought, or in a box."""
    language: Literal["en", "zh"] = "en"
    """Language of the instruction; problems stay as they are."""
    tir: Literal["keep", "strip"] = "strip"
    """Whether the oracle keeps code and output blocks of tool-integrated solutions. Code is never run."""
    reward: Preset = "default"
    """``default``: 1, or 0.5 if only the lenient reading is right. ``binary``: 1 or 0. ``seed-docs``: trl_GRPO's format
    reward 0, 0.5 or 1. ``seed-code``: the same plus accuracy, 0 to 2. ``format-accuracy``: accuracy and strict format."""
    reward_function: str | None = None
    """Your own ``FILE.py:FUNCTION`` in place of ``reward``: called with completion, gold and correct, returns 0 to 1."""
    reward_function_seconds: Annotated[float, Field(gt=0, le=60)] = 2.0
    """Deadline of one call of it."""
    format_weight: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Share of format in ``format-accuracy``."""
    cas: Literal["auto", "off"] = "auto"
    """Whether math-verify decides what the own grammar does not read (integrals, sums, limits), where it is installed."""
    cas_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 2.0
    """Deadline of one such decision; one that misses it is neither paid nor charged."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Decides the generated exercises, not their split."""
    kinds: tuple[str, ...] | None = None
    """Kinds of generated exercises, such as ``linear`` or ``slope``; null: all."""
    max_number: Annotated[int, Field(ge=20)] | None = None
    """No number in a generated exercise, its steps or its answer is larger; null: no limit."""
    direct_frac: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of a warm-up's demonstrations (`gradus sft`) that leave the working out. After both kinds it is left to GRPO
    to find out that working pays."""
    num_train: Annotated[int, Field(ge=1)] = 8192
    """Generated training exercises."""
    num_validation: Annotated[int, Field(ge=1)] = 512
    """Generated validation exercises."""
    num_test: Annotated[int, Field(ge=1)] = 512
    """Generated test exercises."""

    @model_validator(mode="after")
    def _fits_together(self) -> MathematicsConfig:
        if self.reward in ("seed-docs", "seed-code", "format-accuracy") and self.style != "tags":
            raise ValueError(
                f"reward={self.reward!r} pays for tags, and style={self.style!r} asks for none; use style='tags'"
            )
        generated.chosen(self.kinds)
        wrong = sorted(set(self.columns) - set(FIELDS))
        if wrong:
            raise ValueError(f"columns names {wrong[0]!r}; read are: {', '.join(FIELDS)}")
        return self


class Mathematics(Task):
    """Problems whose answer is a mathematical object, usually in a box.

    Raw fields of ``problem``: ``problem``, and ``solution`` (with a boxed answer) or ``answer`` or both; ``level``, ``type``.

    Example:
        task = load_task("math")
        problem = task.problem(problem="Solve $2x = 3$.", solution="Halve: $\\\\boxed{\\\\frac{3}{2}}$.")
        task.score(problem, "<think>Halve.</think><answer>\\\\boxed{1.5}</answer>").reward  # 1.0
    """

    name: ClassVar[str] = "math"
    Config = MathematicsConfig
    scorer_class = "math"
    needs = ("datasets (hub sources)", "math-verify (integrals, sums, limits; optional)")
    config: MathematicsConfig

    @property
    def reward_range(self) -> tuple[float, float]:
        """Of the preset, or of the user's own function."""
        if self.config.reward_function is not None:
            return user_reward.LOWEST, user_reward.HIGHEST
        return 0.0, PRESETS[self.config.reward][1]

    @cached_property
    def _cas(self) -> cas.MathVerify | None:
        return None if self.config.cas == "off" else cas.shared(self.config.cas_timeout_seconds)

    def problems(self, split: Split, limit: int | None = None) -> Iterator[Problem]:
        """Yields the problems of a split. Rows whose gold cannot be read are left out and counted."""
        if split not in SPLITS:
            raise ValueError(f"split {split!r} does not exist; there are: {', '.join(SPLITS)}")
        return islice(self._generate(split, limit) if self.config.source == "generate" else self._read(split), limit)

    def _generate(self, split: Split, limit: int | None) -> Iterator[Problem]:
        config = self.config
        count = {"train": config.num_train, "validation": config.num_validation, "test": config.num_test}[split]
        count = count if limit is None else min(count, limit)
        drawn = generated.draw(split, count, seed=config.seed, kinds=config.kinds, max_number=config.max_number)
        for index, exercise in enumerate(drawn):
            yield self._problem(
                f"math-generated/{split}/{index:05d}",
                {"problem": exercise.problem, "solution": exercise.solution, "type": exercise.subject},
                difficulty=min(1.0, len(exercise.lines) / generated.MAX_STEPS),
                meta={"row": index, "kind": exercise.kind},
            )

    def _read(self, split: Split) -> Iterator[Problem]:
        source = Source(self.config.source)
        columns = self.config.columns
        intake = self.intakes[split] = Intake()
        is_first = True
        for row, fields in splits.rows(
            source, split, question="problem", columns=columns, need=("problem",), intake=intake
        ):
            if is_first and not ("solution" in fields or "answer" in fields):
                raise ValueError(
                    f"{row.place} has neither a column 'solution' nor 'answer'; there are: {', '.join(fields)}. "
                    f"Name the one to use, e.g. columns: {{answer: {list(fields)[-1]}}}"
                )
            is_first = False
            meta = {"row": row.index, "place": row.place}
            problem = self._problem(f"math/{split}/{row.index:05d}", fields, meta=meta)
            if problem.truth["gold"]:
                yield problem
            else:
                intake.drop("gold_unreadable", row.place)

    def problem(self, **raw: Any) -> Problem:
        """Builds a problem. A gold that cannot be read is kept as it is: then nobody is paid, whatever they answer."""
        if "problem" not in raw or not {"solution", "answer"} & set(raw) or set(raw) - set(FIELDS):
            raise ValueError(
                f"a problem of math has the fields problem and solution or answer, not {', '.join(sorted(raw)) or 'none'}; "
                r"for example task.problem(problem='Solve $2x = 3$.', solution='$\boxed{\frac{3}{2}}$')"
            )
        if not isinstance(raw["problem"], str) or not raw["problem"].strip():
            raise ValueError(f"problem={raw['problem']!r} is no text; give what is asked")
        return self._problem(f"math/given/{splits.hash_name(raw['problem'])}", raw, meta={})

    def _problem(
        self, name: str, fields: Mapping[str, Any], *, meta: Mapping[str, Any], difficulty: float | None = None
    ) -> Problem:
        config = self.config
        solution, answer = (_text(fields.get(name)) for name in ("solution", "answer"))
        gold, is_conflict = read_gold(solution, answer)
        level = _LEVEL.fullmatch(str(fields.get("level", "")).strip())
        if difficulty is None:
            difficulty = (int(level[1]) - 1) / 4 if level else 0.5
        original = {key: str(fields[key]) for key in FIELDS if fields.get(key) is not None}
        return Problem(
            id=name,
            task=self.name,
            messages=(
                Message(role="system", content=text.instruction(config.style, config.language)),
                Message(role="user", content=fields["problem"]),
            ),
            truth={"gold": gold},
            domain=str(fields.get("type") or fields.get("subject") or "math"),
            difficulty=difficulty,
            meta={
                "source": config.source,
                "prompt": text.prompt_id(config.style, config.language),
                **original,
                **({"gold_conflict": True} if is_conflict else {}),
                **meta,
            },
        )

    def score(self, problem: Problem, text: str, *, finish: Finish = "stop") -> Score:
        """Judges the answer by what it means."""
        config = self.config
        judged = score(
            text,
            problem.truth["gold"],
            preset=config.reward,
            style=config.style,
            format_weight=config.format_weight,
            finish=finish,
            cas=self._cas,
        )
        if config.reward_function is None:
            return judged
        own = user_reward.shared(config.reward_function, config.reward_function_seconds)
        return own.apply(judged, completion=text, gold=problem.truth["gold"])

    def answer(self, problem: Problem, text: str, *, correct: bool, finish: Finish = "stop") -> str | None:
        """What the completion states: the gold if it equals it, else its normal form. Wrong answers that are equal in
        another way than by form are counted apart."""
        return problem.truth["gold"] if correct else answered(text, style=self.config.style, finish=finish)

    def oracle(self, problem: Problem) -> str:
        """Returns the data set's own solution and its gold, in the style asked for. ValueError without a gold."""
        return self._answer(problem, problem.meta.get("solution", ""))

    def demonstration(self, problem: Problem) -> str:
        """The same, without the solution for a share ``direct_frac`` of the problems."""
        is_direct = unit_share("oracle", self.name, problem.id) < self.config.direct_frac
        return self._answer(problem, "") if is_direct else self.oracle(problem)

    def _answer(self, problem: Problem, solution: str) -> str:
        gold, config = problem.truth["gold"], self.config
        if not gold:
            raise ValueError(f"{problem.id} has no readable gold; leave it out (`gradus prepare math` does)")
        return text.worked(
            solution, gold, style=config.style, language=config.language, keeps_code=config.tir == "keep"
        )

    def is_same_truth(self, first: Problem, second: Problem) -> bool:
        """By meaning: 0.5 is a half."""
        return equal(first.truth["gold"], second.truth["gold"], cas=self._cas).equal

    def near_misses(self, problem: Problem) -> Iterable[tuple[str, str]]:
        """Texts that look right and are not."""
        gold = problem.truth["gold"]
        for label, answer in (
            ("another answer too", f"{gold}, 98765"),
            ("denied", rf"\neq {gold}"),
            ("an inequality", f"> {gold}"),
            ("one of two", f"{gold} or 98765"),
            ("another number", "98765"),
        ):
            if self.config.reward != "seed-docs":  # which pays for format alone
                yield (
                    label,
                    text.worked("Some steps.", answer, style=self.config.style, language="en", keeps_code=False),
                )
        yield "an empty box", "<think>\nSome steps.\n</think>\n\\boxed{}"
        yield "a box that does not close", f"<think>\nSome steps.\n</think>\n\\boxed{{{gold}"
        yield "answer only in the thought", f"<think>\n\\boxed{{{gold}}}\n</think>\nDone."
        yield "thought not closed", f"<think>\nSome steps.\n\\boxed{{{gold}}}"

    def check_cases(self) -> Iterable[tuple[str, str, str]]:
        """Readings, all combinations of format, and comparisons that common verifiers get wrong."""
        return self_test()


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return ""
    return value if isinstance(value, str) else str(value)


def read_gold(solution: str, answer: str) -> tuple[str, bool]:
    """(gold or "", do solution and answer disagree): the box of the solution wins over the answer column."""
    boxed = answers.read_gold(solution) if "\\boxed" in solution or "\\fbox" in solution else None
    stated = answers.read_gold(answer) if answer.strip() else None
    candidates = [gold for gold in (boxed, stated) if gold and is_readable(gold)]
    if not candidates:
        return "", False
    return candidates[0], len(candidates) > 1 and not equal(*candidates).equal
