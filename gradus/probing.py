"""`gradus probe` as a library function: loads model and problems, samples, judges, writes ``probe.json``.

`gradus.probe(config)` is `probe` here.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradus import durable
from gradus.config import Config, ModelConfig
from gradus.evaluation.run import Located
from gradus.exits import Code
from gradus.jsonl import finite, read_json, to_lines
from gradus.recipe import Resolved, from_config
from gradus.verbs import need_torch, runs_folder

if TYPE_CHECKING:
    from gradus.data.problems import Problems
    from gradus.evaluation.probe import Probe
    from gradus.evaluation.probe_run import Wanted
    from gradus.types import Group

MIN_SAMPLES = 16
"""Completions per problem where nothing else is said; with 16 of 200 problems the mixed share is known to ± 0.035."""


def probe(
    config: Config | Resolved,
    *,
    model: str | None = None,
    num: int | None = None,
    samples: int | None = None,
    keep: tuple[float, float] | None = None,
    out: Path | None = None,
    recheck: int | None = None,
    sft_out: Path | None = None,
    time_update: bool = False,
    rehearse: int | None = None,
    price_per_hour: float | None = None,
    folder: Path | None = None,
    recipe: str = "RECIPE",
) -> Probe:
    """Samples training problems as training would and says whether there is anything to learn.

    Args:
        config: the training that is being considered.
        model: ``RUN@base``, ``RUN@<step>``, ``RUN@best``, ``RUN@last``, a folder, ``nano/...`` or a Hub id; None: the
            config's.
        num: problems; None: ``probe.num_problems``.
        samples: completions per problem; None: ``probe.samples_per_problem``, or 16, or the group size if larger.
        keep: lowest and highest solve rate of the problems that are written to ``out``.
        out: file for the kept problems.
        recheck: fresh samples of each kept problem.
        sft_out: file for right answers to problems that are rarely solved.
        time_update: take one real forward and backward pass, for the estimate of the cost; a rehearsal measures it anyway.
        rehearse: take the first so many steps of the training too, for the forecast of the first 20, and keep nothing of
            them; None: ``probe.rehearse_steps``, unless the verdict is not to train.
        price_per_hour: of the machine, in any currency.
        folder: for ``probe.json`` and ``probe_rows.jsonl``; None: ``probe-<task>-<model>-<time>`` in the runs folder.
        recipe: what the advice calls the config.

    Returns:
        The verdict and everything behind it; ``facts["folder"]`` is where it was written.

    Raises:
        ValueError: fewer samples than a group of training has, a wrong range, a file that exists.
        Exit: NOTHING_USABLE where there are no problems, or none to keep.
    """
    from gradus.data.problems import load_problems
    from gradus.evaluation.probe_run import Wanted
    from gradus.policy.load import use_threads
    from gradus.train.launch import refuse_several

    need_torch("gradus probe")
    refuse_several("gradus probe")
    from gradus.train.address import at_address

    config = (from_config(config) if isinstance(config, Config) else config).config
    num_rehearsed = config.probe.rehearse_steps if rehearse is None else rehearse
    wanted = Wanted(
        num_problems=num or config.probe.num_problems,
        num_samples=samples_of(config, samples),
        keep=keep,
        out=out,
        recheck=recheck,
        sft_out=sft_out,
        price_per_hour=price_per_hour,
        recipe=recipe,
    )
    problems = load_problems(config)
    chosen, located = at_address(config.model, model)
    use_threads(config.torch_threads)
    own = {"subject_sha256": subject(config)} if model is None else {}
    found = _sampled(config, chosen, located, problems, wanted, time_update=time_update and not num_rehearsed, own=own)
    folder = folder or _made_folder(config, located)
    written = _written(found, config, folder)
    is_hopeless = found.judgement.exit_code != Code.DONE
    if not num_rehearsed or (is_hopeless and rehearse is None):  # what cannot learn is not rehearsed unless asked for
        return written
    return _write(
        _rehearsed(written, config.model_copy(update={"model": chosen}), problems, num_rehearsed, wanted), folder
    )


def _sampled(
    config: Config,
    chosen: ModelConfig,
    located: Located,
    problems: Problems,
    wanted: Wanted,
    *,
    time_update: bool,
    own: Mapping[str, str],
) -> Probe:
    """The probe itself. Its policy is gone afterwards: a rehearsal needs the memory."""
    from gradus.data.order import sampler_for
    from gradus.evaluation.probe_run import Sampler, run_probe, template_hash
    from gradus.policy.load import load_policy

    policy = load_policy(chosen, seed=config.seed, is_trainable=time_update)
    return run_probe(
        Sampler.of(config, policy, problems.tasks),
        problems,
        wanted,
        settings={
            "model": located.model,
            "revision": located.revision,
            "step": located.step,
            "template_sha256": template_hash(policy),
            **own,
        },
        time_update=_timer(config, policy) if time_update else None,
        buckets=dict(sampler_for(config, problems.train).buckets),
    )


def _rehearsed(found: Probe, config: Config, problems: Problems, num_steps: int, wanted: Wanted) -> Probe:
    """With what the first steps of training showed: the forecast, and the measured update in the cost."""
    from gradus.evaluation.cautions import gets_worse
    from gradus.evaluation.forecast import FIRST_STEPS, forecast
    from gradus.evaluation.probe_cost import with_update
    from gradus.train.rehearsal import Rehearsal

    rehearsal = Rehearsal.of(config, problems, num_steps)
    correct = Counter({row["problem_id"]: 0 for row in found.rows})
    correct.update(row["problem_id"] for row in found.rows if row["correct"])
    facts = dict(found.facts)
    facts["forecast"] = {
        "num_steps": min(FIRST_STEPS, config.num_steps),
        "rehearsed_steps": rehearsal.num_steps,
        "learning_rate": config.optimizer.learning_rate,
        **forecast(
            rehearsal.batches,
            correct,
            num_samples=wanted.num_samples,
            group_size=config.sampling.group_size,
        ),
    }
    facts["cost"] = with_update(facts["cost"], rehearsal.update_seconds, wanted.price_per_hour)
    judgement, caution = found.judgement, gets_worse(facts["forecast"])
    if caution is not None:
        judgement = replace(judgement, cautions=(*judgement.cautions, caution))
    return replace(found, judgement=judgement, facts=facts)


def samples_of(config: Config, samples: int | None) -> int:
    """Completions per problem; ValueError where they could not show what a group of training holds."""
    group_size = config.sampling.group_size
    count = samples or config.probe.samples_per_problem or max(MIN_SAMPLES, group_size)
    if count < group_size:
        raise ValueError(
            f"{count} samples per problem cannot show what groups of sampling.group_size={group_size} hold; "
            f"use --samples {max(MIN_SAMPLES, group_size)}"
        )
    return count


def subject(config: Config) -> str:
    """SHA-256 of what a probe is about: model, tasks, sampling and the choice of problems. A probe and a run with the
    same one belong together."""
    config = from_config(config).config  # with the defaults of the tasks' options
    curriculum = config.curriculum.model_dump(mode="json")
    content = {
        "model": config.model.model_dump(mode="json", include={"path", "revision", "init"}),
        "tasks": {name: dict(options) for name, options in config.tasks.items()},
        "sampling": config.sampling.model_dump(mode="json"),
        "problems": {key: curriculum[key] for key in ("num_problems", "problems_file")},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=list).encode()).hexdigest()


def newest(config: Config, folder: Path) -> Path | None:
    """The newest `probe.json` below ``folder`` that is about this config; None where there is none."""
    found = []
    for path in folder.glob("probe-*/probe.json"):
        try:
            settings = read_json(path).get("settings")
        except (ValueError, OSError):
            continue  # a probe that was cut off says nothing about this run
        if isinstance(settings, dict) and settings.get("subject_sha256") == subject(config):
            found.append((path.stat().st_mtime, str(path)))
    return Path(max(found)[1]) if found else None


def _timer(config: Config, policy: Any) -> Any:
    from gradus.train.timing import seconds_of_update

    def seconds(groups: Sequence[Group]) -> float:
        return seconds_of_update(config, policy, groups)

    return seconds


def _made_folder(config: Config, located: Located) -> Path:
    from gradus.train.place import made_name

    named = config.model_copy(update={"model": config.model.model_copy(update={"path": located.model})})
    return runs_folder() / f"probe-{made_name(named)}"


def _written(found: Probe, config: Config, folder: Path) -> Probe:
    from gradus.plan import model_facts

    facts: dict[str, Any] = dict(found.facts)
    facts["cost"] = {**facts["cost"], "disk_bytes": _disk(model_facts(config), found, config)}
    durable.make_directory(folder)
    durable.write_text(folder / "probe_rows.jsonl", to_lines(found.rows))
    return _write(replace(found, facts=facts), folder)


def _write(found: Probe, folder: Path) -> Probe:
    """Writes ``probe.json``, which does not say where it is."""
    facts = {key: value for key, value in found.facts.items() if key != "folder"}
    durable.write_json(folder / "probe.json", finite(replace(found, facts=facts).to_json()))
    return replace(found, facts=facts | {"folder": str(folder)})


def _disk(model: Mapping[str, Any], found: Probe, config: Config) -> int | None:
    """Checkpoints and recorded completions of the whole run (bytes); None where the weights' size is not known."""
    if "disk_bytes" not in model:
        return None
    per_row = len(to_lines(found.rows)) / max(1, len(found.rows))
    recorded = 2 * config.curriculum.problems_per_step + 8
    steps = 1 + config.num_steps // config.records.rollouts_every_steps
    return int(model["disk_bytes"] + per_row * recorded * steps)
