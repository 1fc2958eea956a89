"""Loading policies: what is refused, and why; what is saved loads elsewhere; random weights are a function of the seed."""

import json
import shutil

import pytest
import torch

from gradus.config import LoraConfig, ModelConfig
from gradus.policy.load import load_policy, pick_device, pick_dtype, resolve_address
from gradus.policy.nano.build import FAMILIES, build
from gradus.types import Message
from tests.models import build_model, save_model

QUESTION = (Message(role="user", content="Use 2, 5, 8."),)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("policy"))


def copy_of(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"is no folder; give a folder, a Hub id such as"):
        load_policy(ModelConfig(path=str(tmp_path / "missing")))


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(ValueError, match=r"holds no config.json"):
        load_policy(ModelConfig(path=str(tmp_path)))


def test_an_embedded_policy_that_does_not_exist():
    with pytest.raises(ValueError, match="there are: nano/countdown"):
        load_policy(ModelConfig(path="nano/chess"))


def test_the_hub_is_not_asked_offline(monkeypatch):
    monkeypatch.setenv("GRADUS_OFFLINE", "1")
    with pytest.raises(ValueError, match="forbids the Hub"):
        resolve_address("Qwen/Qwen2.5-0.5B")
    monkeypatch.setenv("GRADUS_OFFLINE", "0")
    assert resolve_address("Qwen/Qwen2.5-0.5B", "main") == ("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B@main")


def test_a_model_without_chat_template(folder, tmp_path):
    copy = copy_of(folder, tmp_path)
    (copy / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match="has no chat template; use the model's instruct version"):
        load_policy(ModelConfig(path=str(copy)))


def test_pickled_weights_are_refused_unread(folder, tmp_path):
    copy = copy_of(folder, tmp_path)
    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch canary'\ntR.")
    with pytest.raises(ValueError, match=r"pickle \(pytorch_model.bin\); convert them to safetensors"):
        load_policy(ModelConfig(path=str(copy)))


def test_an_architecture_that_cannot_share_prompts(folder, tmp_path):
    from transformers import StableLmConfig, StableLmForCausalLM

    copy = copy_of(folder, tmp_path)
    config = StableLmConfig(
        vocab_size=392,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    StableLmForCausalLM(config).save_pretrained(copy)
    with pytest.raises(ValueError, match="does not pass extra arguments on to its"):
        load_policy(ModelConfig(path=str(copy)))


def test_an_architecture_that_changes_its_logits_is_not_trained(folder, tmp_path):
    from transformers import CohereConfig, CohereForCausalLM

    copy = copy_of(folder, tmp_path)
    config = CohereConfig(
        vocab_size=392,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        logit_scale=0.5,
        pad_token_id=0,
    )
    CohereForCausalLM(config).save_pretrained(copy)
    with pytest.raises(ValueError, match="changes its logits in a way that gradus does not know"):
        load_policy(ModelConfig(path=str(copy)))


def test_devices_and_dtypes(monkeypatch):
    assert pick_device("cpu").type == "cpu"
    assert pick_dtype("auto", torch.device("cpu")) == torch.float32
    assert pick_dtype("bfloat16", torch.device("cpu")) == torch.bfloat16
    for has_it, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: has_it)  # noqa: B023 (called at once)
        assert pick_dtype("auto", torch.device("cuda")) == dtype
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"model.device=cuda is not available here"):
            pick_device("cuda")


def test_prompts_end_where_the_answer_begins(folder):
    policy = load_policy(ModelConfig(path=str(folder)))
    text = policy.tokenizer.decode(list(policy.prompt_tokens(QUESTION)), skip_special_tokens=False)
    assert text == "<|user|>Use 2, 5, 8.<|end|><|assistant|>"
    begun = policy.prompt_tokens((*QUESTION, Message(role="assistant", content="<think>\n")))
    assert policy.tokenizer.decode(list(begun), skip_special_tokens=False) == text + "<think>\n"
    answer = policy.answer_tokens("<think>x</think>")
    assert answer[-1] == policy.stop_tokens[0]
    assert policy.decode(answer) == "<think>x</think>"


def test_random_weights_are_a_function_of_the_seed(folder):
    first, again, other = (
        load_policy(ModelConfig(path=str(folder), init="random"), seed=seed).model.state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_an_adapter_starts_as_the_base_and_loads_in_peft(folder, tmp_path):
    from peft import PeftModel

    policy = load_policy(ModelConfig(path=str(folder), lora=LoraConfig(rank=4, alpha=8)))
    names = [name for name, _ in policy.trainable()]
    assert names
    assert all("lora_" in name for name in names)
    assert not any("lm_head" in name for name in names)
    policy.model.save_pretrained(tmp_path / "adapter")
    content = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert content["base_model_name_or_path"] == str(folder)
    tokens = torch.tensor([[5, 6, 7]])
    base = build_model("llama")
    expected = base(tokens).logits
    adapted = PeftModel.from_pretrained(build_model("llama"), tmp_path / "adapter")
    torch.testing.assert_close(adapted(tokens).logits, expected)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_embedded_tokenizers_are_made_again_to_the_same_bytes(name, tmp_path):
    from gradus.policy.load import NANO

    build(name, tmp_path)
    for path in sorted(tmp_path.iterdir()):
        assert path.read_bytes() == (NANO / name / path.name).read_bytes(), path.name


def test_every_digit_is_a_token_and_any_text_comes_back(folder):
    tokenizer = load_policy(ModelConfig(path=str(folder))).tokenizer
    for text in ("12 + 345 = 357, left 6.", "é 漢字 \x00 <think>7</think>", "x" * 5000, "1" * 2000):
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(tokens, clean_up_tokenization_spaces=False) == text
    assert len(tokenizer("1234567", add_special_tokens=False)["input_ids"]) == 7
