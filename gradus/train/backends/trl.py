"""The trl backend: TRL's `GRPOTrainer` samples, weighs and differentiates; all else is gradus' own.

Problems come from the curriculum, prompts and scores from the same functions as in `train/loop.py`, and session,
records, evaluations and checkpoints are those of a native run, so that report, compare and rollouts read both. The
optimizer is gradus' own too, handed to the trainer: a checkpoint holds the same tensors whoever trained.

TRL's trainer is overridden in few places (`_trainer_class`), each of which asks `trl_conductor.Conductor`. It counts its
steps from 0 at every start; `TrainState.step` is the truth. Where a batch serves several steps, the run stops and saves
only where a batch ends, since what TRL keeps between them is in no checkpoint.

Of several processes each has its part of the problems, whole groups; weights and gradients are shared out by gradus'
optimizers, as in a native run, so that all of their strategies and checkpoints are here too.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from gradus import durable
from gradus.algo.presets import Algorithm, resolve_algorithm
from gradus.data.problems import Problems, load_problems
from gradus.evaluation.run import Evaluator
from gradus.train.backends.batches import steps_per_batch
from gradus.train.backends.trl_conductor import Conductor, Stepper, attention, padded_attention
from gradus.train.backends.trl_settings import arguments, differences
from gradus.train.limits import check_space
from gradus.train.loop import evaluate_owed, evaluator_of, reference_of
from gradus.train.optimizer import learning_rate_at
from gradus.train.session import RollBack, Session, opened
from gradus.train.start import Start


def train(start: Start, problems: Problems | None = None) -> dict[str, Any]:
    """Trains ``start`` to its last step with TRL and returns a summary. As `train.loop.train` otherwise."""
    config = start.resolved.config
    with opened(start, problems or load_problems(config)) as session:
        session.steps_per_save = steps_per_batch(config)
        check_space(session)
        algorithm = resolve_algorithm(config.algorithm)
        reference = reference_of(session, algorithm)
        evaluator = evaluator_of(session)
        evaluate_owed(session, evaluator)
        for line in differences(config):
            session.info(f"trl: {line}")
        while session.state.step < config.num_steps:
            try:
                _train_on(session, evaluator, algorithm, reference)
            except RollBack:
                session.go_back()
                evaluate_owed(session, evaluator)
        return {**session.summary(), "comparison": evaluator.against_base()}


def _train_on(session: Session, evaluator: Evaluator, algorithm: Algorithm, reference: nn.Module | None) -> None:
    """TRL's loop from where the run stands to its last step."""
    model, name = session.state.policy.model, padded_attention(session.state.policy.model)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet())
        stack.enter_context(_without_launcher())
        stack.enter_context(attention(model, name))
        if reference is not None:
            stack.enter_context(attention(reference, name))
        make_trainer(session, evaluator, algorithm, reference).train()


def make_trainer(session: Session, evaluator: Evaluator, algorithm: Algorithm, reference: nn.Module | None) -> Any:
    """A `GRPOTrainer` that trains the session's policy from the session's step on."""
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl.trainer.grpo_config import GRPOConfig

    config, state = session.config, session.state
    folder = session.run.path / "backend" / "trl"
    use_cpu = state.policy.device.type == "cpu"
    settings = arguments(
        config, step=state.step, use_cpu=use_cpu, output_dir=str(folder), num_processes=session.ranks.size
    )

    def record() -> None:
        durable.make_directory(folder)
        durable.write_json(folder / "arguments.json", {**settings, "output_dir": "backend/trl"})

    session.ranks.from_first(record)
    stepper = Stepper(state.optimizer, state.policy)
    conductor = Conductor(session, evaluator, stepper)
    first = state.step
    schedule = torch.optim.lr_scheduler.LambdaLR(
        stepper, lambda taken: learning_rate_at(first + taken + 1, num_steps=config.num_steps, config=config.optimizer)
    )
    places = [
        {"prompt": [{"role": "user", "content": ""}], "place": place}
        for place in range(config.curriculum.problems_per_step)
    ]
    trainer = _trainer_class()(
        conductor,
        model=state.policy.model,
        reward_funcs=[conductor.reward],
        args=GRPOConfig(**{**settings, "beta": 0.0}),  # with beta TRL would load a reference of its own choice
        train_dataset=Dataset.from_list(places),
        processing_class=copy.deepcopy(state.policy.tokenizer),  # TRL may give it a padding token
        optimizers=(stepper, schedule),
    )
    trainer.remove_callback(PrinterCallback)
    _give_reference(trainer, algorithm, reference)
    return trainer


