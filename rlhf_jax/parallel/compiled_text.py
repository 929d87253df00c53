"""What a compiled program says about itself: products and collectives, loops told.

Read from the compiler's text (HLO); for tests, plans and benchmarks.
"""

import math
import re
from typing import NamedTuple

import numpy as np

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
_TYPED = re.compile(r"(\w+)\[([\d,]*)\]")


_BY_AXES = re.compile(
    r"replica_groups=mesh\[([^\]]*)\]"
    r"(?:, device_ids=\(\[([\d,]+)\]T\(([\d,]+)\)\))? ?\{([^}]*)\}"
)
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s64": 8, "u64": 8}


class Collective(NamedTuple):
    """One collective of a program.

    Attributes:
      kind: such as "all-gather".
      shapes: of what comes out.
      depth: of loops around it.
      times: it runs, loops multiplied out.
      bytes: of what comes out, once.
      line: as it stands in the program.
    """

    kind: str
    shapes: tuple[tuple[int, ...], ...]
    depth: int
    times: int
    bytes: int
    line: str

    @property
    def largest(self) -> int:
        """Elements of its largest result."""
        return max(map(math.prod, self.shapes))


def collectives(text: str) -> list[Collective]:
    """The collectives of a compiled program.

    Args:
      text: `compiled.as_text()`.
    """
    found = []
    for line, kind, result, depth, times in _instructions(text):
        if kind in KINDS:
            group = _group(line)
            if group is not None and len(group) == 1:  # each device by itself
                continue
            if "-start(" in line and kind != "all-reduce":  # (operand, result)
                result = result[result.index("[") + 1 :]
            size = sum(
                _BYTES.get(dtype, 4) * math.prod(_dims(dims))
                for dtype, dims in _TYPED.findall(result)
            )
            found.append(Collective(kind, _shapes(result), depth, times, size, line))
    return found


def axes_of(collective: Collective, mesh: dict[str, int]) -> tuple[str, ...]:
    """The axes of a mesh that a collective goes along.

    Args:
      collective: of a program for that mesh.
      mesh: axis -> size, in order.

    Returns:
      Their names; () where its groups are not told.
    """
    group = _group(collective.line)
    if group is None or max(group) >= math.prod(mesh.values()):
        return ()
    places = np.stack(np.unravel_index(group, tuple(mesh.values())))
    moved = (places != places[:, :1]).any(axis=1)
    return tuple(name for name, along in zip(mesh, moved, strict=True) if along)


def _group(line: str) -> np.ndarray | None:
    """Devices that take part together, by their place in the mesh: of the first group.

    Told as a list, as a reshaped and transposed range, by axes, or in pairs.
    """
    if pair := re.search(r"source_target_pairs=\{\{(\d+),(\d+)\}", line):
        return np.array(pair.groups(), int)
    if found := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
        return np.array(found[1].split(","), int)
    if found := re.search(
        r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", line
    ):
        numbers = np.arange(math.prod(_dims(found[3]))).reshape(_dims(found[3]))
        numbers = numbers.transpose(_dims(found[4])) if found[4] else numbers
        return numbers.reshape(-1, int(found[2]))[0]
    if found := _BY_AXES.search(line):
        sizes = {n: int(s) for n, s in re.findall(r"'(\w+)'=(\d+)", found[1])}
        along = re.findall(r"'(\w+)'", found[4])
        numbers = np.arange(math.prod(sizes.values()))
        if found[2]:
            numbers = numbers.reshape(_dims(found[2])).transpose(_dims(found[3]))
        numbers = numbers.reshape(tuple(sizes.values()))
        whole = tuple(slice(None) if name in along else 0 for name in sizes)
        return numbers[whole].reshape(-1)
    return None


def product_flops(text: str) -> int:
    """FLOPs of all matrix products of one device, loops multiplied out.

    (`cost_analysis` counts the body of a loop once.)
    """
    sizes = {
        name: _shapes(shape)[0]
        for name, shape in re.findall(r"%([\w.\-]+) = (\w+\[[\d,]*\])", text)
    }
    total = 0
    for line, kind, result, _, times in _instructions(text):
        if kind == "dot":
            left = sizes[re.search(r" dot\(%?([\w.\-]+)", line).group(1)]
            axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", line).group(1)
            summed = math.prod(left[int(axis)] for axis in axes.split(","))
            total += 2 * times * summed * math.prod(_shapes(result)[0])
    return total


def _shapes(text: str) -> tuple[tuple[int, ...], ...]:
    return tuple(map(_dims, _SHAPE.findall(text)))


def _dims(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in text.split(",") if n)


def _instructions(text: str):
    """(line, kind, shapes of the result, depth of loops, times run), in any order."""
    bodies, entry = _computations(text)
    waiting = [(entry, 0, 1)]
    while waiting:
        name, depth, times = waiting.pop()
        for line in bodies.get(name, ()):
            match = _INSTRUCTION.search(line)
            if not match:
                continue
            result, kind = match.group(1), match.group(2).removesuffix("-start")
            yield line.strip(), kind, result, depth, times
            if kind in KINDS or kind.startswith("reduce"):
                continue
            loops = kind == "while"
            turns = _turns(line, bodies) if loops else 1
            called = _CALLED.findall(line)
            for names in _BRANCHES.findall(line):
                called += [n.strip().lstrip("%") for n in names.split(",")]
            waiting += [(inner, depth + loops, times * turns) for inner in called]


def _turns(line: str, bodies: dict[str, list[str]]) -> int:
    """How often a loop runs: told on a CPU; on a TPU its condition's bound by its step.

    (Two, where a product is overlapped with its gather in both directions at once.)
    """
    if told := re.search(r'known_trip_count":\s*\{"n":\s*"(\d+)"', line):
        return int(told.group(1))
    name = re.search(r"condition=%?([\w.\-]+)", line).group(1)
    bounds = re.findall(r"[su]32\[\]\S* constant\((\d+)\)", "\n".join(bodies[name]))
    bound, step = max(map(int, bounds), default=1), _step(bodies[name], line, bodies)
    return max(1, -(-bound // step))


def _step(condition: list[str], line: str, bodies: dict[str, list[str]]) -> int:
    """What a loop adds to its counter in a turn; 1 where that is not to be seen."""
    inside = "\n".join(bodies[re.search(r"body=%?([\w.\-]+)", line).group(1)])
    whole = "\n".join(condition)
    compared = re.search(r"ROOT .* compare\(%([\w.\-]+),", whole)
    place = compared and re.search(
        rf"%{re.escape(compared[1])} = .* get-tuple-element\(.*\), index=(\d+)", whole
    )
    result = re.search(r"ROOT .* tuple\((.*?)\)(?:,|$)", inside, re.MULTILINE)
    if not place or not result:
        return 1
    names = re.findall(r"%([\w.\-]+)", result[1])
    added = re.search(
        rf"%{re.escape(names[int(place[1])])} = .* add\(%[\w.\-]+, %([\w.\-]+)\)",
        inside,
    )
    constant = added and re.search(
        rf"%{re.escape(added[1])} = .* constant\((\d+)\)", inside
    )
    return int(constant[1]) if constant else 1


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    bodies, name, entry = {}, None, ""
    for line in text.splitlines():
        if match := _HEAD.match(line):
            name = match.group(2)
            bodies[name] = []
            entry = name if match.group(1) else entry
        elif line.rstrip() == "}":
            name = None
        elif name:
            bodies[name].append(line)
    return bodies, entry
