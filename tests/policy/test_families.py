"""Families of models, from a saved folder to a step of training: each built small from the family's own config class,
with a chat template in the family's own marks."""

import json

import pytest
import torch
from tokenizers import AddedToken
from transformers import AutoTokenizer, GenerationConfig

from gradus.config import LoraConfig, ModelConfig
from gradus.policy.load import NANO, Policy, load_policy
from gradus.policy.logprobs import completion_logprobs
from gradus.rollout.engine import Request, Sampling
from gradus.rollout.local import LocalEngine
from gradus.types import Message, Problem
from tests.models import CONFIGS, SIZES, build_model, random_tokens

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKS = CHATML.replace(
    "assistant\n{% endif %}",
    "assistant\n{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
)
LLAMA = (
    "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MISTRAL = (
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content }}</s>{% else %}{{ m.content }}\n{% endif %}{% endfor %}"
)
GEMMA = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content }}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
CHATS = {
    "qwen2": (CHATML, "<|im_end|>", "<|endoftext|>"),
    "qwen3": (THINKS, "<|im_end|>", "<|endoftext|>"),
    "llama": (LLAMA, "<|eot_id|>", "<|end_of_text|>"),
    "mistral-window": (MISTRAL, "</s>", "</s>"),
    "gemma": (GEMMA, "<end_of_turn>", "<eos>"),
    "gemma2": (GEMMA, "<end_of_turn>", "<eos>"),
    "gemma3": (GEMMA, "<end_of_turn>", "<eos>"),
    "smollm3": (THINKS, "<|im_end|>", "<|endoftext|>"),
}
"""Family → chat template, the token that ends a turn, the tokenizer's end of text."""
QUESTION = (Message(role="user", content="Use 2, 5, 8."),)
PROMPTS = random_tokens([9, 14, 5], seed=1)
"""Longer than the window of 7."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Family → folder, made when it is first asked for."""
    made = {}

    def folder_of(family):
        if family not in made:
            made[family] = _saved(tmp_path_factory.mktemp(family.replace("-", "_")), family)
        return made[family]

    return folder_of


def _saved(folder, family):
    template, turn, end = CHATS[family]
    tokenizer = AutoTokenizer.from_pretrained(NANO / "countdown")
    tokenizer.add_tokens([AddedToken(token, special=True) for token in dict.fromkeys((turn, end))], special_tokens=True)
    assert len(tokenizer) <= SIZES["vocab_size"]
    tokenizer.eos_token = end
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    build_model(family).save_pretrained(folder)
    ids = tokenizer.convert_tokens_to_ids([end, turn])
    GenerationConfig(eos_token_id=ids).save_pretrained(folder)
    return folder


def sampled(policy: Policy, *, temperature: float = 0.8) -> list:
    problem = Problem(id="p", task="t", messages=QUESTION, truth={}, domain="d", difficulty=0.0)
    requests = [
        Request(problem=problem, prompt_tokens=tuple(prompt), seeds=tuple(range(10 * row, 10 * row + 3)))
        for row, prompt in enumerate(PROMPTS)
    ]
    return LocalEngine(policy, batch_size=5).generate(
        requests, Sampling(temperature=temperature, max_tokens=12), policy_step=0
    )


def learned(policy: Policy, groups: list, *, temperature: float = 0.8) -> torch.Tensor:
    """The trainer's log-probabilities of sampled groups, [B, T]."""
    return completion_logprobs(
        policy.model,
        prompts=PROMPTS,
        completions=[completion.tokens for group in groups for completion in group],
        prompt_of=[row for row, group in enumerate(groups) for _ in group],
        temperature=temperature,
    )[0]


def gradients(policy: Policy) -> dict[str, torch.Tensor]:
    found = {name: parameter.grad.clone() for name, parameter in policy.trainable() if parameter.grad is not None}
    policy.model.zero_grad()
    return found


def padded_rows(policy: Policy, groups: list, *, temperature: float = 0.8) -> torch.Tensor:
    """Sum of log-probabilities by the model's own eager attention over padded rows, prompts repeated."""
    rows = [[*prompt, *one.tokens] for prompt, group in zip(PROMPTS, groups, strict=True) for one in group]
    starts = [len(prompt) for prompt, group in zip(PROMPTS, groups, strict=True) for _ in group]
    longest = max(map(len, rows))
    tokens_BT = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    mask_BT = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    policy.model.set_attn_implementation("eager")
    logits = policy.model(input_ids=tokens_BT, attention_mask=mask_BT, use_cache=False).logits / temperature
    policy.model.set_attn_implementation("gradus_tree")
    logp = torch.log_softmax(logits.float(), dim=-1)[:, :-1].gather(2, tokens_BT[:, 1:, None])[:, :, 0]
    columns = torch.arange(1, longest)
    is_own = (columns >= torch.tensor(starts)[:, None]) & (mask_BT[:, 1:] == 1)
    return (logp * is_own).sum()


