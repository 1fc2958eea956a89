"""The whole config tree of a run, on two screens: frozen pydantic models, no torch, nothing filled in at run time.

Every leaf has a documentation string, a unit and a range. Reading of files and overrides: `recipe.py`.
A leaf marked ``MUTABLE`` may differ when a run is resumed; all others are part of the run's identity.
"""

from __future__ import annotations

import itertools
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

MUTABLE: dict[str, Any] = {"resume": "mutable"}
"""May change on resume without consequence for the numbers."""
INEXACT: dict[str, Any] = {"resume": "inexact"}
"""May change on resume, but the bits of an unbroken run are no longer promised."""

PositiveInt = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]


ProbeLimit = Literal[
    "min_accuracy", "max_accuracy", "min_mixed", "comfortable_mixed", "first_mixed", "max_truncated", "max_error_frac",
    "caution_accuracy_low", "caution_accuracy_high", "caution_truncated", "caution_duplicates",
]  # fmt: skip
"""Names of the limits of `gradus probe`; values: `gradus.evaluation.verdict.LIMITS`."""


class Section(BaseModel):
    """Base of every node: frozen, typed, unknown keys refused, attribute docstrings are the documentation."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, strict=False
    )


class LoraConfig(Section):
    """Low-rank adapters (arXiv 2106.09685); the base weights stay frozen and are the reference policy."""

    rank: PositiveInt = 16
    """Rank of each update matrix."""
    alpha: Annotated[float, Field(gt=0)] = 32.0
    """Scale; the update is multiplied by alpha / rank."""
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Module names to adapt, or all linear layers but the output head."""
    dropout: Share = 0.0
    """Dropout on the adapter's input while training. Sampling never uses it."""


class ModelConfig(Section):
    """Which policy."""

    path: str = "nano/countdown"
    """Embedded policy (``nano/...``), local folder in Hugging Face layout, Hub id, or ``RUN@step``."""
    revision: str | None = None
    """Commit or tag of a Hub id."""
    init: Literal["pretrained", "random"] = "pretrained"
    """``random``: use only the folder's config and tokenizer, and draw the weights from ``seed``."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Weights and activations; ``auto``: bfloat16 on CUDA, float32 elsewhere."""
    device: Literal["auto", "cuda", "mps", "cpu"] = Field(default="auto", json_schema_extra=INEXACT)
    """``auto``: cuda, then mps, then cpu."""
    enable_thinking: bool | None = None
    """Switch of chat templates that have one (Qwen3, SmolLM3); null: the template's own choice."""
    lora: LoraConfig | None = None
    """Adapters; null trains all weights."""
    load_in_4bit: bool = False
    """NF4 base weights (arXiv 2305.14314) under adapters; needs ``lora`` and the extra ``4bit``."""
    gradient_checkpointing: bool = Field(default=False, json_schema_extra=INEXACT)
    """Keep only each layer's input for the backward pass and compute the rest again: less memory, a slower update."""

    @model_validator(mode="after")
    def _fits_together(self) -> ModelConfig:
        if self.load_in_4bit and self.lora is None:
            raise ValueError("load_in_4bit=true trains adapters only; add model.lora={} or set load_in_4bit=false")
        if self.load_in_4bit and self.init == "random":
            raise ValueError("load_in_4bit=true needs weights to round; set init=pretrained or load_in_4bit=false")
        return self


class CurriculumConfig(Section):
    """Which problems, in which order."""

    problems_per_step: PositiveInt = 16
    """Problems sampled per batch of rollouts."""
    num_problems: PositiveInt | None = None
    """Use only the first so many training problems of each task; null: all."""
    problems_file: str | None = None
    """Use only the training problems whose ids are in this JSONL file (`gradus probe --keep`); null: all."""
    balance_domains: bool | Literal["carry"] = False
    """``true``: as many problems of each domain in every step; ``carry``: on average, where they do not divide."""
    buckets: Literal["percentile", "rank"] = "percentile"
    """Cut easy, medium and hard per domain at percentiles of the difficulty, or by rank, so that none is empty."""
    quantiles: tuple[Share, Share] = (0.4, 0.8)
    """Where they are cut."""
    stages: tuple[tuple[Share, NonNegative, NonNegative, NonNegative], ...] | None = None
    """Phases (until, easy, medium, hard): bucket weights up to a fraction of ``num_steps``; null: no schedule."""
    draw: Literal["quota", "random", "with_replacement"] = "quota"
    """How buckets get their places: in exact proportion, at random, or at random with repeated problems."""
    adaptive: Literal["off", "variance", "gate"] = "off"
    """Let success rates change the weights (``variance``), or hold a domain in a phase (``gate``)."""
    cooldown_steps: Annotated[int, Field(ge=0)] = 0
    """Steps for which a problem whose last group had equal rewards rests."""

    @model_validator(mode="after")
    def _fits_together(self) -> CurriculumConfig:
        if not self.quantiles[0] < self.quantiles[1]:
            raise ValueError(f"quantiles={self.quantiles} must increase, for example (0.4, 0.8)")
        if self.adaptive != "off" and self.stages is None:
            raise ValueError(f"adaptive={self.adaptive} changes the weights of stages; give stages or set adaptive=off")
        for number, (_, *weights) in enumerate(self.stages or (), start=1):
            if not any(weights):
                raise ValueError(f"stage {number} has only zero weights; give easy, medium or hard a weight")
        bounds = [stage[0] for stage in self.stages or ()]
        if any(later <= earlier for earlier, later in itertools.pairwise(bounds)):
            raise ValueError(f"stages end at {bounds}, which does not increase; order them by their first number")
        if self.stages is not None and (not bounds or bounds[0] <= 0 or bounds[-1] < 1):
            raise ValueError(f"stages end at {bounds}; they must begin above 0 and reach 1, the end of the run")
        return self


