"""The rules of run health, H-01 to H-21: what each watches, its limits, and the words that explain it.

`loss` is never watched: with one update per batch it is near 0 by construction, and so is the share of clipped tokens.
Limits can be replaced by name (``health.rules.H-13.warn=0.5``). docs/health.md says how each is to be read.
"""

from __future__ import annotations

from gradus.health import answers, updates
from gradus.health.rule import Rule

RULES: tuple[Rule, ...] = (
    Rule(
        id="H-01", watches=("entropy",), check=updates.entropy_falls, text="the policy stops exploring: token entropy falls",
        limits={"warn": 0.3, "least": 0.05, "clear": 0.4, "crit": 0.01, "crit_clear": 0.02},
        causes=("too high a learning rate", "no room above the clip range"),
        actions=("lower optimizer.learning_rate", "raise algorithm.clip_high", "set algorithm.kl_coef or entropy_coef"),
    ),
    Rule(
        id="H-02", watches=("entropy",), check=updates.entropy_explodes, text="the text turns random: token entropy explodes",
        limits={"warn": 3.0, "least": 0.5, "clear": 2.0},
        causes=("too strong an entropy bonus", "too high a learning rate"),
        actions=("lower algorithm.entropy_coef", "lower optimizer.learning_rate"),
    ),
    Rule(
        id="H-03", watches=("grad_norm",), check=updates.gradient, text="the gradient norm is unusual",
        limits={"outlier": 5.0, "clipped": 0.5},
        causes=("outlier batches", "too high a learning rate"),
        actions=("read the completions of these steps (gradus rollouts)", "lower optimizer.learning_rate"),
    ),
    Rule(
        id="H-04", watches=("kl",), check=updates.kl_runs_away, text="the policy runs away from its reference",
        limits={"warn": 10.0, "least": 0.05},
        causes=("too high a learning rate", "too weak a KL term"),
        actions=("lower optimizer.learning_rate", "raise algorithm.kl_coef"),
    ),
    Rule(
        id="H-05", watches=("kl", "rollout/solve_rate"), check=updates.kl_without_gain,
        text="the policy drifts without solving more", limits={"warn": 2.0, "least": 0.05},
        causes=("the reward asks for something else than the answer", "too high a learning rate"),
        actions=("compare the reward parts", "read completions (gradus rollouts)", "raise algorithm.kl_coef"),
    ),
    Rule(
        id="H-06", watches=("kl",), check=updates.kl_is_off, text="the KL term is exactly 0 although algorithm.kl_coef is not",
        causes=("the KL is part of the reward", "the trainer does not apply it (verl needs use_kl_loss)"),
        actions=("check the trainer's KL settings",),
    ),
    Rule(
        id="H-07", watches=("sampling/mismatch_kl", "sampling/ess_frac"), check=updates.mismatch,
        text="sampler and trainer disagree about the same tokens",
        limits={"warn": 0.01, "crit": 0.1, "least_ess": 0.3, "first": 1e-3},
        causes=("different precision, template or temperature", "weights that are not in step", "old completions"),
        actions=("use model.dtype=float32 to compare", "lower optimizer.passes_per_batch"),
    ),
    Rule(
        id="H-08", watches=("frac_reward_zero_std",), check=answers.no_signal,
        text="most groups have equal rewards and teach nothing", limits={"warn": 0.6, "clear": 0.5},
        causes=("problems too easy (all right) or too hard (all wrong)", "too small groups"),
        actions=("gradus probe RUN --model RUN@last says which", "raise sampling.group_size",
                 "algorithm.keep_flat_groups=false draws again"),
    ),
    Rule(
        id="H-09", watches=("completions/clipped_ratio",), check=answers.truncation, text="answers are cut off",
        limits={"warn": 0.2, "clear": 0.15, "crit": 0.8, "crit_clear": 0.7},
        causes=("too low a limit of the length", "the policy does not end its answers"),
        actions=("raise sampling.max_tokens", "reward short or finished answers"),
    ),
    Rule(
        id="H-10", watches=("completions/mean_length",), check=answers.length, text="the length of answers changes by itself",
        limits={"longer": 2.0, "shorter": 1 / 3, "clear_longer": 1.7, "clear_shorter": 0.45},
        causes=("longer: padding that the reward does not mind", "shorter: answers without reasoning"),
        actions=("read completions (gradus rollouts --sort length)", "algorithm.name=dr_grpo does not favour length"),
    ),
    Rule(
        id="H-11", watches=("rewards/<part>/mean", "rollout/solve_rate", "frac_reward_zero_std"), check=answers.reward_hacking,
        text="the reward rises without the answers", limits={"rise": 0.05, "alike": 0.2},
        causes=("a part of the reward is easier to get than a right answer", "the reward pays for form alone"),
        actions=(
            "lower the weight of that part, or pay for right answers",
            "read completions (gradus rollouts --wrong --sort reward)",
        ),
    ),
    Rule(
        id="H-12", watches=("evaluation/<set>/solve_rate", "reward"), check=answers.overfitting,
        text="held-out problems are solved less often while the training reward rises",
        causes=("over-fitting to the training problems", "reward hacking"),
        actions=("stop and take RUN@best", "use more problems", "raise algorithm.kl_coef"),
    ),
    Rule(
        id="H-13", watches=("rollout/duplicate_frac",), check=answers.duplicates, text="completions repeat each other",
        limits={"warn": 0.3, "clear": 0.2, "nats": 10.0, "rise": 0.3},
        causes=("mode collapse", "too low a temperature"),
        actions=("raise sampling.temperature in a new run", "set algorithm.entropy_coef"),
    ),
    Rule(
        id="H-14", watches=("scoring/error_frac",), check=answers.scoring, text="scoring fails",
        limits={"warn": 0.05, "crit": 0.2, "clear": 0.03},
        causes=("the scorer, not the model",),
        actions=("gradus tasks check", "read the reasons (gradus rollouts --status timeout)"),
    ),
    Rule(
        id="H-15", watches=("evaluation/<set>/solve_rate",), check=answers.nothing_shown,
        text="no learning is shown yet on held-out problems",
        causes=("too early", "too few held-out problems", "nothing is learned"),
        actions=("raise evaluation.num_problems in the next run", "look at the mixed share and the reward curve"),
    ),
    Rule(
        id="H-16", watches=("output_std/<field>",), check=answers.decisions_collapse, text="numeric decisions collapse",
        limits={"warn": 0.25, "clear": 0.35},
        causes=("one safe answer earns enough", "too high a learning rate"),
        actions=("compare the spread with the base model (gradus compare)", "set algorithm.entropy_coef or kl_coef"),
    ),
    Rule(
        id="H-17", watches=("rollout/floor_reward_frac", "rollout/parse_frac"), check=answers.unusable,
        text="many answers are unusable",
        limits={"floor": 0.3, "clear_floor": 0.2, "parse": 0.8, "clear_parse": 0.9},
        causes=("the format is being lost", "answers are cut off"),
        actions=("read completions (gradus rollouts --wrong)", "raise sampling.max_tokens", "lower optimizer.learning_rate"),
    ),
    Rule(
        id="H-18", watches=("curriculum/fallback_frac",), check=answers.fallback,
        text="problems come from other buckets than the stage asks for", limits={"warn": 0.2, "clear": 0.1},
        causes=("a bucket of a domain is empty or too small",),
        actions=("change curriculum.quantiles or the stages", "add problems to that bucket"),
    ),
    Rule(
        id="H-19", watches=("train/skipped",), check=updates.skips, text="a step did not happen as planned",
        causes=("numbers that are not finite",),
        actions=("lower optimizer.learning_rate", "use model.dtype=float32"),
    ),
    Rule(
        id="H-20", watches=("time/step_seconds",), check=updates.slow, text="steps have become slow",
        limits={"warn": 5.0, "clear": 2.0},
        causes=("disk, scorer or engine stall", "the machine is shared"),
        actions=("look at the phase that grew", "gradus doctor"),
    ),
    Rule(
        id="H-21", watches=("rollout/solve_rate",), check=answers.solving_falls, text="fewer and fewer answers are right",
        limits={"warn": 0.6, "clear": 0.8},
        causes=("too high a learning rate, or no warm-up", "the reward asks for something else than the answer"),
        actions=("begin anew from model.path=RUN@best", "lower optimizer.learning_rate",
                 "set optimizer.warmup_steps or algorithm.kl_coef"),
    ),
)  # fmt: skip
"""In the order of their numbers."""
