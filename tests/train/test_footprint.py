"""The memory that a dry run names: counted from the config alone, near what runs took, and monotone in what costs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gradus.config import Config
from gradus.policy import attention, logprobs
from gradus.policy.load import NANO
from gradus.train import footprint as module
from gradus.train.footprint import footprint
from gradus.train.shapes import Shape, known_shape, shape_at
from tests.command_line import call, only_json
from tests.models import CONFIGS, build_model


def shape_of_nano() -> Shape:
    shape = shape_at(NANO / "countdown")
    assert shape is not None
    return shape


def parts(shape: Shape | None = None, **changes) -> dict[str, int]:
    tree = {"tasks": {"countdown": {}}, **changes}
    return footprint(Config(**tree), shape or shape_of_nano(), prompt_characters=120)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma", "smollm3"])
def test_parameters_are_counted_from_the_config(family):
    model = build_model(family)
    shape = Shape.of(json.loads(CONFIGS[family]().to_json_string(use_diff=False)))
    assert shape is not None
    assert shape.num_parameters == pytest.approx(sum(p.numel() for p in model.parameters()), rel=0.01)


def test_a_config_of_another_kind_is_no_guess(tmp_path):
    assert Shape.of({"d_model": 64, "n_layer": 2}) is None
    assert shape_at(tmp_path) is None


@pytest.mark.parametrize(
    ("path", "billions"),
    [
        ("Qwen/Qwen2.5-0.5B-Instruct", 0.494), ("Qwen/Qwen2.5-3B", 3.09), ("unsloth/Qwen2.5-7B-Instruct-bnb-4bit", 7.62),
        ("Qwen/Qwen2.5-14B", 14.8), ("Qwen/Qwen3-4B", 4.02), ("sft-checkpoints/qwen3-14b", 14.8), ("Qwen/Qwen3-0.6B-Base", 0.596),
        ("mistralai/Mistral-7B-Instruct-v0.3", 7.25), ("meta-llama/Llama-3.2-1B", 1.24), ("meta-llama/Llama-3.1-8B", 8.03),
        ("HuggingFaceTB/SmolLM2-135M", 0.135), ("HuggingFaceTB/SmolLM2-1.7B-Instruct", 1.71),
    ],
)  # fmt: skip
def test_known_names_have_the_published_number_of_parameters(path, billions):
    shape = known_shape(path)
    assert shape is not None and shape.num_parameters == pytest.approx(billions * 1e9, rel=0.01)


def test_an_unknown_name_is_no_guess():
    assert known_shape("me/my-model") is None and known_shape("Qwen/Qwen2.5-Math") is None


def test_the_sizes_of_chunks_and_parts_are_those_that_are_used():
    for name in ("CHUNK_ELEMENTS", "TILE_ELEMENTS", "TILE_VOCABULARY"):
        assert getattr(module, name) == getattr(logprobs, name)
    for name in ("KEPT_SCORES", "PART_SCORES"):
        assert getattr(module, name) == getattr(attention, name)


def test_what_costs_memory_is_counted_so():
    base = parts()
    assert parts(optimizer={"microbatch_tokens": 512})["update"] < base["update"]
    assert parts(model={"gradient_checkpointing": True})["update"] < base["update"] / 2
    assert parts(engine={"batch_size": 16})["sampling"] < base["sampling"]
    assert parts(model={"dtype": "bfloat16"})["weights"] == base["weights"] / 2
    assert parts(optimizer={"moments": "8bit"})["optimizer"] == base["optimizer"] / 4
    assert parts(algorithm={"kl_coef": 0.1})["weights"] == 2 * base["weights"]
    adapters = parts(model={"lora": {"rank": 4}})
    assert adapters["gradients"] < base["gradients"] / 10 and adapters["peak"] < base["peak"]
    rounded = parts(model={"lora": {"rank": 4}, "load_in_4bit": True})
    assert rounded["weights"] < adapters["weights"] / 2


def test_logits_do_not_grow_with_the_batch():
    large = Shape(layers=2, hidden=64, inner=128, heads=2, key_heads=2, head_width=32, vocabulary=151_936, is_tied=True)
    few, many = (
        parts(large, curriculum={"problems_per_step": size}, optimizer={"microbatch_tokens": 2048})["update"]
        for size in (4, 64)
    )
    assert few == many


def test_a_dry_run_says_it(capfd):
    code, out, _ = call(capfd, "train", "countdown_nano", "--dry-run", "--json")
    assert code == 0 and only_json(out)["memory"]["peak"] > module.PROCESS_BYTES
    code, out, _ = call(capfd, "train", "countdown_nano", "--dry-run")
    assert "memory on a CPU" in out and "GB at the peak" in out


PEAK = (
    "import resource, sys; from gradus.cli.main import run; code = run(sys.argv[1:]); "
    "print(code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"
)


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [1024, 8192])
def test_a_run_takes_what_was_said(tmp_path, monkeypatch, capfd, tokens):
    settings = ["num_steps=2", "evaluation.num_problems=16", f"optimizer.microbatch_tokens={tokens}", "torch_threads=1"]
    said = only_json(call(capfd, "train", "countdown_nano", *settings, "--dry-run", "--json")[1])["memory"]["peak"]
    done = subprocess.run(
        [sys.executable, "-c", PEAK, "-q", "train", "countdown_nano", *settings],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**__import__("os").environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    code, took = done.stdout.split()[-2:]
    assert code == "0", done.stderr
    assert said == pytest.approx(int(took), rel=0.25)
