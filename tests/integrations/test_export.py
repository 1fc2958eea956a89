"""Exports: loaded elsewhere they answer as the checkpoint does, the card tells the results, and nothing is overwritten.

Covers I-14.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gradus import yaml12
from gradus.cli.main import run as command
from gradus.config import ModelConfig
from gradus.integrations.export import export, push
from gradus.policy.load import load_policy
from gradus.train.address import locate
from tests.models import save_model
from tests.train.runs import config_of, run

ALONE = """
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder = sys.argv[1]
tokenizer = AutoTokenizer.from_pretrained(folder)
if sys.argv[2] == "adapter":
    from peft import AutoPeftModelForCausalLM as Loader
else:
    Loader = AutoModelForCausalLM
model = Loader.from_pretrained(folder).eval()
text = tokenizer.apply_chat_template([{"role": "user", "content": "Use 2, 5, 8."}], tokenize=False, add_generation_prompt=True)
tokens = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
answer = model.generate(tokens, max_new_tokens=8, do_sample=False)
assert not any(name.split(".")[0] == "gradus" for name in sys.modules)
print(json.dumps({"logits": model(tokens).logits[0, -1].float().tolist(), "new": answer.shape[1] - tokens.shape[1],
                  "dtype": str(next(model.parameters()).dtype)}))
"""


def loaded_alone(folder: Path, kind: str = "whole") -> dict:
    """What a process without gradus says of an export."""
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(folder), kind],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": "", "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def logits_here(path: str) -> torch.Tensor:
    """Of the same prompt, by the policy that gradus loads."""
    from gradus.policy.tree import PackedTree
    from gradus.types import Message

    policy = load_policy(ModelConfig(path=path, device="cpu"), is_trainable=False)
    tokens = policy.prompt_tokens((Message(role="user", content="Use 2, 5, 8."),))
    tree = PackedTree(prompts=[tokens], completions=[], prompt_of=[], device=policy.device)
    with torch.no_grad():
        return policy.model(input_ids=tree.tokens_N[None], position_ids=tree.positions_N[None], tree=tree).logits[0, -1]


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    folder = save_model(tmp_path_factory.mktemp("policy"))
    (folder / "README.md").write_text("---\ntags: [x]\nlicense: apache-2.0\n---\n# Base\n")
    return folder


@pytest.fixture(scope="module")
def whole(policy, tmp_path_factory):
    runs = tmp_path_factory.mktemp("whole")
    run(config_of(policy, evaluation={"every_steps": 2}), runs)
    return runs / "run"


@pytest.fixture(scope="module")
def adapted(policy, tmp_path_factory):
    runs = tmp_path_factory.mktemp("adapted")
    run(config_of(policy, model={"lora": {"rank": 4}}), runs)
    return runs / "run"


def test_whole_weights_load_without_gradus(whole, tmp_path):
    made = export(locate(f"{whole}@last"), tmp_path / "out")
    assert made["step"] == 4 and {"model.safetensors", "config.json", "chat_template.jinja"} <= set(made["files"])
    assert sum((tmp_path / "out" / name).stat().st_size for name in made["files"]) == made["bytes"]
    alone = loaded_alone(tmp_path / "out")
    assert 1 <= alone["new"] <= 8
    torch.testing.assert_close(torch.tensor(alone["logits"]), logits_here(locate(f"{whole}@last").path))


def test_an_adapter_loads_in_peft_and_merged(adapted, tmp_path):
    here = logits_here(locate(f"{adapted}@last").path)
    export(locate(f"{adapted}@last"), tmp_path / "adapter")
    torch.testing.assert_close(torch.tensor(loaded_alone(tmp_path / "adapter", "adapter")["logits"]), here)
    export(locate(f"{adapted}@last"), tmp_path / "merged", merge=True)
    merged = loaded_alone(tmp_path / "merged")
    torch.testing.assert_close(torch.tensor(merged["logits"]), here, atol=1e-5, rtol=1e-5)
    export(locate(f"{adapted}@last"), tmp_path / "half", merge=True, dtype="bfloat16")
    half = loaded_alone(tmp_path / "half")
    assert half["dtype"] == "torch.bfloat16" and merged["dtype"] == "torch.float32"
    torch.testing.assert_close(torch.tensor(half["logits"]), here, atol=1e-2, rtol=0.1)


def test_the_card(whole, adapted, tmp_path):
    made = export(locate(f"{whole}@last"), tmp_path / "out")
    _, front, body = (tmp_path / "out" / "README.md").read_text().split("---\n", 2)
    tree = yaml12.read(front.encode(), "README.md").value
    assert made["notes"] == [] and tree["license"] == "apache-2.0" and tree["library_name"] == "transformers"
    (result,) = tree["model-index"][0]["results"]
    rows, _ = (
        __import__("gradus.rundir", fromlist=["RunDirectory"]).RunDirectory(whole).read_evaluation("validation", 4)
    )
    assert result["metrics"][0]["value"] == pytest.approx(sum(row["correct"] for row in rows) / len(rows), abs=1e-4)
    assert "| validation | Pass@1 |" in body and "95 % intervals" in body and "seed 0" in body
    assert "base_model" not in tree, "a folder of this machine is no name on the Hub"
    without = export(locate(f"{adapted}@2"), tmp_path / "adapter")
    assert "no results: evaluate the base and this step, then export again" in without["notes"]
    assert "no results to show" in (tmp_path / "adapter" / "README.md").read_text()


def test_what_is_refused(whole, adapted, tmp_path):
    with pytest.raises(ValueError, match="is no checkpoint of a run"):
        export(locate(f"{whole}@base"), tmp_path / "a")
    with pytest.raises(ValueError, match="no adapter to merge"):
        export(locate(f"{whole}@last"), tmp_path / "b", merge=True)
    with pytest.raises(ValueError, match="add --merge"):
        export(locate(f"{adapted}@last"), tmp_path / "c", dtype="bfloat16")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "mine.txt").write_text("kept")
    with pytest.raises(ValueError, match="exists and is not empty"):
        export(locate(f"{whole}@last"), tmp_path / "d")
    with pytest.raises(ValueError, match="give ORG/NAME"):
        push(tmp_path / "d", "alone")
    assert (tmp_path / "d" / "mine.txt").read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d"], "nothing half-made is left"


def test_the_command(whole, tmp_path, capsys):
    assert command(["--json", "export", str(whole), "--step", "last", "--out", str(tmp_path / "out")]) == 0
    assert json.loads(capsys.readouterr().out)["step"] == 4
    assert command(["export", str(whole), "--step", "last", "--out", str(tmp_path / "new"), "--dry-run"]) == 0
    assert not (tmp_path / "new").exists()
    assert command(["export", str(whole), "--step", "3", "--out", str(tmp_path / "new")]) == 2