def _give_reference(trainer: Any, algorithm: Algorithm, reference: nn.Module | None) -> None:
    """The reference of a native run: the run's base model, also where training goes on from a checkpoint, of which TRL
    would take a copy; or None, which means the policy without its adapter."""
    if algorithm.kl_coef == 0:
        return
    from trl.trainer.utils import add_fused_lm_head

    trainer.beta = trainer.args.beta = algorithm.kl_coef
    if reference is not None:
        add_fused_lm_head(reference, temperature=trainer.temperature, cast_lm_head_to_fp32=False)  # type: ignore[arg-type]
        trainer.ref_model = reference


def _trainer_class() -> type:
    """`GRPOTrainer` with its places overridden."""
    from trl.trainer.grpo_trainer import GRPOTrainer

    class Trainer(GRPOTrainer):
        def __init__(self, conductor: Conductor, **options: Any) -> None:
            self._conductor = conductor
            super().__init__(**options)
            accelerator: Any = self.accelerator  # which would wrap the policy, and average gradients
            accelerator.prepare_model = lambda model, **_: model
            accelerator.backward = lambda loss, **_: conductor.backward(loss, is_last=accelerator.sync_gradients)

        def _send_telemetry(self) -> None:
            """A run tells nobody."""

        def _tokenize_prompts(self, prompts: list) -> tuple[Any, None, dict[str, Any]]:
            return self._conductor.prompts(), None, {}

        def _generate_single_turn(self, prompt_ids: Any, *others: Any, **options: Any) -> Any:
            generate, trained = super()._generate_single_turn, self.model_wrapped
            self.model_wrapped = sampler = self._conductor.sampler.model
            try:
                with attention(sampler, padded_attention(sampler)):
                    return self._conductor.sampled(lambda some: generate(some, *others, **options), prompt_ids)
            finally:
                self.model_wrapped = trained

        def _get_per_token_logps_and_entropies(self, model: nn.Module, *others: Any, **options: Any) -> Any:
            compute, conductor = super()._get_per_token_logps_and_entropies, self._conductor
            if model is not conductor.policy.model:
                return compute(model, *others, **options)
            optimizer = conductor.session.state.optimizer
            return optimizer.through(model, lambda policy: compute(policy, *others, **options))

        def _clip_grad_norm(self, model: nn.Module) -> float:
            return self._conductor.stepper.clip()

        def _generate_and_score_completions(self, inputs: Any) -> Any:
            self._conductor.begin_batch([row["place"] for row in inputs])
            output = super()._generate_and_score_completions(inputs)
            self._conductor.end_batch(output["advantages"].tolist())
            return output

        def training_step(self, *arguments: Any, **options: Any) -> Any:
            self._conductor.poll()
            return super().training_step(*arguments, **options)

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            super().log(logs, start_time)
            if "loss" in logs:  # the summary at the end has none
                self._conductor.end_step(logs)

    return Trainer


@contextlib.contextmanager
def _without_launcher() -> Iterator[None]:
    """Hides what a launcher's file says: `train/launch.py` has read it and gradus does it, so that accelerate must not do
    it again (sharding, autocast, accumulation). That there are several processes accelerate still sees."""
    names = [name for name in os.environ if name.startswith(("ACCELERATE_", "FSDP_"))]
    before = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """TRL's own log would repeat what gradus says, and show what a model wrote as it is."""
    loggers = [logging.getLogger("trl"), logging.getLogger("accelerate")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # about names that TRL itself uses
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
