"""What `analysis.compare` found, as tables for people: title, head, rows of text, and a sentence to read them by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gradus.tasks.economy.analysis import LANGUAGES, MIN_CELL, MIN_ECONOMIES
from gradus.tasks.economy.closed_loop import Loop
from gradus.tasks.economy.loop_table import in_words, loop_table, number, percent


def tables(found: Mapping[str, Any], loops: Mapping[str, Loop]) -> list[dict[str, Any]]:
    """All tables, the answers first; ``loops`` are the closed loops by model, where there are any."""
    return [
        _answers_table(found, loops),
        _models_table(found),
        *([loop_table(loops)] if loops else []),
        _differences_table(found),
        _ladder_table(found),
        _strata_table(found),
        *([_prompts_table(found)] if found["prompts"] else []),
    ]


_VERDICTS = {
    "improved": "yes: better than the base model and than the best constant answer, both intervals above 0",
    "improved_below_constant": "better than the base model; that it beats the best constant answer is not shown",
    "no_change": "not shown: the interval of trained − base includes 0",
    "worse": "no: worse than the base model",
    "underpowered": f"undecided: fewer than {MIN_ECONOMIES} economies were evaluated",
}
_SHAPES = {
    "constant": "yes: one answer for everybody",
    "few_points": "yes: a few answers make up nearly all",
    "reversed": "no, but it decides against the state: the opposite of what suits it",
    "state_blind": "yes, in effect: answers vary, but wage and wealth do not show in them",
    "partial": "no: work follows the wage, but consumption does not follow wealth",
    "healthy": "no: answers vary with the state as they should",
    "undetermined": "undecided: fewer than 100 answers could be read",
}


def _answers_table(found: Mapping[str, Any], loops: Mapping[str, Loop]) -> dict[str, Any]:
    """The three questions that a reader comes with."""
    trained = found["models"]["trained"]
    against_base = found["differences"]["trained - base"]
    interval = f"{_signed(against_base['value'])}, 95 % CI {_interval(against_base)}"
    shape = (trained["collapse"] or {}).get("verdict")
    collapsed = _SHAPES[shape] if shape else f"undecided: {trained['collapse_reason']}"
    rows = [
        ["Did it learn?", f"{_VERDICTS[found['verdict']]} (mean reward {interval})"],
        ["Is it collapsed?", collapsed],
    ]
    played = [in_words(loop) for loop in loops.values()][-1:] or [
        "not simulated; set tasks.economy.closed_loop_months=120"
    ]
    rows.append(["What does the economy do with it?", *played])
    return {
        "title": "Did it learn, is it collapsed, and what does the economy do with it?",
        "head": ["question", "answer"],
        "rows": rows,
        "reading": "The tables below say why.",
    }


def _text(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else number(value, digits)


def _signed(value: float) -> str:
    return number(value, 3, sign="+")


def _interval(found: Mapping[str, Any]) -> str:
    return f"{_signed(found['low'])} to {_signed(found['high'])}"


_MEASURES: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
    ("answers, of them readable", lambda one: f"{one['num']:,}, {one['num_parsed']:,}"),
    ("work, mean / std of the readable", lambda one: _pair(one, "work_mean", "work_std")),
    ("consumption, mean / std of the readable", lambda one: _pair(one, "consumption_mean", "consumption_std")),
    ("mean reward, −1 for what cannot be read", lambda one: _text(one["reward_mean"])),
    ("mean reward of the readable", lambda one: _text(one["reward_mean_parsed"])),
    ("the original project's reward", lambda one: _text(one["original_mean"])),
    ("correct (90 % of the way from random to best)", lambda one: _share(one["correct_frac"])),
    ("readable by the strict rule", lambda one: _share(one["strict_frac"])),
    ("readable by the lenient rule, never paid", lambda one: _share(one["lenient_frac"])),
    ("share of −1", lambda one: _share(one["failed_frac"])),
    ("why not readable", lambda one: _reasons(one["reasons"])),
    ("on the 0.02 grid", lambda one: _share(one["on_grid_frac"])),
    ("collapse", lambda one: _shape(one, lambda shape: shape["verdict"])),
    ("most frequent answer, two most frequent", lambda one: _shape(
        one, lambda shape: f"{percent(shape['top1_frac'])}, {percent(shape['top2_frac'])}")),
    ("different answers, their entropy", lambda one: _shape(
        one, lambda shape: f"{shape['num_unique']:,}, {shape['entropy_bits']:.1f} bits")),
    ("rank correlation of work and real wage", lambda one: _shape(
        one, lambda shape: _text(shape["rho_work"], 2))),
    ("rank correlation of consumption and wealth", lambda one: _shape(
        one, lambda shape: _text(shape["rho_consumption"], 2))),
    ("a correlation is more than chance from", lambda one: _shape(one, lambda shape: f"±{shape['theta']:.2f}")),
)  # fmt: skip
"""What the table of both models says, and how it is read from the summary of one."""


def _pair(one: Mapping[str, Any], first: str, second: str) -> str:
    return f"{_text(one[first])} / {_text(one[second])}"


def _share(value: float | None) -> str:
    return "–" if value is None else percent(value)


def _reasons(counts: Mapping[str, int]) -> str:
    """The three most frequent, with their counts."""
    failed = sorted(((-count, why) for why, count in counts.items() if why != "ok"))
    return ", ".join(f"{why} {-count}" for count, why in failed[:3]) + (", ..." if len(failed) > 3 else "") or "–"


def _shape(one: Mapping[str, Any], said: Callable[[Mapping[str, Any]], str]) -> str:
    return said(one["collapse"]) if one["collapse"] else "–"


def _models_table(found: Mapping[str, Any]) -> dict[str, Any]:
    models = found["models"]
    notes = [f"{name}: {note}" for name, one in models.items() for note in (one["collapse"] or {}).get("notes", ())]
    reading = (
        "A healthy policy works more for a higher real wage (correlation above 0) and spends a smaller share when rich "
        "(below 0); a spread alone says nothing."
    )
    return {
        "title": "Decisions: base and trained",
        "head": ["measure", *models],
        "rows": [[name, *(said(one) for one in models.values())] for name, said in _MEASURES],
        "reading": " ".join([reading, *(f"{note}." for note in notes)]),
    }


def _differences_table(found: Mapping[str, Any]) -> dict[str, Any]:
    rows = [
        [
            name.replace(" - ", " − "),
            _signed(d["value"]),
            _interval(d),
            f"{d['wins']} / {d['ties']} / {d['losses']}",
        ]
        for name, d in found["differences"].items()
    ]
    reading = f"Verdict: {found['verdict'].replace('_', ' ')}. Paired by context, resampled by economy."
    return {
        "title": "Differences in reward",
        "head": ["difference", "mean", "95 % interval", "wins / ties / losses"],
        "rows": rows,
        "reading": reading,
    }


def _ladder_table(found: Mapping[str, Any]) -> dict[str, Any]:
    rungs = [(name, r["mean"], r["se"], r["correct"], r["original"]) for name, r in found["ladder"].items()]
    for name, one in found["models"].items():
        if one["reward_mean"] is not None:
            rungs.append((f"{name} model", one["reward_mean"], None, one["correct_frac"], one["original_mean"]))
    rows = [
        [name, _text(mean), _text(se), percent(correct, digits=0), _text(original)]
        for name, mean, se, correct, original in sorted(rungs, key=lambda rung: rung[1])
    ]
    return {
        "title": "Ladder of baselines",
        "head": ["policy", "mean reward", "standard error", "correct", "the original project's reward"],
        "rows": rows,
        "reading": (
            "The best constant answer knows nothing of the state: a trained policy below it has learned little. Most of "
            "the original project's reward is the same for every answer."
        ),
    }


def _strata_table(found: Mapping[str, Any]) -> dict[str, Any]:
    rows = []
    for cell in found["strata"]:
        worked = {1: "worked", 0: "did not work"}.get(cell["worked"], "–")
        wealth = {0: "poor", 1: "middle", 2: "rich"}.get(cell["wealth_tercile"], "–")
        best = f"{cell['oracle_work']:.2f} / {cell['oracle_consumption']:.2f}"
        rows.append([f"{cell['regime']}, {worked}, {wealth}", *_compared(cell), best])
    return {
        "title": "By regime, work and wealth",
        "head": ["contexts", *_COMPARED, "best work / consumption"],
        "rows": rows,
        "reading": f"Intervals from {MIN_CELL} contexts on.",
    }


def _prompts_table(found: Mapping[str, Any]) -> dict[str, Any]:
    rows = []
    for cell in found["prompts"]:
        kind = LANGUAGES.get(cell["language"], "all languages")
        rows.append([f"{kind}, {'with' if cell['has_examples'] else 'without'} examples", *_compared(cell)])
    return {
        "title": "By language and examples",
        "head": ["prompts", *_COMPARED],
        "rows": rows,
        "reading": "The same contexts in each row.",
    }


_COMPARED = ("number", "base", "trained", "difference", "95 % interval")


def _compared(cell: Mapping[str, Any]) -> list[str]:
    """The columns `_COMPARED` of a group of contexts."""
    numbers = [_text(cell["base"]), _text(cell["trained"]), _signed(cell["difference"])]
    return [str(cell["num"]), *numbers, _interval(cell) if "low" in cell else "too few"]
