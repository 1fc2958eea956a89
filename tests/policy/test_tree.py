"""Prompt-sharing attention and chunked log-probabilities against plain padded forward passes, for several families."""

import pytest
import torch

from gradus.policy import attention as attention_module
from gradus.policy import logprobs as logprobs_module
from gradus.policy.logprobs import completion_logprobs, head_logprobs
from tests.models import CONFIGS, SIZES, build_model, random_tokens, tree_model

PROMPTS = random_tokens([7, 11, 4, 1], seed=1)
COMPLETIONS = random_tokens([5, 1, 8, 3, 9, 2, 7, 6], seed=2)
PROMPT_OF = [0, 0, 1, 1, 1, 2, 2, 3]
TEMPERATURE = 0.7


def weights_like(rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(3), dtype=dtype)


def plain(model, dtype):
    """One padless forward per completion through the model's own attention; returns logprobs, entropies, gradients."""
    longest = max(map(len, COMPLETIONS))
    upstream = weights_like(2 * len(COMPLETIONS), longest, dtype)
    model.zero_grad()
    total, all_logprobs, all_entropies = 0.0, [], []
    for row, (completion, prompt) in enumerate(zip(COMPLETIONS, PROMPT_OF, strict=True)):
        tokens = torch.tensor([PROMPTS[prompt] + completion])
        logits = model(tokens).logits[0, len(PROMPTS[prompt]) - 1 : -1].to(dtype) / TEMPERATURE
        logp = torch.log_softmax(logits, dim=-1)
        picked = logp.gather(1, torch.tensor(completion)[:, None])[:, 0]
        entropy = -(logp.exp() * logp).sum(-1)
        length = len(completion)
        total = (
            total
            + (picked * upstream[row, :length]).sum()
            + (entropy * upstream[row + len(COMPLETIONS), :length]).sum()
        )
        all_logprobs.append(picked.detach())
        all_entropies.append(entropy.detach())
    total.backward()
    return all_logprobs, all_entropies, {name: p.grad.clone() for name, p in model.named_parameters()}


def shared(model, dtype, order=None, kernel=None, chunk=None):
    """The same through the tree, completions in ``order``."""
    order = order or list(range(len(COMPLETIONS)))
    longest = max(map(len, COMPLETIONS))
    upstream = weights_like(2 * len(COMPLETIONS), longest, dtype)
    model.zero_grad()
    logp_BT, entropy_BT = completion_logprobs(
        model,
        prompts=PROMPTS,
        completions=[COMPLETIONS[row] for row in order],
        prompt_of=[PROMPT_OF[row] for row in order],
        temperature=TEMPERATURE,
        kernel=kernel,
    )
    (
        (logp_BT * upstream[order]).sum() + (entropy_BT * upstream[[row + len(COMPLETIONS) for row in order]]).sum()
    ).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    return logp_BT.detach(), entropy_BT.detach(), gradients


def assert_same(ours, theirs, relative):
    logp_BT, entropy_BT, gradients = ours
    for row, (logp, entropy) in enumerate(zip(*theirs[:2], strict=True)):
        torch.testing.assert_close(logp_BT[row, : len(logp)], logp, rtol=0, atol=relative * 10)
        torch.testing.assert_close(entropy_BT[row, : len(logp)], entropy, rtol=0, atol=relative * 10)
        assert not logp_BT[row, len(logp) :].any()
    for name, gradient in theirs[2].items():
        scale = gradient.abs().max().clamp(min=1e-6)
        assert (gradients[name] - gradient).abs().max() <= relative * scale, name


@pytest.mark.parametrize("kernel", ["merged", "masked", "plain"])
@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_equals_plain_forward_passes(family, kernel):
    theirs = plain(build_model(family), torch.float32)
    assert_same(shared(tree_model(family), torch.float32, kernel=kernel), theirs, 2e-5)


@pytest.mark.parametrize("kernel", ["merged", "masked", "plain"])
def test_equals_plain_forward_passes_in_float64(kernel):
    theirs = plain(build_model("starcoder2", dtype=torch.float64), torch.float64)
    assert_same(shared(tree_model("starcoder2", dtype=torch.float64), torch.float64, kernel=kernel), theirs, 1e-12)


