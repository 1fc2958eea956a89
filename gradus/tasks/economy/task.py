"""The task economy: options, problems, scorer and oracle put together. NumPy is loaded with the first problem."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from gradus.health.rule import Rule
from gradus.tasks.base import Answer, Task
from gradus.tasks.economy.checks import reading_cases
from gradus.tasks.economy.decision import canonical
from gradus.tasks.economy.health import RULES
from gradus.tasks.economy.options import EconomyTaskConfig
from gradus.tasks.economy.reward import FAILED, read, score
from gradus.tasks.economy.seed_reward import SOURCE as SEED_SOURCE
from gradus.tasks.economy.values import Values
from gradus.types import SPLITS, Finish, Group, Problem, Score, Split

Rows = Sequence[Mapping[str, Any]]
Played = Mapping[str, Any] | None

if TYPE_CHECKING:
    from gradus.tasks.economy.problems import ProblemMaker
    from gradus.tasks.economy.snapshot import Snapshot


class EconomyTask(Task):
    """A household of a simulated economy decides how willing it is to work and how much of its money it spends.

    Raw fields of ``problem``: ``snapshot`` (a Snapshot of `simulator.Economy`, or its JSON) and ``household``.

    Example:
        task = load_task("economy")
        problem = next(task.problems("train", 1))
        task.score(problem, '{"work": 0.9, "consumption": 0.42}').reward
    """

    name: ClassVar[str] = "economy"
    Config = EconomyTaskConfig
    scorer_class = "inline"
    max_lucky_frac = 0.6
    reads_prepared = True
    data_sources = (SEED_SOURCE,)
    config: EconomyTaskConfig

    @cached_property
    def maker(self) -> ProblemMaker:
        """Makes the problems. NumPy is loaded here."""
        from gradus.tasks.economy.problems import ProblemMaker

        return ProblemMaker(self.config, self.intakes)

    @property
    def reward_range(self) -> tuple[float, float]:
        """-1 for what cannot be read; 1 for the best answer."""
        return FAILED, 1.0

    @property
    def oracle_is_paid_best(self) -> bool:
        """The original's reward pays the best decision as any other."""
        return self.config.reward == "counterfactual"

    # ------------------------------------------------------------------ problems

    def problems(self, split: Split, limit: int | None = None) -> Iterator[Problem]:
        """Yields the problems of a split, simulated or read one by one. DataError or LeakageError for unusable rows."""
        if split not in SPLITS:
            raise ValueError(f"split {split!r} does not exist; there are: {', '.join(SPLITS)}")
        yield from self.maker.of_split(split, limit)

    def problem(self, **raw: Any) -> Problem:
        """Builds a problem from ``snapshot`` and ``household``; its values are simulated with 32 shock sets."""
        if set(raw) != {"snapshot", "household"}:
            raise ValueError(
                f"an economy problem has the fields snapshot and household, not {', '.join(sorted(raw)) or 'none'}; "
                "for example task.problem(snapshot=economy.snapshot(0), household=3)"
            )
        from gradus.tasks.economy.snapshot import Snapshot

        given, household = raw["snapshot"], raw["household"]
        if isinstance(household, bool) or not isinstance(household, int):
            raise ValueError(f"household={household!r} must be a whole number")
        return self.maker.given(given if isinstance(given, Snapshot) else Snapshot.from_json(given), household)

    def example(self) -> Problem:
        """The first training problem, with examples of few contexts."""
        return self.maker.example()

    def shorter(self, problem: Problem) -> Iterator[Problem]:
        """The same decision with fewer examples, one by one; at last without the table of the last months."""
        return self.maker.shorter(problem)

    # ------------------------------------------------------------------ prepared files

    def columns(self, problem: Problem) -> dict[str, Any]:
        """Context, strata, features, values and the fields of the original reward, each as a column."""
        from gradus.tasks.economy.files import flat_columns

        return flat_columns(problem, self.config.reward)

    def side_tables(self) -> dict[str, list[dict[str, Any]]]:
        """The memory of good decisions, where prompts show them."""
        return {"memory": [dict(row) for row in self.maker.memory.rows]} if self.config.few_shot else {}

    def side_files(self, problems: Mapping[Split, Sequence[Problem]]) -> dict[str, bytes]:
        """The snapshots that the problems of each split were made from."""
        from gradus.tasks.economy.archive import packed
        from gradus.tasks.economy.files import snapshots_file

        return {snapshots_file(split): packed(map(self.maker.snapshot_of, made)) for split, made in problems.items()}

    def data_facts(self) -> dict[str, Any]:
        """Seeds, parameters and thresholds of the contexts, what was passed over, strata with few good decisions."""
        from gradus.tasks.economy.contexts import how_made

        thin = dict(self.maker.memory.thin) if self.config.few_shot else {}
        return how_made() | {"counts": dict(sorted(self.maker.counts.items())), "thin_strata": thin}

    # ------------------------------------------------------------------ judging

    def score(self, problem: Problem, text: str, *, finish: Finish = "stop") -> Score:
        """Judges the decision. A row without a usable value table is a DataError."""
        if not isinstance(text, str):
            raise TypeError(f"a completion is a str, not {type(text).__name__}")
        config = self.config
        values = Values.from_row(problem.truth, problem.id)
        judged = score(
            text,
            problem.truth,
            values,
            reward=config.reward,
            envelope=config.envelope,
            grid_penalty=config.grid_penalty,
            format_ladder=config.format_ladder,
            finish=finish,
        )
        if config.mode == "live" and "value" in judged.parts:
            return self._live(problem, text, values, judged, finish)
        return judged

    def _live(self, problem: Problem, text: str, values: Values, judged: Score, finish: Finish) -> Score:
        """The same judgement with the value simulated now."""
        from gradus.tasks.economy.counterfactual import live_rewards
        from gradus.tasks.economy.values import CORRECT_FROM

        decision = read(text, self.config.envelope, finish)
        assert decision.work is not None and decision.consumption is not None
        truth = problem.truth
        (worth,) = live_rewards(
            self.maker.snapshot_of(problem),
            truth["household"],
            [(decision.work, decision.consumption)],
            values,
            split=truth["split"],
        )
        parts = {**judged.parts, "value": worth, "info/value": worth}
        reward = worth + parts["grid"]
        return Score(reward=reward, correct=worth >= CORRECT_FROM, parts=parts, why=judged.why)

    def oracle(self, problem: Problem) -> str:
        """Returns the best decision of the grid."""
        values = Values.from_row(problem.truth, problem.id)
        decision = canonical(values.oracle_work, values.oracle_consumption)
        return decision if self.config.envelope == "none" else f"<answer>{decision}</answer>"

    def near_misses(self, problem: Problem) -> Iterable[tuple[str, str]]:
        """Texts that look right and are not: the best decision, written wrongly; and the worst one."""
        values = Values.from_row(problem.truth, problem.id)
        right = canonical(values.oracle_work, values.oracle_consumption)
        answers = {
            "fenced": f"```json\n{right}\n```",
            "a sentence before": f"My decision: {right}",
            "a full stop after": f"{right}.",
            "numbers as text": right.replace(": ", ': "').replace(",", '",').replace("}", '"}'),
            "single quotes": right.replace('"', "'"),
            "one key": right.partition(",")[0] + "}",
            "a key too many": right.replace("}", ', "note": 0}'),
            "cut": right[:-1],
            "percent": right.replace(",", "%,"),
            "work as a list": right.replace(": ", ": [", 1).replace(",", "],", 1),
        }
        for label, answer in answers.items():
            yield label, answer if self.config.envelope == "none" else f"<answer>{answer}</answer>"
        if self.config.envelope == "answer":
            yield "no answer tag", right

    def check_cases(self) -> Iterable[tuple[str, str, str]]:
        """Rulings of the strict reading."""
        return reading_cases()

    def reward_audit(self, problems: Sequence[Problem]) -> dict[str, Any]:
        """The audit of the reward's terms on random answers. ``allow_inert`` makes a warning of a refusal."""
        from gradus.tasks.economy.audit import of_reward, table

        found = of_reward(problems, reward=self.config.reward, grid_penalty=self.config.grid_penalty)
        content = found.to_json() | {"table": table(found)}
        if found.refusal and self.config.allow_inert:
            said = f"{found.refusal.partition(';')[0]}; trained all the same, as allow_inert is set"
            content |= {"refusal": None, "warnings": [*found.warnings, said]}
        return content

    def health_rules(self) -> Sequence[Rule]:
        """Collapse to one answer, and answers that cannot be read."""
        return RULES

    def comparison_tables(
        self, base: Rows, trained: Rows, *, played: tuple[Played, Played] = (None, None)
    ) -> list[dict[str, Any]]:
        """Three answers, both models measure by measure, what the economies did, differences, ladder and strata."""
        from gradus.tasks.economy.analysis import compare
        from gradus.tasks.economy.analysis_tables import tables
        from gradus.tasks.economy.loop_table import loops_of

        return tables(compare(base, trained), loops_of(*played))

    def play(self, answer: Answer) -> dict[str, Any] | None:
        """Simulates economies in which the policy decides for some or all households."""
        config = self.config
        if not config.closed_loop_months:
            return None
        from gradus.tasks.economy.closed_loop import TextPolicy, sentence, simulate

        policy = TextPolicy(
            answer=answer,
            language=self.maker.languages[0],
            form=config.prompt,
            envelope=config.envelope,
            examples=self._examples_of,
            fallback=config.closed_loop_fallback,
        )
        loop = simulate(
            policy,
            economy_ids=range(config.closed_loop_economies),
            months=config.closed_loop_months,
            share=config.closed_loop_share,
        )
        return loop.to_json() | {"fallback": config.closed_loop_fallback, "sentence": sentence(loop)}

    def _examples_of(self, snapshot: Snapshot, household: int) -> Sequence[dict[str, Any]]:
        from gradus.tasks.economy.contexts import features

        return self.maker.examples(features(snapshot, household), None)

    def metrics(self, groups: Sequence[Group]) -> dict[str, float]:
        """Spread of both fields over the step: the first sign of collapse."""
        scores = [score for group in groups for score in group.scores if "info/work" in score.parts]
        row: dict[str, float] = {}
        if len(scores) < 2:
            return row
        for name in ("work", "consumption"):
            values = [score.parts[f"info/{name}"] for score in scores]
            mean = sum(values) / len(values)
            row[f"economy/{name}_mean"] = mean
            row[f"economy/{name}_std"] = (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5
        pairs = Counter((score.parts["info/work"], score.parts["info/consumption"]) for score in scores)
        row["economy/top1_frac"] = pairs.most_common(1)[0][1] / len(scores)
        return row
