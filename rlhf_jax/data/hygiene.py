"""The paper's care for its prompts, each rule a function with a count report.

Ouyang et al. 2022, §3.2 and A.2: prompts over 1k tokens filtered; near-duplicates
found by a long common prefix; at most 200 prompts per user (A.2: organisation); train,
validation and test split by user; personal data filtered from the training split.

Every function takes records and returns `Cleaned(records, report)`; none changes its
argument, and the same records give the same result in any process.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlhf_jax.data.account import Account
from rlhf_jax.data.language import language
from rlhf_jax.data.pii import find_pii
from rlhf_jax.data.records import Demonstration, Ranking, Record, Text
from rlhf_jax.data.tokenizers import Tokenizer
from rlhf_jax.errors import InputError


@dataclass(frozen=True)
class Report:
    """What one rule did: rows in, rows out, and counts by name."""

    rule: str
    read: int
    kept: int
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Cleaned:
    """The records that are left, and the report."""

    records: list[Record]
    report: Report


def texts_of(record: Record) -> list[str]:
    """Every text of a record: prompt and responses, or the document."""
    if isinstance(record, Text):
        return [record.text]
    if isinstance(record, Ranking):
        return [record.prompt, *record.responses]
    if isinstance(record, Demonstration):
        return [record.prompt, record.response]
    return [record.prompt]


def prompt_of(record: Record) -> str:
    """The prompt, or the document of a `Text`."""
    return texts_of(record)[0]


def drop_long_prompts(
    records: Sequence[Record], tokenizer: Tokenizer, max_tokens: int = 1024
) -> Cleaned:
    """Without the rows whose prompt has over `max_tokens` tokens (A.2: 1k)."""
    ids = tokenizer.encode_batch([prompt_of(record) for record in records])
    return _kept(
        "prompt length", records, [len(tokens) <= max_tokens for tokens in ids]
    )


def drop_near_duplicates(
    records: Sequence[Record],
    *,
    prefix: int = 200,
    share: float = 0.9,
    whole: bool = False,
) -> Cleaned:
    """Of prompts with a long common prefix, the first.

    Two prompts are near-duplicates when, white space and case aside, they are equal,
    or when the prefix that they share has at least `prefix` characters and makes up
    at least `share` of the longer one. After sorting, only neighbours need comparing,
    so time is O(n log n).

    The paper gives neither number; both defaults are ours.

    Args:
      records: rows.
      prefix: characters.
      share: of the longer prompt.
      whole: compare prompt and responses together; for rankings, where one prompt may
        come with other responses.
    """
    of = _whole if whole else prompt_of
    texts = [" ".join(of(record).lower().split()) for record in records]
    order = sorted(range(len(texts)), key=lambda i: (texts[i], i))
    chains: list[list[int]] = []
    for i in order:
        if chains and _near(texts[chains[-1][-1]], texts[i], prefix, share):
            chains[-1].append(i)
        else:
            chains.append([i])
    firsts = {min(chain) for chain in chains}
    return _kept("near-duplicates", records, [i in firsts for i in range(len(texts))])


def _whole(record: Record) -> str:
    prompt, *responses = texts_of(record)
    return "\n".join([prompt, *sorted(responses)])


def _near(a: str, b: str, prefix: int, share: float) -> bool:
    if a == b:
        return True
    common = next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y),
        min(len(a), len(b)),
    )
    return common >= prefix and common >= share * max(len(a), len(b))


def cap_per_user(
    records: Sequence[Record], limit: int = 200, *, seed: int = 0
) -> Cleaned:
    """At most `limit` rows per user, chosen by hash; rows without a user stay."""
    by_user: dict[str, list[int]] = {}
    for i, record in enumerate(records):
        if record.user is not None:
            by_user.setdefault(record.user, []).append(i)
    dropped: set[int] = set()
    for rows in by_user.values():
        rows.sort(key=lambda i: _unit(f"{seed}/{records[i].id}"))
        dropped.update(rows[limit:])
    cleaned = _kept(
        "per user", records, [i not in dropped for i in range(len(records))]
    )
    over = sum(len(rows) > limit for rows in by_user.values())
    return _counted(cleaned, users=len(by_user), users_over_the_limit=over)


def split_by_user(
    records: Sequence[Record], *, valid: float = 0.1, test: float = 0.1, seed: int = 0
) -> Cleaned:
    """Each record with its `split`, decided by the hash of its group, user or id.

    A user is in one split, and stays there whatever rows are added or taken away.

    Args:
      records: rows; a split that they already have is replaced.
      valid, test: expected share of users.
      seed: another seed is another split.
    """
    if valid < 0 or test < 0 or valid + test > 1:
        raise InputError(f"split: expected shares within 0..1, got {valid} and {test}")
    out = []
    for record in records:
        at = _unit(f"split/{seed}/{record.split_key}")
        name = "test" if at < test else "valid" if at < test + valid else "train"
        out.append(record.model_copy(update={"split": name}))
    counts = Counter(record.split for record in out)
    return Cleaned(
        out, Report("split", len(out), len(out), dict(sorted(counts.items())))
    )


def split_leaks(records: Iterable[Record]) -> list[str]:
    """What ties two splits together: the same prompt, or the same group, in both.

    Returns:
      One sentence per leak, [] when the splits are clean.
    """
    seen: dict[tuple[str, bytes], tuple[str, str]] = {}
    leaks = []
    for record in records:
        if record.split is None:
            continue
        names = {"prompt": " ".join(prompt_of(record).lower().split())}
        if record.group or record.user:
            names["group" if record.group else "user"] = record.split_key
        for what, name in names.items():
            key = (what, hashlib.sha256(name.encode()).digest()[:12])
            split, first = seen.setdefault(key, (record.split, record.id))
            if split != record.split:
                leaks.append(
                    f"id {record.id!r}: {what}: in split {record.split!r}, but the "
                    f"same {what} is in {split!r} (id {first!r})"
                )
    return leaks


def drop_pii(records: Sequence[Record], *, splits=("train",)) -> Cleaned:
    """Without the rows of these splits that hold personal data anywhere.

    The paper filtered the training split alone. A row without a split counts as
    training data.
    """
    counts: Counter = Counter()
    keep = []
    for record in records:
        kinds: set[str] = set()
        if (record.split or "train") in splits:
            kinds = {hit.kind for text in texts_of(record) for hit in find_pii(text)}
        counts.update(kinds)
        keep.append(not kinds)
    return _counted(_kept("personal data", records, keep), **counts)


def tag_language(records: Sequence[Record]) -> Cleaned:
    """Each record with `meta["language"]`, the language of its prompt."""
    tags = [language(prompt_of(record)) for record in records]
    out = [
        record.model_copy(update={"meta": {**record.meta, "language": tag}})
        for record, tag in zip(records, tags, strict=True)
    ]
    counts = dict(sorted(Counter(tags).items()))
    return Cleaned(out, Report("language", len(out), len(out), counts))


def clean(
    records: Sequence[Record],
    tokenizer: Tokenizer,
    *,
    seed: int = 0,
    max_tokens: int = 1024,
    per_user: int = 200,
    **shares: Any,
) -> tuple[list[Record], list[Report]]:
    """All rules in the paper's order; `shares` go to `split_by_user`.

    Texts have no prompt whose length could matter; of rankings the whole record must
    be a duplicate.
    """
    whole = any(isinstance(record, Ranking) for record in records)
    rules: list[Callable[[Sequence[Record]], Cleaned]] = [
        lambda rows: drop_near_duplicates(rows, whole=whole),
        lambda rows: cap_per_user(rows, per_user, seed=seed),
        lambda rows: split_by_user(rows, seed=seed, **shares),
        drop_pii,
        tag_language,
    ]
    if not any(isinstance(record, Text) for record in records):
        rules.insert(0, lambda rows: drop_long_prompts(rows, tokenizer, max_tokens))
    reports = []
    for rule in rules:
        cleaned = rule(records)
        records = cleaned.records
        reports.append(cleaned.report)
    return list(records), reports


def account_of(reports: Sequence[Report]) -> Account:
    """What became of the rows that went through several rules."""
    account = Account(read=reports[0].read if reports else 0)
    for report in reports:
        account.drop(f"by the rule of {report.rule}", report.read - report.kept)
    return account


def _kept(rule: str, records: Sequence[Record], keep: Sequence[bool]) -> Cleaned:
    kept = [record for record, good in zip(records, keep, strict=True) if good]
    dropped = len(records) - len(kept)
    return Cleaned(kept, Report(rule, len(records), len(kept), {"dropped": dropped}))


def _counted(cleaned: Cleaned, **counts: int) -> Cleaned:
    report = cleaned.report
    merged = {**report.counts, **counts}
    return Cleaned(
        cleaned.records, Report(report.rule, report.read, report.kept, merged)
    )


def _unit(name: str) -> float:
    """A number in [0, 1) that depends on a name alone."""
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