def test_order_of_completions_never_matters():
    model = tree_model("starcoder2", dtype=torch.float64)
    _, _, first = shared(model, torch.float64)
    _, _, second = shared(model, torch.float64, order=[6, 2, 0, 7, 5, 1, 4, 3])
    for name, gradient in first.items():
        torch.testing.assert_close(second[name], gradient, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kernel", ["masked", "plain"])
@pytest.mark.parametrize("part", [1, 400, 3000], ids=["a query at a time", "some queries", "some groups"])
@pytest.mark.parametrize("family", ["mistral-window", "gemma2", "qwen3"])
def test_how_attention_is_cut_never_matters(monkeypatch, family, part, kernel):
    model = tree_model(family)
    whole = shared(model, torch.float32, kernel=kernel)
    monkeypatch.setattr(attention_module, "KEPT_SCORES", 0)
    monkeypatch.setattr(attention_module, "PART_SCORES", part)
    logp, entropy, gradients = shared(model, torch.float32, kernel=kernel)
    assert (logp - whole[0]).abs().max() <= 1e-5 and (entropy - whole[1]).abs().max() <= 1e-5
    for name, gradient in whole[2].items():
        assert (gradients[name] - gradient).abs().max() <= 2e-5 * gradient.abs().max(), name


TILED = {"TILE_VOCABULARY": 50, "TILE_ELEMENTS": 350}
"""Tiles of 7 tokens by 50 of the vocabulary, the last of them narrower."""


@pytest.mark.parametrize("sizes", [{"CHUNK_ELEMENTS": 3 * SIZES["vocab_size"]}, TILED], ids=["chunks", "tiles"])
def test_how_the_logits_are_cut_never_matters(monkeypatch, sizes):
    model = tree_model("starcoder2", dtype=torch.float64)
    logp, entropy, gradients = shared(model, torch.float64)
    for name, value in sizes.items():
        monkeypatch.setattr(logprobs_module, name, value)
    other_logp, other_entropy, other = shared(model, torch.float64)
    torch.testing.assert_close(other_logp, logp, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(other_entropy, entropy, rtol=1e-12, atol=1e-12)
    for name, gradient in gradients.items():
        torch.testing.assert_close(other[name], gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("sizes", [{}, {"TILE_VOCABULARY": 3, "TILE_ELEMENTS": 9}], ids=["whole", "tiles"])
def test_head_gradient_against_finite_differences(monkeypatch, softcap, sizes):
    for name, value in sizes.items():
        monkeypatch.setattr(logprobs_module, name, value)
    torch.manual_seed(0)
    head = torch.nn.Linear(5, 17).double()
    hidden = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 16, 3, 3])

    def call(hidden, weight, bias):
        linear = torch.nn.Linear(5, 17).double()
        linear.weight, linear.bias = torch.nn.Parameter(weight), torch.nn.Parameter(bias)
        del linear.weight, linear.bias
        linear.weight, linear.bias = weight, bias
        return head_logprobs(hidden, linear, targets, temperature=0.8, softcap=softcap)

    assert torch.autograd.gradcheck(call, (hidden, head.weight, head.bias))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tiles_of_a_large_vocabulary_are_those_of_a_plain_softmax(monkeypatch, dtype):
    monkeypatch.setattr(logprobs_module, "TILE_VOCABULARY", 256)
    monkeypatch.setattr(logprobs_module, "TILE_ELEMENTS", 256 * 100)
    torch.manual_seed(0)
    size = 1001
    head = torch.nn.Linear(16, size, bias=False).to(dtype)
    torch.nn.init.normal_(head.weight, std=2.0)
    hidden = torch.randn(250, 16).to(dtype).requires_grad_()
    targets = torch.randint(0, size, (250,))
    factors, others = torch.randn(250), torch.randn(250)

    def results(compute):
        head.weight.grad = hidden.grad = None
        logp, entropy = compute()
        (logp @ factors + entropy @ others).backward()
        return logp.detach(), entropy.detach(), head.weight.grad.float(), hidden.grad.float()

    def plain():
        logp = torch.log_softmax(head(hidden).float() / 0.7, dim=1)
        return logp.gather(1, targets[:, None])[:, 0], -(logp.exp() * logp).sum(dim=1)

    ours = results(lambda: head_logprobs(hidden, head, targets, temperature=0.7))
    for mine, other in zip(ours, results(plain), strict=True):
        limit = 2e-6 if dtype == torch.float32 else 0.02
        assert (mine - other).norm() <= limit * other.norm()


def test_a_completion_of_one_token_needs_no_own_attention():
    model = tree_model("llama")
    logp, _ = completion_logprobs(model, prompts=[[5, 6]], completions=[[9], [7]], prompt_of=[0, 0], temperature=1.0)
    assert logp.shape == (2, 1)
    assert (logp < 0).all()
