"""Settings of somebody's verl run → the recipe of gradus that means the same, and what has no place in it, with reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gradus.config import Config
from gradus.train.backends.verl_check import own_keys
from gradus.train.backends.verl_lint import RULES
from gradus.train.backends.verl_settings import MINE_TO_SET, A
from gradus.train.backends.verl_told import Facts, Told

SAME = {
    "data.train_batch_size": "curriculum.problems_per_step",
    "data.max_prompt_length": "sampling.max_prompt_tokens",
    "data.max_response_length": "sampling.max_tokens",
    "data.seed": "seed",
    f"{A}.model.path": "model.path",
    f"{A}.model.enable_gradient_checkpointing": "model.gradient_checkpointing",
    f"{A}.actor.ppo_micro_batch_size_per_gpu": "optimizer.microbatch_size",
    f"{A}.actor.ppo_epochs": "optimizer.passes_per_batch",
    f"{A}.actor.entropy_coeff": "algorithm.entropy_coef",
    f"{A}.actor.clip_ratio_low": "algorithm.clip_low",
    f"{A}.actor.clip_ratio_high": "algorithm.clip_high",
    f"{A}.actor.grad_clip": "optimizer.max_grad_norm",
    f"{A}.actor.optim.lr": "optimizer.learning_rate",
    f"{A}.actor.optim.weight_decay": "optimizer.weight_decay",
    f"{A}.rollout.n": "sampling.group_size",
    f"{A}.rollout.temperature": "sampling.temperature",
    f"{A}.rollout.max_num_seqs": "engine.batch_size",
    "ray_kwargs.ray_init.address": "backend.ray_address",
}
"""verl's key → ours, with the same value."""
DROPPED = (
    ("custom_reward_function.", "the reward is that of the task (docs/adding-a-task.md takes your function)"),
    ("reward", "the reward is that of the task (docs/adding-a-task.md takes your function)"),
    ("sandbox_fusion.", "the reward is that of the task"),
    ("algorithm.kl_penalty", "the divergence is in the loss, by its k3 estimate"),
    ("data.", "gradus writes the data, in the order of its curriculum"),
    ("critic.", "there is no critic"),
    ("hydra.", "the run directory holds all output"),
    ("trainer.total_epochs", "the length of a run is num_steps"),
    ("trainer.val_before_train", "the base model is always evaluated, as step 0"),
    ("trainer.resume_mode", "the same command goes on with a run"),
    ("trainer.logger", "metrics are in the run directory; others are told by tracking.sinks"),
    ("trainer.", "the run directory holds all output"),
    ("ray_kwargs.", "backend.ray_address names a Ray that runs, else the run has one of its own"),
    (f"{A}.rollout.prompt_length", "verl derives it"),
    (f"{A}.rollout.response_length", "verl derives it"),
    (f"{A}.rollout.val_kwargs.", "see evaluation.temperature and evaluation.samples_per_problem"),
)
"""(key or its beginning, why it is not in the recipe); the first that fits."""
SCHEDULES = {"constant": "constant", "cosine": "cosine", "linear": "linear"}
AGGREGATES = {"token-mean": "token", "seq-mean-token-mean": "sequence", "seq-mean-token-sum-norm": "fixed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Translated:
    """A recipe, and what it does not say.

    Example:
        Translated(tree={"sampling": {"group_size": 2}}, remarks=("data.val_files=x: gradus writes the data",),
                   taken=frozenset({"actor_rollout_ref.rollout.n"}))
    """

    tree: dict[str, Any]
    """Nested, without ``tasks`` where the data do not name them."""
    remarks: tuple[str, ...]
    taken: frozenset[str]
    """verl's keys whose value the tree has, or that it makes needless."""


def recipe_of(settings: Mapping[str, Any], facts: Facts | None = None) -> Translated:
    """The equal recipe for ``gradus train ... --backend verl``.

    Example:
        recipe_of({"actor_rollout_ref.rollout.n": 2}).tree["sampling"]  # {"group_size": 2}
    """
    told, leaves, remarks, done = Told(settings), {}, [], set[str]()
    for part in (_same, _model, _algorithm, _optimizer, _lengths):
        found, said, seen = part(told)
        leaves |= found
        remarks += said
        done |= seen
    own = own_keys(Config(tasks={"countdown": {}}))
    extra: dict[str, Any] = {}
    for key, value in told.given.items():
        if key in done:
            continue
        why = next((why for prefix, why in DROPPED if key.startswith(prefix) and key not in MINE_TO_SET), None)
        if "$" in str(value):
            why = "its value is known to a shell only"
        if why is None and key in own:
            why = "gradus sets it itself"
        if why is None:
            extra[key] = value
        else:
            remarks.append(f"{key}={value}: {why}")
    leaves["backend.name"] = "verl"
    if extra:
        leaves["backend.extra"] = extra
    sources = sorted((facts or Facts()).sources or ())
    if sources and all(source.startswith("gradus/") for source in sources):
        leaves |= {f"tasks.{source.split('/')[1]}": {} for source in sources}
    else:
        remarks.insert(0, "tasks: name yours; the data's data_source says nothing that gradus knows")
    return Translated(tree=_nested(leaves), remarks=tuple(remarks), taken=frozenset(done | set(extra)))


_Part = tuple[dict[str, Any], list[str], set[str]]
"""Our leaves, remarks, verl's keys that are dealt with."""


def _same(told: Told) -> _Part:
    known = {
        key: told[key] for key in SAME if key in told.given and told[key] is not None and "$" not in str(told[key])
    }
    return {SAME[key]: value for key, value in known.items()}, [], set(known)


def _model(told: Told) -> _Part:
    keys = {"rank": f"{A}.model.lora_rank", "alpha": f"{A}.model.lora_alpha", "targets": f"{A}.model.target_modules"}
    rank, found = told.number(keys["rank"]), {}
    if rank:
        found = {f"model.lora.{name}": told[key] for name, key in keys.items() if told[key] is not None}
        found.setdefault("model.lora.alpha", 16)  # verl's own
    return found, [], {key for key in keys.values() if key in told.given}


def _algorithm(told: Told) -> _Part:
    keys = {
        "estimator": "algorithm.adv_estimator", "norm": "algorithm.norm_adv_by_std_in_grpo", "clip": f"{A}.actor.clip_ratio",
        "mode": f"{A}.actor.policy_loss.loss_mode", "aggregate": f"{A}.actor.loss_agg_mode",
        "scale": f"{A}.actor.loss_scale_factor",
    }  # fmt: skip
    found, remarks = {}, []
    estimator, mode, aggregate = told[keys["estimator"]] or "gae", told[keys["mode"]], told[keys["aggregate"]]
    name = mode if mode in ("gspo", "cispo") else estimator
    if name in ("grpo", "rloo", "gspo", "cispo"):
        found["algorithm.name"] = name
    else:
        remarks.append(f"{keys['estimator']}={estimator}: gradus has no such advantage; this recipe is not equal")
    if mode not in ("vanilla", "gspo", "cispo"):
        remarks.append(f"{keys['mode']}={mode}: gradus has no such loss; this recipe is not equal")
    if told[keys["norm"]] is False and estimator == "grpo":
        found["algorithm.advantage"] = "center"
    if aggregate in AGGREGATES:
        found["algorithm.aggregate"] = AGGREGATES[aggregate]
    else:
        remarks.append(f"{keys['aggregate']}={aggregate}: gradus has no such mean; this recipe is not equal")
    if (clip := told.number(keys["clip"])) is not None:
        found |= {"algorithm.clip_low": clip, "algorithm.clip_high": clip}
    found |= _charged(told, remarks)
    seen = {*keys.values(), *_KL}
    return found, remarks, seen & set(told.given)


_KL = (
    f"{A}.actor.use_kl_loss",
    f"{A}.actor.kl_loss_coef",
    f"{A}.actor.kl_loss_type",
    "algorithm.use_kl_in_reward",
    "algorithm.kl_ctrl.kl_coef",
)


def _charged(told: Told, remarks: list[str]) -> dict[str, Any]:
    """The coefficient that had an effect; one that had none is said."""
    remarks += [text for _, text in RULES["V-03"](told, Facts())]
    if told["algorithm.use_kl_in_reward"] is True:
        coefficient = told.number("algorithm.kl_ctrl.kl_coef")
        remarks.append(
            f"the divergence ({coefficient}) was in the reward; gradus charges it in the loss: algorithm.kl_coef"
        )
    if told[f"{A}.actor.use_kl_loss"] is not True:
        return {}
    kind = told[f"{A}.actor.kl_loss_type"]
    if kind not in (None, "low_var_kl", "k3"):
        remarks.append(f"{A}.actor.kl_loss_type={kind}: gradus has k3 only")
    coefficient = told.number(f"{A}.actor.kl_loss_coef")
    return {"algorithm.kl_coef": 0.001 if coefficient is None else coefficient}


def _optimizer(told: Told) -> _Part:
    optim = f"{A}.actor.optim"
    found: dict[str, Any] = {}
    if f"{optim}.weight_decay" not in told.given:
        found["optimizer.weight_decay"] = 0.01  # verl's own
    size, mini = told.number("data.train_batch_size"), told.number(f"{A}.actor.ppo_mini_batch_size")
    if "data.train_batch_size" not in told.given:
        found["curriculum.problems_per_step"] = size  # verl's own
    if size and mini and size % mini == 0 and size > mini:
        found["optimizer.updates_per_batch"] = int(size // mini)
    schedule = told[f"{optim}.lr_scheduler_type"]
    remarks = []
    if schedule in SCHEDULES:
        found["optimizer.schedule"] = SCHEDULES[schedule]
    elif schedule is not None:
        remarks.append(f"{optim}.lr_scheduler_type={schedule}: gradus has constant, linear and cosine")
    steps, share = told.number(f"{optim}.lr_warmup_steps"), told.number(f"{optim}.lr_warmup_steps_ratio")
    total = told.number("trainer.total_training_steps")
    if steps is not None and steps > 0:
        found["optimizer.warmup_steps"] = int(steps) * _updates(told)
    elif share and total:
        found["optimizer.warmup_steps"] = int(share * total) * _updates(told)
    elif share:
        remarks.append(f"{optim}.lr_warmup_steps_ratio={share}: set optimizer.warmup_steps to this share of num_steps")
    names = ("lr_scheduler_type", "lr_warmup_steps", "lr_warmup_steps_ratio")
    seen = {f"{A}.actor.ppo_mini_batch_size", *(f"{optim}.{name}" for name in names)}
    return found, remarks, seen & set(told.given)


def _lengths(told: Told) -> _Part:
    """Steps: verl counts batches, gradus updates."""
    keys = {
        "trainer.total_training_steps": "num_steps",
        "trainer.save_freq": "checkpoint.every_steps",
        "trainer.test_freq": "evaluation.every_steps",
    }
    found: dict[str, Any] = {}
    for theirs, ours in keys.items():
        if (value := told.number(theirs)) is not None and value > 0:
            found[ours] = int(value) * _updates(told)
    if (kept := told.number("trainer.max_actor_ckpt_to_keep")) is not None:
        found["checkpoint.keep_last"] = max(2, int(kept))
    remarks = [] if "num_steps" in found else ["num_steps: verl derives it from rows and epochs; set it"]
    return found, remarks, {*keys, "trainer.max_actor_ckpt_to_keep"} & set(told.given)


def _updates(told: Told) -> int:
    size, mini = told.number("data.train_batch_size"), told.number(f"{A}.actor.ppo_mini_batch_size")
    each = int(size // mini) if size and mini and size % mini == 0 else 1
    return each * int(told.number(f"{A}.actor.ppo_epochs") or 1)


def _nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for leaf, value in leaves.items():
        *sections, name = leaf.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return tree
