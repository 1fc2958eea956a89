"""Where the problems come from: simulated economies, a prepared folder, or one snapshot that was given.

Each way finds cases: a household at a moment, and what answers are worth there. A case is then put into words, once for
each language, with examples where wanted. `task.py` judges answers, and needs nothing of this and no NumPy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import Any

from gradus.data.intake import Intake
from gradus.tasks.economy import contexts, counterfactual, facts, files, memory, prompts
from gradus.tasks.economy.archive import Archive
from gradus.tasks.economy.errors import DataError
from gradus.tasks.economy.options import EconomyTaskConfig
from gradus.tasks.economy.reward import SOURCE
from gradus.tasks.economy.snapshot import Snapshot
from gradus.tasks.economy.values import MIN_GAP, Values
from gradus.types import Problem, Split

Examples = Sequence[dict[str, Any]]
_FEW_CONTEXTS = 20
"""Of two economies: enough for an example of another one's household."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A household at a moment, before it is put into words.

    Example:
        Case(id="economy/train/00007", snapshot=snapshot, household=41, values=values, split="train", economy_seed=0)
    """

    id: str
    """Of the context; ids of problems begin with it."""
    snapshot: Snapshot
    household: int
    values: Values
    split: str
    economy_seed: int | None
    """None for a snapshot that was given."""
    origin: Mapping[str, Any] = field(default_factory=dict)
    """What else is kept of where it comes from."""
    keeps_snapshot: bool = False
    """Whether the problem carries the snapshot, because it cannot be simulated again."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One of the ways in which a case is put into words.

    Example:
        Variant("zh", has_examples=True)
    """

    language: str
    has_examples: bool


class ProblemMaker:
    """Makes the problems of a task with these options.

    Example:
        next(ProblemMaker(EconomyTaskConfig(), {}).of_split("train", 1)).id  # "economy/train/00000"
    """

    def __init__(self, config: EconomyTaskConfig, intakes: dict[Split, Intake]) -> None:
        """``intakes`` is filled with what became of the contexts of each split."""
        self.config = config
        self.counts: Counter[str] = Counter()
        """What the making passed over or had too little of."""
        self._intakes = intakes
        self._archives: dict[str, Archive | None] = {}

    # ------------------------------------------------------------------ the three sources

    def of_split(self, split: Split, limit: int | None) -> Iterator[Problem]:
        """Yields the problems of a split in fixed order. DataError or LeakageError for rows that cannot be used."""
        is_simulated = self.config.source == "generate"
        variants = self.variants(split)
        if not is_simulated and not files.options_that_differ(self.config.source, self.config.model_dump()):
            skip = self._skipped(split) * len(variants)
            end = None if limit is None else skip + limit
            yield from islice(files.read_problems(self.config.source, split), skip, end)
            return
        cases = self._simulated(split, limit) if is_simulated else self._stored(split)
        yield from islice(self._worded(cases, variants, split), limit)

    def given(self, snapshot: Snapshot, household: int) -> Problem:
        """The problem of a household of any snapshot, valued with 32 shock sets. DataError where no answer matters."""
        case = Case(
            id=f"economy/given/{snapshot.id}/{household}",
            snapshot=snapshot,
            household=household,
            values=counterfactual.value_table(snapshot, household, "given"),
            split="given",
            economy_seed=None,
            keeps_snapshot=self.config.mode == "live",
        )
        case.values.check(case.id)
        return self.problem(case, Variant(self.languages[0], has_examples=True), case.id)

    def example(self) -> Problem:
        """The first training problem, its examples chosen from few contexts: thousands take minutes to simulate."""
        few = min(self.config.memory_contexts, _FEW_CONTEXTS)
        quick = self.config.model_copy(update={"memory_contexts": few}) if self.config.few_shot else self.config
        return next(ProblemMaker(quick, {}).of_split("train", 1))

    def _simulated(self, split: Split, limit: int | None) -> Iterator[Case]:
        num = None if limit is None else -(-limit // len(self.variants(split)))
        self._intakes[split] = Intake()
        for context in contexts.contexts(split, num, skip=self._skipped(split)):
            self.counts[f"cells_passed/{split}"] += context.num_passed
            self.counts[f"cell/{split}/{contexts.cell_name(context.cell)}"] += 1
            yield Case(
                id=f"economy/{context.id}",
                snapshot=context.snapshot,
                household=context.household,
                values=counterfactual.value_table(context.snapshot, context.household, context.split),
                split=context.split,
                economy_seed=context.economy_seed,
                origin={
                    "cell": context.cell,
                    "logged_work": context.logged[0],
                    "logged_consumption": context.logged[1],
                },
            )

    def _stored(self, split: Split) -> Iterator[Case]:
        """The contexts of a folder that was prepared with other prompts; nothing is valued again."""
        rows = {row.meta["context_id"]: row for row in files.read_problems(self.config.source, split)}
        for name, row in islice(rows.items(), self._skipped(split), None):
            yield Case(
                id=name,
                snapshot=self.snapshot_of(row),
                household=row.truth["household"],
                values=Values.from_row(row.truth, row.id),
                split=row.truth["split"],
                economy_seed=row.truth["economy_seed"],
                origin={key: row.meta[key] for key in ("cell", "logged_work", "logged_consumption")},
            )

    def _skipped(self, split: Split) -> int:
        return self.config.skip_contexts if split == "train" else 0

    # ------------------------------------------------------------------ from cases to problems

    @property
    def languages(self) -> tuple[str, ...]:
        """Of the prompts."""
        return ("en", "zh") if self.config.lang == "both" else (self.config.lang,)

    def variants(self, split: Split) -> list[Variant]:
        """How every case of a split is put into words."""
        is_doubled = self.config.without_examples and split != "train"
        return [Variant(one, has) for one in self.languages for has in ((True, False) if is_doubled else (True,))]

    def _worded(self, cases: Iterator[Case], variants: Sequence[Variant], split: Split) -> Iterator[Problem]:
        """A problem for each case and variant; none where best and random answer are too close, which is counted."""
        for case in cases:
            for variant in variants:
                name = case.id
                name += f"/{variant.language}" if self.config.lang == "both" else ""
                name += "" if variant.has_examples else "/bare"
                if self.config.source == "generate":
                    self._intakes[split].num_rows += 1
                    if not case.values.gap >= MIN_GAP:
                        self._intakes[split].drop("gap_too_small", name)
                        continue
                yield self.problem(case, variant, name)

    def problem(self, case: Case, variant: Variant, name: str) -> Problem:
        """The case in words, with all that it is judged and analysed by."""
        snapshot, household = case.snapshot, case.household
        similar = contexts.features(snapshot, household)
        examples = self.examples(similar, case.economy_seed) if variant.has_examples else ()
        wealth = float(contexts.wealth(snapshot)[household])
        truth: dict[str, Any] = {
            "data_source": SOURCE,
            "snapshot_id": snapshot.id,
            "split": case.split,
            "economy_seed": case.economy_seed,
            "month": snapshot.month,
            "household": household,
            "state": {
                "ln_real_wage": similar["ln_real_wage"],
                "wealth_months": wealth,
                "worked": int(snapshot.worked[household]),
                "wealth_tercile": contexts.tercile(wealth),
                "regression": contexts.regression_features(snapshot, household),
            },
            **case.values.to_row(),
            "extra_info": facts.seed_facts(snapshot, household),
        }
        if case.keeps_snapshot:
            truth["snapshot"] = snapshot.to_json()
        meta = {
            "source": self.config.source,
            "prompt": f"{prompts.PROMPT_IDS[self.config.prompt]}-{variant.language}",
            "lang": variant.language,
            "context_id": case.id,
            "regime_seed": contexts.regime_seed(snapshot),
            "features": similar,
            "cluster": case.id if case.economy_seed is None else f"economy {case.economy_seed}",
            **case.origin,
        }
        bare = Problem(
            id=name,
            task="economy",
            messages=(),
            truth=truth,
            domain=contexts.regime(snapshot),
            difficulty=min(max(1 - case.values.reward(*memory.BEST_CONSTANT), 0.0), 1.0),
            meta=meta,
        )
        return self._told(bare, snapshot, examples)

    def _told(self, problem: Problem, snapshot: Snapshot, examples: Examples, *, has_table: bool = True) -> Problem:
        """The problem with its prompt, and with a record of the examples in it."""
        messages = prompts.messages(
            snapshot,
            problem.truth["household"],
            language=problem.meta["lang"],
            form=self.config.prompt,
            envelope=self.config.envelope,
            examples=examples,
            has_table=has_table,
        )
        truth = {key: value for key, value in problem.truth.items() if key != "few_shot"}
        if examples:
            truth["few_shot"] = [[example["work"], example["consumption"]] for example in examples]
        meta = {**problem.meta, "few_shot_ids": [example["id"] for example in examples]}
        return replace(problem, messages=messages, truth=truth, meta=meta)

    def shorter(self, problem: Problem) -> Iterator[Problem]:
        """Ever shorter prompts for the same decision: without the last example, the one before, at last the table."""
        if self.config.prompt != "full":
            return
        by_id = {row["id"]: row for row in self.memory.rows} if problem.meta["few_shot_ids"] else {}
        examples = [by_id[name] for name in problem.meta["few_shot_ids"]]
        snapshot = self.snapshot_of(problem)
        for num in reversed(range(len(examples))):
            yield _marked(self._told(problem, snapshot, examples[:num]), has_table=True)
        yield _marked(self._told(problem, snapshot, (), has_table=False), has_table=False)

    # ------------------------------------------------------------------ what they are made of

    @cached_property
    def memory(self) -> memory.Memory:
        """Good decisions of the training economies: built when first needed, or read from the prepared folder."""
        kept = None if self.config.source == "generate" else files.read_memory(self.config.source)
        return kept or memory.Memory.build(contexts.contexts("train", self.config.memory_contexts))

    def examples(self, query: Mapping[str, float], economy_seed: int | None) -> list[dict[str, Any]]:
        """The most similar good decisions, none where the options want none; too few are counted."""
        if not self.config.few_shot:
            return []
        found = self.memory.nearest(query, economy_seed=economy_seed, k=self.config.few_shot)
        self.counts["examples_missing"] += self.config.few_shot - len(found)
        return found

    def snapshot_of(self, problem: Problem) -> Snapshot:
        """The snapshot that a problem was made from: its own, the prepared folder's, or simulated again from the seed of
        its economy. DataError where none can be had."""
        truth = problem.truth
        if "snapshot" in truth:
            return Snapshot.from_json(truth["snapshot"])
        archive = self._archive(truth["split"])
        if archive is not None:
            if truth["snapshot_id"] not in archive:
                raise DataError(
                    f"{problem.id}: snapshot {truth['snapshot_id']} is not beside the rows; prepare them again"
                )
            return archive[truth["snapshot_id"]]
        if truth.get("economy_seed") is None:
            raise DataError(f"{problem.id}: a snapshot is needed, and the row has neither one nor an economy seed")
        snapshot = contexts.moment_of(truth["economy_seed"], truth["month"]).snapshot
        if snapshot.id != truth["snapshot_id"]:
            raise DataError(
                f"{problem.id}: snapshot {truth['snapshot_id']} was made by another version; prepare it again"
            )
        return snapshot

    def _archive(self, split: str) -> Archive | None:
        if split not in self._archives:
            is_simulated = self.config.source == "generate"
            self._archives[split] = None if is_simulated else files.read_snapshots(self.config.source, split)
        return self._archives[split]


def _marked(problem: Problem, *, has_table: bool) -> Problem:
    return replace(problem, meta={**problem.meta, "has_table": has_table})
