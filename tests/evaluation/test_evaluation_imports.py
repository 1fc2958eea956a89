"""The evaluation layer runs where neither torch nor scipy is installed."""

import subprocess
import sys


def test_neither_torch_nor_scipy():
    code = (
        "import sys, gradus.evaluation.compare, gradus.evaluation.evaluate, gradus.evaluation.replicates\n"
        "print([m for m in ('torch', 'scipy', 'matplotlib', 'jinja2', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
