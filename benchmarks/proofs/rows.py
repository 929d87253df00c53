"""A row of the table: what was measured, and the limit it is held to."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
      proof: what it belongs to.
      case: which instance.
      value: the figure; None: it could not be had, see `note`.
      unit: of the value.
      limit: what it is held to; None: it is only told.
      side: "most": the value may not pass the limit; "least": it must reach it.
      goal: the limit is a goal of speed; missing it is told, and is no fault.
      note: what else a person should know.
    """

    proof: str
    case: str
    value: float | None
    unit: str = ""
    limit: float | None = None
    side: str = "most"
    goal: bool = False
    note: str = ""

    @property
    def verdict(self) -> str:
        """ "held", "missed" (a goal), "wrong", "told" or "left out"."""
        if self.value is None:
            return "left out"
        if self.limit is None:
            return "told"
        good = self.value <= self.limit
        if self.side == "least":
            good = self.value >= self.limit
        if good and math.isfinite(self.value):
            return "held"
        return "missed" if self.goal else "wrong"

    def record(self) -> dict:
        """For a JSON file, which has no NaN: such a value is null."""
        known = self.value is not None and math.isfinite(self.value)
        value = self.value if known else None
        return {**dataclasses.asdict(self), "value": value, "verdict": self.verdict}


def table(rows: list[Row]) -> str:
    """Rows as a Markdown table."""
    lines = ["| proof | case | value | held to | |", "|---|---|---|---|---|"]
    for row in rows:
        value = "" if row.value is None else f"{row.value:.3g} {row.unit}".strip()
        limit = ""
        if row.limit is not None:
            limit = f"{'≤' if row.side == 'most' else '≥'} {row.limit:g}"
        verdict = row.verdict + (f": {row.note}" if row.note else "")
        lines.append(f"| {row.proof} | {row.case} | {value} | {limit} | {verdict} |")
    return "\n".join(lines)