class SamplingConfig(Section):
    """How training completions are drawn. There is no top_p or top_k: the recorded log-probabilities would not be
    those of the sampled distribution."""

    group_size: Annotated[int, Field(ge=2)] = 8
    """Completions per problem; the advantage of one is measured against the others."""
    temperature: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Divides the logits; the loss uses the same temperature."""
    max_tokens: PositiveInt = 512
    """Limit of a completion (tokens)."""
    max_prompt_tokens: PositiveInt | None = None
    """Problems with a longer prompt are left out and counted; null: no limit."""
    max_redraws: Annotated[int, Field(ge=0)] = 4
    """Presets that drop flat groups draw again at most so many times per step; what is missing then is counted."""


class EngineConfig(Section):
    """What samples."""

    name: Literal["local", "vllm", "scripted"] = "local"
    """``local``: own sampler in this process. ``vllm``: vLLM in this process. ``scripted``: the task's oracle with an
    error rate, for dry runs."""
    batch_size: PositiveInt = Field(default=128, json_schema_extra=INEXACT)
    """Completions decoded at the same time; the rest waits in a queue."""
    gpu_memory_frac: Annotated[float, Field(gt=0, le=1)] = Field(default=0.3, json_schema_extra=INEXACT)
    """Share of a GPU's memory that vLLM takes while it samples; the update has it in between."""
    error_rate: Share = 0.5
    """Share of wrong completions of the ``scripted`` engine."""


class AlgorithmConfig(Section):
    """A preset by name, and what differs from it (null: the preset's value)."""

    name: Literal["grpo", "dr_grpo", "dapo", "gspo", "cispo", "rloo", "reinforce"] = "grpo"
    """Row of the table in ``algo/presets.py``."""
    advantage: Literal["standardize", "center", "leave_one_out", "none"] | None = None
    """How rewards of a group become advantages."""
    ratio_level: Literal["token", "sequence", "detached", "capped"] | None = None
    """Granularity of the importance ratio."""
    clip_low: Annotated[float, Field(gt=0)] | None = None
    """Distance of the lower clip bound from 1."""
    clip_high: Annotated[float, Field(gt=0)] | None = None
    """Distance of the upper clip bound from 1."""
    aggregate: Literal["sequence", "token", "fixed"] | None = None
    """Token weights: 1/(len·N), 1/Σlen, or 1/(max_tokens·N)."""
    kl_coef: Annotated[float, Field(ge=0)] | None = None
    """Weight of the k3 estimate of KL(policy || reference)."""
    entropy_coef: Annotated[float, Field(ge=0)] | None = None
    """Weight of the entropy bonus."""
    keep_flat_groups: bool | None = None
    """Whether groups without reward spread stay in the batch."""


