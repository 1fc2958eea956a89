"""Model addresses: ``RUN@base``, ``RUN@120``, ``RUN@last``, ``RUN@best``, a folder, an embedded policy, a Hub id."""

from __future__ import annotations

from pathlib import Path

from gradus.config import ModelConfig
from gradus.evaluation.run import Located
from gradus.exits import Code, Exit
from gradus.rundir import RunDirectory
from gradus.train.checkpoint import model_folder, steps
from gradus.train.start import stored


def locate(model: str) -> Located:
    """Where the weights of ``model`` are. ValueError for an address that names nothing; Exit(NOTHING_USABLE) for a run
    without a whole checkpoint."""
    path, _, which = model.rpartition("@")
    if not path or not (Path(path) / ".gradus").is_file():
        if (Path(model) / ".gradus").is_file():
            raise ValueError(f"{model} is a run; name one of its policies: {model}@base, @last, @best or @<step>")
        if path and path.count("/") == 1 and not Path(path).exists() and not Path(model).exists():
            return Located(model=model, path=path, revision=which)
        return Located(model=model, path=model)
    run = RunDirectory.open(Path(path))
    if which == "base":
        base = stored(run).config.model
        if base.init == "random":
            raise ValueError(
                f"{path} began with random weights; it has no base model. Use {path}@<step> or {path}@last"
            )
        return Located(model=model, path=base.path, revision=base.revision, run=run.path)
    step = _step(run, which, model)
    return Located(model=model, path=str(model_folder(run, step)), run=run.path, step=step)


def at_address(config: ModelConfig, model: str | None = None) -> tuple[ModelConfig, Located]:
    """``config`` with the weights that its own address names, or those of ``model``, as `policy.load` takes them.

    Raises:
        As `locate`.
    """
    if model is None:
        named = config.path if config.revision is None else f"{config.path}@{config.revision}"
        found = Located(model=named, path=config.path, revision=config.revision)
        if config.revision is None:
            found = locate(config.path)
        return config.model_copy(update={"path": found.path, "revision": found.revision}), found
    found = locate(model)
    update = {"path": found.path, "revision": found.revision, "init": "pretrained", "lora": None}
    return config.model_copy(update=update), found


def _step(run: RunDirectory, which: str, model: str) -> int:
    if which.isdecimal():
        return int(which)
    if which not in ("last", "best"):
        raise ValueError(
            f"{model!r} names no policy of the run; use @base, @last, @best or @<step> (there are: {steps(run)})"
        )
    status = run.status()
    if status.get("checkpoint_step") is None:
        raise Exit(Code.NOTHING_USABLE, f"{run.path} has no checkpoint yet", hint=f"gradus train {run.path}")
    best = status.get("best_step")
    if which == "last":
        return status["checkpoint_step"]
    if best is None:
        raise ValueError(f"{run.path} has evaluated no step yet, so none is best; use @last")
    if best == 0:
        raise ValueError(f"no step of {run.path} was better than its base model; use @base or @last")
    return best
