"""A probe for people: one screen of plain words and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradus.evaluation.probe import GROUP_SIZES, MIXED_VARIANCE, SCHEMA, Probe
from gradus.evaluation.wording import NOTHING, number, percent

_LABEL = 16
_VALUE = 24


def lines(probe: Probe | Mapping[str, Any]) -> list[str]:
    """The table of a probe or of a `probe.json`, without trailing blanks.

    Raises:
        ValueError: a mapping that is no probe of this schema.
    """
    facts = probe.to_json() if isinstance(probe, Probe) else probe
    if facts.get("schema") != SCHEMA:
        raise ValueError(f"schema {facts.get('schema')!r} is not {SCHEMA!r}; probe again with this version")
    try:
        found = [_head(facts), *_signal(facts), *_quality(facts), _sizes(facts), *_slices(facts), *_kept(facts)]
        return [line.rstrip() for line in [*found, *_verdict(facts)]]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no whole probe ({type(error).__name__}: {error}); probe again") from error


def _head(facts: Mapping[str, Any]) -> str:
    settings = facts["settings"]
    names = " · ".join(str(settings[key]) for key in ("task", "model") if settings.get(key))
    sizes = f"{facts['n_problems']} problems × {facts['samples_per_problem']} samples"
    group = f"group size {facts['mixed']['n']}"
    temperature = f", temperature {number(settings['temperature'])}" if "temperature" in settings else ""
    return f"probe  {names} · {sizes}, {group}{temperature}" if names else f"probe  {sizes}, {group}{temperature}"


def _line(label: str, value: str, remark: str = "") -> str:
    return f"{label:<{_LABEL}}{value:<{_VALUE}}{remark}"


def _signal(facts: Mapping[str, Any]) -> list[str]:
    accuracy, mixed, variance = facts["accuracy"], facts["mixed"], facts["variance"]
    is_inside = 0.10 <= accuracy["value"] <= 0.80
    over = "> " if variance["biased"] > MIXED_VARIANCE else "≤ "
    meaning = (
        'per problem at 16 samples this means "mixed"'
        if facts["samples_per_problem"] == 16
        else f"over it: {percent(variance['over_0_05_frac'])} of the problems"
    )
    bits, nats = facts["avg_entropy_bits"]["value"], facts["entropy"].get("value")
    token = f"token entropy {number(nats, digits=2)} nats/token" if nats is not None else "token entropy not known"
    kinds = f"all wrong {percent(facts['all_wrong_frac'])}, all right {percent(facts['all_right_frac'])}"
    return [
        _line("accuracy", _share(accuracy), "inside 10–80 %" if is_inside else "outside 10–80 % (caution)"),
        _line("mixed groups", _share(mixed), kinds),
        *_forecast(facts),
        _line("variance", f"{variance['biased']:.3f}   ({over}0.05)", meaning),
        _line("group entropy", f"{number(bits, digits=2)} bits", token),
    ]


def _forecast(facts: Mapping[str, Any]) -> list[str]:
    """What the share of mixed groups refers to, and where it goes: as a rehearsal showed, or by a model."""
    if (ahead := facts.get("forecast")) is not None:
        return [_line(f"first {ahead['num_steps']} steps", _share(ahead["mixed"]), _rehearsed(ahead))]
    later = [f"{percent(one['mixed'])} at {percent(one['accuracy'])} right" for one in facts.get("as_it_learns", ())]
    told = "  with 95 % intervals, of the policy before its first step"
    return [f"{told}; as it learns, by a model, mixed {', '.join(later)}" if later else told]


def _rehearsed(ahead: Mapping[str, Any]) -> str:
    """What the forecast is of, and how fast the policy learned."""
    right = ahead["right"]
    grows = f"right {percent(right['value'])} ({percent(right['before'])} before)"
    return f"mixed, as forecast from a rehearsal of {ahead['rehearsed_steps']}; {grows}"


def _share(estimate: Mapping[str, Any]) -> str:
    low, high = estimate.get("low"), estimate.get("high")
    text = percent(estimate["value"])
    return text if low is None or high is None else f"{text}  [{100 * low:.1f}, {100 * high:.1f}]"


def _quality(facts: Mapping[str, Any]) -> list[str]:
    scoring, wasted = facts["scoring"], facts["wasted_token_frac"]
    format_fails = facts["format_fail_frac"]["value"]
    parts = [
        f"truncated {percent(facts['truncated_frac']['value'])}",
        *([f"format failures {percent(format_fails)}"] if format_fails is not None else []),
        f"duplicates {percent(facts['duplicate_frac']['value'])}",
        f"scoring errors {percent(scoring['error_frac']) if scoring['error_frac'] else '0'}",
        f"wasted tokens {percent(wasted)}",
    ]
    rewards = ", ".join(
        f"{name} {number(one['mean'], digits=3)} (± {number(one['within_group_variance'] ** 0.5, digits=2)})"
        for name, one in facts["reward_parts"].items()
    )
    return [" · ".join(parts), *([f"reward parts, ± inside groups: {rewards}"] if rewards else [])]


def _sizes(facts: Mapping[str, Any]) -> str:
    parts = []
    for size in GROUP_SIZES:
        one = facts["by_group_size"][str(size)]
        if one["mixed"] is None:
            parts.append(f"n = {size}: {one['reason']}; extrapolated {percent(one['extrapolated'])}")
            continue
        price = one["completions_per_useful_group"]
        cost = "" if price is None else f", {price:.1f} completions per useful group"
        parts.append(f"n = {size}: {percent(one['mixed'])} mixed{cost}")
    return "\n".join(parts)


def _slices(facts: Mapping[str, Any]) -> list[str]:
    """Domains and buckets, where there are several."""
    found = []
    for name in ("by_domain", "by_bucket"):
        blocks = facts[name]
        if len(blocks) > 1:
            found += [
                _line(
                    f"{name.removeprefix('by_')} {label}",
                    f"  {percent(one['accuracy']['value'])}",
                    f"mixed {_share(one['mixed'])}, N = {one['num_problems']}",
                )
                for label, one in blocks.items()
            ]
    return found


def _kept(facts: Mapping[str, Any]) -> list[str]:
    found = []
    if (kept := facts.get("kept")) is not None:
        domains = ", ".join(f"{name} {count}" for name, count in kept["by_domain"].items())
        found.append(f"kept {kept['num_problems']} of {facts['n_problems']} problems ({domains}): {kept['file']}")
        if (again := kept.get("recheck")) is not None:
            found.append(
                f"  fresh samples: accuracy {_share(again['accuracy'])}, mixed {_share(again['mixed'])} "
                f"(the samples that chose them: {percent(kept['selected']['accuracy']['value'])}, "
                f"{percent(kept['selected']['mixed']['value'])})"
            )
        else:
            found.append("  its own estimates are biased by the choice; --recheck 16 samples it anew")
    if (warm := facts.get("sft")) is not None:
        found.append(f"warm-start set: {warm['rows']} right answers to {warm['problems']} problems: {warm['file']}")
    return found


def _verdict(facts: Mapping[str, Any]) -> list[str]:
    found = [f"VERDICT {facts['verdict']}: {facts['meaning']}", *(f"  because {reason}" for reason in facts["reasons"])]
    found += [_advice("→", one["text"], one["override"]) for one in facts["advice"]]
    found += [_advice("caution:", one["text"], one["override"]) for one in facts["cautions"]]
    cost = facts.get("cost")
    return [*found, *([f"  {cost_line(cost)}"] if cost else [])]


def _advice(mark: str, text: str, override: str) -> str:
    return f"  {mark} {text}" + (f"\n      {override}" if override else "")


def cost_line(cost: Mapping[str, Any]) -> str:
    """Time, disk and money of the whole training, as far as measured."""
    parts = [f"about {hours(cost['hours'])} for {cost['num_steps']} steps: {cost['generation_seconds']:.3g} s sampling"]
    parts.append(f"{cost['scoring_seconds']:.2g} s scoring")
    update = cost["update_seconds"]
    parts.append("update not included (--time-update)" if update is None else f"{update:.3g} s update")
    text = ", ".join(parts) + " a step"
    if cost.get("disk_bytes") is not None:
        text += f"; {cost['disk_bytes'] / 1e9:.2g} GB of disk"
    return text + (f"; {cost['money']:.2f} in money" if cost.get("money") is not None else "")


def hours(value: float | None) -> str:
    """``1 h 50 min``, ``6 min``."""
    if value is None:
        return NOTHING
    minutes = max(1, round(60 * value))
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
