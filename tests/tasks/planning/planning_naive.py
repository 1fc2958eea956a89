"""A second interpreter of plans, written for plainness: whole states, whole traces, the definitions as they stand.

It shares no code with the package. It recurses, copies every state and looks at the trace again for each constraint, so
it is slow and easy to check by eye. It expects well-formed domains and problems.
"""

from itertools import product


def tree(text):
    """Nested lists of lower-case symbols."""
    lines = [line.split(";")[0] for line in text.lower().splitlines()]
    tokens = " ".join(lines).replace("(", " ( ").replace(")", " ) ").split()
    stack = [[]]
    for token in tokens:
        if token == "(":
            stack.append([])
        elif token == ")":
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(token)
    return stack[0][0]


def typed(items):
    """[(name, [alternatives])]"""
    out, waiting, position = [], [], 0
    while position < len(items):
        if items[position] == "-":
            kind = items[position + 1]
            kinds = [kind] if isinstance(kind, str) else kind[1:]
            out += [(name, kinds) for name in waiting]
            waiting, position = [], position + 2
        else:
            waiting.append(items[position])
            position += 1
    return out + [(name, ["object"]) for name in waiting]


class Undefined(Exception):
    """A number without value, a division by zero, or conflicting changes."""


class Naive:
    """A domain with a problem."""

    def __init__(self, domain_text, problem_text):
        domain, problem = tree(domain_text), tree(problem_text)
        self.parents, self.actions, self.objects, constraints = {}, {}, {}, []
        self.goal, self.metric, self.has_cost = ["and"], None, False
        self.facts, self.numbers = set(), {}
        for section in domain[2:] + problem[2:]:
            if section[0] == ":types":
                for name, kinds in typed(section[1:]):
                    self.parents.setdefault(name, []).extend(kinds)
            elif section[0] in (":constants", ":objects"):
                self.objects.update({name: kinds[0] for name, kinds in typed(section[1:])})
            elif section[0] == ":action":
                self.actions[section[1]] = dict(zip(section[2::2], section[3::2], strict=True))
            elif section[0] == ":constraints":
                constraints += section[1:]
            elif section[0] == ":goal":
                self.goal = section[1]
            elif section[0] == ":init":
                for fact in section[1:]:
                    if fact[0] == "=":
                        self.numbers[tuple(fact[1])] = float(fact[2])
                    elif fact[0] != "not":
                        self.facts.add(tuple(fact))
        self.constraints = [c for outer in constraints for c in self.flatten(outer, {})]
        self.numbers.setdefault(("total-cost",), 0.0)

    def is_a(self, kind, wanted):
        if wanted == "object" or kind == wanted:
            return True
        return any(self.is_a(parent, wanted) for parent in self.parents.get(kind, []))

    def choices(self, variables):
        """Every assignment of objects to typed variables."""
        names = typed(variables)
        options = [
            [o for o, kind in self.objects.items() if any(self.is_a(kind, k) for k in kinds)] for _, kinds in names
        ]
        for values in product(*options):
            yield {name: value for (name, _), value in zip(names, values, strict=True)}

    def flatten(self, form, env):
        """Ground modal constraints."""
        if not form or form[0] == "and":
            return [c for part in form[1:] for c in self.flatten(part, env)]
        if form[0] == "forall":
            return [c for choice in self.choices(form[1]) for c in self.flatten(form[2], {**env, **choice})]
        return [(form, env)]

    # formulas

    def value(self, expr, state, env):
        numbers = state[1]
        if isinstance(expr, str):
            if (expr,) in numbers:
                return numbers[(expr,)]
            return float(expr)
        if expr[0] in ("+", "-", "*", "/"):
            values = [self.value(part, state, env) for part in expr[1:]]
            if expr[0] == "+":
                return sum(values)
            if expr[0] == "*":
                result = 1.0
                for number in values:
                    result *= number
                return result
            if expr[0] == "-":
                return -values[0] if len(values) == 1 else values[0] - values[1]
            if values[1] == 0:
                raise Undefined
            return values[0] / values[1]
        key = tuple(env.get(term, term) for term in expr)
        if key not in numbers:
            raise Undefined
        return numbers[key]

    def holds(self, form, state, env):
        """True, False, or None where that depends on a number without value."""
        if not form:
            return True
        head = form[0]
        if head == "and":
            return self.all([self.holds(part, state, env) for part in form[1:]])
        if head == "or":
            return self.negated(self.all([self.negated(self.holds(part, state, env)) for part in form[1:]]))
        if head == "not":
            return self.negated(self.holds(form[1], state, env))
        if head == "imply":
            return self.holds(["or", ["not", form[1]], form[2]], state, env)
        if head == "forall":
            return self.all([self.holds(form[2], state, {**env, **choice}) for choice in self.choices(form[1])])
        if head == "exists":
            return self.negated(self.holds(["forall", form[1], ["not", form[2]]], state, env))
        if head == "=" and all(isinstance(side, str) and side[0] not in "0123456789-" for side in form[1:]):
            return env.get(form[1], form[1]) == env.get(form[2], form[2])
        if head in ("<", "<=", "=", ">=", ">"):
            try:
                a, b = self.value(form[1], state, env), self.value(form[2], state, env)
            except Undefined:
                return None
            return {"<": a < b, "<=": a <= b, "=": a == b, ">=": a >= b, ">": a > b}[head]
        return tuple(env.get(term, term) for term in form) in state[0]

    def all(self, values):
        return False if False in values else None if None in values else True

    def negated(self, value):
        return None if value is None else not value

    def true(self, form, state, env):
        return self.holds(form, state, env) is True

    # effects

    def collect(self, effect, state, env, adds, deletes, changes):
        if not effect:
            return
        head = effect[0]
        if head == "and":
            for part in effect[1:]:
                self.collect(part, state, env, adds, deletes, changes)
        elif head == "forall":
            for choice in self.choices(effect[1]):
                self.collect(effect[2], state, {**env, **choice}, adds, deletes, changes)
        elif head == "when":
            truth = self.holds(effect[1], state, env)
            if truth is None:
                raise Undefined
            if truth:
                self.collect(effect[2], state, env, adds, deletes, changes)
        elif head == "not":
            deletes.add(tuple(env.get(term, term) for term in effect[1]))
        elif head in ("increase", "decrease", "assign", "scale-up", "scale-down"):
            target = [effect[1]] if isinstance(effect[1], str) else effect[1]
            key = tuple(env.get(term, term) for term in target)
            changes.setdefault(key, []).append((head, self.value(effect[2], state, env)))
        else:
            adds.add(tuple(env.get(term, term) for term in effect))

    def successor(self, state, action, env):
        """The next state, or None where the action cannot be executed."""
        try:
            if not self.true(action.get(":precondition", []), state, env):
                return None
            adds, deletes, changes = set(), set(), {}
            self.collect(action.get(":effect", []), state, env, adds, deletes, changes)
            numbers = dict(state[1])
            for key, parts in changes.items():
                kinds = [kind for kind, _ in parts]
                if "assign" in kinds:
                    if len(parts) > 1:
                        raise Undefined
                    numbers[key] = parts[0][1]
                    continue
                if len({kind in ("increase", "decrease") for kind in kinds}) > 1 or key not in numbers:
                    raise Undefined
                for kind, amount in parts:
                    if kind == "scale-down" and amount == 0:
                        raise Undefined
                    numbers[key] = {
                        "increase": lambda v, a: v + a,
                        "decrease": lambda v, a: v - a,
                        "scale-up": lambda v, a: v * a,
                        "scale-down": lambda v, a: v / a,
                    }[kind](numbers[key], amount)
            return (state[0] - deletes) | adds, numbers
        except Undefined:
            return None

    # trajectory constraints: index of certain violation, given the trace so far

    def violation(self, form, env, trace, is_over):
        n = len(trace) - 1
        head = form[0]
        if head == "at":
            return n if is_over and not self.true(form[2], trace[n], env) else None
        first = 2 if head in ("within", "always-within") else 1
        f = [self.true(form[first], state, env) for state in trace]
        g = [self.true(form[first + 1], state, env) for state in trace] if len(form) > first + 1 else []
        bound = int(float(form[1])) if first == 2 else 0
        if head == "always":
            return next((i for i in range(n + 1) if not f[i]), None)
        if head == "sometime":
            return n if is_over and not any(f) else None
        if head == "at-most-once":
            return next((i for i in range(1, n + 1) if f[i] and not f[i - 1] and any(f[: i - 1])), None)
        if head == "sometime-before":
            return next((i for i in range(n + 1) if f[i] and not any(g[:i])), None)
        if head == "sometime-after":
            return n if is_over and any(f[i] and not any(g[i:]) for i in range(n + 1)) else None
        if head == "within":
            if any(f[: bound + 1]):
                return None
            return min(bound, n) if n >= bound or is_over else None
        assert head == "always-within"
        ends = [
            i + bound for i in range(n + 1) if f[i] and not any(g[i : i + bound + 1]) and (i + bound <= n or is_over)
        ]
        return min(min(ends), n) if ends else None

    def judge(self, plan):
        """(status, step) for a list of actions, each a list of names."""
        bound = []
        for step, (name, *arguments) in enumerate(plan, 1):
            if name not in self.actions:
                return "malformed", step
            parameters = typed(self.actions[name].get(":parameters", []))
            if len(parameters) != len(arguments):
                return "malformed", step
            for argument, (_, kinds) in zip(arguments, parameters, strict=True):
                if argument not in self.objects or not any(self.is_a(self.objects[argument], kind) for kind in kinds):
                    return "malformed", step
            bound.append((self.actions[name], dict(zip([p for p, _ in parameters], arguments, strict=True))))
        trace = [(frozenset(self.facts), dict(self.numbers))]
        failed = None
        for step, (action, env) in enumerate(bound, 1):
            after = self.successor(trace[-1], action, env)
            if after is None:
                failed = step
                break
            trace.append(after)
        found = [self.violation(form, env, trace, failed is None) for form, env in self.constraints]
        violated = [index for index in found if index is not None]
        if violated:
            return "constraint", min(violated)
        if failed is not None:
            return "precondition", failed
        return ("valid" if self.true(self.goal, trace[-1], {}) else "goal"), None