@pytest.mark.parametrize("family", sorted(CHATS))
def test_from_a_folder_to_a_gradient_and_back(folders, family, tmp_path):
    policy = load_policy(ModelConfig(path=str(folders(family)), device="cpu"))
    groups = sampled(policy)
    logprobs_BT = learned(policy, groups)
    for row, one in enumerate(one for group in groups for one in group):
        assert (logprobs_BT[row, : len(one.tokens)].detach() - torch.tensor(one.logprobs)).abs().max() <= 1e-5
    logprobs_BT.sum().backward()
    shared = gradients(policy)
    padded_rows(policy, groups).backward()
    for name, gradient in gradients(policy).items():
        assert (shared[name] - gradient).abs().max() <= 5e-5 * gradient.abs().max().clamp(min=1e-2), name
    policy.model.save_pretrained(tmp_path)
    policy.tokenizer.save_pretrained(tmp_path)
    again = load_policy(ModelConfig(path=str(tmp_path), device="cpu"))
    assert torch.equal(learned(again, groups), logprobs_BT)
    assert again.stop_tokens == policy.stop_tokens
    head, embedding = policy.model.get_output_embeddings().weight, policy.model.get_input_embeddings().weight
    assert (head is embedding) == bool(policy.model.config.tie_word_embeddings)


@pytest.mark.parametrize("family", sorted(CHATS))
def test_a_turn_ends_with_the_templates_own_token(folders, family):
    policy = load_policy(ModelConfig(path=str(folders(family)), device="cpu"))
    _, turn, end = CHATS[family]
    ids = policy.tokenizer.convert_tokens_to_ids([turn, end])
    assert policy.stop_tokens == tuple(dict.fromkeys(ids)), "the end of a turn comes first: warm-up teaches it"
    assert policy.answer_tokens("7")[-1] == ids[0]
    for token in set(ids):  # a policy that says nothing else
        with torch.no_grad():
            policy.model.get_output_embeddings().weight[token] *= 30
        for group in sampled(policy, temperature=1.0):
            for one in group:
                assert (one.finish == "stop") == (one.tokens[-1] in ids) and not set(one.tokens[:-1]) & set(ids)


def test_the_generation_config_of_an_adapters_base_still_counts(folders, tmp_path):
    policy = load_policy(ModelConfig(path=str(folders("llama")), device="cpu", lora=LoraConfig(rank=2)))
    policy.model.save_pretrained(tmp_path)
    policy.tokenizer.save_pretrained(tmp_path)
    assert not (tmp_path / "generation_config.json").exists()
    assert load_policy(ModelConfig(path=str(tmp_path), device="cpu")).stop_tokens == policy.stop_tokens


@pytest.mark.parametrize("family", ["qwen3", "smollm3"])
def test_the_thinking_switch(folders, family):
    def prompt(choice, messages=QUESTION):
        policy = load_policy(ModelConfig(path=str(folders(family)), device="cpu", enable_thinking=choice))
        return policy.tokenizer.decode(policy.prompt_tokens(messages))

    open_end = "<|im_start|>user\nUse 2, 5, 8.<|im_end|>\n<|im_start|>assistant\n"
    assert prompt(None) == prompt(True) == open_end
    assert prompt(False) == open_end + "<think>\n\n</think>\n\n"
    begun = (*QUESTION, Message(role="assistant", content="<think>\n"))
    assert prompt(None, begun) == open_end + "<think>\n"


def test_a_switch_that_the_template_does_not_have(folders):
    with pytest.raises(
        ValueError, match=r"model.enable_thinking=false has no effect: the chat template of .* no such switch"
    ):
        load_policy(ModelConfig(path=str(folders("qwen2")), enable_thinking=False))


def test_a_template_without_a_system_turn_gets_its_text_before_the_users(folders, capfd):
    policy = load_policy(ModelConfig(path=str(folders("gemma2")), device="cpu"))
    assert "has no system turn: a system message goes in front" in capfd.readouterr().err
    told = policy.prompt_tokens((Message(role="system", content="Be brief."), *QUESTION))
    text = policy.tokenizer.decode(told)
    assert text == "<start_of_turn>user\nBe brief.\n\nUse 2, 5, 8.<end_of_turn>\n<start_of_turn>model\n"


