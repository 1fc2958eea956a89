"""Settings that verl takes without a word and does not honour, or takes for something else: rules V-01 to V-13.

Pure functions of a flat mapping, verl's keys to values, and of what is known of the place (`Facts`). The same rules read
our own translation (with what `backend.extra` adds) and other people's scripts (`gradus config validate --foreign`).
A value that is no number, because a shell would still put one there, is never judged as one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gradus.train.backends.verl_keys import known, nearest
from gradus.train.backends.verl_settings import VERSION, A
from gradus.train.backends.verl_told import Facts, Finding, Level, Told

KNOWN_SOURCES = frozenset(
    "openai/gsm8k lighteval/MATH DigitalLearningGmbH/MATH-lighteval HuggingFaceH4/MATH-500 math_dapo math math_dapo_reasoning "
    "numina_aops_forum numina_synthetic_math numina_amc_aime numina_synthetic_amc numina_cn_k12 numina_olympiads "
    "codecontests apps codeforces taco hiyouga/geometry3k searchR1_nq searchR1_triviaqa searchR1_popqa searchR1_hotpotqa "
    "searchR1_2wikimultihopqa searchR1_musique searchR1_bamboogle".split()
)
"""Values of ``data_source`` for which verl has a reward of its own; and all that begin with ``aime``."""
MOVED = ("custom_reward_function.", "reward_model.", "sandbox_fusion.")
"""Since 0.7 these are below ``reward.``; 0.9 still composes the old ones, and reads none."""
REMOVED: tuple[tuple[str, tuple[int, int], str], ...] = (
    ("data.sampler.", (0, 8), "there is no hook for a sampler any more: write the data in their order"),
    ("trainer.use_legacy_worker_impl", (0, 9), "the older workers are gone: remove it"),
    ("ray_init.", (0, 6), "write ray_kwargs.ray_init."),
    (f"{A}.actor.lora_rank", (0, 0), f"write {A}.model.lora_rank"),
    (f"{A}.rollout.custom.", (0, 9), "remove it"),
)
"""(key or its beginning, first release without it, what to do)."""


def lint(settings: Mapping[str, Any], facts: Facts | None = None, *, version: str = VERSION) -> list[Finding]:
    """All findings, in the order of the rules. ValueError for a version that is none, or older than 0.4.

    Example:
        lint({"algorithm.kl_ctrl.kl_coef": 0.005})[0].rule  # "V-03"
    """
    told, known = Told(settings, version), facts or Facts()
    return [
        Finding(rule=rule, level=level, text=text)
        for rule, check in RULES.items()
        for level, text in check(told, known)
    ]


Said = Iterator[tuple[Level, str]]


def _reward(told: Told, facts: Facts) -> Said:
    is_new = told.version >= (0, 7)
    if told.version >= (0, 9):
        for key, value in told.below(*MOVED).items():
            level: Level = "error" if value not in (False, "") else "warning"
            yield level, f"{key}={value} is ignored since verl 0.9, without a word; write reward.{key}"
    if told.version < (0, 7):
        for key, value in told.below("reward.custom_reward_function.").items():
            yield "error", f"{key}={value} is not known before verl 0.7; write it without reward."
    function = "reward.custom_reward_function.path" if is_new else "custom_reward_function.path"
    may_be_old = (0, 7) <= told.version < (0, 9) and told["custom_reward_function.path"]
    has_model = told["reward.reward_model.enable"] or (told.version < (0, 9) and told["reward_model.enable"])
    if told[function] or may_be_old or has_model:
        return
    if facts.sources is None:
        yield (
            "note",
            f"no {function} is set: verl pays by the data_source of each row, and ends at one that it does not know",
        )
        return
    for source in sorted(facts.sources):
        if source in KNOWN_SOURCES or source.startswith("aime"):
            yield "note", f"no {function} is set: verl pays data_source={source} by a reward of its own"
        else:
            yield (
                "error",
                f"no {function} is set, and verl has no reward for data_source={source}: every group would fail",
            )


def _unknown_keys(told: Told, facts: Facts) -> Said:
    for prefix, since, remedy in REMOVED:
        for key, value in told.below(prefix).items():
            if told.version >= since:
                yield "error", f"{key}={value} is no setting of this release; {remedy}"
    names = known(told.version) or frozenset()
    for key in told.given if names else ():
        is_said = key.startswith(tuple(prefix for prefix, since, _ in REMOVED if told.version >= since))
        if key in told.added or key in names or is_said or "$" in key or _is_elsewhere(key):
            continue
        meant = nearest(key, told.version)
        remedy = f"did you mean {meant}?" if meant else f"write +{key} if it is meant to be added"
        yield "error", f"{told.shown(key)} is no setting of this release; {remedy}"
    if told.version >= (0, 9):
        manager = "reward.reward_manager.name"
        if told[manager] in ("batch", "prime"):
            yield (
                "error",
                f"{told.shown(manager)} is gone since verl 0.9; naive, dapo, gdpo, rate_limited and remote are left",
            )
        rounds = "algorithm.filter_groups.max_num_gen_batches"
        if told.number(rounds):
            yield "error", f"{told.shown(rounds)} is ignored since verl 0.9; write max_inflight_gen_batches"


def _is_elsewhere(key: str) -> bool:
    """Whether another rule says it, since rewards have moved between releases; or Hydra or Megatron's own tree has it."""
    return key.startswith(("hydra.", *MOVED, *(f"reward.{prefix}" for prefix in MOVED))) or "megatron" in key


