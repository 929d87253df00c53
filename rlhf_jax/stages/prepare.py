"""Data files of any format -> record files, with every rule of the paper applied.

    <set>.jsonl, <set>.<split>.jsonl   for the sets demonstrations, rankings, prompts
                                       and texts
    rejects/                           rows that could not be read, with the reason
    report.json                        what was read, dropped and why, and what is left

Ouyang et al. 2022, section 3.2 and A.2: prompts over 1k tokens dropped, near-duplicates
dropped, at most 200 prompts per user, train, validation and test split by user,
personal data filtered from the training split. Where several labelers ranked the same
responses, their agreement is reported and their rankings become one.
"""

import dataclasses
import pathlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rlhf_jax.data import (
    Demonstration,
    Intake,
    Prompt,
    Ranking,
    Record,
    Text,
    load_tokenizer,
    write_jsonl,
)
from rlhf_jax.data.account import Account
from rlhf_jax.data.hygiene import account_of, clean, split_leaks
from rlhf_jax.data.inputs import read_rows
from rlhf_jax.data.openings import openings
from rlhf_jax.data.report import survey
from rlhf_jax.errors import InputError
from rlhf_jax.feedback import aggregate, krippendorff_alpha, pairwise_agreement
from rlhf_jax.fields import DataFile, TokenizerName
from rlhf_jax.schema import at_least, one_of
from rlhf_jax.storage import write_json
from rlhf_jax.training.session import RunSettings, tell_rows

SETS = {
    "demonstrations": Demonstration,
    "rankings": Ranking,
    "prompts": Prompt,
    "texts": Text,
}
SPLITS = ("train", "valid", "test")


@dataclasses.dataclass
class Config:
    """Settings of the preparation. Files may name their format behind a #."""

    # files of demonstrations, rankings, prompts and running text
    demonstrations: tuple[DataFile, ...] = ()
    rankings: tuple[DataFile, ...] = ()
    prompts: tuple[DataFile, ...] = ()
    texts: tuple[DataFile, ...] = ()
    # directory or hub name; what the length of a prompt is counted in
    tokenizer: TokenizerName = "byte"
    # longest prompt in tokens; A.2: 1k
    max_prompt: int = 1024
    # most rows per user; A.2: 200 per organisation
    per_user: int = 200
    # share of users (or groups) in the validation and in the test split; NOT STATED
    valid: float = 0.1
    test: float = 0.1
    # prompts cut from the beginning of each text, added to the prompts; 0: none
    openings: int = 0
    # least and most words of such a prompt
    opening_words: tuple[int, ...] = (8, 24)
    # "quarantine" keeps bad rows in rejects/, "error" refuses the file
    on_bad_row: str = "quarantine"
    # another seed is another split; the experiment's seed leaves it alone
    split_seed: int = 0

    def problems(self) -> Iterator[str]:
        """What cannot work, one line each."""
        if not any(getattr(self, name) for name in SETS):
            yield "demonstrations: no file of any set is named"
        yield from one_of(self, "on_bad_row", ("error", "skip", "quarantine"))
        yield from at_least(self, 1, "max_prompt", "per_user")
        yield from at_least(self, 0, "openings", "valid", "test")
        if self.valid + self.test > 1:
            yield f"valid: {self.valid} and test {self.test} are more than the whole"
        if self.openings and (not self.texts or len(self.opening_words) != 2):
            yield "openings: need texts, and two numbers in opening_words"


def run(
    config: Config, workdir: str | pathlib.Path, settings: RunSettings | None = None
) -> pathlib.Path:
    """Writes the record files and `report.json`; returns the directory."""
    del settings
    workdir = pathlib.Path(workdir)
    (workdir / "rejects").mkdir(parents=True, exist_ok=True)
    tokenizer = load_tokenizer(config.tokenizer)
    report: dict[str, Any] = {"sets": {}}
    accounts: list[Account] = []
    cleaned: dict[str, list] = {}
    for name, kind in SETS.items():
        records, found = _read(config, name, kind, workdir)
        if name == "prompts" and config.openings:
            records += _openings(config, workdir)
        if not records:
            continue
        read = len(records)
        if kind is Ranking:
            records, found["labelers"] = one_per_responses(records)
        rows, rules = clean(
            records,
            tokenizer,
            seed=config.split_seed,
            max_tokens=config.max_prompt,
            per_user=config.per_user,
            valid=config.valid,
            test=config.test,
        )
        cleaned[name] = _fresh_ids(rows)
        found["rules"] = [dataclasses.asdict(rule) for rule in rules]
        accounts.append(_account(name, found["sources"], read, rules))
        if kind is not Text:
            found["left"] = survey(cleaned[name], tokenizer).as_dict()
        found["by_source"] = _by_source(records, cleaned[name])
        report["sets"][name] = found
    report["leaks"] = split_leaks(row for rows in cleaned.values() for row in rows)
    for name, rows in cleaned.items():
        _write(workdir, name, rows)
    write_json(workdir / "report.json", report)
    tell_rows(accounts, workdir)
    return workdir


