"""Somebody's verl run judged before it is started: the linter's rules, verl's own opinion, the recipe that means the same."""

from __future__ import annotations

from dataclasses import dataclass

from gradus.integrations.verl_facts import facts_of
from gradus.integrations.verl_recipe import Translated, recipe_of
from gradus.integrations.verl_script import Script
from gradus.train.backends.verl_compose import composed
from gradus.train.backends.verl_lint import lint
from gradus.train.backends.verl_place import installed, interpreter, place_faults
from gradus.train.backends.verl_settings import VERSION
from gradus.train.backends.verl_told import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What can be said of a run.

    Example:
        Judged(findings=(), recipe=recipe_of(settings), remarks=("not composed: ...",))
    """

    findings: tuple[Finding, ...]
    recipe: Translated
    remarks: tuple[str, ...]
    """What was not looked at, and why."""

    @property
    def is_ok(self) -> bool:
        """Whether all that was set would happen."""
        return all(one.level != "error" for one in self.findings)


def judged(script: Script, version: str | None = None) -> Judged:
    """The findings on ``script`` for a release of verl (None: the tested one). Keys are looked up in verl itself where it
    is installed in that release. ValueError for a version that is none.

    Example:
        judged(read_script(Path("run_train.sh"))).is_ok
    """
    remarks, faults, python = list(script.remarks), [], None
    wanted = version or VERSION
    try:
        python = interpreter()
        if (there := installed(python)) == wanted:
            faults = place_faults(python, script.settings)
        else:
            remarks.append(
                f"verl itself was not asked: {python} has {there or 'none'}, and these rules are for {wanted}"
            )
            python = None
    except ValueError as error:
        remarks.append(f"verl itself was not asked: {error}")
    facts = facts_of(script.settings, script.variables, tuple(f"verl {wanted} {fault}" for fault in faults))
    findings = lint(script.settings, facts, version=wanted)
    if python is not None and not faults:
        named = {word for one in findings for word in one.text.replace("=", " ").split()}
        findings += [one for one in composed(python, script.settings) if one.text.split()[0] not in named]
    return Judged(findings=tuple(findings), recipe=recipe_of(script.settings, facts), remarks=tuple(remarks))
