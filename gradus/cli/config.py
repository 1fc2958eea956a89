"""`gradus config`: show, validate and compare recipes and runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from gradus.cli.arguments import config_of, without_secrets
from gradus.exits import Code

app = typer.Typer(help="Recipes: show, validate, compare them.")


@app.command()
def show(
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[RECIPE|RUN] [KEY=VALUE]...")] = None,
    origin: Annotated[bool, typer.Option("--origin", help="Say of each value where it came from.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="JSON schema, for editors.")] = False,
) -> None:
    """Show the shipped recipes, or a whole resolved config."""
    import json

    from gradus import console, recipe
    from gradus.config import Config
    from gradus.redaction import redact

    if schema:
        whole = Config.model_json_schema()
        return console.answer(whole, json.dumps(whole, indent=2))
    if not arguments:
        found = {name: recipe.headline(path) for name, path in recipe.shipped().items()}
        return console.answer({"recipes": found}, console.table([("recipe", "what it trains"), *found.items()]))
    resolved = config_of(arguments)
    text = redact(recipe.to_yaml(resolved.config, resolved.origins if origin else None))
    facts = {"config": without_secrets(recipe.to_json(resolved.config))}
    return console.answer(facts | ({"origins": resolved.origins} if origin else {}), text.rstrip("\n"))


@app.command()
def validate(
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[RECIPE]... [KEY=VALUE]...")] = None,
    backend: Annotated[
        Literal["native", "trl", "verl"] | None, typer.Option("--backend", help="Also: can this trainer honour it all?")
    ] = None,
    foreign: Annotated[
        Path | None, typer.Option("--foreign", help="Instead of a recipe: a launch script or YAML file of a verl run.")
    ] = None,
    release: Annotated[
        str | None,
        typer.Option("--for", help="A release of verl, from 0.6 on for a recipe; the tested one if left out."),
    ] = None,
) -> Code:
    """Say ok, or everything that is wrong; of somebody's verl script too, with the recipe that means the same."""
    from gradus import console

    if foreign is not None:
        if arguments or backend not in (None, "verl"):
            raise ValueError(
                "--foreign FILE stands alone: without recipes and overrides, and with --backend verl or none"
            )
        return _validate_foreign(foreign, release)
    if not arguments:
        raise ValueError("give a recipe, or --foreign FILE")
    resolved = config_of([*arguments, *([f"backend.name={backend}"] if backend else [])])
    name = resolved.config.backend.name
    if release is not None and name != "verl":
        raise ValueError(f"--for {release} is a release of verl; give --backend verl, or leave it out")
    if name == "native":
        console.answer({"ok": True}, "ok")
        return Code.DONE
    from gradus.train.backends.settings import check, differences, found, told
    from gradus.train.backends.verl_keys import own_run
    from gradus.train.backends.verl_settings import as_words

    check(resolved, name)
    lines = differences(resolved.config, name)
    said = [str(one) for one in found(resolved.config, name)]
    facts = without_secrets({"ok": True, "arguments": told(resolved.config, name)}) | {
        "differences": lines,
        "findings": said,
    }
    text = ["ok; what is not as in a native run:", *lines, *said]
    if name == "verl":
        settings, environment, lacking = own_run(resolved.config, release)
        facts |= {"overrides": without_secrets(as_words(settings)), "not_told": lacking, "environment": environment}
        text += lacking
        around = "".join(f"{key}={value} " for key, value in environment.items())
        of = f", verl {release}" if release else ""
        text += [f"arguments of {around}python -m verl.trainer.main_ppo{of}:", *facts["overrides"]]
    console.answer(facts, "\n".join(text))
    return Code.DONE


def _validate_foreign(path: Path, release: str | None) -> Code:
    """Exit code 2 where something of it would not happen."""
    from gradus import console, yaml12
    from gradus.integrations.verl_foreign import judged
    from gradus.integrations.verl_script import read_script
    from gradus.redaction import redact

    found = judged(read_script(path), release)
    recipe, left_out = found.recipe.tree, found.recipe.remarks
    facts = {
        "ok": found.is_ok, "findings": [one.to_json() for one in found.findings], "remarks": [*found.remarks, *left_out],
        "recipe": recipe,
    }  # fmt: skip
    text = [
        "ok" if found.is_ok else "not all that these settings say would happen:",
        *map(str, found.findings),
        *found.remarks,
        "the recipe that means the same:",
        yaml12.write(recipe).rstrip("\n"),
        *(f"# {one}" for one in left_out),
    ]
    console.answer(without_secrets(facts), "\n".join(map(redact, "\n".join(text).splitlines())))
    return Code.DONE if found.is_ok else Code.USAGE


@app.command()
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="Recipe or run.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Recipe or run.")],
) -> None:
    """Show what differs, and whether it may change when a run goes on."""
    from gradus import console
    from gradus.recipe import diff

    changes = diff(config_of([a]).config, config_of([b]).config)
    means = {"mutable": "may change", "inexact": "may change, exact bits not promised", "immutable": "needs a new run"}
    facts = [{"key": leaf, "a": old, "b": new, "resume": resume} for leaf, old, new, resume in changes]
    facts = without_secrets(facts)
    body = [(one["key"], str(one["a"]), str(one["b"]), means[one["resume"]]) for one in facts]
    console.answer({"changes": facts}, console.table([("key", a, b, "on resume"), *body]) if body else "no difference")
