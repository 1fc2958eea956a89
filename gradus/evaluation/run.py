"""Running an evaluation: the same problems and seeds for every model, rows and summary on disk.

`Evaluator` serves training (one engine, many steps); `evaluate_model` serves `gradus evaluate` (any model address).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradus import durable
from gradus.config import Config
from gradus.data.problems import contamination, fingerprint, held_out_problems, load_problems, load_tasks
from gradus.evaluation.compare import compare
from gradus.evaluation.evaluate import rows, summarize
from gradus.exits import Exit
from gradus.jsonl import to_lines
from gradus.recipe import Resolved
from gradus.rollout.engine import Engine, Request, Sampling
from gradus.rollout.ranks import ALONE, Ranks
from gradus.rollout.rollout import PromptTokens, evaluation_seeds, roll_out
from gradus.rundir import RunDirectory
from gradus.tasks.base import Answer, Task
from gradus.types import Message, Problem, Split

if TYPE_CHECKING:
    from gradus.policy.load import Policy


def make_engine(config: Config, policy: Policy, tasks: Mapping[str, Task]) -> Engine:
    """The engine that ``engine.name`` names."""
    if config.engine.name == "scripted":
        from gradus.rollout.scripted import ScriptedEngine

        return ScriptedEngine(dict(tasks), error_rate=config.engine.error_rate)
    if config.engine.name == "vllm":
        from gradus.rollout.vllm import VllmEngine

        return VllmEngine.of(
            policy,
            max_tokens=config.sampling.max_tokens,
            max_prompt_tokens=config.sampling.max_prompt_tokens,
            memory_frac=config.engine.gpu_memory_frac,
            batch_size=config.engine.batch_size,
        )
    from gradus.rollout.local import LocalEngine

    return LocalEngine(policy, batch_size=config.engine.batch_size)


def evaluate_problems(
    engine: Engine,
    prompt_tokens: PromptTokens,
    config: Config,
    problems: Sequence[Problem],
    tasks: Mapping[str, Task],
    *,
    split: Split,
    model: str,
    policy_step: int,
    template: str,
    poll: Callable[[], None] = lambda: None,
    buckets: Mapping[str, str] | None = None,
    ranks: Ranks = ALONE,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows and summary. Temperature 0 takes one completion per problem. An exception of ``poll`` drops it all.
    ``buckets``: problem id to difficulty bucket."""
    evaluation = config.evaluation
    temperature = config.sampling.temperature if evaluation.temperature is None else evaluation.temperature
    num_samples = 1 if temperature == 0 else evaluation.samples_per_problem
    started = time.monotonic()
    groups = roll_out(
        engine,
        tasks,
        problems,
        prompt_tokens=prompt_tokens,
        seeds=lambda problem: evaluation_seeds(evaluation.seed, split, problem.id, num_samples),
        sampling=Sampling(temperature=temperature, max_tokens=config.sampling.max_tokens),
        policy_step=policy_step,
        poll=poll,
        ranks=ranks,
    )
    settings = {
        "model": model,
        "split": split,
        "temperature": temperature,
        "samples_per_problem": num_samples,
        "template_sha256": hashlib.sha256(template.encode()).hexdigest(),
        "seconds": time.monotonic() - started,
        **_common_settings(config, problems),
    }
    only_task = next(iter(tasks.values())) if len(tasks) == 1 else None
    evaluated = rows(groups, buckets=buckets, tasks=tasks)
    summary = summarize(evaluated, settings=settings, reward_range=only_task.reward_range if only_task else None)
    if config.engine.name != "scripted":  # which can answer problems only
        limit = Sampling(temperature=0.0, max_tokens=config.sampling.max_tokens)
        answer = _answering(engine, prompt_tokens, limit, policy_step=policy_step, poll=poll)
        summary |= ranks.from_first(lambda: _played(tasks, answer))
    return evaluated, summary


def _common_settings(config: Config, problems: Sequence[Problem]) -> dict[str, Any]:
    """What an evaluation's summary says of how it was made, as far as the config decides it."""
    return {
        "top_p": 1.0,
        "max_tokens": config.sampling.max_tokens,
        "seed": config.evaluation.seed,
        "engine": config.engine.name,
        "problems_sha256": fingerprint(problems),
        "scorer_sha256": scorer_hash(config),
    }


