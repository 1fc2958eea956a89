"""Takes secrets out of what is written: by the name of the key (``api_key=...``) and by the shape of the value.

``num_tokens=5`` and a revision of 40 hex digits survive. Linear on any text. Standard library only.
"""

from __future__ import annotations

import re

HIDDEN = "[hidden]"

_NAMED = re.compile(
    r"(?i)(?<![a-z])((?:[a-z0-9]{1,40}[_-]){0,6}"  # a prefix such as WANDB_
    r"(?:api[_-]?key|apikey|access[_-]?key|private[_-]?key|token|secret|password|passwd|credentials?|authorization)"
    r"[\"']?\s{0,4}[=:\s]\s{0,4}[\"']?)(?!\[hidden\]|(?:entropy|limits?)\b)(?:bearer |basic )?([^\s\"',;&]{1,4096})"
)
_SHAPES = re.compile(
    r"(?<![A-Za-z0-9])(?:hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{16,}|AKIA[A-Z0-9]{16})"
)
_URL = re.compile(r"(?<=://)[^/\s:@\"']{1,256}:[^/\s@\"']{1,256}(?=@)")
_HEX40 = re.compile(r"(?i)(?<![0-9a-z])([0-9a-f]{40})(?![0-9a-z])")
_BEFORE_COMMIT = re.compile(r"(?i)(?:revision|commit|head|@)[\"']?\s{0,4}[=:]?\s{0,4}[\"']?$")


def find_secret(text: str) -> str | None:
    """The beginning of the first token, key or password in a URL that ``text`` holds, by shape; None without one."""
    found = _SHAPES.search(text) or _URL.search(text)
    return found[0][:4] if found else None


def redact(text: str) -> str:
    """Returns ``text`` with every secret replaced by ``[hidden]``.

    Example:
        redact("WANDB_API_KEY=abc num_tokens=5")  # 'WANDB_API_KEY=[hidden] num_tokens=5'
    """
    text = _SHAPES.sub(HIDDEN, text)
    text = _URL.sub(HIDDEN, text)
    text = _HEX40.sub(
        lambda m: m[0] if _BEFORE_COMMIT.search(text, max(0, m.start() - 24), m.start()) else HIDDEN, text
    )
    return _NAMED.sub(lambda m: m[1] + HIDDEN, text)
