"""The embedded policies' weights are what their record says, and their recipe makes them again to the same bits."""

import hashlib
import json

import pytest
import torch

from gradus.policy.load import NANO
from gradus.policy.nano.build import FAMILIES, processor
from gradus.recipe import resolve
from gradus.verbs import run


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_weights_are_those_of_the_record(name):
    made = json.loads((NANO / name / "made.json").read_text())
    assert hashlib.sha256((NANO / name / "model.safetensors").read_bytes()).hexdigest() == made["sha256"]
    config = resolve([made["recipe"]]).config
    assert (made["step"], made["torch_threads"]) == (config.num_steps, config.torch_threads)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_the_recipe_makes_the_weights_again(name, tmp_path):
    made = json.loads((NANO / name / "made.json").read_text())
    if (made["processor"], made["versions"]["torch"]) != (processor(), torch.__version__):
        pytest.skip(f"the same bits are promised on {made['processor']} with torch {made['versions']['torch']} only")
    run("sft", resolve([made["recipe"]], ["name=again"]), runs_dir=tmp_path)
    weights = tmp_path / "again" / "checkpoints" / f"step_{made['step']:06d}" / "model" / "model.safetensors"
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == made["sha256"]