def _played(tasks: Mapping[str, Task], answer: Answer) -> dict[str, Any]:
    """What tasks say that let the policy act in a world of theirs; nothing without such a task."""
    found = {name: facts for name, task in tasks.items() if (facts := task.play(answer)) is not None}
    return {"played": found} if found else {}


def _answering(
    engine: Engine,
    prompt_tokens: PromptTokens,
    sampling: Sampling,
    *,
    policy_step: int,
    poll: Callable[[], None],
) -> Answer:
    """The policy as a function from prompts to texts; equal prompts are sampled once, as their answers are equal."""

    def answer(prompts: Sequence[Sequence[Message]]) -> list[str]:
        tokens = [prompt_tokens(messages) for messages in prompts]
        places = {one: place for place, one in enumerate(dict.fromkeys(tokens))}
        first = dict(zip(reversed(tokens), reversed(prompts), strict=True))
        requests = [
            Request(
                problem=Problem(
                    id=f"played/{place}", task="played", messages=tuple(first[one]), truth={}, domain="", difficulty=0.0
                ),
                prompt_tokens=one,
                seeds=(0,),
            )
            for one, place in places.items()
        ]
        texts = [one[0].text for one in engine.generate(requests, sampling, policy_step=policy_step, poll=poll)]
        return [texts[places[one]] for one in tokens]

    return answer


def scorer_hash(config: Config) -> str:
    """SHA-256 of the tasks and their options: what decides how an answer is judged."""
    import gradus

    content = {"tasks": {name: dict(options) for name, options in config.tasks.items()}, "gradus": gradus.__version__}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=list).encode()).hexdigest()


