"""Who the households are, in words: names, cities, jobs by wage decile. Text only; nothing here moves the economy.

Everything follows from an economy's people seed, so a snapshot needs no text. Own lists.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DECILES = np.array([0.0, 2454, 4838, 7565, 10777, 14712, 19603, 26015, 35469, 52370])
"""Lowest full-time income of each job list ($ per month)."""
TITLES_EN = (
    ("kitchen porter", "parcel sorter", "car washer", "fruit picker"),
    ("shop assistant", "night cleaner", "laundry worker", "school cook"),
    ("delivery driver", "forklift operator", "barber", "warehouse clerk"),
    ("bus driver", "carpenter", "dental assistant", "payroll clerk"),
    ("electrician", "paramedic", "train dispatcher", "web designer"),
    ("primary teacher", "land surveyor", "lab technician", "translator"),
    ("civil engineer", "accountant", "nurse manager", "town planner"),
    ("software developer", "pharmacist", "ship's officer", "architect"),
    ("airline pilot", "data scientist", "dentist", "patent lawyer"),
    ("heart surgeon", "fund manager", "chief engineer", "company director"),
)
TITLES_ZH = (
    ("厨房杂工", "包裹分拣员", "洗车工", "采果工"),
    ("店员", "夜班保洁员", "洗衣工", "食堂厨师"),
    ("送货司机", "叉车工", "理发师", "仓库文员"),
    ("公交司机", "木工", "牙科助理", "薪资文员"),
    ("电工", "急救员", "列车调度员", "网页设计师"),
    ("小学教师", "测量员", "化验员", "翻译"),
    ("土木工程师", "会计师", "护士长", "城市规划师"),
    ("软件工程师", "药剂师", "船舶驾驶员", "建筑师"),
    ("民航飞行员", "数据科学家", "牙医", "专利律师"),
    ("心脏外科医生", "基金经理", "总工程师", "公司董事"),
)
NAMES_EN = (
    "Ada", "Boris", "Chiara", "Dmitri", "Elif", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Keiko", "Lamar",
    "Mira", "Nils", "Olga", "Pablo", "Quinn", "Rosa", "Sven", "Tara", "Umar", "Vera", "Wanda", "Yusuf",
)  # fmt: skip
NAMES_ZH = (
    "安然", "柏林", "晨曦", "丹青", "恩泽", "方舟", "国栋", "海燕", "嘉禾", "静怡", "可欣", "立新",
    "明远", "宁宁", "欧阳", "沛然", "清秋", "若溪", "思远", "天佑", "文博", "晓雯", "雅琴", "子墨",
)  # fmt: skip
CITIES_EN = ("Northport", "Elmford", "Saltbridge", "Kingsmere", "Ashvale", "Redcliff")
CITIES_ZH = ("北港", "榆津", "盐桥", "王湖", "梣谷", "赤崖")
_PER_DECILE = len(TITLES_EN[0])


def _mixed(people: NDArray[np.int64], stream: int, n: int) -> NDArray[np.uint64]:
    """Hash of (people seed, stream, household) [B,N], by the finalizer of SplitMix64."""
    with np.errstate(over="ignore"):
        x = people.astype(np.uint64)[:, None] * np.uint64(0x9E3779B97F4A7C15)
        x = x + np.uint64(stream) * np.uint64(0xD1B54A32D192ED03)
        x = x + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x8CB92BA72F3D8DD7)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def title_codes(people: NDArray[np.int64], month: int, monthly_wage: NDArray[np.float64]) -> NDArray[np.int64]:
    """Code of a job drawn from the list of each household's wage decile [B,N]."""
    decile = np.maximum(np.searchsorted(DECILES, monthly_wage, side="right") - 1, 0)
    drawn = _mixed(people, month, monthly_wage.shape[1]) % np.uint64(_PER_DECILE)
    return decile * _PER_DECILE + drawn.astype(np.int64)


def title(code: int, language: str) -> str:
    """The job with this code."""
    titles = TITLES_ZH if language == "zh" else TITLES_EN
    return titles[code // _PER_DECILE][code % _PER_DECILE]


def person(people_seed: int, household: int, month: int, language: str) -> tuple[str, int, str]:
    """(name, age, city) of a household; one year older at the start of each later year."""
    drawn = int(_mixed(np.array([people_seed]), 1_000_003, household + 1)[0, household])
    names, cities = (NAMES_ZH, CITIES_ZH) if language == "zh" else (NAMES_EN, CITIES_EN)
    age = 18 + (drawn >> 20) % 43 + max(month - 1, 0) // 12
    return names[drawn % len(names)], age, cities[(drawn >> 8) % len(cities)]
