"""What synthetic word problems are made of: sixteen templates in English and Chinese, names and objects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Numbers = dict[str, int]

NAMES = tuple(
    zip(
        "Ada Ben Cleo Dan Ella Finn Gia Hugo Ida Jack Kai Lena Milo Nora Omar Pia Quinn Rosa Sam Tara Uma Vera Will "
        "Xena Yara Zoe Aron Bella Carl Dora Emil Fay Greta Hans Ines Jonas Kira Leo Maya Nils".split(),
        "小明 小红 小刚 小丽 小华 小芳 小强 小军 小梅 小兰 小龙 小虎 小燕 小云 小雨 小雪 小峰 小林 小文 小武 小英 "
        "小玲 小杰 小东 小南 小西 小北 小春 小夏 小秋 小冬 小平 小安 小宁 小康 小乐 小欢 小庆 小福 小喜".split(),
        strict=True,
    )
)
"""Forty names, English and Chinese."""
OBJECTS = tuple(
    zip(
        "pens books apples cards stamps shells coins marbles stickers pencils oranges cookies toys balls flowers cups "
        "plates candles buttons beads stones eggs pears lemons muffins kites boxes bottles erasers notebooks".split(),
        "支笔 本书 个苹果 张卡片 张邮票 个贝壳 枚硬币 颗弹珠 张贴纸 支铅笔 个橙子 块饼干 个玩具 个球 朵花 个杯子 "
        "个盘子 支蜡烛 颗纽扣 颗珠子 块石头 个鸡蛋 个梨 个柠檬 个松饼 个风筝 个盒子 个瓶子 块橡皮 本笔记本".split(),
        strict=True,
    )
)
"""Thirty kinds of objects, English plurals and Chinese with their measure words."""


@dataclass(frozen=True, slots=True)
class Template:
    """One kind of problem. Its texts have places for numbers, results of steps, two names and two objects."""

    name: str
    draw: Callable[[Callable[[int, int], int]], Numbers]
    """Numbers from ``pick(low, high)``; a result that is no integer or out of range is drawn again."""
    steps: tuple[tuple[str, str, str, str], ...]
    """(result, left, operator, right): names of numbers or results; the last result is the answer."""
    question: dict[str, str]
    lines: dict[str, tuple[str, ...]]
    """One sentence per step; ``{step}`` is the step written out."""


TEMPLATES: tuple[Template, ...] = (
    Template(
        "sharing",
        lambda pick: {"a": pick(2, 12) * (k := pick(2, 9)), "b": k},
        (("c", "a", "/", "b"),),
        {
            "en": "{x} shares {a} {o} equally among {b} friends. How many {o} does each friend get?",
            "zh": "{x}把{a}{o}平均分给{b}个朋友。每个朋友得到多少？",
        },
        {"en": ("Each friend gets {step} {o}.",), "zh": ("每个朋友得到 {step}。",)},
    ),
    Template(
        "rate",
        lambda pick: {"a": pick(3, 20), "b": pick(2, 9)},
        (("c", "a", "*", "b"),),
        {
            "en": "{x} rides {a} km every hour. How many km does {x} ride in {b} hours?",
            "zh": "{x}每小时骑{a}千米。{b}小时骑多少千米？",
        },
        {"en": ("The distance is {step} km.",), "zh": ("路程是 {step} 千米。",)},
    ),
    Template(
        "change",
        lambda pick: {"a": pick(2, 9), "b": pick(2, 9), "p": pick(1, 5) * 20},
        (("c", "a", "*", "b"), ("d", "p", "-", "c")),
        {
            "en": "{x} buys {a} {o} for {b} dollars each and pays with {p} dollars. How much change does {x} get?",
            "zh": "{x}买{a}{o}，每份{b}元，付了{p}元。应找回多少元？",
        },
        {
            "en": ("The {o} cost {step} dollars.", "The change is {step} dollars."),
            "zh": ("一共要付 {step} 元。", "找回 {step} 元。"),
        },
    ),
    Template(
        "shopping",
        lambda pick: {"a": pick(2, 9), "b": pick(2, 9), "m": pick(2, 9), "n": pick(2, 9)},
        (("c", "a", "*", "b"), ("d", "m", "*", "n"), ("e", "c", "+", "d")),
        {
            "en": "{x} buys {a} {o} for {b} dollars each and {m} {q} for {n} dollars each. How much does {x} pay?",
            "zh": "{x}买{a}{o}，每份{b}元，又买{m}{q}，每份{n}元。一共付多少元？",
        },
        {
            "en": ("The {o} cost {step} dollars.", "The {q} cost {step} dollars.", "Together that is {step} dollars."),
            "zh": ("第一种花 {step} 元。", "第二种花 {step} 元。", "一共 {step} 元。"),
        },
    ),
    Template(
        "shopping change",
        lambda pick: {"a": pick(2, 6), "b": pick(2, 6), "m": pick(2, 6), "n": pick(2, 6), "p": pick(2, 5) * 20},
        (("c", "a", "*", "b"), ("d", "m", "*", "n"), ("e", "c", "+", "d"), ("f", "p", "-", "e")),
        {
            "en": "{x} buys {a} {o} for {b} dollars each and {m} {q} for {n} dollars each, and pays with {p} dollars. "
            "How much change does {x} get?",
            "zh": "{x}买{a}{o}，每份{b}元，又买{m}{q}，每份{n}元，付了{p}元。找回多少？",
        },
        {
            "en": (
                "The {o} cost {step} dollars.",
                "The {q} cost {step} dollars.",
                "Together that is {step} dollars.",
                "The change is {step} dollars.",
            ),
            "zh": ("第一种花 {step} 元。", "第二种花 {step} 元。", "一共 {step} 元。", "找回 {step} 元。"),
        },
    ),
    Template(
        "discount",
        lambda pick: {"a": pick(2, 20) * 10, "b": (10, 20, 25, 50)[pick(0, 3)], "h": 100},
        (("c", "a", "*", "b"), ("d", "c", "/", "h"), ("e", "a", "-", "d")),
        {
            "en": "A bag costs {a} dollars. {x} gets {b} percent off. How much does {x} pay?",
            "zh": "一个包{a}元，{x}享受百分之{b}的优惠。要付多少元？",
        },
        {
            "en": (
                "Price times percent is {step}.",
                "The discount is {step} dollars.",
                "The price is then {step} dollars.",
            ),
            "zh": ("价格乘百分数 {step}。", "优惠 {step} 元。", "要付 {step} 元。"),
        },
    ),
    Template(
        "ages",
        lambda pick: {"a": pick(3, 15), "b": pick(2, 5), "m": pick(2, 12)},
        (("c", "a", "*", "b"), ("d", "c", "+", "m")),
        {
            "en": "{x} is {a} years old. {y} is {b} times as old. How old will {y} be in {m} years?",
            "zh": "{x}今年{a}岁，{y}的年龄是{x}的{b}倍。{m}年后{y}多少岁？",
        },
        {
            "en": ("{y} is {step} years old now.", "Later {y} will be {step}."),
            "zh": ("{y}今年 {step} 岁。", "以后是 {step} 岁。"),
        },
    ),
    Template(
        "perimeter",
        lambda pick: {"a": pick(3, 40), "b": pick(3, 40), "t": 2},
        (("c", "a", "+", "b"), ("d", "c", "*", "t")),
        {
            "en": "A garden is {a} m long and {b} m wide. How many m of fence does {x} need to go around it?",
            "zh": "一个花园长{a}米，宽{b}米。{x}围一圈需要多少米篱笆？",
        },
        {
            "en": ("Length and width are {step} m.", "The fence is {step} m."),
            "zh": ("长加宽 {step} 米。", "篱笆 {step} 米。"),
        },
    ),
    Template(
        "saving",
        lambda pick: {"a": pick(2, 30), "b": pick(2, 9), "m": pick(5, 60)},
        (("c", "a", "*", "b"), ("d", "c", "+", "m")),
        {
            "en": "{x} has {m} dollars and saves {a} dollars every week. How much does {x} have after {b} weeks?",
            "zh": "{x}有{m}元，每周存{a}元。{b}周后有多少元？",
        },
        {
            "en": ("{x} saves {step} dollars.", "Then {x} has {step} dollars."),
            "zh": ("存了 {step} 元。", "一共有 {step} 元。"),
        },
    ),
    Template(
        "times as many",
        lambda pick: {"a": pick(3, 25), "b": pick(2, 6)},
        (("c", "a", "*", "b"), ("d", "a", "+", "c")),
        {
            "en": "{x} has {a} {o}. {y} has {b} times as many. How many {o} do they have together?",
            "zh": "{x}有{a}{o}，{y}的数量是{x}的{b}倍。两人一共有多少？",
        },
        {
            "en": ("{y} has {step} {o}.", "Together they have {step} {o}."),
            "zh": ("{y}有 {step}。", "一共有 {step}。"),
        },
    ),
    Template(
        "remainder",
        lambda pick: {"a": pick(2, 20), "b": pick(2, 20), "m": pick(41, 99)},
        (("c", "a", "+", "b"), ("d", "m", "-", "c")),
        {
            "en": "{x} has {m} {o}. {x} gives {a} of them to {y} and loses {b}. How many {o} are left?",
            "zh": "{x}有{m}{o}，给{y} {a}份，又丢了{b}份。还剩多少？",
        },
        {"en": ("Gone are {step} {o}.", "Left are {step} {o}."), "zh": ("少了 {step}。", "还剩 {step}。")},
    ),
    Template(
        "average",
        lambda pick: {"a": pick(2, 30), "b": pick(2, 30), "m": pick(2, 30), "t": 3},
        (("c", "a", "+", "b"), ("d", "c", "+", "m"), ("e", "d", "/", "t")),
        {
            "en": "{x} sells {a} {o} one day, {b} the next and {m} the third. How many is that a day, on average?",
            "zh": "{x}第一天卖出{a}{o}，第二天{b}，第三天{m}。平均每天多少？",
        },
        {
            "en": ("The first two days make {step}.", "All three make {step}.", "The average is {step}."),
            "zh": ("前两天 {step}。", "三天 {step}。", "平均 {step}。"),
        },
    ),
    Template(
        "minutes",
        lambda pick: {"a": pick(2, 12) * 5, "b": pick(2, 24), "s": 60},
        (("c", "a", "*", "b"), ("d", "c", "/", "s")),
        {
            "en": "{x} reads {a} minutes every day. How many hours does {x} read in {b} days?",
            "zh": "{x}每天读书{a}分钟。{b}天读书多少小时？",
        },
        {"en": ("That is {step} minutes.", "It is {step} hours."), "zh": ("一共 {step} 分钟。", "就是 {step} 小时。")},
    ),
    Template(
        "packs",
        lambda pick: {"a": pick(2, 12), "b": pick(3, 12), "m": pick(2, 20)},
        (("c", "a", "*", "b"), ("d", "c", "+", "m")),
        {
            "en": "{x} buys {a} packs of {b} {o} and {m} single ones. How many {o} is that?",
            "zh": "{x}买了{a}包，每包{b}{o}，又单买{m}份。一共多少？",
        },
        {
            "en": ("The packs hold {step} {o}.", "With the single ones it is {step}."),
            "zh": ("包里有 {step}。", "一共 {step}。"),
        },
    ),
    Template(
        "two people",
        lambda pick: {"a": pick(3, 20), "b": pick(3, 20), "m": pick(2, 9)},
        (("c", "a", "+", "b"), ("d", "c", "*", "m")),
        {
            "en": "{x} makes {a} {o} every hour and {y} makes {b}. How many {o} do they make together in {m} hours?",
            "zh": "{x}每小时做{a}{o}，{y}每小时做{b}。两人{m}小时一共做多少？",
        },
        {
            "en": ("In one hour they make {step} {o}.", "In all they make {step} {o}."),
            "zh": ("一小时一共做 {step}。", "总共做 {step}。"),
        },
    ),
    Template(
        "trip",
        lambda pick: {"a": pick(10, 60), "b": pick(2, 6), "m": pick(10, 60), "n": pick(2, 6)},
        (("c", "a", "*", "b"), ("d", "m", "*", "n"), ("e", "c", "+", "d")),
        {
            "en": "{x} drives {b} hours at {a} km per hour, then {n} hours at {m} km per hour. How many km is that?",
            "zh": "{x}先以每小时{a}千米开了{b}小时，再以每小时{m}千米开了{n}小时。全程多少千米？",
        },
        {
            "en": ("The first part is {step} km.", "The second part is {step} km.", "The trip is {step} km."),
            "zh": ("第一段 {step} 千米。", "第二段 {step} 千米。", "全程 {step} 千米。"),
        },
    ),
)  # fmt: skip
