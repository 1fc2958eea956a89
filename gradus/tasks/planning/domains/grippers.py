"""Grippers: robots with two hands each carry balls between rooms; every room can be reached from every other."""

from __future__ import annotations

from collections import Counter
from random import Random

from gradus.tasks.planning.domains.family import (
    Family,
    Layout,
    Reference,
    Sizes,
    facts_of,
    goal_pairs,
    has_plain_goal,
    pairs_of,
)
from gradus.tasks.planning.pddl import Problem
from gradus.tasks.planning.plan import Action

DOMAIN = """(define (domain gripper-strips)
  (:requirements :strips :typing)
  (:types room ball robot gripper)
  (:predicates (at-robby ?r - robot ?x - room) (at ?b - ball ?x - room) (free ?r - robot ?g - gripper)
    (carry ?r - robot ?b - ball ?g - gripper))
  (:action move
    :parameters (?r - robot ?from ?to - room)
    :precondition (at-robby ?r ?from)
    :effect (and (not (at-robby ?r ?from)) (at-robby ?r ?to)))
  (:action pick
    :parameters (?r - robot ?b - ball ?room - room ?g - gripper)
    :precondition (and (at ?b ?room) (at-robby ?r ?room) (free ?r ?g))
    :effect (and (carry ?r ?b ?g) (not (at ?b ?room)) (not (free ?r ?g))))
  (:action drop
    :parameters (?r - robot ?b - ball ?room - room ?g - gripper)
    :precondition (and (carry ?r ?b ?g) (at-robby ?r ?room))
    :effect (and (at ?b ?room) (free ?r ?g) (not (carry ?r ?b ?g)))))
"""


def draw(sizes: Sizes, random: Random) -> Layout:
    """Rooms of robots, balls and goals are uniform."""
    robots = [f"robot{index}" for index in range(1, sizes["n"] + 1)]
    rooms = [f"room{index}" for index in range(1, sizes["r"] + 1)]
    balls = [f"ball{index}" for index in range(1, sizes["o"] + 1)]
    hands = [(f"{side}gripper{index}", robots[index - 1]) for index in range(1, sizes["n"] + 1) for side in "lr"]
    return Layout(
        objects=(
            *((robot, "robot") for robot in robots),
            *((hand, "gripper") for hand, _ in hands),
            *((room, "room") for room in rooms),
            *((ball, "ball") for ball in balls),
        ),
        facts=(
            *(("at-robby", robot, random.choice(rooms)) for robot in robots),
            *(("free", robot, hand) for hand, robot in hands),
            *(("at", ball, random.choice(rooms)) for ball in balls),
        ),
        goals=tuple(("at", ball, random.choice(rooms)) for ball in balls),
    )


class _Carrier:
    """The state of the greedy plan."""

    def __init__(self, rooms: dict[str, str], hands: dict[str, list[str]], waiting: dict[str, tuple[str, str]]) -> None:
        self.rooms = rooms
        """Robot to its room."""
        self.hands = hands
        """Robot to its free hands."""
        self.waiting = waiting
        """Ball to (room, goal room)."""
        self.carried: list[tuple[str, str, str]] = []
        """(ball, hand, goal room) of the robot at work."""
        self.actions: list[Action] = []

    def next_robot(self) -> str:
        """The robot with the most waiting balls in its room, at most as many as it has hands; ties by name."""
        counts = Counter(room for room, _ in self.waiting.values())
        return max(sorted(self.rooms), key=lambda robot: min(counts[self.rooms[robot]], len(self.hands[robot])))

    def go(self, robot: str, room: str) -> None:
        if self.rooms[robot] != room:
            self.actions.append(("move", robot, self.rooms[robot], room))
            self.rooms[robot] = room

    def fill(self, robot: str) -> None:
        """Picks up waiting balls while a hand is free, those first that go where others go too."""
        here = self.rooms[robot]
        while self.hands[robot]:
            goals = Counter(goal for _, _, goal in self.carried)
            goals.update(goal for room, goal in self.waiting.values() if room == here)
            balls = [ball for ball, (room, _) in self.waiting.items() if room == here]
            if not balls:
                return
            ball = max(balls, key=lambda ball: goals[self.waiting[ball][1]])
            hand = self.hands[robot].pop(0)
            self.actions.append(("pick", robot, ball, here, hand))
            self.carried.append((ball, hand, self.waiting.pop(ball)[1]))

    def deliver(self, robot: str) -> None:
        """Goes to the goal of the first carried ball and drops what belongs there."""
        self.go(robot, self.carried[0][2])
        here = self.rooms[robot]
        for ball, hand, goal in [entry for entry in self.carried if entry[2] == here]:
            self.actions.append(("drop", robot, ball, here, hand))
            self.hands[robot].append(hand)
            self.carried.remove((ball, hand, goal))


