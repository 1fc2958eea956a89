"""The task Countdown: options, problems, scorer and oracle put together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from gradus.data.intake import Intake
from gradus.tasks.base import Task, TaskConfig
from gradus.tasks.countdown import text as words
from gradus.tasks.countdown.difficulty import difficulty
from gradus.tasks.countdown.generate import Ranges, draw
from gradus.tasks.countdown.rows import MAX_GIVEN, Raw, by_key, by_row, integers, read_rows
from gradus.tasks.countdown.score import classify, score
from gradus.tasks.countdown.solver import solve, subsets
from gradus.tasks.countdown.trees import ALL_OPERATORS, Tree, value_of, write
from gradus.types import SPLITS, Finish, Message, Problem, Score, Split

Bound = Annotated[int, Field(gt=-(10**18), lt=10**18)]
Count = Annotated[int, Field(ge=1, le=MAX_GIVEN)]


class CountdownConfig(TaskConfig):
    """Options of the task `countdown`."""

    source: str = "generate"
    """``generate``, ``hub:OWNER/NAME[@REVISION]``, or a .jsonl, .json or .parquet file with target and nums."""
    min_numbers: Count = 3
    """Fewest numbers of a generated problem."""
    max_numbers: Count = 4
    """Most numbers of a generated problem; the count is uniform between."""
    number_range: tuple[Bound, Bound] = (1, 99)
    """Smallest and largest number of a generated problem."""
    target_range: tuple[Bound, Bound] = (10, 100)
    """Smallest and largest target of a generated problem."""
    operators: str = ALL_OPERATORS
    """Operators that may be used."""
    use: Literal["all", "subset"] = "all"
    """Whether every number must be used. Generated problems are solvable with all of them."""
    intermediates: Literal["integer", "rational"] = "integer"
    """Rule by which a generated problem is solvable; scoring is always rational."""
    split_by: Literal["key", "row"] = "key"
    """``key``: by a hash of the problem, so that no split leaks. ``row``: rows of a file in order, which leaks."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Decides the generated problems, not their split."""
    num_train: Annotated[int, Field(ge=1)] = 8192
    """Training problems to generate, or training rows with ``split_by: row``; a file split by key gives all it has."""
    num_validation: Annotated[int, Field(ge=1)] = 512
    """The same for validation."""
    num_test: Annotated[int, Field(ge=1)] = 1024
    """The same for test."""
    language: Literal["en", "zh"] = "en"
    """Language of the prompt and of the oracle's thought."""
    prefill_think: bool = False
    """Whether the prompt ends in an opened think tag, as the beginning of the assistant's turn."""
    reward: Literal["default", "binary", "seed-docs", "seed-code"] = "default"
    """``default``: 1, or 0.1 for the right numbers and a wrong value. ``binary``: 1 or 0. ``seed-docs``, ``seed-code``:
    the rule of verl-study as documented and as coded."""
    trace: Literal["search", "plain"] = "search"
    """Whether the oracle's thought shows dead ends."""

    @model_validator(mode="after")
    def _fits_together(self) -> CountdownConfig:
        low, high = self.min_numbers, self.max_numbers
        if low > high:
            raise ValueError(f"min_numbers={low} is above max_numbers={high}; use min_numbers={high}")
        for name in ("number_range", "target_range"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}=({low}, {high}) is empty; write the smaller bound first: ({high}, {low})")
        operators = self.operators
        if not operators or len(set(operators)) < len(operators) or not set(operators) <= set(ALL_OPERATORS):
            raise ValueError(f"operators={operators!r} must be some of {ALL_OPERATORS}, each once, for example '+-'")
        if self.split_by == "row" and self.source == "generate":
            raise ValueError("split_by='row' needs rows, and source is 'generate'; use split_by='key', or give a file")
        return self


