"""Tasks that work without a network, and texts that no scorer may stumble over."""

from __future__ import annotations

from typing import Any

HOSTILE = ["", "\x00", "<answer>" * 2000, "<think>", "</answer><answer>", "(" * 5000, "9" * 5000, "\ud800", "{}", "🙂"]

TASKS: dict[str, dict[str, Any]] = {
    "countdown": {"max_numbers": 3},
    "economy": {},
    "gsm8k": {"source": "synthetic"},
    "math": {"source": "generate"},
    "planning": {"domains": ["ferry"], "preset": "nano", "num_train": 1},
}
