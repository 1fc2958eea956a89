"""docs/metrics.md lists what training writes, and nothing else; the report asks for nothing that is not listed."""

import re
from pathlib import Path

from gradus.report.curves import _PASS_AT_1, _REWARD, CURVES
from tests.report.made_run import _metrics

ROOT = Path(__file__).parents[2]
GROUPS = (
    "batch|clip_ratio|completions|curriculum|group|plan|evaluation|rewards|rollout|sampling|scoring|system|time|train"
)
WRITERS = ("train/*.py", "algo/*.py", "evaluation/run.py", "data/curriculum*.py", "tasks/*/task.py")


def documented() -> set[str]:
    """First column of every table."""
    return set(re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE))


def source() -> str:
    return "\n".join(path.read_text() for glob in WRITERS for path in sorted((ROOT / "gradus").glob(glob)))


def is_documented(key: str, known: set[str]) -> bool:
    return any(re.fullmatch(re.sub(r"<\w+>", "[^/]+", name), key) for name in known)


def test_what_the_source_writes_is_documented():
    known = documented()
    written = set(re.findall(rf'"((?:{GROUPS})/[a-z0-9_/]+)"', source()))
    assert len(written) > 30
    assert [key for key in sorted(written) if not is_documented(key, known)] == []


def test_what_is_documented_is_written():
    text = source()
    assert [key for key in documented() if "<" not in key and f'"{key}"' not in text] == []


def test_the_report_asks_for_documented_metrics():
    known = documented()
    asked = {name for curve in (_REWARD, _PASS_AT_1, *CURVES) for name in curve.metrics}
    assert [name for name in sorted(asked) if not is_documented(name, known)] == []


def test_made_up_runs_have_real_metrics():
    import numpy as np

    known = documented()
    assert [key for key in _metrics(np.random.default_rng(0), 1, 9) if not is_documented(key, known)] == []