def _account(name: str, sources: dict, records: int, rules: Sequence) -> Account:
    """What became of a set's rows: of its files, of those joined, and of the rules."""
    account = account_of(rules)
    account.name = name
    joined = records - account.read
    account.read += joined
    account.drop("as another labeler's ranking of the same responses", joined)
    for source in sources.values():
        bad = source["rejected"]
        account.read += bad
        account.drop("as bad rows", bad)
        account.read += sum(source["left_out"].values())
        account.dropped += source["left_out"]
        account.noted += source["warnings"]
    return account


def _read(
    config: Config, name: str, kind: type, workdir: pathlib.Path
) -> tuple[list[Record], dict[str, Any]]:
    """The records of a set, and per file what was read and rejected."""
    records: list[Record] = []
    sources = {}
    for number, file in enumerate(getattr(config, name)):
        rejects = workdir / "rejects" / f"{name}.{number}.jsonl"
        with Intake(config.on_bad_row, rejects) as intake:
            records += read_rows((file,), kind, intake=intake)
        sources[pathlib.PurePath(file).name] = {
            "rows": intake.rows,
            "records": intake.records,
            "rejected": intake.rejected,
            "reasons": intake.messages,
            "warnings": dict(intake.warnings),
            "left_out": dict(intake.left),
        }
    return records, {"sources": sources}


def _openings(config: Config, workdir: pathlib.Path) -> list[Prompt]:
    texts, _ = _read(config, "texts", Text, workdir)
    least, most = config.opening_words
    return list(
        openings(
            texts,
            per_text=config.openings,
            min_words=least,
            max_words=most,
            seed=config.split_seed,
        )
    )


def one_per_responses(rankings: Sequence[Ranking]) -> tuple[list[Ranking], dict]:
    """Rankings of the same responses by several labelers, made into one.

    Returns:
      (one ranking per set of responses, in order; how the labelers agreed).
    """
    groups: dict[tuple, list[Ranking]] = {}
    for row in rankings:
        groups.setdefault((row.prompt, tuple(sorted(row.responses))), []).append(row)
    several = [rows for rows in groups.values() if len({r.labeler for r in rows}) > 1]
    made = [rows[0] if len(rows) == 1 else aggregate(rows) for rows in groups.values()]
    return made, _agreement(several)


def _agreement(several: Sequence[Sequence[Ranking]]) -> dict[str, Any]:
    """Share of pairs that two labelers order alike, ties left out; and Krippendorff's
    alpha over better, worse and tied, ties counted."""
    if not several:
        return {"sets": 0}
    labelers = sorted({row.labeler for rows in several for row in rows})
    table: dict[str, list] = {name: [] for name in labelers}
    for rows in several:
        first, second = sorted(rows[0].responses)[:2]
        said = {}
        for row in rows:
            place = dict(zip(row.responses, row.ranks, strict=True))
            said[row.labeler] = float(np.sign(place[first] - place[second]))
        for name in labelers:
            table[name].append(said.get(name))
    return {
        "sets": len(several),
        "labelers": labelers,
        "pairwise": pairwise_agreement(row for rows in several for row in rows),
        "alpha": krippendorff_alpha(list(table.values()), level="nominal"),
        "tied_after_aggregation": sum(not aggregate(rows).pairs for rows in several),
    }


def _fresh_ids(records: Sequence[Record]) -> list[Record]:
    """An id that occurs again gets a number behind it: files were joined."""
    seen: Counter = Counter()
    found = []
    for record in records:
        seen[record.id] += 1
        if seen[record.id] > 1:
            name = f"{record.id}#{seen[record.id]}"
            record = record.model_copy(update={"id": name})
        found.append(record)
    return found


def _by_source(before: Sequence[Record], after: Sequence[Record]) -> dict[str, Any]:
    """Source -> rows before and after the rules, and the splits of what is left."""
    found: dict[str, Any] = {}
    for record in before:
        found.setdefault(_source(record), {"read": 0, "kept": 0, "splits": Counter()})
        found[_source(record)]["read"] += 1
    for record in after:
        found[_source(record)]["kept"] += 1
        found[_source(record)]["splits"][record.split] += 1
    return found


def _source(record: Record) -> str:
    return record.source or record.id.rpartition(":")[0] or "unnamed"


def _write(workdir: pathlib.Path, name: str, rows: Sequence[Record]) -> None:
    write_jsonl(workdir / f"{name}.jsonl", rows)
    for split in SPLITS:
        some = [row for row in rows if row.split == split]
        if not some:
            raise InputError(
                f"{name}: no row is left in the split {split!r} of {len(rows)} rows; "
                "take more data or a greater share"
            )
        write_jsonl(workdir / f"{name}.{split}.jsonl", some)
