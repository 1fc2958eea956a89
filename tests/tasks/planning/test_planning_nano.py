"""What small policies are asked and shown: the brief prompt leaves nothing out, worked plans are plans and repeat only what
the prompt says, and slips are as many as asked for."""

from __future__ import annotations

import pytest

from gradus.tasks.base import load_task
from gradus.tasks.planning.cache import load_problem
from gradus.tasks.planning.domains import FAMILIES
from gradus.tasks.planning.task import Planning
from gradus.tasks.planning.validate import validate

SMALL = {"preset": "nano", "prompt": "brief", "num_train": 60}


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def domain(request: pytest.FixtureRequest) -> str:
    return request.param


def task(domain: str, **options) -> Planning:
    made = load_task("planning", domains=[domain], **(SMALL | options))
    assert isinstance(made, Planning)
    return made


def test_different_problems_have_different_brief_prompts(domain):
    """Facts that are not implied by names, and goals: two problems that differ in any of them are asked differently."""
    said = {}
    for problem in task(domain).problems("train"):
        parsed = load_problem(problem.truth["domain"], problem.truth["problem"])
        asked = (
            frozenset(f for f in parsed.facts if f[0] not in FAMILIES[domain].implied),
            tuple(map(str, parsed.goals)),
        )
        assert said.setdefault(problem.messages[0].content, asked) == asked
    assert len(said) > 20 and len(set(said.values())) == len(said)


def test_a_place_stands_right_behind_the_name():
    texts = [problem.messages[0].content for problem in task("ferry").problems("train")]
    assert any("\n c0 l1 > l" in text for text in texts) and not any(" at " in text for text in texts)


def test_without_slips_a_demonstration_is_the_oracles_answer(domain):
    for problem in task(domain).problems("train", 10):
        assert task(domain).demonstration(problem) == task(domain).oracle(problem)


@pytest.mark.parametrize("preset", ["nano", "default"])
def test_a_worked_plan_is_a_plan_whose_comments_repeat_the_prompt(domain, preset):
    shown = task(domain, preset=preset, demonstrations="worked")
    for problem in shown.problems("train", 30):
        text = shown.demonstration(problem)
        assert shown.score(problem, text).correct, text
        lines = [f"{line.strip()} " for line in problem.messages[0].content.splitlines()]
        comments = [line.removeprefix("; ") for line in text.splitlines() if line.startswith(";")]
        assert comments
        for comment in comments:
            assert any(line.startswith(f"{comment} ") for line in lines), comment


def test_worked_plans_need_generated_problems():
    for options in ({"constraint_rate": 0.5}, {"anonymise": "objects"}, {"data_root": "."}):
        with pytest.raises(ValueError, match="demonstrations=worked"):
            load_task("planning", demonstrations="worked", **options)


def test_slips_leave_comments_alone():
    whole, careless = (task("ferry", demonstrations="worked", slip_rate=rate) for rate in (0.0, 0.5))
    for problem in whole.problems("train", 20):
        right, shown = (made.demonstration(problem).splitlines() for made in (whole, careless))
        assert [x for x in right if x[0] == ";"] == [x for x in shown if x[0] == ";"]


def test_slips_come_as_often_as_asked_and_name_only_what_there_is(domain):
    num_actions = num_changed = 0
    careless = task(domain, slip_rate=0.25)
    for problem in careless.problems("train"):
        right, shown = careless.oracle(problem).splitlines(), careless.demonstration(problem).splitlines()
        assert careless.score(problem, "\n".join(right)).correct, "the oracle never slips"
        parsed = load_problem(problem.truth["domain"], problem.truth["problem"])
        assert validate(parsed, "\n".join(shown)).status != "malformed"
        assert careless.demonstration(problem).splitlines() == shown
        # An action done with other objects keeps the number, one that is forgotten does not.
        num_actions += len(right)
        num_changed += len(set(enumerate_of(right)) - set(enumerate_of(shown)))
    assert 0.18 < num_changed / num_actions < 0.32
    other = task(domain, slip_rate=0.25, seed=1)
    many = [(careless.demonstration(p), other.demonstration(p)) for p in careless.problems("train", 20)]
    assert any(a != b for a, b in many)


def enumerate_of(lines: list[str]) -> list[tuple[str, int]]:
    """Each line with how many equal ones came before it."""
    return [(line, lines[:place].count(line)) for place, line in enumerate(lines)]