class Countdown(Task):
    """Numbers and a target; the answer is an expression that makes the target of the numbers.

    Raw fields of ``problem``: ``numbers`` and ``target``; it need not be solvable.

    Example:
        task = load_task("countdown", max_numbers=3)
        task.score(task.problem(numbers=[2, 5, 8], target=11), "<answer>8 + 5 - 2</answer>").reward  # 1.0
    """

    name: ClassVar[str] = "countdown"
    Config = CountdownConfig
    scorer_class = "inline"
    config: CountdownConfig

    @property
    def reward_range(self) -> tuple[float, float]:
        """Every preset pays between 0 and 1."""
        return 0.0, 1.0

    def problems(self, split: Split, limit: int | None = None) -> Iterator[Problem]:
        """Yields the problems of a split, drawn or read one by one."""
        if split not in SPLITS:
            raise ValueError(f"split {split!r} does not exist; there are: {', '.join(SPLITS)}")
        for index, numbers, target in islice(self._raw(split, limit), limit):
            yield self._problem(f"countdown/{split}/{index:05d}", numbers, target, {"row": index})

    def _raw(self, split: Split, limit: int | None) -> Iterator[Raw]:
        config = self.config
        if config.source == "generate":
            num = {"train": config.num_train, "validation": config.num_validation, "test": config.num_test}[split]
            drawn = draw(self._ranges(), split, num if limit is None else min(num, limit))
            return ((index, numbers, target) for index, (numbers, target) in enumerate(drawn))
        intake = self.intakes[split] = Intake()
        rows = read_rows(config.source, intake)
        if config.split_by == "row":
            return by_row(rows, split, config.num_train, config.num_test, config.num_validation, intake)
        return by_key(rows, split, intake)

    def _ranges(self) -> Ranges:
        config = self.config
        return Ranges(
            num_numbers=(config.min_numbers, config.max_numbers),
            numbers=config.number_range,
            target=config.target_range,
            operators=config.operators,
            is_integer=config.intermediates == "integer",
            seed=config.seed,
        )

    def problem(self, **raw: Any) -> Problem:
        """Builds a problem from ``numbers`` and ``target``: integers, integral floats or digit strings."""
        if set(raw) != {"numbers", "target"}:
            raise ValueError(
                f"a Countdown problem has the fields numbers and target, not {', '.join(sorted(raw)) or 'none'}; "
                "for example task.problem(numbers=[2, 5, 8], target=11)"
            )
        numbers, target = integers(raw["numbers"], raw["target"])
        return self._problem(f"countdown/given/{'_'.join(map(str, numbers))}_to_{target}", numbers, target, {})

    def _problem(self, name: str, numbers: tuple[int, ...], target: int, meta: dict[str, Any]) -> Problem:
        config = self.config
        content = words.prompt(numbers, target, operators=config.operators, use=config.use, language=config.language)
        messages = [Message(role="user", content=content)]
        if config.prefill_think:
            messages.append(Message(role="assistant", content="<think>\n"))
        return Problem(
            id=name,
            task=self.name,
            messages=tuple(messages),
            truth={"numbers": list(numbers), "target": target},
            domain=f"n{len(numbers)}",
            difficulty=difficulty(numbers, target, config.operators),
            meta={"source": config.source, "prompt": words.PROMPT_IDS[config.language], **meta},
        )

    def score(self, problem: Problem, text: str, *, finish: Finish = "stop") -> Score:
        """Judges the expression in the last answer tag, exactly."""
        truth = problem.truth
        return score(
            text,
            truth["numbers"],
            truth["target"],
            preset=self.config.reward,
            use=self.config.use,
            operators=self.config.operators,
            finish=finish,
        )

    def answer(self, problem: Problem, text: str, *, correct: bool, finish: Finish = "stop") -> str | None:
        """The expression, without blanks: a vote is for this expression, not for all that reach the target."""
        truth, config = problem.truth, self.config
        verdict = classify(
            text, truth["numbers"], truth["target"], use=config.use, operators=config.operators, finish=finish
        )
        return None if verdict.expression is None else "".join(verdict.expression.split())

    def oracle(self, problem: Problem) -> str:
        """Returns a worked search and its answer; ValueError where no expression reaches the target."""
        numbers, target = tuple(problem.truth["numbers"]), problem.truth["target"]
        config = self.config
        thought = words.trace(
            numbers,
            target,
            tree := self._solution(numbers, target),
            style=config.trace,
            language=config.language,
            operators=config.operators,
        )
        opened = "" if config.prefill_think else "<think>\n"
        return f"{opened}{thought}\n</think>\n{words.answer(tree)}"

    def _solution(self, numbers: tuple[int, ...], target: int) -> Tree:
        """The first solution: whole numbers before fractions; with ``use: subset``, many numbers before few."""
        operators = self.config.operators
        for chosen in subsets(numbers) if self.config.use == "subset" else (numbers,):
            for is_integer in (True, False):
                tree = solve(chosen, target, operators=operators, is_integer=is_integer)
                if tree is not None:
                    return tree
        shorter = (
            (solve(chosen, target, operators=operators) for chosen in subsets(numbers)) if len(numbers) < 7 else ()
        )
        found = next((tree for tree in shorter if tree is not None), None)
        hint = f"some of them do: {write(found)} (use: subset)" if found is not None else "check numbers and target"
        raise ValueError(f"numbers={list(numbers)} cannot reach target={target} with {' '.join(operators)}; {hint}")

    def near_misses(self, problem: Problem) -> Iterable[tuple[str, str]]:
        """Texts that look right and are not, for a solvable problem."""
        numbers, target = tuple(problem.truth["numbers"]), problem.truth["target"]
        right = write(self._solution(numbers, target))
        thought = "<think>\nLet me see.\n</think>\n"
        yield "no tag", f"{thought}{right}"
        yield "tag not closed", f"{thought}<answer>{right}"
        yield "one number more", f"{thought}<answer>{right} + 0</answer>"
        yield "one number twice", f"{thought}<answer>{right} + {abs(numbers[0])} - {abs(numbers[0])}</answer>"
        if len(numbers) > 1:
            yield "only the target", f"{thought}<answer>{target}</answer>"
        yield "another right side", f"{thought}<answer>{right} = {target + 1}</answer>"
        yield "a sentence", f"{thought}<answer>The expression is {right}</answer>"
        yield "a word after it", f"{thought}<answer>{right} done</answer>"
        wrong = next((tree for tree in _chains(numbers, self.config.operators) if value_of(tree) != target), None)
        if wrong is not None:
            yield "wrong value", f"{thought}<answer>{write(wrong)}</answer>"
        if self.config.reward != "seed-code":
            yield "answer only in the thought", f"<think>\n<answer>{right}</answer>\n</think>\nDone."


def _chains(numbers: tuple[int, ...], operators: str) -> Iterator[Tree]:
    """All numbers joined from left to right by one operator."""
    for operator in operators.replace("/", ""):
        tree: Tree = numbers[0]
        for number in numbers[1:]:
            tree = (operator, tree, number)
        yield tree
