"""Updates that do not fit into memory: recognised, said with what to change, or begun again in smaller pieces."""

import pytest
import torch

from gradus.algo.presets import PRESETS
from gradus.exits import Code, Exit
from gradus.train import optimizer as optimizer_module
from gradus.train.batch import collate
from gradus.train.fitting import halved
from gradus.train.memory import is_out_of_memory, out_of_memory
from gradus.train.update import cuts_of
from tests.train import runs
from tests.train.test_update import GROUPS, settings

LIMIT = 70
"""Tokens of a micro-batch that the pretended memory holds."""


def out_of_ram(*_: object) -> None:
    torch.empty(1 << 60, dtype=torch.uint8)


@pytest.fixture
def small_memory(monkeypatch):
    """Memory for few tokens; what is too large fails after a part of the gradient is there."""
    real, failed = optimizer_module.completion_logprobs, []

    def limited(model, *, prompts, completions, prompt_of, temperature):
        if sum(map(len, prompts)) + sum(map(len, completions)) > LIMIT:
            failed.append(len(completions))
            out_of_ram()
        return real(model, prompts=prompts, completions=completions, prompt_of=prompt_of, temperature=temperature)

    monkeypatch.setattr(optimizer_module, "completion_logprobs", limited)
    return failed


def test_what_counts_as_out_of_memory():
    with pytest.raises(RuntimeError) as error:
        out_of_ram()
    assert is_out_of_memory(error.value)
    assert is_out_of_memory(MemoryError()) and is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"))
    assert not is_out_of_memory(RuntimeError("shape '[3]' is invalid for input of size 4"))


def test_the_micro_batch_is_halved_until_it_is_another_one():
    batch = collate(GROUPS, algorithm=PRESETS["grpo"], max_tokens=16)
    chosen, sizes = settings(microbatch_tokens=10_000), []
    while (smaller := halved(batch, chosen)) is not None:
        assert cuts_of(batch, smaller) != cuts_of(batch, chosen)
        chosen = smaller
        sizes.append(chosen.microbatch_tokens)
    assert sizes == sorted(sizes, reverse=True) and len(sizes) > 1
    assert all(len(cut) == 1 for cut in cuts_of(batch, chosen))
    (first,) = [halved(batch, settings(microbatch_size=12))]
    assert first is not None and first.microbatch_size == 6


def test_a_run_that_comes_down_by_itself_ends_as_one_that_began_there(tmp_path, small_memory, capfd):
    policy = runs.tiny(tmp_path)
    optimizer = {"learning_rate": 1e-3, "microbatch_tokens": 256, "auto_microbatch": True}
    assert runs.run(runs.config_of(policy, optimizer=optimizer), tmp_path / "a")["step"] == 4
    assert small_memory, "the test needs updates that did not fit"
    said = capfd.readouterr().err
    assert "out of memory in the update; it begins again, from here on with micro-batches of 64 tokens" in said
    small_memory.clear()
    optimizer = {"learning_rate": 1e-3, "microbatch_tokens": 64}
    runs.run(runs.config_of(policy, optimizer=optimizer), tmp_path / "b")
    assert not small_memory
    assert runs.bits(tmp_path / "a", 4) == runs.bits(tmp_path / "b", 4)


def test_without_the_option_the_run_ends_and_says_what_to_change(tmp_path, small_memory):
    config = runs.config_of(runs.tiny(tmp_path), optimizer={"microbatch_tokens": 256})
    with pytest.raises(Exit, match=r"out of memory in the update \(micro-batches of 256 tokens\)") as error:
        runs.run(config, tmp_path)
    assert error.value.code == Code.MACHINE
    for change in (
        "optimizer.microbatch_tokens=128",
        "optimizer.auto_microbatch=true",
        "model.gradient_checkpointing=true",
    ):
        assert change in error.value.message


def test_sampling_that_does_not_fit_names_other_settings(tmp_path):
    said = out_of_memory(runs.config_of(tmp_path, model={"lora": {"rank": 2}}), is_update=False)
    assert "sampling (128 completions at a time)" in said and "engine.batch_size=64" in said
    assert "model.load_in_4bit=true in a new run" in said and "microbatch" not in said
