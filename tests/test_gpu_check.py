"""`make gpu-check` on a machine without a GPU: says so and ends with 2; its comparisons work on two CPU policies."""

import importlib.util
from pathlib import Path

import pytest
import torch

PATH = Path(__file__).parent.parent / "benchmarks" / "gpu_check.py"


@pytest.fixture
def program():
    spec = importlib.util.spec_from_file_location("gpu_check", PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(program):
    said = []
    assert program.main([], said.append) == 2
    assert said and said[0].startswith("no CUDA device here") and "make gpu-check on a machine with one" in said[0]


@pytest.mark.slow
def test_its_numbers_agree_where_both_sides_are_the_cpu(program):
    found = program.parity("cpu")
    assert len(found) == 8
    assert {name for name, fact in found.items() if not fact["ok"]} == set()
