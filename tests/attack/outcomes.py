"""What became of each attack, counted, and the table at the end."""

import collections
import dataclasses
from collections.abc import Iterator

# no attack may end so
BAD = ("SILENT", "TRACEBACK", "HANG", "OTHER BITS", "OUTSIDE")


@dataclasses.dataclass
class Outcomes:
    """attack -> what became of it -> how often; and the bad ones in words."""

    counts: dict[str, collections.Counter] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(collections.Counter)
    )
    bad: list[str] = dataclasses.field(default_factory=list)
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)

    def add(self, attack: str, outcome: str, about: str = "") -> None:
        """Counts one; `about` says what was done to what, for those that are bad."""
        self.counts[attack][outcome] += 1
        if outcome in BAD:
            self.bad.append(f"{attack}: {outcome}: {about}")

    def skip(self, attack: str, why: str) -> None:
        """An attack that cannot be made here."""
        self.skipped[attack] = why

    def lines(self) -> Iterator[str]:
        """The table, then what is bad."""
        width = max([len(name) for name in (*self.counts, *self.skipped)], default=6)
        yield f"{'attack':<{width}}  {'tries':>6}  {'bad':>4}  outcomes"
        for name, found in self.counts.items():
            bad = sum(number for what, number in found.items() if what in BAD)
            words = ", ".join(f"{what} {n}" for what, n in found.most_common())
            yield f"{name:<{width}}  {found.total():>6}  {bad:>4}  {words}"
        for name, why in self.skipped.items():
            yield f"{name:<{width}}  {0:>6}  {'-':>4}  skipped: {why}"
        yield from self.bad
