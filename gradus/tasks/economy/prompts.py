"""What a household is told and asked, in English and Chinese, in full or in one line. Every number is of one snapshot.

Money has two decimals, rates are percentages with two decimals. The decision is written as JSON with English keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradus.tasks.economy.parameters import BRACKETS, TAX_RATES
from gradus.tasks.economy.snapshot import Snapshot
from gradus.tasks.economy.titles import person, title
from gradus.types import Message

PROMPT_IDS = {"full": "economy-full-1", "compact": "economy-compact-1"}
EXAMPLE = '{"work": 0.74, "consumption": 0.36}'
_SYSTEM = {
    "en": (
        "You decide for one household in a small economy. Aim: a good life over the next 12 months, where each further "
        "unit bought helps less than the one before; savings left at the end are worth something too; and effort is "
        "disliked, more and more the more willing to work you are.\n"
        "work: a number from 0 to 1, the probability that you take the job offered, or keep yours, this month. It counts "
        "for the unemployed as well.\n"
        "consumption: a number from 0 to 1, the share of all savings plus this month's income after tax and credit that "
        "is spent on essential goods.\n"
        "{form}"
    ),
    "zh": (
        "你为一个小型经济中的一户家庭做决定。目标：未来12个月生活得好，每多买一件商品带来的好处比前一件少；期末剩下的储蓄也有价值；"
        "工作要付出辛劳，工作意愿越高，辛劳增加得越快。\n"
        "work：0到1之间的数，表示本月接受或保住工作的概率。失业者同样适用。\n"
        "consumption：0到1之间的数，表示把全部储蓄加上本月税后收入和补贴中的多大份额用于购买生活必需品。\n"
        "{form}"
    ),
}
_FORM = {
    ("en", "none"): f"Answer with one JSON object and nothing else, for example:\n{EXAMPLE}",
    ("zh", "none"): f"只回答一个JSON对象，不写任何其他内容，例如：\n{EXAMPLE}",
    ("en", "answer"): (
        f"Think inside <think> </think>, then write one JSON object inside <answer> </answer>, for example:\n"
        f"<answer>{EXAMPLE}</answer>"
    ),
    ("zh", "answer"): (
        f"在 <think> </think> 内思考，然后在 <answer> </answer> 内写一个JSON对象，例如：\n<answer>{EXAMPLE}</answer>"
    ),
}
_QUESTION = {
    "en": "How willing are you to work this month, and which share do you spend?",
    "zh": "本月你的工作意愿是多少，打算花费多大的份额？",
}
_REMINDER = {
    ("en", "none"): "One JSON object with work and consumption, nothing else.",
    ("zh", "none"): "一个包含 work 和 consumption 的JSON对象，不写其他内容。",
    ("en", "answer"): "One JSON object with work and consumption in <answer> </answer>.",
    ("zh", "answer"): "在 <answer> </answer> 中写一个包含 work 和 consumption 的JSON对象。",
}


def date(month: int) -> str:
    """``YYYY.MM`` of the month after ``month`` months: the one that is decided on. Runs begin in 2001.01."""
    return f"{2001 + month // 12}.{month % 12 + 1:02d}"


def money(amount: float) -> str:
    """Two decimals, never ``-0.00``."""
    return f"{amount + 0.0:.2f}"


def percent(fraction: float) -> str:
    """A percentage with two decimals."""
    return f"{100 * fraction + 0.0:.2f}%"


def messages(
    snapshot: Snapshot,
    household: int,
    *,
    language: str,
    form: str = "full",
    envelope: str = "none",
    examples: Sequence[dict[str, Any]] = (),
    has_table: bool = True,
) -> tuple[Message, ...]:
    """The prompt of one household. ``form`` is ``full`` or ``compact``; ``examples`` are rows of the memory."""
    if form == "compact":
        return (Message(role="user", content=compact(snapshot, household)),)
    parts = [*_situation(snapshot, household, language)]
    if has_table:
        parts += _table(snapshot, household, language)
    if examples:
        parts += _examples(examples, language)
    parts += [_QUESTION[language], _REMINDER[language, envelope]]
    system = _SYSTEM[language].format(form=_FORM[language, envelope])
    return Message(role="system", content=system), Message(role="user", content="\n".join(parts))


def compact(snapshot: Snapshot, household: int) -> str:
    """One line for small policies: worked or not, real full-time pay (units), savings in months of pay, credit (units),
    imbalance of the goods market (percent), interest (percent)."""
    income = float(snapshot.full_income[household])
    imbalance = 100 * float(snapshot.imbalances[-1]) if snapshot.month else 0.0
    credit = float(snapshot.credits[-1]) / snapshot.price if snapshot.month else 0.0
    return (
        f"job {int(snapshot.worked[household])} pay {income / snapshot.price:.0f} "
        f"saved {float(snapshot.savings[household]) / income:.1f} credit {credit:.0f} "
        f"gap {imbalance + 0.0:.0f} rate {100 * snapshot.rate:.1f}"
    )


def _direction(now: float, before: float, language: str) -> str:
    words = ("higher", "lower", "the same") if language == "en" else ("上涨", "下降", "不变")
    return words[0] if now > before else words[1] if now < before else words[2]


def _situation(snapshot: Snapshot, i: int, language: str) -> list[str]:
    """Who, when, job, spending, taxes, prices, savings, interest."""
    name, age, city = person(snapshot.people_seed, i, snapshot.month, language)
    income = float(snapshot.full_income[i])
    has_past = snapshot.month > 0
    wages, prices = snapshot.recent_wage[:, i], snapshot.prices
    wage_moved = _direction(float(wages[-1]), float(wages[-2]), language) if snapshot.month > 1 else None
    price_moved = _direction(float(prices[-1]), float(prices[-2]), language) if snapshot.month > 1 else None
    tax = float(snapshot.tax[-1, i]) if has_past else 0.0
    credit = float(snapshot.credits[-1]) if has_past else 0.0
    spent = float(snapshot.shown_consumption[i])
    is_short = (
        has_past
        and snapshot.config["shortage_notice"] == "rationed"
        and float(snapshot.intended[-1, i]) > 0
        and float(snapshot.consumption[-1, i]) < float(snapshot.intended[-1, i]) * (1 - 1e-9)
    )
    job, has_worked = title(int(snapshot.title[i]), language), bool(snapshot.shown_worked[i])
    brackets = _brackets(language)
    if language == "zh":
        lines = [f"{name}，{age}岁，住在{city}。现在是{date(snapshot.month)}。"]
        if has_worked:
            moved = f"，比上月{wage_moved}" if wage_moved else ""
            lines.append(f"上月工作：{job}。本月全职预期收入：${money(income)}{moved}。")
        else:
            lines.append(f"上月没有工作。本月的工作机会：{job}，全职收入${money(income)}。")
        lines.append(f"上月消费：${money(spent)}。" + ("由于商品短缺，没能买到想要的全部。" if is_short else ""))
        lines.append(f"上月缴税：${money(tax)}；收到补贴：${money(credit)}。月收入税率：{brackets}。")
        moved = f"，比上月{price_moved}" if price_moved else ""
        lines.append(f"必需品价格：${money(snapshot.price)}{moved}。")
        lines.append(f"储蓄：${money(float(snapshot.savings[i]))}。年利率：{percent(snapshot.rate)}。")
        return lines
    lines = [f"{name}, {age} years old, lives in {city}. It is {date(snapshot.month)}."]
    if has_worked:
        moved = f", {wage_moved} than last month" if wage_moved and wage_moved != "the same" else ""
        lines.append(f"Worked last month as: {job}. Expected full-time income this month: ${money(income)}{moved}.")
    else:
        lines.append(f"Did not work last month. Job offer: {job}, full-time income ${money(income)}.")
    short = " Because of a shortage of goods, not all that was wanted could be bought." if is_short else ""
    lines.append(f"Consumption last month: ${money(spent)}.{short}")
    lines.append(
        f"Last month's tax: ${money(tax)}; credit received: ${money(credit)}. Tax rates by monthly income: {brackets}."
    )
    moved = f", {price_moved} than last month" if price_moved and price_moved != "the same" else ""
    lines.append(f"Price of essential goods: ${money(snapshot.price)}{moved}.")
    lines.append(f"Savings: ${money(float(snapshot.savings[i]))}. Interest rate: {percent(snapshot.rate)} a year.")
    return lines


def _brackets(language: str) -> str:
    """``10% from $0.00, ...``."""
    word = "起" if language == "zh" else "from "
    pairs = [(f"{100 * rate:.0f}%", f"${money(float(start))}") for rate, start in zip(TAX_RATES, BRACKETS, strict=True)]
    if language == "zh":
        return "，".join(f"{start}{word}{rate}" for rate, start in pairs)
    return ", ".join(f"{rate} {word}{start}" for rate, start in pairs)


def _table(snapshot: Snapshot, i: int, language: str) -> list[str]:
    """The last months: own income, consumption and hourly wage, and the price."""
    months = len(snapshot.income)
    if not months:
        return []
    head = (
        "月份 | 收入 | 消费 | 时薪 | 价格" if language == "zh" else "month | income | consumption | hourly wage | price"
    )
    rows = [
        f"{date(snapshot.month - months + k)} | {money(float(snapshot.income[k, i]))} | "
        f"{money(float(snapshot.consumption[k, i]))} | {money(float(snapshot.recent_wage[k, i]))} | "
        f"{money(float(snapshot.prices[snapshot.month - months + k]))}"
        for k in range(months)
    ]
    return [head, *rows]


def _examples(examples: Sequence[dict[str, Any]], language: str) -> list[str]:
    """Good decisions of similar households, nearest first."""
    num = len(examples)
    moments = []
    for key in ("work", "consumption"):
        values = [float(example[key]) for example in examples]
        mean = sum(values) / num
        moments.append(f"{mean:.2f} ± {(sum((v - mean) ** 2 for v in values) / num) ** 0.5:.2f}")
    if language == "zh":
        lines = ["相似家庭的好决定：", f"平均 work {moments[0]}，consumption {moments[1]}。"]
    else:
        lines = ["Good decisions of similar households:", f"On average work {moments[0]}, consumption {moments[1]}."]
    for example in examples:
        income, savings, price = (money(float(example[key])) for key in ("income", "savings", "price"))
        real = f"{float(example['real_wage']):.2f}"
        if language == "zh":
            worked = "有工作" if example["worked"] else "没有工作"
            state = f"收入${income}，储蓄${savings}，价格${price}，实际时薪{real}，上月{worked}"
        else:
            worked = "worked" if example["worked"] else "did not work"
            state = (
                f"income ${income}, savings ${savings}, price ${price}, real hourly wage {real}, {worked} last month"
            )
        lines.append(f"{state} → {example['decision']}")
    return lines


def numbers(snapshot: Snapshot, i: int) -> set[str]:
    """Every number that the prompt of household ``i`` may hold, written as there: what a test compares prompts with."""
    _, age, _ = person(snapshot.people_seed, i, snapshot.month, "en")
    months = len(snapshot.income)
    amounts = [snapshot.full_income[i], snapshot.shown_consumption[i], snapshot.savings[i], snapshot.price, *BRACKETS]
    amounts += [*snapshot.tax[-1:, i], *snapshot.credits[-1:], *snapshot.prices[-3:], 0.0]
    amounts += [*snapshot.income[:, i], *snapshot.consumption[:, i], *snapshot.recent_wage[:, i]]
    dates = [date(snapshot.month - k) for k in range(months + 1)]
    rates = [percent(snapshot.rate)[:-1], *(f"{100 * rate:.0f}" for rate in TAX_RATES)]
    fixed = ["0", "1", "12", "0.74", "0.36"]
    return {money(float(amount)) for amount in amounts} | set(dates) | set(rates) | set(fixed) | {str(age)}