class OptimizerConfig(Section):
    """AdamW and the size of its steps."""

    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-6
    """Peak learning rate."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """After warm-up; linear and cosine would reach 0 at the step after ``num_steps``."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps of linear warm-up from 0."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decoupled; not applied to biases and norms."""
    beta2: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """Decay of the second moment; beta1 is 0.9."""
    moments: Literal["float32", "8bit"] = "float32"
    """How AdamW keeps its moments; ``8bit``: by blocks (arXiv 2110.02861), a quarter of the memory; needs the extra ``4bit``."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradient clipping by global norm."""
    microbatch_tokens: PositiveInt = Field(default=8192, json_schema_extra=INEXACT)
    """Tokens per forward and backward pass, padding included. Never changes the gradient beyond rounding."""
    microbatch_size: PositiveInt | None = Field(default=None, json_schema_extra=INEXACT)
    """Completions per forward and backward pass at most; null: tokens alone decide."""
    auto_microbatch: bool = Field(default=False, json_schema_extra=INEXACT)
    """Where the memory does not suffice for an update, begin it again with half the micro-batch, instead of stopping (exit 6)."""
    updates_per_batch: PositiveInt = 1
    """Optimizer steps that one batch of rollouts is cut into."""
    passes_per_batch: PositiveInt = 1
    """Times that one batch of rollouts is gone through."""
    on_nonfinite: Literal["skip", "rollback", "stop"] = Field(default="skip", json_schema_extra=INEXACT)
    """What a non-finite loss or gradient does."""


class SftConfig(Section):
    """Supervised warm-up on the task's oracle answers (`gradus sft`)."""

    batch_size: PositiveInt = 128
    """Sequences per optimizer step."""
    data_file: str | None = None
    """JSONL file with ``messages`` and ``completion`` (`gradus probe --sft-out`) to learn instead of oracle answers."""


class ScoringConfig(Section):
    """Judging of completions."""

    stop_error_frac: Share = Field(default=0.2, json_schema_extra=MUTABLE)
    """Mean share of failed scorings over 5 steps that stops the run (exit 7)."""


class EvaluationConfig(Section):
    """Held-out evaluation during training and by `gradus evaluate`."""

    split: Literal["train", "validation", "test"] = "validation"
    """Problems it runs on; the test split is for one report."""
    every_steps: PositiveInt | None = Field(default=None, json_schema_extra=MUTABLE)
    """Optimizer steps between evaluations; null: only the base model and the last step."""
    num_problems: PositiveInt = 200
    """Problems of the split, from its beginning."""
    samples_per_problem: PositiveInt = 4
    """Completions per problem."""
    temperature: Annotated[float, Field(ge=0, le=10)] | None = None
    """null: the training temperature; 0: greedy, one sample per problem."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Own seed, so that runs with different seeds stay comparable."""
    primary_metric: Literal["pass_at_1", "mean_accuracy"] = "pass_at_1"
    """Decides the verdict and the best checkpoint."""


class ProbeConfig(Section):
    """`gradus probe`: is there something to learn before anything is trained?"""

    num_problems: PositiveInt = Field(default=200, json_schema_extra=MUTABLE)
    """Training problems that are sampled, drawn at random; 200 give the mixed share to about ± 0.07."""
    samples_per_problem: Annotated[int, Field(ge=2)] | None = Field(default=None, json_schema_extra=MUTABLE)
    """Completions per problem; null: 16, or the group size where that is larger."""
    rehearse_steps: Annotated[int, Field(ge=0)] = Field(default=0, json_schema_extra=MUTABLE)
    """Steps of training that a probe takes for the forecast of the first 20, and forgets; 0: none."""
    limits: dict[ProbeLimit, Share] = Field(default={}, json_schema_extra=MUTABLE)
    """Limits of the verdict and of its cautions that differ from the default; they are listed in `docs/probe.md`."""


class HealthConfig(Section):
    """Rules over the metrics that say when a run is sick (`docs/health.md`)."""

    on_critical: Literal["log", "alert", "stop"] = Field(default="alert", json_schema_extra=MUTABLE)
    """A critical alert: ``log`` it, ``alert`` (say it, and tell the trackers), or ``stop`` with a checkpoint (exit 8)."""
    rules: dict[str, Literal["off"] | dict[str, float]] = Field(default={}, json_schema_extra=MUTABLE)
    """Rule to ``off``, or to limits that differ from the default, e.g. {H-13: off, H-09: {warn: 0.4}}."""


class CheckpointConfig(Section):
    """What survives a crash."""

    every_steps: PositiveInt = Field(default=50, json_schema_extra=MUTABLE)
    """Optimizer steps between checkpoints: the most that a crash can cost."""
    keep_last: Annotated[int, Field(ge=2)] = Field(default=3, json_schema_extra=MUTABLE)
    """Newest checkpoints kept."""
    keep_every_steps: PositiveInt | None = Field(default=None, json_schema_extra=MUTABLE)
    """Also keep every checkpoint whose step is a multiple."""
    verify: Literal["hash", "size"] = Field(default="hash", json_schema_extra=MUTABLE)
    """How a checkpoint is checked before it is loaded."""
    grace_seconds: Annotated[float, Field(gt=0)] = Field(default=30.0, json_schema_extra=MUTABLE)
    """Time that a stop by a signal should take; a longer one is said, for the scheduler's setting."""


