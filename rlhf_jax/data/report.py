"""What is in a set of records: the numbers to look at before training on it."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rlhf_jax.data.hygiene import prompt_of, split_leaks, texts_of
from rlhf_jax.data.language import language
from rlhf_jax.data.pii import find_pii
from rlhf_jax.data.records import Demonstration, Ranking, Record, untied_count
from rlhf_jax.data.tokenizers import Tokenizer

__all__ = ["Survey", "survey", "survey_files"]


@dataclass
class Survey:
    """Counts over records; `errors` are what makes a set unusable.

    Attributes:
      counts: name -> number: kinds, splits, use cases, prompt kinds, users, languages,
        duplicate prompts, tied pairs, PII hits.
      k: K -> rankings with K responses.
      lengths: name of a text -> its lengths, in tokens.
      errors: the same id twice; a prompt, user or group in two splits.
    """

    records: int = 0
    counts: dict[str, Counter] = field(default_factory=dict)
    k: Counter = field(default_factory=Counter)
    lengths: dict[str, list[int]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def count(self, table: str, name: str, number: int = 1) -> None:
        """Adds to a number of a table."""
        self.counts.setdefault(table, Counter())[name] += number

    @property
    def tie_rate(self) -> float:
        """Tied pairs per pair, over all rankings; NaN where there are none."""
        pairs = self.counts.get("pairs", Counter())
        return pairs["tied"] / pairs["all"] if pairs["all"] else float("nan")

    def as_dict(self) -> dict[str, Any]:
        """For programs: everything that `lines` prints."""
        return {
            "records": self.records,
            "counts": {name: dict(table) for name, table in self.counts.items()},
            "k": {str(k): n for k, n in sorted(self.k.items())},
            "tie_rate": self.tie_rate if self.k else None,
            "lengths": {name: quantiles(n) for name, n in self.lengths.items()},
            "errors": self.errors,
        }

    def lines(self) -> list[str]:
        """For people: one line per table."""
        out = [f"records: {self.records}"]
        for name, table in self.counts.items():
            shown = [f"{key} {n}" for key, n in table.most_common(12)]
            more = len(table) - len(shown)
            out.append(f"{name}: {', '.join(shown)}" + (f", +{more}" if more else ""))
        if self.k:
            ks = ", ".join(f"K={k} {n}" for k, n in sorted(self.k.items()))
            out += [f"responses per prompt: {ks}", f"tie rate: {self.tie_rate:.4f}"]
        for name, numbers in self.lengths.items():
            found = quantiles(numbers)
            shown = ", ".join(f"{key} {n}" for key, n in found.items())
            out.append(f"{name} length (tokens): {shown}")
        return out + [f"error: {text}" for text in self.errors]


def quantiles(numbers: list[int]) -> dict[str, float]:
    """Least, middle, 95th and 99th percentile, greatest, mean."""
    values = np.asarray(numbers)
    low, middle, p95, p99, high = np.quantile(
        values, [0, 0.5, 0.95, 0.99, 1], method="lower"
    ).tolist()
    mean = round(float(values.mean()), 1)
    return {
        "min": low,
        "p50": middle,
        "p95": p95,
        "p99": p99,
        "max": high,
        "mean": mean,
    }


def survey(records: Iterable[Record], tokenizer: Tokenizer) -> Survey:
    """Counts a set of records; memory is some 100 bytes per record."""
    return survey_files([records], tokenizer)


def survey_files(files: Iterable[Iterable[Record]], tokenizer: Tokenizer) -> Survey:
    """Counts the records of several files; an id is unique within its file."""
    found = Survey()
    seen: dict[str, set[bytes]] = {"id": set(), "prompt": set(), "user": set()}

    def counted() -> Iterator[Record]:
        for records in files:
            seen["id"].clear()
            for record in records:
                _count(found, record, tokenizer, seen)
                yield record

    found.errors += split_leaks(counted())
    found.count("users", "different", len(seen["user"]))
    return found


def _count(found: Survey, record: Record, tokenizer: Tokenizer, seen: dict) -> None:
    found.records += 1
    found.count("records by type", type(record).__name__)
    found.count("splits", record.split or "none")
    found.count("prompt kinds", record.kind)
    found.count("use cases", record.use_case or "none")
    found.count("languages", language(prompt_of(record)))
    for text in texts_of(record):
        for hit in find_pii(text):
            found.count("personal data", hit.kind)
    if isinstance(record, Ranking):
        k = len(record.responses)
        found.k[k] += 1
        found.count("pairs", "all", k * (k - 1) // 2)
        found.count("pairs", "tied", k * (k - 1) // 2 - untied_count(record.ranks))
    name = "response" if isinstance(record, Demonstration | Ranking) else None
    texts = tokenizer.encode_batch(texts_of(record))
    found.lengths.setdefault("prompt", []).append(len(texts[0]))
    if name:
        found.lengths.setdefault(name, []).extend(len(ids) for ids in texts[1:])
    _duplicates(found, record, seen)


def _duplicates(found: Survey, record: Record, seen: dict) -> None:
    labeler = record.labeler if isinstance(record, Ranking) else None
    key = _digest(f"{type(record).__name__}\0{record.id}\0{labeler}")
    if key in seen["id"]:
        found.errors.append(f"id {record.id!r}: occurs more than once")
    seen["id"].add(key)
    prompt = _digest(" ".join(prompt_of(record).lower().split()))
    if prompt in seen["prompt"]:
        found.count("duplicates", "prompts seen before")
    seen["prompt"].add(prompt)
    if record.user is not None:
        seen["user"].add(_digest(record.user))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:12]
