"""verl's own opinion of settings: composed and checked by the installed release, in its environment."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradus.train.backends.verl_place import environment
from gradus.train.backends.verl_settings import hydra_value
from gradus.train.backends.verl_told import Finding

SECONDS = 300
_SCRIPT = """
import contextlib, importlib.util, json, pathlib, sys

def is_known(tree, key):
    for part in key.split('.'):
        if not hasattr(tree, 'keys') or part not in tree.keys():
            return False
        tree = tree._get_node(part)
    return True

given, found = json.load(sys.stdin), []
root = pathlib.Path(importlib.util.find_spec('verl').origin).parent
with contextlib.redirect_stdout(sys.stderr), contextlib.ExitStack() as stack:
    from hydra import compose, initialize_config_dir
    stack.enter_context(initialize_config_dir(str(root / 'trainer' / 'config'), version_base=None))
    tree, config = compose('ppo_trainer'), None
    unknown = [key for key in given['settings'] if not key.startswith('+') and not is_known(tree, key)]
    found += [f'{key} is no setting of this release' for key in unknown]
    try:
        config = compose('ppo_trainer', overrides=[f'{key}={value}' for key, value in given['settings'].items()
                                                   if key not in unknown])
    except Exception as error:
        found.append(' '.join(str(error).split())[:300])
    if config is not None and given['is_whole'] and not config.actor_rollout_ref.model.lora_rank:
        from verl.utils.config import validate_config
        has_reference = config.actor_rollout_ref.actor.use_kl_loss or config.algorithm.use_kl_in_reward
        try:
            validate_config(config, use_reference_policy=has_reference, use_critic=False)
        except Exception as error:
            found.append(' '.join(f'{type(error).__name__}: {error}'.split())[:300])
json.dump(found, sys.stdout)
"""
"""Hydra names only the first key that it does not know, so keys are looked up one by one first. With an adapter verl's own
check asks for vLLM, which may not be there."""


def composed(python: Path, settings: Mapping[str, Any], *, is_whole: bool = True) -> list[Finding]:
    """What verl in ``python`` says of settings; of a whole run's also what its own check says, unless values are left out
    that only a shell could know. ValueError where it cannot be asked.

    Example:
        composed(need_verl(), {"trainer.nodes": 2}, is_whole=False)[0].text  # "trainer.nodes is no setting of this release"
    """
    known = {key: hydra_value(value) for key, value in settings.items() if "$" not in str(value)}
    question = json.dumps({"settings": known, "is_whole": is_whole and len(known) == len(settings)})
    try:
        answer = subprocess.run(
            [str(python), "-c", _SCRIPT], input=question, env=environment({}), capture_output=True, text=True,
            timeout=SECONDS, check=True,
        )  # fmt: skip
        return [Finding(rule="V-02", level="error", text=text) for text in json.loads(answer.stdout)]
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise ValueError(
            f"verl in {python} cannot be asked for its settings ({said[-1][:300] if said else 'it said nothing'}); "
            "make extras-verl makes it anew"
        ) from None


def refuse_unknown(python: Path, extra: Mapping[str, Any]) -> None:
    """ValueError with each key of ``backend.extra`` that this verl does not know, before anything is started."""
    if extra and (found := composed(python, extra, is_whole=False)):
        raise ValueError("\n".join(f"backend.extra: {one.text}; correct or remove it" for one in found))
