"""A comparison as a Markdown page. Text of models and data sets is escaped: it cannot make markup."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gradus.evaluation.pairs import Line
from gradus.evaluation.wording import NOTHING, difference, p_value, percent, signed, value

if TYPE_CHECKING:
    from gradus.evaluation.compare import Comparison

_MARKS = "\\`*_[]#!|"


def page(comparison: Comparison) -> str:
    """Returns the page, ending in a newline."""
    c = comparison
    blocks = ["# Base against trained", *_banner(c.mismatches), f"**{cell(c.sentence)}**"]
    blocks += [
        _table_of_lines("Metric", c.summary),
        f"Primary metric: {c.primary.name}. All other rows are exploratory.",
    ]
    blocks += ["## Problems", c.moved]
    blocks += _changes("Largest gains", c.gained) + _changes("Largest losses", c.lost)
    blocks += ["## Pass@k", _table_of_lines("k", c.pass_at_k)]
    if c.base_overtakes_at is not None:
        blocks.append(f"**Base is ahead at k = {c.base_overtakes_at}**, though trained leads at k = 1.")
    if len(c.maj_at_k) > 1:
        blocks += ["## Maj@k", _table_of_lines("k", c.maj_at_k)]
    if c.slices:
        blocks += ["## Slices", _slices(c.slices)]
    if c.parts:
        blocks += ["## Reward parts", _table_of_lines("Part", c.parts)]
    if c.regression is not None:
        blocks += ["## Regression: problems not trained for", *_banner(c.regression.mismatches)]
        blocks += [cell(c.regression.sentence), _table_of_lines("Metric", c.regression.summary)]
    blocks += ["## What this does not show", "\n".join(f"- {cell(warning)}" for warning in c.warnings)]
    return "\n\n".join(blocks) + "\n"


def table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A Markdown table; text that is not ours must come through ``cell``."""
    rows = ["| " + " | ".join(line) + " |" for line in body]
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *rows])


def cell(text: str) -> str:
    """``text`` on one line, with everything escaped that Markdown or HTML would read as markup."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = "".join("&#124;" if mark == "|" else f"\\{mark}" if mark in _MARKS else mark for mark in text)
    return " ".join(text.split())


def _banner(mismatches: Sequence[str]) -> list[str]:
    if not mismatches:
        return []
    title = "> **These evaluations are not the same experiment: the difference is not the effect of training alone.**"
    return ["\n".join([title, ">", *(f"> - {cell(mismatch)}" for mismatch in mismatches)])]


def _table_of_lines(head: str, table_lines: Iterable[Line]) -> str:
    body = [
        (
            cell(line.label),
            value(line.base, line.unit),
            value(line.trained, line.unit),
            difference(line),
            p_value(line.p),
        )
        for line in table_lines
    ]
    return table((head, "Base", "Trained", "Difference [95 % CI]", "p"), body)


def regression_table(comparison: Comparison) -> dict[str, Any]:
    """The summary of an off-task comparison as the report's tables are: ``title``, ``head``, ``rows``, ``reading``."""
    body = [
        [line.label, value(line.base, line.unit), value(line.trained, line.unit), difference(line), p_value(line.p)]
        for line in comparison.summary
    ]
    head = ["Metric", "Base", "Trained", "Difference [95 % CI]", "p"]
    reading = " ".join([*comparison.mismatches, comparison.sentence])
    return {"title": "Regression: problems not trained for", "head": head, "rows": body, "reading": reading}


def _slices(table_lines: Sequence[Line]) -> str:
    body = []
    for line in table_lines:
        p = p_value(line.extra["p_holm"]) + (" (few problems)" if line.extra["is_small"] else "")
        before, after = value(line.base, line.unit), value(line.trained, line.unit)
        body.append((cell(line.name), str(line.extra["n"]), before, after, difference(line), p))
    return table(("Slice", "N", "Base", "Trained", "Difference [95 % CI]", "p (Holm)"), body)


def _changes(title: str, entries: Sequence[Mapping[str, Any]]) -> list[str]:
    if not entries:
        return []
    body = [
        (
            cell(str(e["problem_id"])),
            cell(str(e["domain"] or NOTHING)),
            percent(e["base"]),
            percent(e["trained"]),
            f"{signed(100 * e['difference'], 1)} pp",
        )
        for e in entries
    ]
    return [f"### {title}", table(("Problem", "Domain", "Base", "Trained", "Difference"), body)]
