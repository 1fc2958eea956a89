"""The task GSM8K: options, problems, scorer and oracle put together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from gradus.data.intake import Intake
from gradus.seeds import unit_share
from gradus.tasks import splits, user_reward
from gradus.tasks.base import Task, TaskConfig
from gradus.tasks.gsm8k import numbers, synthetic, text
from gradus.tasks.gsm8k.checks import reading_cases
from gradus.tasks.gsm8k.score import PRESETS, answered, score
from gradus.types import SPLITS, Finish, Message, Problem, Score, Split

if TYPE_CHECKING:
    from gradus.data.sources import Row

HUB = "hub:openai/gsm8k#main"


class Gsm8kConfig(TaskConfig):
    """Options of the task `gsm8k`."""

    source: str = HUB
    """``hub:OWNER/NAME[@REVISION][#CONFIG]``, a .jsonl, .json or .parquet file, a folder with train and test files, or
    ``synthetic``: word problems from templates, which are not GSM8K."""
    columns: dict[str, str] = Field(default_factory=dict)
    """``question`` and ``answer`` to the source's names, where they differ."""
    style: Literal["hash", "boxed", "tags"] = "hash"
    """Where the strict answer stands: after ``####``, in a box, or in a box in an answer tag after the thought."""
    language: Literal["en", "zh"] = "en"
    """Language of the instruction; questions stay as they are, synthetic ones are written in it."""
    few_shot: Annotated[int, Field(ge=0, le=8)] = 0
    """Worked examples before each question: the first training problems, which are then not trained on."""
    reward: Literal["default", "binary", "seed-docs", "seed-code", "r3"] = "default"
    """``default``: 1, or 0.5 if only the lenient reading is right. ``binary``: 1 or 0 by the lenient reading.
    ``seed-docs``, ``seed-code``: the rule of verl-study as documented and as coded. ``r3``: qwen_rl's 1 or -0.1."""
    reward_function: str | None = None
    """Your own ``FILE.py:FUNCTION`` in place of ``reward``: called with completion, gold and correct, returns 0 to 1."""
    reward_function_seconds: Annotated[float, Field(gt=0, le=60)] = 2.0
    """Deadline of one call of it."""
    r3_reading: Literal["last-hash", "first-hash", "box-digits"] = "last-hash"
    """Which number ``r3`` reads: behind the last or first ``####`` (else the last number), or in the last box."""
    seed_code_gold_comma: bool = False
    """Keep the comma of golds such as 2,500 in ``seed-code``, as verl-study does: they can then never be paid."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Decides the synthetic problems, not their split."""
    max_steps: Annotated[int, Field(ge=1, le=synthetic.MAX_STEPS)] = synthetic.MAX_STEPS
    """Synthetic problems take at most so many calculations."""
    max_number: Annotated[int, Field(ge=20, le=synthetic.MAX_VALUE)] = synthetic.MAX_VALUE
    """No number or result of a synthetic problem is larger."""
    direct_frac: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of a warm-up's demonstrations (`gradus sft`) that leave the working out. After both kinds it is left to GRPO
    to find out that working pays."""
    num_train: Annotated[int, Field(ge=1)] = 8192
    """Synthetic training problems."""
    num_validation: Annotated[int, Field(ge=1)] = 512
    """Synthetic validation problems."""
    num_test: Annotated[int, Field(ge=1)] = 1024
    """Synthetic test problems."""

    @model_validator(mode="after")
    def _fits_together(self) -> Gsm8kConfig:
        if self.reward.startswith("seed-") and self.style != "hash":
            raise ValueError(
                f"reward={self.reward!r} pays for ####, and style={self.style!r} does not ask for it; use style='hash'"
            )
        if self.reward == "r3" and self.r3_reading == "box-digits" and self.style == "hash":
            raise ValueError("r3_reading='box-digits' reads a box, and style='hash' asks for none; use style='boxed'")
        wrong = sorted(set(self.columns) - {"question", "answer"})
        if wrong:
            raise ValueError(f"columns names {wrong[0]!r}; only question and answer are read")
        return self


class Gsm8k(Task):
    """Grade-school word problems; the answer is one number.

    Raw fields of ``problem``: ``question``, and ``answer``: the data set's, ending in ``#### 18``, or the number alone.

    Example:
        task = load_task("gsm8k")
        problem = task.problem(question="Tom has 9 pens and buys 9 more. How many are that?", answer="#### 18")
        task.score(problem, "9 + 9 = 18\\n#### 18").reward  # 1.0
    """

    name: ClassVar[str] = "gsm8k"
    Config = Gsm8kConfig
    scorer_class = "inline"
    needs = ("datasets (hub sources)",)
    config: Gsm8kConfig

    @property
    def reward_range(self) -> tuple[float, float]:
        """Of the preset, or of the user's own function."""
        if self.config.reward_function is not None:
            return user_reward.LOWEST, user_reward.HIGHEST
        return PRESETS[self.config.reward][1]

    def problems(self, split: Split, limit: int | None = None) -> Iterator[Problem]:
        """Yields the problems of a split. Validation is a fixed part of train; the test split is never trained on."""
        if split not in SPLITS:
            raise ValueError(f"split {split!r} does not exist; there are: {', '.join(SPLITS)}")
        return islice(self._synthetic(split, limit) if self.config.source == "synthetic" else self._read(split), limit)

    def _synthetic(self, split: Split, limit: int | None) -> Iterator[Problem]:
        config = self.config
        count = {"train": config.num_train, "validation": config.num_validation, "test": config.num_test}[split]
        skip = config.few_shot if split == "train" else 0
        count = min(count, count if limit is None else limit) + skip
        drawn = self._draw(split, count)
        for index, exercise in islice(enumerate(drawn), skip, None):
            yield self._problem(
                f"gsm8k-synthetic/{split}/{index:05d}",
                exercise.question,
                exercise.answer,
                domain="synthetic",
                difficulty=exercise.num_steps / synthetic.MAX_STEPS,
                examples=self._examples,
                meta={"row": index, "template": exercise.template},
            )

    def _draw(self, split: Split, count: int) -> Iterator[synthetic.Exercise]:
        config = self.config
        return synthetic.draw(
            split,
            count,
            seed=config.seed,
            language=config.language,
            max_steps=config.max_steps,
            max_number=config.max_number,
        )

    def _read(self, split: Split) -> Iterator[Problem]:
        shown = {splits.normalized(question) for question, _ in self._examples}
        intake = self.intakes[split] = Intake()
        for row, question, answer in self._rows(split, intake):
            if splits.normalized(question) in shown:
                intake.drop("few_shot_example", row.place)
                continue
            name = f"gsm8k/{split}/{row.index:05d}"
            meta = {"row": row.index, "place": row.place}
            yield self._problem(name, question, answer, examples=self._examples, meta=meta)

    def _rows(self, split: Split, intake: Intake) -> Iterator[tuple[Row, str, str]]:
        """Row, question and answer of every row whose answer is a number."""
        # Imported here: this module is below the data layer, and synthetic problems need no reader.
        from gradus.data.sources import Source

        source = Source(self.config.source)
        need = ("question", "answer")
        columns = self.config.columns
        for row, fields in splits.rows(source, split, question="question", columns=columns, need=need, intake=intake):
            try:
                answer = _answer(fields["answer"])
            except ValueError:
                intake.drop("gold_unreadable", row.place)
                continue
            yield row, fields["question"], answer

    @cached_property
    def _examples(self) -> tuple[tuple[str, str], ...]:
        """Question and answer of the few-shot examples: the first training rows."""
        config = self.config
        if not config.few_shot:
            return ()
        if config.source == "synthetic":
            drawn = self._draw("train", config.few_shot)
            return tuple((exercise.question, exercise.answer) for exercise in drawn)
        return tuple(
            (question, answer) for _, question, answer in islice(self._rows("train", Intake()), config.few_shot)
        )

    def problem(self, **raw: Any) -> Problem:
        """Builds a problem from ``question`` and ``answer``. With ``few_shot`` the source is read for the examples."""
        if set(raw) != {"question", "answer"} or not isinstance(raw["question"], str):
            raise ValueError(
                f"a GSM8K problem has the fields question (a text) and answer, not {', '.join(sorted(raw)) or 'none'}; "
                "for example task.problem(question='What is 9 + 9?', answer='#### 18')"
            )
        name = f"gsm8k/given/{splits.hash_name(raw['question'])}"
        return self._problem(name, raw["question"], _answer(raw["answer"]), examples=self._examples, meta={})

    def _problem(
        self,
        name: str,
        question: str,
        answer: str,
        *,
        examples: tuple[tuple[str, str], ...],
        meta: Mapping[str, Any],
        domain: str = "gsm8k",
        difficulty: float | None = None,
    ) -> Problem:
        config = self.config
        messages = [Message(role="system", content=text.instruction(config.style, config.language))]
        for asked, worked in examples:
            messages.append(Message(role="user", content=asked))
            messages.append(Message(role="assistant", content=text.solution(worked, config.style, config.language)))
        messages.append(Message(role="user", content=question))
        return Problem(
            id=name,
            task=self.name,
            messages=tuple(messages),
            truth={"gold": answer.rpartition("####")[2].strip()},
            domain=domain,
            difficulty=min(1.0, text.num_calculations(answer) / 8) if difficulty is None else difficulty,
            meta={
                "source": config.source,
                "prompt": text.prompt_id(config.style, config.language),
                "question": question,
                "answer": answer,
                **meta,
            },
        )

    def score(self, problem: Problem, text: str, *, finish: Finish = "stop") -> Score:
        """Judges the number, exactly."""
        config = self.config
        judged = score(
            text,
            problem.truth["gold"],
            preset=config.reward,
            style=config.style,
            keeps_gold_comma=config.seed_code_gold_comma,
            reading=config.r3_reading,
            finish=finish,
        )
        if config.reward_function is None:
            return judged
        own = user_reward.shared(config.reward_function, config.reward_function_seconds)
        return own.apply(judged, completion=text, gold=problem.truth["gold"])

    def answer(self, problem: Problem, text: str, *, correct: bool, finish: Finish = "stop") -> str | None:
        """The number that the completion states."""
        return (
            str(numbers.gold(problem.truth["gold"]))
            if correct
            else answered(text, style=self.config.style, finish=finish)
        )

    def oracle(self, problem: Problem) -> str:
        """Returns the data set's own rationale and its number, in the style asked for."""
        answer = problem.meta.get("answer") or f"#### {problem.truth['gold']}"
        return text.solution(answer, self.config.style, self.config.language)

    def demonstration(self, problem: Problem) -> str:
        """The same, without the rationale for a share ``direct_frac`` of the problems."""
        if unit_share("oracle", self.name, problem.id) < self.config.direct_frac:
            return text.solution(f"#### {problem.truth['gold']}", self.config.style, self.config.language)
        return self.oracle(problem)

    def is_same_truth(self, first: Problem, second: Problem) -> bool:
        """By value: 2,500 is 2500."""
        return numbers.gold(first.truth["gold"]) == numbers.gold(second.truth["gold"])

    def near_misses(self, problem: Problem) -> Iterable[tuple[str, str]]:
        """Texts that look right and are not."""
        gold = numbers.gold(problem.truth["gold"])
        for label, number in _wrong_numbers(gold):
            yield label, text.solution(f"Some steps.\n#### {number}", self.config.style, self.config.language)
        if self.config.reward not in ("seed-code", "r3"):  # which pay for all of these
            right = _written(gold)
            for label, number in (("two answers", f"{right} or {_written(gold + 1)}"), ("denied", f"not {right}")):
                yield label, text.solution(f"Some steps.\n#### {number}", self.config.style, self.config.language)
            yield "answer only in the thought", f"<think>\n#### {right}\n\\boxed{{{right}}}\n</think>\nDone."

    def check_cases(self) -> Iterable[tuple[str, str, str]]:
        """Readings that other graders get wrong."""
        return reading_cases()


def _answer(value: Any) -> str:
    """An answer field as text that ends in ``#### number``. ValueError where it holds none."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"answer {value!r} is no text and no number; for example answer='#### 18'")
    written = value if isinstance(value, str) else repr(value)
    numbers.gold(written)
    return written if "####" in written else f"#### {written.strip()}"


def _written(number: Fraction) -> str:
    return str(number.numerator) if number.denominator == 1 else f"{float(number):g}"


def _wrong_numbers(gold: Fraction) -> Iterator[tuple[str, str]]:
    yield "one more", _written(gold + 1)
    yield "ten times as much", _written(gold * 10 or Fraction(10))
    yield "the opposite", _written(-gold or Fraction(-1))
    yield "a decimal more", f"{_written(gold)}.5" if gold.denominator == 1 else _written(gold + 1)
