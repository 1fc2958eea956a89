"""The task economy: options, problems, scorer and oracle put together. NumPy is loaded with the first problem."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from gradus.health.rule import Rule
from gradus.tasks.base import Answer, Task, TaskConfig
from gradus.tasks.economy.checks import reading_cases
from gradus.tasks.economy.decision import canonical
from gradus.tasks.economy.health import RULES
from gradus.tasks.economy.options import EconomyTaskConfig
from gradus.tasks.economy.reward import FAILED, SOURCE, read, score
from gradus.tasks.economy.values import Values
from gradus.types import SPLITS, Finish, Group, Problem, Score, Split

Rows = Sequence[Mapping[str, Any]]
_FEW_CONTEXTS = 20
"""Of two economies: enough for an example of another one's household."""

if TYPE_CHECKING:
    from gradus.tasks.economy.contexts import Context
    from gradus.tasks.economy.memory import Memory
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
    config: EconomyTaskConfig

    def __init__(self, config: TaskConfig) -> None:
        super().__init__(config)
        self._memory: Memory | None = None
        self.counts: Counter[str] = Counter()
        """What preparation left out or had too little of."""

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
        if self.config.source != "generate":
            from gradus.tasks.economy.files import read_problems

            yield from read_problems(self.config.source, split, limit, self.config.model_dump())
            return
        from gradus.tasks.economy.contexts import contexts

        languages = self._languages()
        num = None if limit is None else -(-limit // len(languages))
        left = limit
        for context in contexts(split, num, skip=self._skipped(split)):
            for problem in self._of_context(context):
                if left is not None:
                    left -= 1
                    if left < 0:
                        return
                yield problem

    def _skipped(self, split: Split) -> int:
        return self.config.skip_contexts if split == "train" else 0

    def example(self) -> Problem:
        """The first training problem, its examples chosen from few contexts: thousands take minutes to simulate."""
        few = min(self.config.memory_contexts, _FEW_CONTEXTS)
        task = self if not self.config.few_shot else type(self)(self.config.model_copy(update={"memory_contexts": few}))
        return next(task.problems("train", 1))

    def _languages(self) -> tuple[str, ...]:
        return ("en", "zh") if self.config.lang == "both" else (self.config.lang,)

    def _of_context(self, context: Context) -> Iterator[Problem]:
        """One problem per language; none where best and random answer are too close, which is counted."""
        from gradus.tasks.economy.counterfactual import value_table
        from gradus.tasks.economy.values import MIN_GAP

        values = value_table(context.snapshot, context.household, context.split)
        self.counts["cells_passed"] += context.num_passed
        if not values.gap >= MIN_GAP:
            self.counts["gap_too_small"] += 1
            return
        for language in self._languages():
            suffix = f"/{language}" if self.config.lang == "both" else ""
            place = {"split": context.split, "economy_seed": context.economy_seed, "cell": context.cell}
            place |= {"logged_work": context.logged[0], "logged_consumption": context.logged[1]}
            yield self._problem(
                f"economy/{context.id}{suffix}", context.snapshot, context.household, values, language, place
            )

    def problem(self, **raw: Any) -> Problem:
        """Builds a problem from ``snapshot`` and ``household``; its values are simulated with 32 shock sets."""
        if set(raw) != {"snapshot", "household"}:
            raise ValueError(
                f"an economy problem has the fields snapshot and household, not {', '.join(sorted(raw)) or 'none'}; "
                "for example task.problem(snapshot=economy.snapshot(0), household=3)"
            )
        from gradus.tasks.economy.counterfactual import value_table
        from gradus.tasks.economy.snapshot import Snapshot

        given, household = raw["snapshot"], raw["household"]
        snapshot = given if isinstance(given, Snapshot) else Snapshot.from_json(given)
        if isinstance(household, bool) or not isinstance(household, int):
            raise ValueError(f"household={household!r} must be a whole number")
        values = value_table(snapshot, household, "given")
        name = f"economy/given/{snapshot.id}/{household}"
        values.check(name)
        place: dict[str, Any] = {"split": "given", "economy_seed": None}
        if self.config.mode == "live":
            place["snapshot"] = snapshot.to_json()
        return self._problem(name, snapshot, household, values, self._languages()[0], place)

    def _problem(
        self,
        name: str,
        snapshot: Snapshot,
        household: int,
        values: Values,
        language: str,
        place: Mapping[str, Any],
    ) -> Problem:
        from gradus.tasks.economy import contexts, facts, memory, prompts

        config = self.config
        similar = contexts.features(snapshot, household)
        examples = self._examples(similar, place["economy_seed"])
        messages = prompts.messages(
            snapshot,
            household,
            language=language,
            form=config.prompt,
            envelope=config.envelope,
            examples=examples,
        )
        truth: dict[str, Any] = {
            "data_source": SOURCE,
            "snapshot_id": snapshot.id,
            "split": place["split"],
            "economy_seed": place["economy_seed"],
            "month": snapshot.month,
            "household": household,
            "state": {
                "ln_real_wage": similar["ln_real_wage"],
                "wealth_months": float(contexts.wealth(snapshot)[household]),
                "worked": int(snapshot.worked[household]),
                "wealth_tercile": contexts.tercile(float(contexts.wealth(snapshot)[household])),
            },
            **values.to_row(),
        }
        if examples:
            truth["few_shot"] = [[example["work"], example["consumption"]] for example in examples]
        if config.reward == "seed":
            truth["extra_info"] = facts.seed_facts(snapshot, household)
        if "snapshot" in place:
            truth["snapshot"] = place["snapshot"]
        meta = {key: value for key, value in place.items() if key not in ("split", "economy_seed", "snapshot")}
        return Problem(
            id=name,
            task=self.name,
            messages=messages,
            truth=truth,
            domain=contexts.regime(snapshot),
            difficulty=min(max(1 - values.reward(*memory.BEST_CONSTANT), 0.0), 1.0),
            meta={
                "source": config.source,
                "prompt": f"{prompts.PROMPT_IDS[config.prompt]}-{language}",
                "lang": language,
                "context_id": name.removesuffix(f"/{language}"),
                "regime_seed": contexts.regime_seed(snapshot),
                "features": similar,
                "ln_real_savings": _ln_real_savings(snapshot, household),
                "rate": snapshot.rate,
                "few_shot_ids": [example["id"] for example in examples],
                "cluster": f"economy {place['economy_seed']}" if place["economy_seed"] is not None else name,
                **meta,
            },
        )

    def _examples(self, query: Mapping[str, float], economy_seed: int | None) -> Sequence[dict[str, Any]]:
        k = self.config.few_shot
        if not k:
            return ()
        found = self.memory.nearest(query, economy_seed=economy_seed, k=k)
        self.counts["examples_missing"] += k - len(found)
        return found

    @property
    def memory(self) -> Memory:
        """Good decisions of the training economies, built when first needed."""
        if self._memory is None:
            from gradus.tasks.economy.contexts import contexts
            from gradus.tasks.economy.memory import Memory

            self._memory = Memory.build(contexts("train", self.config.memory_contexts))
        return self._memory

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
            _snapshot_of(problem),
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

    def training_refusal(self, problems: Sequence[Problem]) -> str | None:
        """By the audit of the reward's terms on random answers."""
        if self.config.reward != "seed" or self.config.allow_inert:
            return None
        from gradus.tasks.economy.audit import of_seed_reward

        return of_seed_reward([problem.truth["extra_info"] for problem in problems]).refusal

    def health_rules(self) -> Sequence[Rule]:
        """Collapse to one answer, and answers that cannot be read."""
        return RULES

    def comparison_tables(self, base: Rows, trained: Rows) -> list[dict[str, Any]]:
        """Ladder, main table, differences, strata and collapse of both models."""
        from gradus.tasks.economy.analysis import compare, tables

        return tables(compare(base, trained))

    def play(self, answer: Answer) -> dict[str, Any] | None:
        """Simulates economies in which the policy decides for some or all households."""
        config = self.config
        if not config.closed_loop_months:
            return None
        from gradus.tasks.economy.closed_loop import TextPolicy, sentence, simulate

        policy = TextPolicy(
            answer=answer,
            language=self._languages()[0],
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

        return self._examples(features(snapshot, household), None) if self.config.few_shot else ()

    def play_tables(self, base: Mapping[str, Any] | None, trained: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        """What the economies did with both models."""
        from gradus.tasks.economy.closed_loop import Loop
        from gradus.tasks.economy.loop_table import loop_table

        loops = {name: Loop.from_json(one) for name, one in (("base", base), ("trained", trained)) if one}
        return [loop_table(loops)] if loops else []

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


def _ln_real_savings(snapshot: Snapshot, household: int) -> float:
    """Savings in units of 16.8 goods, as a logarithm: a feature of the regression rung."""
    import math

    return math.log1p(float(snapshot.savings[household]) / (16.8 * snapshot.price))


def _snapshot_of(problem: Problem) -> Snapshot:
    """The snapshot that a problem was made from: stored, or simulated again from its economy's seed."""
    from gradus.tasks.economy.contexts import moment_of
    from gradus.tasks.economy.errors import DataError
    from gradus.tasks.economy.snapshot import Snapshot

    truth = problem.truth
    if "snapshot" in truth:
        return Snapshot.from_json(truth["snapshot"])
    if truth.get("economy_seed") is None:
        raise DataError(f"{problem.id}: mode='live' needs a snapshot, and the row has neither one nor an economy seed")
    snapshot = moment_of(truth["economy_seed"], truth["month"]).snapshot
    if snapshot.id != truth["snapshot_id"]:
        raise DataError(f"{problem.id}: snapshot {truth['snapshot_id']} was made by another version; prepare it again")
    return snapshot
