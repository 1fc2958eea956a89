"""Seeds from names: every random stream of a run is keyed by what it is for, never by what was drawn before it."""

from __future__ import annotations

from hashlib import blake2b


def seed_of(*parts: str | int) -> int:
    """Returns 63 bits of BLAKE2b over the length-prefixed parts: the same on every machine, version and process.

    A text and a number that print alike give different seeds, and so do ("ab", "c") and ("a", "bc").

    Example:
        random.Random(seed_of("countdown", 0, "train", 17))
    """
    digest = blake2b(digest_size=8)
    for part in parts:
        if isinstance(part, bool) or not isinstance(part, (str, int)):
            raise TypeError(f"seed part {part!r} is a {type(part).__name__}; only str and int have one spelling")
        content = (b"s" + part.encode("utf-8", "surrogatepass")) if isinstance(part, str) else b"i%d" % part
        digest.update(len(content).to_bytes(8, "little") + content)
    return int.from_bytes(digest.digest(), "little") >> 1


def unit_share(*parts: str | int) -> float:
    """A number in [0, 1) from the parts, evenly spread: which share of a whole something belongs to, always the same.

    Example:
        is_held_out = unit_share("split", problem.id) < 0.02
    """
    return (seed_of(*parts) >> 10) / (1 << 53)
