"""What became of rows, in one line: nothing is dropped or cut in silence.

>>> account = Account("demonstrations", read=8)
>>> account.drop("as too long for max_prompt 12", 5)
>>> account.cut["at max_response 8"] = 2
>>> print(account)
demonstrations: 8 read, 3 used (2 cut at max_response 8), 5 dropped as too long for
max_prompt 12
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from rlhf_jax.data.rows import Intake

__all__ = ["SHARE", "Account", "Booking", "row_metrics", "told"]

T = TypeVar("T")

SHARE = 0.05  # of the rows dropped or cut, above which there is a warning


@dataclass
class Account:
    """What became of the rows of one stream or file.

    Args:
      name: what the rows are.
      read: rows, all that are told below among them.
      dropped: why -> rows that are not used; "as too long for max_prompt 12".
      cut: by what -> rows of which a part is used; "at max_response 8".
      noted: what was odd or left out of a row that is used -> how often.
      limited: by which setting -> rows beyond what it asks for; "by max_prompts 400".
      left_over: rows that each epoch leaves out, other ones each time.
    """

    name: str = "rows"
    read: int = 0
    dropped: Counter = field(default_factory=Counter)
    cut: Counter = field(default_factory=Counter)
    noted: Counter = field(default_factory=Counter)
    limited: Counter = field(default_factory=Counter)
    left_over: int = 0

    def drop(self, why: str, rows: int = 1) -> None:
        """Books rows that are not used; none of them, nothing."""
        if rows:
            self.dropped[why] += rows

    def first(self, rows: Sequence[T], setting: str, most: int | None) -> list[T]:
        """The first rows, as many as a setting asks for; books the others."""
        kept = list(rows[:most])
        self.limit(setting, most, len(rows) - len(kept))
        return kept

    def limit(self, setting: str, most: int | None, rows: int) -> None:
        """Books rows beyond what a setting asks for; none of them, nothing."""
        if rows:
            self.limited[f"by {setting} {most}"] += rows

    def cut_by_any(self, by: str, rows: int) -> None:
        """Books what several readers of the same rows cut: the most that one did."""
        if rows:
            self.cut[by] = max(self.cut[by], rows)

    @property
    def used(self) -> int:
        """Rows that are used, whole or cut."""
        return self.read - self.dropped.total() - self.limited.total()

    @property
    def share(self) -> float:
        """Rows dropped or cut, per row read; 0 where none was read."""
        touched = self.dropped.total() + self.cut.total()
        return min(1.0, touched / self.read) if self.read else 0.0

    def begin(self, intake: Intake) -> "Account":
        """Books what reading left out before; returns the account itself.

        Call it once, when the stream has read its rows.
        """
        missing = Counter(intake.left)
        if intake.rejected:
            missing["as bad rows"] += intake.rejected
        self.read += missing.total()
        self.dropped += missing
        self.noted += intake.warnings
        return self

    def __str__(self) -> str:
        used = f"{self.used} used"
        if self.cut:
            used += f" ({_told(self.cut, 'cut')})"
        parts = [f"{self.read} read", used]
        if self.dropped:
            parts.append(_told(self.dropped, "dropped"))
        if self.limited:
            parts.append(_told(self.limited, "left out"))
        if self.left_over:
            parts.append(f"{self.left_over} left over in each epoch")
        if self.noted:
            parts.append(_told(self.noted, "noted"))
        return f"{self.name}: {', '.join(parts)}"

    def warning(self, share: float = SHARE) -> str | None:
        """A sentence where more than a share of the rows is dropped or cut."""
        if self.share <= share:
            return None
        return f"{self.share:.1%} of the rows are dropped or cut: {self}"

    def as_dict(self) -> dict[str, Any]:
        """For programs: metrics and reports."""
        return {
            "name": self.name,
            "read": self.read,
            "used": self.used,
            "dropped": dict(self.dropped),
            "cut": dict(self.cut),
            "noted": dict(self.noted),
            "limited": dict(self.limited),
            "left_over": self.left_over,
        }


def told(accounts: Iterable[Account]) -> list[str]:
    """The lines to print and to log: every account, and the warnings after them."""
    accounts = list(accounts)
    warnings = [account.warning() for account in accounts]
    return [
        *map(str, accounts),
        *(f"warning: {warning}" for warning in warnings if warning),
    ]


def row_metrics(accounts: Iterable[Account]) -> dict[str, int]:
    """The numbers to store: `rows/demonstrations/read` and the like, by account."""
    return {
        f"rows/{account.name}/{name}": number
        for account in accounts
        for name, number in (
            ("read", account.read),
            ("used", account.used),
            ("dropped", account.dropped.total()),
            ("cut", account.cut.total()),
        )
    }


class Booking:
    """Makes the account of a stream while its rows are encoded.

    Args:
      name: what the rows are.
      prompt: the limit over which a row is dropped, as "max_prompt 12".
      response: the limit at which a response is cut, as "max_response 8".
    """

    def __init__(self, name: str, prompt: str = "", response: str = ""):
        self.account = Account(name)
        self.counts: Counter = Counter()  # for the encoder
        self._limits = prompt, response
        self._given = self._encoded = 0

    def read(self, records: Iterable[T]) -> Iterator[T]:
        """The records, counted, and what was left out when they were read."""
        for record in records:
            self._given += 1
            yield record
        self.account.read += self._given
        intake = getattr(records, "intake", None)
        if intake is not None:
            self.account.begin(intake)

    def encoded(self, items: Iterable[T]) -> Iterator[T]:
        """The encoded rows, with what of them is cut and which have no pair."""
        for item in items:
            self._encoded += 1
            cut = getattr(item, "truncated", False)
            if cut if isinstance(cut, bool) else any(cut):
                self.account.cut[f"at {self._limits[1]}"] += 1
            if len(set(getattr(item, "ranks", (1, 2)))) == 1:
                self.account.drop("as all responses are tied")
            yield item

    def closed(self, left_over: int = 0) -> Account:
        """The account, when all rows are encoded."""
        long = self.counts["prompt_too_long"]
        self.account.drop(f"as too long for {self._limits[0]}", long)
        rest = self._given - self._encoded - long
        self.account.drop("as nothing of them is trained", rest)
        self.account.left_over = left_over
        return self.account


def _told(counts: Counter, verb: str) -> str:
    """`5 dropped as bad rows, 2 dropped (labelled bad)`."""
    shown = []
    for why, number in counts.items():
        phrase = why if why.startswith(("as ", "at ", "by ")) else f"({why})"
        shown.append(f"{number} {verb} {phrase}")
    return ", ".join(shown)
