"""Secrets go, everything that only looks a little like one stays."""

from __future__ import annotations

import time

import pytest

from gradus.redaction import find_secret, redact

HEX = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("HF_TOKEN=abc123", "abc123"),
        ("wandb_api_key: 'abc 123", "abc"),
        ("--token abc123", "abc123"),
        ('{"api_key": "abc123", "x": 1}', "abc123"),
        ("Authorization: Bearer abc.def", "abc.def"),
        ("password=p4ss", "p4ss"),
        ("tracking.client_secret=p4ss", "p4ss"),
        ("saw hf_ABCdef0123456789abcd here", "hf_ABC"),
        ("sk-proj-abcdefghijklmnop", "sk-proj"),
        ("ghp_0123456789abcdefghij", "ghp_"),
        ("https://user:p4ss@host/x", "p4ss"),
        (f"wandb login {HEX}", HEX),
    ],
)
def test_secrets_are_hidden(text: str, secret: str) -> None:
    assert secret in text
    assert secret not in redact(text)
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "num_tokens=5 max_tokens: 512 microbatch_tokens=8192",
        f"model.revision={HEX}",
        f'"commit": "{HEX}"',
        f"Qwen/Qwen2.5-3B@{HEX}",
        "tokenizer.json is 10 of 20 bytes",
        "group entropy 0.81 bits, token entropy 0.22 nats/token, cut at the token limit",
        "https://huggingface.co/Qwen/Qwen2.5-3B",
        "a" * 64,
        "hf_short sk-short",
        "",
    ],
)
def test_the_rest_stays(text: str) -> None:
    assert redact(text) == text


def test_a_secret_is_found_by_its_shape() -> None:
    assert find_secret("https://user:p4ss@host") == "user"
    assert find_secret("hf_ABCdef0123456789abcd") == "hf_A"
    assert find_secret("model.path=nano/countdown, token budget: 8192 tokens") is None


@pytest.mark.parametrize("piece", ["token", "api_", "a_", "://a:", "hf_", "token=", "a" * 39 + " ", "revision "])
def test_any_text_takes_linear_time(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    begin = time.thread_time()
    redact(text)
    assert time.thread_time() - begin < 3
