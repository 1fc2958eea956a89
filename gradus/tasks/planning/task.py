"""The task `planning`: problems from the built-in generators or from a data folder, scored by the plan checker."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Any, ClassVar

from gradus.seeds import seed_of
from gradus.tasks.base import Task
from gradus.tasks.planning.cache import load_problem
from gradus.tasks.planning.demonstration import as_text, with_slips
from gradus.tasks.planning.domains import FAMILIES
from gradus.tasks.planning.folder import reference_plan
from gradus.tasks.planning.generate import Instance, domain_of, plan_text, sources
from gradus.tasks.planning.given import load_folder, stored_messages
from gradus.tasks.planning.measure import measure
from gradus.tasks.planning.options import PlanningConfig
from gradus.tasks.planning.pddl import Problem as PlanningProblem
from gradus.tasks.planning.plan import Action, parse_plan
from gradus.tasks.planning.prompt import build_prompt
from gradus.tasks.planning.rename import rename
from gradus.tasks.planning.reward import PlanningReward
from gradus.tasks.planning.table import difficulty_tables
from gradus.tasks.planning.validate import STATUS_OF_CODE, STATUSES
from gradus.tasks.planning.worked import Line, worked
from gradus.types import SPLITS, Finish, Group, Problem, Score, Split

_log = logging.getLogger(__name__)


class Planning(Task):
    """Find a plan in a PDDL domain.

    Example:
        task = load_task("planning", domains=["ferry"], preset="nano")
        problem = next(task.problems("train"))
        task.score(problem, task.oracle(problem)).correct  # True
    """

    name: ClassVar[str] = "planning"
    Config = PlanningConfig
    scorer_class = "inline"
    config: PlanningConfig

    def __init__(self, config: PlanningConfig) -> None:
        super().__init__(config)
        self.reward = PlanningReward(config.reward, **config.reward_constants)

    @property
    def reward_range(self) -> tuple[float, float]:
        """Of the profile."""
        return self.reward.range

    def problems(self, split: Split, limit: int | None = None) -> Iterator[Problem]:
        """Yields the problems of a split, domains in turn, so that the first of them are a fair sample."""
        by_domain = self._from_folder(split) if self.config.data_root else self._generated(split)
        for number, problem in enumerate(_in_turn(by_domain)):
            if limit is not None and number >= limit:
                return
            yield problem

    def problem(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, *, domain_text: str, problem_text: str, reference_length: int | None = None
    ) -> Problem:
        """Builds a problem from PDDL texts. Raises PddlError (a ValueError) for what cannot be read."""
        if reference_length is not None and (not isinstance(reference_length, int) or reference_length < 0):
            raise ValueError(f"reference_length={reference_length!r} must be a number of actions or None")
        problem = load_problem(domain_text, problem_text)
        names = {domain_of(family).name: family.name for family in FAMILIES.values()}
        domain = names.get(problem.domain.name, problem.domain.name)
        return self._problem(
            f"planning/given/{problem.name}", domain, problem.name, problem, reference_length=reference_length
        )

    def score(self, problem: Problem, text: str, *, finish: Finish = "stop") -> Score:
        """Judges the last block of actions in ``text`` by executing it."""
        if not isinstance(text, str):
            raise TypeError(f"a completion is a str, not {type(text).__name__}")
        reference_length = problem.truth.get("reference_length", problem.truth.get("ref_len"))  # rows of a data folder
        parsed = load_problem(problem.truth["domain"], problem.truth["problem"])
        result = self.reward(parsed, text, reference_length)
        verdict = result.verdict
        assert verdict is not None, "a text has a verdict"
        facts = {
            "info/format_fail": float(verdict.status == "malformed"),
            "info/goals_frac": verdict.goals_satisfied / verdict.goals_total if verdict.goals_total else 1.0,
            "info/truncated": float(finish == "length"),
        }
        if verdict.valid and reference_length:
            facts["info/length_ratio"] = verdict.plan_length / reference_length
        return Score(
            reward=result.total,
            correct=verdict.valid,
            parts={**result.parts, **facts},
            why=f"{result.code}: {verdict.message}",
        )

    def oracle(self, problem: Problem) -> str:
        """The reference plan, one action per line. ValueError where none is known and none is found."""
        if problem.truth.get("plan"):
            return problem.truth["plan"]
        parsed = load_problem(problem.truth["domain"], problem.truth["problem"])
        actions = reference_plan(parsed, problem.domain)
        if actions is None:
            raise ValueError(
                f"no plan was found for {problem.id}; store one beside the problem (.soln) or leave it out"
            )
        return plan_text(actions).rstrip("\n")

    def demonstration(self, problem: Problem) -> str:
        """The reference plan or the worked one, with slips where ``slip_rate`` asks for them: a function of the seed and
        the problem."""
        config = self.config
        parsed = load_problem(problem.truth["domain"], problem.truth["problem"])
        lines: list[Line] = [*parse_plan(self.oracle(problem)).actions]
        if config.demonstrations == "worked":
            lines = worked(parsed, problem.domain)
        if config.slip_rate:
            random = Random(seed_of("demonstration", config.seed, problem.id))
            lines = with_slips(parsed, lines, config.slip_rate, random)
        return as_text(lines)

    def near_misses(self, problem: Problem) -> Iterable[tuple[str, str]]:
        """Plans that look right and are not."""
        lines = self.oracle(problem).splitlines()
        plan = "\n".join(lines)
        yield "last action missing", "\n".join(lines[:-1])
        yield "first action twice", "\n".join([lines[0], *lines])
        yield "an unknown action behind", f"{plan}\n(done)"
        yield "an open parenthesis behind", f"{plan}\n({lines[0].strip('()').split()[0]}"
        yield "plan in the reasoning only", f"<think>{plan}</think>"
        yield "reasoning without end", f"<think>{plan}"
        yield "another plan behind it", f"{plan}\nOr rather:\n{lines[0]}"

    @classmethod
    def data_options(cls, path: str) -> dict[str, Any]:
        """A folder that is not split keeps a tenth of its instances for the other splits."""
        is_split = any(any((Path(path) / split).glob("*.jsonl")) for split in SPLITS)
        return {"data_root": path} if is_split else {"data_root": path, "held_out": 0.1}

    def data_lines(self) -> list[str]:
        """The difficulty table of the data folder."""
        config = self.config
        if config.data_root is None:
            return []
        tables, notes = difficulty_tables(
            config.data_root, domains=config.domains, pddl_root=config.pddl_root, formula=config.formula,
            source=config.score_source, allow_bad_rows=config.allow_bad_rows,
        )  # fmt: skip
        return [*notes, *(line for table in tables for line in ("", *table.lines()))]

    def metrics(self, groups: Sequence[Group]) -> dict[str, float]:
        """Rates of verdicts over the completions of a step, by status, by status and domain, and by code; length of valid
        plans over that of the reference."""
        counts: Counter[str] = Counter()
        totals: Counter[str] = Counter()
        for group in groups:
            for score in group.scores:
                code = score.why.partition(":")[0]
                status = STATUS_OF_CODE.get(code)
                if status is not None:
                    totals.update(("", group.problem.domain))
                    counts.update((f"verdict/{status}", f"verdict/{status}/{group.problem.domain}"))
                    counts.update((f"verdict/code/{code}",))
        row = {name: count / totals[""] for name, count in counts.items()}
        for domain in sorted(set(totals) - {""}):
            for status in STATUSES:
                row[f"verdict/{status}/{domain}"] = counts[f"verdict/{status}/{domain}"] / totals[domain]
        ratios = [
            score.parts["info/length_ratio"] for g in groups for score in g.scores if "info/length_ratio" in score.parts
        ]
        if ratios:
            row["plan/length_ratio"] = sum(ratios) / len(ratios)
        if totals[""]:
            row |= {f"verdict/{status}": counts[f"verdict/{status}"] / totals[""] for status in STATUSES}
        return dict(sorted(row.items()))

    # --- where problems come from --------------------------------------------------------------------------------

    def _generated(self, split: Split) -> list[Iterator[Problem]]:
        config = self.config
        count = {"train": config.num_train, "validation": config.num_validation, "test": config.num_test}[split]
        supplies = sources(
            self._domains(config.domains or tuple(FAMILIES), split),
            split,
            preset=config.preset,
            seed=config.seed,
            constraint_rate=config.constraint_rate,
        )

        def supply(name: str) -> Iterator[Problem]:
            source = supplies[name]
            for number, made in enumerate(source.take(count)):
                yield self._from_instance(f"planning/{split}/{name}/{number:05d}", made)
            for shortage in source.shortages:
                _log.warning(
                    "%s %s: %d %s problems are missing, there are no more different ones of these sizes",
                    name, split, shortage.num_missing, shortage.level,
                )  # fmt: skip

        return [supply(name) for name in supplies]

    def _domains(self, names: Sequence[str], split: Split) -> list[str]:
        return [name for name in names if split == "test" or name != self.config.holdout]

    def _from_instance(self, identity: str, made: Instance) -> Problem:
        draft = made.draft
        meta = {"reference_is_optimal": made.reference.is_optimal, "level": made.level}
        if made.plain_length is not None:
            meta |= {"plain_length": made.plain_length, "constraint_binds": made.binds}
        return self._problem(
            identity,
            draft.family.name,
            draft.name,
            draft.problem,
            reference_length=len(made.reference.actions),
            plan=made.reference.actions,
            meta=meta,
        )

    def _from_folder(self, split: Split) -> list[Iterator[Problem]]:
        loaded = load_folder(self.config, split)
        by_domain: dict[str, list[Problem]] = {}
        for entry in loaded:
            domain = entry.row.domain
            number = len(by_domain.setdefault(domain, []))
            plan = parse_plan(entry.plan, "lenient").actions if entry.plan is not None else None
            meta = {"source": entry.row.place, "problem_id": entry.row.meta.get("problem_id")}
            by_domain[domain].append(
                self._problem(
                    f"planning/{split}/{domain}/{number:05d}",
                    domain,
                    entry.row.file_name,
                    entry.problem,
                    reference_length=entry.reference_length,
                    plan=plan,
                    stored_prompt=entry.row.prompt,
                    meta=meta,
                )
            )
        self._warn_of_names(by_domain)
        return [iter(_mixed(problems)) for problems in by_domain.values()]

    def _warn_of_names(self, by_domain: dict[str, list[Problem]]) -> None:
        for domain, problems in by_domain.items():
            names = [problem.meta["name"] for problem in problems if "name_is_unreadable" in problem.meta]
            if names:
                _log.warning(
                    "domain %s: %d file names say no sizes (%s)", domain, len(names), ", ".join(map(repr, names[:3]))
                )

    def _problem(
        self,
        identity: str,
        domain: str,
        file_name: str,
        problem: PlanningProblem,
        *,
        reference_length: int | None,
        plan: Sequence[Action] | None = None,
        stored_prompt: Any = None,
        meta: Mapping[str, Any] = MappingProxyType({}),
    ) -> Problem:
        config = self.config
        measured = measure(
            domain, file_name, problem, source=config.score_source, formula=config.formula,
            unreadable=config.unreadable, reference_length=reference_length,
        )  # fmt: skip
        if config.anonymise != "none":
            seed = seed_of("anonymise", config.seed, identity)
            renamed = rename(problem, plan or (), level=config.anonymise, seed=seed)
            problem = load_problem(renamed.domain_text, renamed.problem_text)
            plan = renamed.actions if plan is not None else None
        style = config.prompt if config.prompt != "auto" else "keep" if stored_prompt is not None else "rebuild"
        if style == "keep" and stored_prompt is not None:
            messages = stored_messages(stored_prompt)
        else:
            messages = build_prompt(problem, "brief" if style == "brief" else "full", domain)
        oddities: dict[str, Any] = {} if measured.is_readable else {"name_is_unreadable": True}
        if measured.is_easy_by_rule:
            oddities["bucket"] = "easy"
        return Problem(
            id=identity,
            task=self.name,
            messages=messages,
            truth={
                "domain": problem.domain.text,
                "problem": problem.text,
                "reference_length": reference_length,
                "plan": plan_text(plan).rstrip("\n") if plan is not None else None,
            },
            domain=domain,
            difficulty=measured.difficulty,
            meta={
                "name": file_name,
                "score": measured.score,
                "reference_length": reference_length,
                **oddities,
                **meta,
            },
        )


def _mixed(problems: list[Problem]) -> list[Problem]:
    """A fixed order that has nothing to do with sizes, so that the first problems are a fair sample."""
    return sorted(problems, key=lambda problem: seed_of("order", problem.id))


def _in_turn(iterators: Iterable[Iterator[Problem]]) -> Iterator[Problem]:
    """One from each iterator in turn until all are empty."""
    waiting = list(iterators)
    while waiting:
        for iterator in list(waiting):
            problem = next(iterator, None)
            if problem is None:
                waiting.remove(iterator)
            else:
                yield problem