def refer(problem: Problem) -> Reference | None:
    """Fills both hands in a room, delivers, goes on. Shortest where it meets a lower bound on the moves."""
    rooms = pairs_of(problem, "at-robby")
    hands: dict[str, list[str]] = {}
    for robot, hand in facts_of(problem, "free"):
        hands.setdefault(robot, []).append(hand)
    at, goal = pairs_of(problem, "at"), goal_pairs(problem, "at")
    is_expected = has_plain_goal(problem, "at") and not facts_of(problem, "carry") and set(goal) <= set(at)
    if not is_expected or not hands or not set(hands) <= set(rooms):
        return None
    rooms = {robot: rooms[robot] for robot in hands}
    waiting = {ball: (at[ball], room) for ball, room in goal.items() if at[ball] != room}
    fewest = 2 * len(waiting) + _fewest_moves(waiting, set(rooms.values()), max(map(len, hands.values())))
    carrier = _Carrier(rooms, hands, waiting)
    while carrier.waiting:
        robot = carrier.next_robot()
        counts = Counter(room for room, _ in carrier.waiting.values())
        if not counts[carrier.rooms[robot]]:
            carrier.go(robot, max(sorted(counts), key=lambda room: counts[room]))
        carrier.fill(robot)
        while carrier.carried:
            carrier.deliver(robot)
            carrier.fill(robot)
    return Reference(actions=tuple(carrier.actions), is_optimal=len(carrier.actions) == fewest)


def _fewest_moves(waiting: dict[str, tuple[str, str]], occupied: set[str], num_hands: int) -> int:
    """Arrivals that every plan has: a room is entered once for each handful that ends there, and once at least where a
    ball waits and no robot stands."""
    arriving = Counter(goal for _, goal in waiting.values())
    leaving = {room for room, _ in waiting.values()}
    return sum(
        max(-(-arriving[room] // num_hands), int(room in leaving and room not in occupied))
        for room in leaving | set(arriving)
    )


def constrain(problem: Problem, random: Random) -> str | None:
    """``always not``: one robot must never enter a room in which it does not stand. With a single robot that either
    makes the problem unsolvable or changes nothing."""
    rooms = pairs_of(problem, "at-robby")
    if len(rooms) < 2:
        return None
    robot = random.choice(sorted(rooms))
    others = [room for room in problem.objects_of(("room",)) if room != rooms[robot]]
    return f"(always (not (at-robby {robot} {random.choice(others)})))" if others else None


FAMILY = Family(
    name="grippers",
    text=DOMAIN,
    size_names=("n", "r", "o"),
    stem=lambda sizes, seed: f"grippers-n{sizes['n']}-r{sizes['r']}-o{sizes['o']}-s{seed}",
    draw=draw,
    sizes_of=lambda problem: {
        "n": len({robot for robot, _ in facts_of(problem, "at-robby")}),
        "r": len(problem.objects_of(("room",))) if "room" in problem.domain.types else 0,
        "o": len({ball for ball, _ in facts_of(problem, "at")}),
    },
    refer=refer,
    constrain=constrain,
    silent=frozenset({"at", "at-robby"}),
)