def _divergence(told: Told, facts: Facts) -> Said:
    in_reward, in_loss = "algorithm.use_kl_in_reward", f"{A}.actor.use_kl_loss"
    for key, switch in (("algorithm.kl_ctrl.kl_coef", in_reward), (f"{A}.actor.kl_loss_coef", in_loss)):
        if key in told.given and told[key] not in (0, None) and told[switch] in (False, None):
            yield "error", f"{told.shown(key)} has no effect without {switch}=true: no reference policy is even loaded"
    if told[in_reward] is True and told[in_loss] is True:
        yield "warning", f"{in_reward} and {in_loss} are both on: the divergence is charged twice"


def _aggregation(told: Told, facts: Facts) -> Said:
    mode, scale = f"{A}.actor.loss_agg_mode", f"{A}.actor.loss_scale_factor"
    if told[mode] == "seq-mean-token-sum-norm" and told[scale] is None and told.version >= (0, 7):
        yield (
            "error",
            f"{told.shown(mode)} without {scale} divides by the longest row of each micro-batch, not by a constant",
        )


def _saved_adapter(told: Told, facts: Facts) -> Said:
    contents = f"{A}.actor.checkpoint.save_contents"
    if _has_adapter(told) and "hf_model" in (told[contents] or ()):
        yield (
            "error",
            f"{told.shown(contents)} with an adapter saves a model whose names do not fit: transformers loads it with random "
            "weights and a warning; leave hf_model out, and merge the adapter afterwards",
        )


def _planned_order(told: Told, facts: Facts) -> Said:
    if not facts.is_planned:
        return
    for key, right in (
        ("data.shuffle", False),
        ("data.dataloader_num_workers", 0),
        ("data.filter_overlong_prompts", False),
    ):
        if told[key] != right:
            yield (
                "error",
                f"{told.shown(key)} changes the order or the number of planned rows; set {key}={str(right).lower()}",
            )
    if told["algorithm.filter_groups.enable"] is True:
        yield "error", "algorithm.filter_groups.enable=True draws more rows than planned for a step; remove it"