def test_messages_that_a_template_refuses(folders, tmp_path):
    policy = load_policy(ModelConfig(path=str(folders("qwen2")), device="cpu"))
    policy.tokenizer.chat_template = "{{ raise_exception('turns must alternate') }}"
    with pytest.raises(ValueError, match="refuses messages of user: turns must alternate; use another model"):
        policy.prompt_tokens(QUESTION)


def _stateful(name):
    import transformers

    few = {"vocab_size": 392, "hidden_size": 32, "num_hidden_layers": 2, "pad_token_id": 0, "eos_token_id": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 64, "head_dim": 16}
    configs = {
        "mamba": lambda: transformers.MambaConfig(**few, state_size=4),
        "lfm2": lambda: transformers.Lfm2Config(**few, **heads, layer_types=["conv", "full_attention"]),
        "recurrent gemma": lambda: transformers.RecurrentGemmaConfig(**few, **heads, lru_width=32),
        "gpt_oss": lambda: transformers.GptOssConfig(**few, **heads, num_local_experts=2, num_experts_per_tok=1),
    }
    return transformers.AutoModelForCausalLM.from_config(configs[name]())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mamba", "cannot share a prompt"),
        ("lfm2", "has layers of conv, so its completions cannot share a prompt"),
        ("recurrent gemma", "cannot share a prompt"),
        ("gpt_oss", "has an attention that gradus does not know"),
    ],
)
def test_a_model_whose_completions_cannot_share_a_prompt_is_refused(folders, tmp_path, name, words):
    torch.manual_seed(0)
    model = _stateful(name)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(folders("qwen2")).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=words):
        load_policy(ModelConfig(path=str(tmp_path), device="cpu"))


# ---- adapters, checkpointing ----


@pytest.mark.parametrize("family", sorted(CHATS))
def test_adapters_on_all_linear_layers_and_on_a_list(folders, family):
    config = ModelConfig(path=str(folders(family)), device="cpu", lora=LoraConfig(rank=2))
    names = {name for name, _ in load_policy(config).trainable()}
    linear = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in names} == linear
    assert len(names) == 2 * len(linear) * SIZES["num_hidden_layers"]
    chosen = config.model_copy(update={"lora": LoraConfig(rank=2, targets=("q_proj", "v_proj"))})
    assert {name.split(".lora_")[0].rpartition(".")[2] for name, _ in load_policy(chosen).trainable()} == {
        "q_proj",
        "v_proj",
    }


def test_targets_that_match_nothing(folders):
    def load(*targets):
        load_policy(ModelConfig(path=str(folders("qwen2")), device="cpu", lora=LoraConfig(targets=targets)))

    with pytest.raises(
        ValueError, match=r"query, c_attn names no linear layer of Qwen2ForCausalLM; there are: down_proj, .*all-linear"
    ):
        load("q_proj", "query", "c_attn")
    with pytest.raises(ValueError, match="an empty list names no linear layer"):
        load()


@pytest.mark.parametrize("family", ["qwen3", "gemma3"])
@pytest.mark.parametrize("lora", [None, LoraConfig(rank=2)])
def test_checkpointing_changes_no_gradient(folders, family, lora):
    found = []
    for is_on in (False, True):
        config = ModelConfig(path=str(folders(family)), device="cpu", lora=lora, gradient_checkpointing=is_on)
        policy = load_policy(config)
        if lora is not None:
            for name, parameter in policy.trainable():
                torch.nn.init.constant_(parameter, 0.02) if "lora_B" in name else None
        groups = sampled(policy)
        logprobs_BT = learned(policy, groups)
        logprobs_BT.sum().backward()
        found.append((logprobs_BT.detach(), gradients(policy)))
        layers = [module for module in policy.model.modules() if getattr(module, "gradient_checkpointing", False)]
        assert bool(layers) == is_on
    (plain, by_name), (again, again_by_name) = found
    assert torch.equal(plain, again) and by_name.keys() == again_by_name.keys()
    for name, gradient in by_name.items():
        assert torch.equal(gradient, again_by_name[name]), name


def test_every_family_of_the_page_is_here():
    assert set(CHATS) <= set(CONFIGS)
    assert json.dumps(sorted({name.split("-")[0] for name in CHATS})).count("gemma") == 3