class ParallelConfig(Section):
    """Several processes, started by `accelerate launch` or `torchrun` (docs/several-devices.md)."""

    strategy: Literal["auto", "ddp", "fsdp2", "zero2", "zero3"] = Field(default="auto", json_schema_extra=INEXACT)
    """``ddp``: whole weights in each. ``fsdp2``, ``zero2``, ``zero3``: shared out. ``auto``: as the launcher's file says."""
    num_nodes: PositiveInt = Field(default=1, json_schema_extra=INEXACT)
    """Machines."""
    devices_per_node: PositiveInt | None = Field(default=None, json_schema_extra=INEXACT)
    """Processes on each machine; another number is refused. null: as many as the launcher started."""


class BackendConfig(Section):
    """Who trains. What differs between the backends: `docs/trl.md`, `docs/verl.md`."""

    name: Literal["native", "trl", "verl"] = "native"
    """``native``: own loop. ``trl``: GRPOTrainer of TRL with the same problems and scores. ``verl``: verl on Ray, in
    processes of its own."""
    ray_address: str | None = Field(default=None, json_schema_extra=MUTABLE)
    """``host:port`` of a Ray that runs already, for verl; null: one of this run alone, on this machine."""
    extra: dict[str, Any] = {}
    """Settings of the foreign trainer by its own names, where no key of ours says the same; e.g. {use_vllm: true}."""

    @model_validator(mode="after")
    def _fits_together(self) -> BackendConfig:
        if self.extra and self.name == "native":
            raise ValueError(f"extra={self.extra} is for a foreign trainer; set backend.name=trl, or remove it")
        if self.ray_address is not None and self.name != "verl":
            raise ValueError(f"ray_address={self.ray_address} is for verl; set backend.name=verl, or remove it")
        return self


class TrackingConfig(Section):
    """Experiment trackers beside `metrics.jsonl`, which is always written. Each runs in a process of its own and can
    neither stop nor slow the run."""

    sinks: list[Literal["tensorboard", "wandb", "trackio"]] = Field(default=[], json_schema_extra=MUTABLE)
    """Trackers that are told every step; their packages must be installed."""
    project: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")] = Field(
        default="gradus", json_schema_extra=MUTABLE
    )
    """Project in trackers that have projects."""


class RecordsConfig(Section):
    """What is written beside the metrics."""

    rollouts_every_steps: PositiveInt = Field(default=10, json_schema_extra=MUTABLE)
    """Steps between recorded rollouts."""


class Config(Section):
    """A run, whole.

    Example:
        Config(name="first", num_steps=100, tasks={"countdown": {"max_numbers": 3}})
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")] | None = None
    """Directory below the runs folder; null: made from task, model and time."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Decides data order, sampling and initial weights."""
    num_steps: PositiveInt = Field(default=100, json_schema_extra=MUTABLE)
    """Optimizer steps of the whole run; may grow on resume."""
    torch_threads: PositiveInt | None = Field(default=None, json_schema_extra=INEXACT)
    """CPU threads of torch; null: physical cores."""
    model: ModelConfig = ModelConfig()
    tasks: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    """Task name to its options."""
    curriculum: CurriculumConfig = CurriculumConfig()
    sampling: SamplingConfig = SamplingConfig()
    engine: EngineConfig = EngineConfig()
    algorithm: AlgorithmConfig = AlgorithmConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    sft: SftConfig = SftConfig()
    scoring: ScoringConfig = ScoringConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    probe: ProbeConfig = ProbeConfig()
    health: HealthConfig = HealthConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    records: RecordsConfig = RecordsConfig()
    parallel: ParallelConfig = ParallelConfig()
    backend: BackendConfig = BackendConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        updates, problems = self.optimizer.updates_per_batch, self.curriculum.problems_per_step
        if problems % updates:
            raise ValueError(
                f"curriculum.problems_per_step={problems} is not a multiple of optimizer.updates_per_batch={updates}; "
                f"use {max(1, problems // updates) * updates} or {(problems // updates + 1) * updates}"
            )
        if self.engine.name == "vllm" and self.model.load_in_4bit:
            raise ValueError(
                "engine.name=vllm takes no weights that model.load_in_4bit=true has rounded; set engine.name=local, or "
                "model.load_in_4bit=false"
            )
        if self.engine.name == "vllm" and self.backend.name == "verl":
            raise ValueError(
                "engine.name=vllm, and backend.name=verl has its own way to vLLM (docs/verl.md); remove engine.name"
            )
        return self