def _length(told: Told, facts: Facts) -> Said:
    size, epochs = told.number("data.train_batch_size"), told.number("trainer.total_epochs")
    total, every = told.number("trainer.total_training_steps"), told.number("trainer.save_freq")
    there = int(facts.num_rows // size * epochs) if facts.num_rows is not None and size and epochs else None
    if total is not None and there is not None and total > there:
        yield (
            "warning",
            f"trainer.total_training_steps={total} is more than the {there} steps that trainer.total_epochs allows",
        )
    last = total if total is not None else there
    if every is not None and every <= 0:
        yield "warning", f"{told.shown('trainer.save_freq')} never saves before the end"
    elif every is not None and last is not None and every >= last:
        yield (
            "warning",
            f"{told.shown('trainer.save_freq')} saves once in {last:g} steps: nothing to go on from before that",
        )
    if not _has_adapter(told) and "hf_model" not in (told[f"{A}.actor.checkpoint.save_contents"] or ()):
        yield (
            "warning",
            f"without hf_model in {A}.actor.checkpoint.save_contents no model can be loaded before its shards are merged",
        )


def _division(told: Told, facts: Facts) -> Said:
    size, group = told.number("data.train_batch_size"), told.number(f"{A}.rollout.n")
    nodes, each = told.number("trainer.nnodes"), told.number("trainer.n_gpus_per_node")
    mini = told.number(f"{A}.actor.ppo_mini_batch_size")
    if size and group and nodes and each and size * group % (nodes * each):
        yield (
            "error",
            f"data.train_batch_size={size} x {A}.rollout.n={group} completions do not divide over {nodes * each} GPUs",
        )
    if size and mini and size % mini:
        key = f"{A}.actor.ppo_mini_batch_size"
        yield (
            "error",
            f"data.train_batch_size={size} is no multiple of {key}={mini}; batches are filled up with empty rows",
        )


def _ray(told: Told, facts: Facts) -> Said:
    address = told["ray_kwargs.ray_init.address"]
    if address is not None:
        for key in ("ray_kwargs.ray_init.num_cpus", "ray_kwargs.ray_init.num_gpus"):
            if told[key] is not None:
                yield (
                    "error",
                    f"{told.shown(key)} cannot be given for a Ray that runs already (address={address}); remove it",
                )
        if told.version <= (0, 5):
            yield "error", f"ray_kwargs.ray_init.address={address} has no effect before verl 0.6; write ray_init"
    if "file" in (told["trainer.logger"] or ()) and facts.log_exists:
        yield (
            "error",
            "VERL_FILE_LOGGER_PATH names a file that is there, which the file logger would empty; name another",
        )


def _saved_state(told: Told, facts: Facts) -> Said:
    folder = told["trainer.default_local_dir"]
    if facts.saved_step is None or told["trainer.resume_mode"] != "auto":
        return
    total, nodes, each = (
        told.number(f"trainer.{name}") for name in ("total_training_steps", "nnodes", "n_gpus_per_node")
    )
    if total is not None and facts.saved_step >= total:
        yield (
            "error",
            f"{folder} holds a run that is at step {facts.saved_step}: with trainer.resume_mode=auto nothing would be trained "
            f"up to step {total}; give another trainer.default_local_dir",
        )
    else:
        yield (
            "warning",
            f"{folder} holds a run at step {facts.saved_step}, which would go on (trainer.resume_mode=auto)",
        )
    if facts.saved_world_size is not None and nodes and each and facts.saved_world_size != nodes * each:
        yield (
            "error",
            f"the state in {folder} is of {facts.saved_world_size} processes; these settings start {nodes * each}",
        )


def _place(told: Told, facts: Facts) -> Said:
    for fault in facts.place_faults:
        yield "error", fault


def _data(told: Told, facts: Facts) -> Said:
    for fault in facts.data_faults:
        yield "error", fault
    limit = told.number("data.max_prompt_length")
    if facts.longest_prompt is not None and limit is not None and facts.longest_prompt > limit:
        remedy = "raise it" if not told["data.filter_overlong_prompts"] else "rows above it are left out"
        level: Level = "warning" if told["data.filter_overlong_prompts"] else "error"
        yield (
            level,
            f"data.max_prompt_length={limit:g} is below the longest prompt, {facts.longest_prompt} tokens; {remedy}",
        )


def _to_know(told: Told, facts: Facts) -> Said:
    if told.number(f"{A}.rollout.n") == 2 and told["algorithm.norm_adv_by_std_in_grpo"] is not False:
        yield "note", f"{A}.rollout.n=2 with standardized advantages: each is 0 or +-0.707, whatever the rewards are"
    clip = f"{A}.actor.clip_ratio_c"
    if told[f"{A}.actor.policy_loss.loss_mode"] == "vanilla" and (told.number(clip) or 0) < 1e3:
        yield "note", f"{told.shown(clip)}: the loss is clipped a second time, on bad completions with large ratios"
    mode = f"{A}.actor.loss_agg_mode"
    if told[mode] != "token-mean":
        yield "note", f"{told.shown(mode)}: actor/entropy is aggregated so too, and is not nats per token"


def _has_adapter(told: Told) -> bool:
    return any((told.number(f"{A}.model.{key}") or 0) > 0 for key in ("lora_rank", "lora.rank"))


RULES: Mapping[str, Callable[[Told, Facts], Said]] = {
    "V-01": _reward,
    "V-02": _unknown_keys,
    "V-03": _divergence,
    "V-04": _aggregation,
    "V-05": _saved_adapter,
    "V-06": _planned_order,
    "V-07": _length,
    "V-08": _division,
    "V-09": _ray,
    "V-10": _saved_state,
    "V-11": _place,
    "V-12": _data,
    "V-13": _to_know,
}
