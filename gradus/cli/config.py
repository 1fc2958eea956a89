"""`gradus config`: show, validate and compare recipes and runs."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from gradus.cli.arguments import config_of, without_secrets

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
    arguments: Annotated[list[str], typer.Argument(metavar="RECIPE... [KEY=VALUE]...")],
    backend: Annotated[
        Literal["native", "trl", "verl"] | None, typer.Option("--backend", help="Also: can this trainer honour it all?")
    ] = None,
) -> None:
    """Say ok, or everything that is wrong."""
    from gradus import console

    resolved = config_of([*arguments, *([f"backend.name={backend}"] if backend else [])])
    name = resolved.config.backend.name
    if name == "native":
        return console.answer({"ok": True}, "ok")
    from gradus.train.backends.settings import check, differences, told
    from gradus.train.backends.verl_settings import overrides

    check(resolved, name)
    lines = differences(resolved.config, name)
    facts = without_secrets({"ok": True, "arguments": told(resolved.config, name)}) | {"differences": lines}
    text = ["ok; what is not as in a native run:", *lines]
    if name == "verl":
        facts["overrides"] = without_secrets(overrides(resolved.config))
        text += ["arguments of python -m verl.trainer.main_ppo:", *facts["overrides"]]
    return console.answer(facts, "\n".join(text))


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
