"""What a compiled program says about itself: its collectives, inside loops and out."""

import math
import re
from typing import NamedTuple

KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
)
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_INSTRUCTION = re.compile(r"= (.*?) ([\w\-]+)\(")
_CALLED = re.compile(
    r"(?:calls|to_apply|condition|body|true_computation|false_computation)=%?([\w.\-]+)"
)
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_SHAPE = re.compile(r"\w+\[([\d,]*)\]")


class Collective(NamedTuple):
    """One collective: what it is, the shapes that come out, how many loops deep."""

    kind: str
    shapes: tuple[tuple[int, ...], ...]
    depth: int
    line: str

    @property
    def largest(self) -> int:
        """Elements of its largest result."""
        return max(map(math.prod, self.shapes))


def collectives(text: str) -> list[Collective]:
    """The collectives of a compiled program's text, each with its depth of loops."""
    bodies, entry = _computations(text)
    found, seen = [], set()

    def walk(name: str, depth: int) -> None:
        if (name, depth) in seen:
            return
        seen.add((name, depth))
        for line in bodies.get(name, ()):
            match = _INSTRUCTION.search(line)
            if not match:
                continue
            kind = match.group(2).removesuffix("-start")
            if kind in KINDS:
                shapes = [
                    tuple(int(n) for n in dims.split(",") if n)
                    for dims in _SHAPE.findall(match.group(1))
                ]
                found.append(Collective(kind, tuple(shapes), depth, line.strip()))
                continue
            called = _CALLED.findall(line)
            for names in _BRANCHES.findall(line):
                called += [n.strip().lstrip("%") for n in names.split(",")]
            for inner in called:
                walk(inner, depth + (kind == "while"))

    walk(entry, 0)
    return found


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    bodies, name, entry = {}, None, ""
    for line in text.splitlines():
        if match := _HEAD.match(line):
            name = match.group(2)
            bodies[name] = []
            entry = name if match.group(1) else entry
        elif line.startswith("}"):
            name = None
        elif name:
            bodies[name].append(line)
    return bodies, entry