def task_tables(
    tasks: Mapping[str, Task],
    base_rows: Sequence[Mapping[str, Any]],
    trained_rows: Sequence[Mapping[str, Any]],
    *,
    base: Mapping[str, Any] | None = None,
    trained: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Each task's own tables of a comparison; its rows are those whose problem ids begin with its name. ``base`` and
    ``trained`` are the summaries."""
    found: list[dict[str, Any]] = []
    for name, task in tasks.items():
        mine = [[row for row in rows if row["problem_id"].startswith(name)] for rows in (base_rows, trained_rows)]
        played = [(one or {}).get("played", {}).get(name) for one in (base, trained)]
        if all(mine):
            found += [dict(table) for table in task.comparison_tables(*mine, played=(played[0], played[1]))]
    return found


class Evaluator:
    """Held-out evaluations of one run, each paired with that of the base model.

    Example:
        evaluator = Evaluator(run, config, problems, tasks)
        row |= evaluator.evaluate(engine, policy.prompt_tokens, step=100, poll=stop.poll)
    """

    def __init__(
        self,
        run: RunDirectory,
        config: Config,
        problems: Sequence[Problem],
        tasks: Mapping[str, Task],
        *,
        train: Sequence[Problem] = (),
        buckets: Mapping[str, str] | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        """``train`` are the training problems, in which the held-out ones are looked for."""
        self._ranks = ranks
        self._contamination = contamination(problems, train)
        self._run, self._config, self._problems, self._tasks = run, config, problems, tasks
        self._buckets = buckets
        self._split: Split = config.evaluation.split

    def has(self, step: int) -> bool:
        """Whether the policy after ``step`` updates has been evaluated."""
        return step in self._run.evaluation_steps(self._split)

    def evaluate(self, engine: Engine, policy: Policy, *, step: int, poll: Callable[[], None]) -> dict[str, float]:
        """Evaluates, writes rows and summary, and returns the metrics of the step's row."""
        evaluated, summary = evaluate_problems(
            engine,
            policy.prompt_tokens,
            self._config,
            self._problems,
            self._tasks,
            split=self._split,
            model=f"{self._run.path.name}@{'base' if step == 0 else step}",
            policy_step=step,
            template=str(policy.tokenizer.chat_template),
            poll=poll,
            buckets=self._buckets,
            ranks=self._ranks,
        )
        summary["contamination"] = self._contamination
        self._run.write_evaluation(self._split, step, evaluated, summary)
        prefix = f"evaluation/{self._split}"
        row = {
            f"{prefix}/solve_rate": summary["pass_at_1"]["value"],
            f"{prefix}/solve_rate_low": summary["pass_at_1"]["low"],
            f"{prefix}/solve_rate_high": summary["pass_at_1"]["high"],
            f"{prefix}/mean_accuracy": summary["mean_accuracy"]["value"],
            f"{prefix}/avg_entropy_bits": summary["avg_entropy_bits"]["value"],
            "time/evaluation_seconds": summary["settings"]["seconds"],
        }
        row |= {f"{prefix}/pass_at_{k}": estimate["value"] for k, estimate in summary["pass_at"].items() if k != "1"}
        return {key: value for key, value in row.items() if value is not None}

    def better(self, row: Mapping[str, float], best_value: float | None) -> float | None:
        """The primary metric of ``row`` if it beats ``best_value``, else None."""
        name = {"pass_at_1": "solve_rate", "mean_accuracy": "mean_accuracy"}[self._config.evaluation.primary_metric]
        value = row[f"evaluation/{self._split}/{name}"]
        return value if best_value is None or value > best_value else None

    def against_base(self) -> dict[str, Any] | None:
        """Comparison of the newest evaluation with the base model's; written as comparison.json and comparison.md."""
        return self._ranks.from_first(self._against_base)

    def _against_base(self) -> dict[str, Any] | None:
        steps = self._run.evaluation_steps(self._split)
        if len(steps) < 2 or steps[0] != 0:
            return None
        (base_rows, base), (last_rows, last) = (self._run.read_evaluation(self._split, step) for step in (0, steps[-1]))
        result = compare(
            base_rows,
            last_rows,
            metric=self._config.evaluation.primary_metric,
            base_settings=base["settings"],
            trained_settings=last["settings"],
        )
        self._run.write_comparison(result.to_json(), result.to_markdown())
        tables = task_tables(self._tasks, base_rows, last_rows, base=base, trained=last)
        self._run.write_comparison_tables(tables, of=[one["settings"].get("model") for one in (base, last)])
        return {"verdict": result.verdict, "sentence": result.sentence, "step": steps[-1]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A model address resolved (`train.address.locate`).

    Example:
        Located(model="runs/x@120", path="runs/x/checkpoints/step_000120/model", run=Path("runs/x"), step=120)
    """

    model: str
    """As the user wrote it."""
    path: str
    """What `policy.load` takes."""
    revision: str | None = None
    run: Path | None = None
    """The run it belongs to."""
    step: int = 0
    """Optimizer steps behind it; 0: the base model."""


def evaluate_model(
    located: Located,
    *,
    resolved: Resolved,
    split: Split | None = None,
    limit: int | None = None,
    samples: int | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Evaluates a model with the settings of ``resolved``.

    The result goes to ``out``, or, for a checkpoint of a run, into that run's ``evaluations/``. Returns the summary.
    """
    from gradus.policy.load import load_policy, use_threads

    config = resolved.config
    config = config.model_copy(
        update={
            "model": config.model.model_copy(
                update={"path": located.path, "revision": located.revision, "init": "pretrained", "lora": None}
            ),
            "evaluation": config.evaluation.model_copy(
                update={
                    "split": split or config.evaluation.split,
                    "num_problems": limit or config.evaluation.num_problems,
                    "samples_per_problem": samples or config.evaluation.samples_per_problem,
                }
            ),
        }
    )
    tasks = load_tasks(config)
    problems = held_out_problems(config, tasks)
    use_threads(config.torch_threads)
    policy = load_policy(config.model, seed=config.seed, is_trainable=False)
    evaluated, summary = evaluate_problems(
        make_engine(config, policy, tasks),
        policy.prompt_tokens,
        config,
        problems,
        tasks,
        split=config.evaluation.split,
        model=located.model,
        policy_step=located.step,
        template=str(policy.tokenizer.chat_template),
    )
    summary["contamination"] = _contamination(config, problems)
    if out is not None:
        _write(out, evaluated, summary)
    elif located.run is not None:
        RunDirectory.open(located.run).write_evaluation(config.evaluation.split, located.step, evaluated, summary)
    return summary


def _contamination(config: Config, problems: Sequence[Problem]) -> dict[str, Any]:
    """Held-out problems among the training ones; a number that cannot be given is null, with its reason."""
    try:
        return contamination(problems, load_problems(config).train)
    except (ValueError, Exit) as error:  # evaluated where the training problems are not
        return {"num_overlap": None, "problem_ids": [], "reason": f"no training problems to compare with: {error}"}


def _write(folder: Path, evaluated: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> None:
    durable.make_directory(folder)
    durable.write_text(folder / "rows.jsonl", to_lines(evaluated))
    durable.write_json(folder / "summary.json", dict(sorted(summary.items())))
