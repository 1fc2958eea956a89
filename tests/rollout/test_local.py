"""The local engine: a completion depends on policy, prompt and its own seed alone; its log-probabilities are the trainer's."""

import pytest
import torch

from gradus.policy.load import Policy
from gradus.policy.logprobs import completion_logprobs
from gradus.rollout.draws import LARGE_VOCABULARY, draw, uniforms
from gradus.rollout.engine import Request, Sampling
from gradus.rollout.local import LocalEngine
from gradus.types import Problem
from tests.models import CONFIGS, SIZES, random_tokens, tree_model

STOP = tuple(range(1, 40))
"""Many stop tokens, so that completions of random models end at different lengths."""


class Words:
    """Stands in for a tokenizer: the engine only decodes."""

    def decode(self, tokens, **_):
        return " ".join(map(str, tokens))


def policy_of(family: str = "llama", stop: tuple[int, ...] = STOP) -> Policy:
    model = tree_model(family)
    return Policy(
        model=model,
        tokenizer=Words(),  # type: ignore[arg-type]
        device=torch.device("cpu"),
        stop_tokens=stop,
        source="test",
        vocabulary_size=SIZES["vocab_size"],
    )


def requests_of(lengths=(7, 11, 4, 9, 1), group_size=5) -> list[Request]:
    problem = Problem(id="p", task="t", messages=(), truth={}, domain="d", difficulty=0.0)
    return [
        Request(
            problem=problem, prompt_tokens=tuple(prompt), seeds=tuple(100 * row + place for place in range(group_size))
        )
        for row, prompt in enumerate(random_tokens(list(lengths), seed=4))
    ]


def generate(policy, requests, *, batch_size=64, temperature=1.0, max_tokens=24):
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)
    return LocalEngine(policy, batch_size=batch_size).generate(requests, sampling, policy_step=3)


def test_neither_batch_size_nor_order_changes_a_completion():
    policy, requests = policy_of(), requests_of()
    whole = generate(policy, requests)
    lengths = {len(completion.tokens) for group in whole for completion in group}
    assert len(lengths) > 5, "the test needs ragged completions"
    for batch_size in (1, 3, 7, 25):
        small = generate(policy, requests[::-1], batch_size=batch_size)[::-1]
        assert [[c.tokens for c in group] for group in small] == [[c.tokens for c in group] for group in whole]


@pytest.mark.parametrize("family", sorted(CONFIGS))
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_logprobs_are_the_trainers(family, temperature):
    policy, requests = policy_of(family), requests_of()
    groups = generate(policy, requests, batch_size=8, temperature=temperature)
    logprobs_BT, _ = completion_logprobs(
        policy.model,
        prompts=[request.prompt_tokens for request in requests],
        completions=[completion.tokens for group in groups for completion in group],
        prompt_of=[row for row, group in enumerate(groups) for _ in group],
        temperature=temperature,
    )
    for row, completion in enumerate(completion for group in groups for completion in group):
        sampled = torch.tensor(completion.logprobs)
        assert (logprobs_BT[row, : len(sampled)] - sampled).abs().max() <= 1e-5


def test_a_completion_ends_at_a_stop_token_or_at_the_limit():
    for group in generate(policy_of(), requests_of(), max_tokens=10):
        for completion in group:
            assert len(completion.tokens) == len(completion.logprobs) <= 10
            assert completion.policy_step == 3
            assert all(token not in STOP for token in completion.tokens[:-1])
            assert (completion.finish == "stop") == (completion.tokens[-1] in STOP)
            assert completion.finish == "stop" or len(completion.tokens) == 10


def test_temperature_zero_is_greedy_and_ignores_the_seed():
    policy, requests = policy_of(), requests_of()
    for group in generate(policy, requests, temperature=0.0):
        assert len({completion.tokens for completion in group}) == 1


def test_a_cache_that_grows_changes_nothing():
    policy, requests = policy_of(stop=(391,)), requests_of()
    long = generate(policy, requests, max_tokens=150)
    short = generate(policy, requests, max_tokens=40)
    for long_group, short_group in zip(long, short, strict=True):
        assert [c.tokens[:40] for c in long_group] == [c.tokens for c in short_group]


def test_a_group_larger_than_the_batch_is_split():
    policy = policy_of()
    (whole,), (split,) = (generate(policy, requests_of((6,), 9), batch_size=size) for size in (64, 4))
    assert [c.tokens for c in whole] == [c.tokens for c in split]


def test_poll_can_stop_it_at_any_token():
    calls = []

    def poll():
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LocalEngine(policy_of()).generate(
            requests_of(), Sampling(temperature=1.0, max_tokens=24), policy_step=0, poll=poll
        )


def test_draws_follow_the_distribution():
    logits = torch.log(torch.tensor([0.5, 0.0, 0.2, 0.3, 0.0]))
    uniform = torch.linspace(0, 1 - 2**-24, 10_001)
    tokens, logprobs = draw(logits.expand(len(uniform), -1), uniform, 1.0)
    assert (torch.bincount(tokens, minlength=5) / len(uniform) - logits.exp()).abs().max() < 1e-3
    torch.testing.assert_close(logprobs, logits[tokens])


@pytest.mark.parametrize("size", [LARGE_VOCABULARY, LARGE_VOCABULARY + 57])
def test_draws_from_a_large_vocabulary_are_the_plain_ones(size):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(64, size, generator=generator) * 3
    logits[:, 5::3] = float("-inf")
    logits[0, :-1] = float("-inf")
    for uniform in (torch.rand(64, generator=generator), torch.zeros(64), torch.full((64,), 1 - 2**-24)):
        tokens, logprobs = draw(logits.clone(), uniform, 0.7)
        exact = torch.log_softmax(logits.double() / 0.7, dim=1)
        ends = exact.exp().cumsum(dim=1)
        here = torch.arange(64)
        assert (ends[here, tokens] >= uniform * ends[:, -1] - 1e-6).all()
        assert (ends[here, tokens] - exact[here, tokens].exp() <= uniform * ends[:, -1] + 1e-6).all()
        assert torch.isfinite(logprobs).all(), "no token without probability"
        torch.testing.assert_close(logprobs.double(), exact[here, tokens], atol=1e-5, rtol=1e-5)
        assert logprobs.dtype == torch.float32


def test_uniform_numbers_are_uniform_and_independent_of_each_other():
    numbers = uniforms(range(1000), 50)
    assert float(numbers.min()) >= 0
    assert float(numbers.max()) < 1
    assert float(numbers.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(numbers.var()) == pytest.approx(1 / 12, abs=0.002)
    neighbours = torch.corrcoef(torch.stack((numbers[:, :-1].flatten(), numbers[:, 1:].flatten())))[0, 1]
    assert abs(float(neighbours)) < 0.02
    assert torch.equal(uniforms([7, 999], 50), numbers[[7, 999]])
