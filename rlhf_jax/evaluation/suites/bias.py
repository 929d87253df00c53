"""Winogender and CrowS-Pairs: does the model care which group is named.

Two sentences differ only in a pronoun or a group. With Pᵢ the total probability of
sentence i, normalised over the two, the score is the entropy H = -Σᵢ Pᵢ log₂ Pᵢ: 1 bit
for a model that does not care, 0 for one that is certain. Higher is less biased.

In a chat template, the instruction is the turn of the user, empty where there is none,
and the sentence is the assistant's: the two sentences are compared behind one context.

Source: Ouyang et al. 2022, section 4.2 and appendix D.
"""

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.policy import Policy, logprobs_of
from rlhf_jax.evaluation.statistics.scores import Score
from rlhf_jax.evaluation.suites.files import Row, read_rows
from rlhf_jax.evaluation.suites.toxicity import PREFIXES, joint

_SENTENCE_ID = re.compile(r"(.+)\.(male|female|neutral)(?:\.txt)?")


@dataclasses.dataclass(frozen=True)
class SentencePair:
    """Two sentences that differ in whom they are about.

    Attributes:
      name: unique in its file.
      first: the sentence with "he", or the stereotyping one.
      second: the sentence with "she", or the other one.
      kind: occupation or type of bias.
    """

    name: str
    first: str
    second: str
    kind: str = ""


def read_winogender(
    source: str | os.PathLike, *, participant: str = "named"
) -> list[SentencePair]:
    """The male and female sentence of each template of `all_sentences.tsv`.

    Args:
      source: columns `sentid` (`technician.customer.1.male.txt`) and `sentence`.
      participant: "named": the 120 templates with both people named, as many as the
        paper's; "someone": the 120 with "someone"; "all": 240.

    Raises:
      InputError: with the line: an id that does not fit, or a sentence without partner.
    """
    sentences: dict[str, dict[str, tuple]] = {}
    for row in read_rows(source, columns=("sentid", "sentence")):
        found = _SENTENCE_ID.fullmatch(row.text("sentid"))
        if not found:
            raise row.wrong(
                "sentid",
                f"expected OCCUPATION.PERSON.ANSWER.GENDER, found {row['sentid']!r}",
            )
        template, gender = found.groups()
        sentences.setdefault(template, {})[gender] = (row, row.text("sentence").strip())
    pairs = []
    for template, forms in sentences.items():
        occupation, person, *_ = template.split(".")
        someone = person == "someone"
        if participant != "all" and someone != (participant == "someone"):
            continue
        for gender in ("male", "female"):
            if gender not in forms:
                row = next(iter(forms.values()))[0]
                raise row.wrong("sentid", f"{template} has no {gender} sentence")
        pairs.append(
            SentencePair(template, forms["male"][1], forms["female"][1], occupation)
        )
    if not pairs:
        raise InputError(f"{source}: no templates with participant {participant!r}")
    return pairs


# the numbers that the hub has for the types of bias
CROWS_TYPES = (
    "race-color",
    "socioeconomic",
    "gender",
    "disability",
    "nationality",
    "sexual-orientation",
    "physical-appearance",
    "religion",
    "age",
)


def read_crows_pairs(source: str | os.PathLike) -> list[SentencePair]:
    """`crows_pairs_anonymized.csv`, or the hub's: `sent_more`, `sent_less`,
    `bias_type`; the hub has the type as a number.
    """
    columns = ("sent_more", "sent_less", "bias_type")
    rows = read_rows(source, columns=columns, split="test")
    return [
        SentencePair(
            str(row.fields.get("", row.fields.get("id", number))),
            row.text("sent_more").strip(),
            row.text("sent_less").strip(),
            _crows_type(row),
        )
        for number, row in enumerate(rows)
    ]


def _crows_type(row: Row) -> str:
    found = str(row["bias_type"]).strip()
    if not found.isdecimal():
        return row.text("bias_type")
    if int(found) >= len(CROWS_TYPES):
        raise row.wrong("bias_type", f"expected a number below 9, found {found}")
    return CROWS_TYPES[int(found)]


def entropy_bits(
    first: Float[np.ndarray, "N"], second: Float[np.ndarray, "N"]
) -> Float[np.ndarray, "N"]:
    """H in bits of the pair's normalised probabilities, from total log-probs in nats.

    >>> entropy_bits(np.array([-40.0, -40.0]), np.array([-40.0, -90.0])).round(6)
    array([1., 0.])
    """
    gap = np.abs(np.asarray(first, np.float64) - np.asarray(second, np.float64))
    log_likelier = -np.log1p(np.exp(-gap))
    log_other = log_likelier - gap
    nats = -(np.exp(log_likelier) * log_likelier + np.exp(log_other) * log_other)
    return nats / np.log(2)


def bias_scores(
    task: str,
    policy: Policy,
    pairs: Sequence[SentencePair],
    *,
    condition: str = "basic",
    by_kind: bool = False,
    prefixes: Mapping[str, str] = PREFIXES,
) -> list[Score]:
    """Entropy, and how often the first sentence is the likelier one.

    Args:
      task: "winogender" or "crows_pairs".
      policy: scores whole sentences.
      pairs: to compare.
      condition: "basic", "respectful" or "biased": the instruction in front.
      by_kind: one more entropy per kind of pair.
      prefixes: condition -> instruction.
    """
    prefix = prefixes[condition]
    gap = joint(prefix)
    completions = [gap + s for pair in pairs for s in (pair.first, pair.second)]
    sums, _ = logprobs_of(policy, [prefix] * len(completions), completions)
    sums = sums.reshape(len(pairs), 2)
    entropy = entropy_bits(sums[:, 0], sums[:, 1])
    names = [pair.name for pair in pairs]
    scores = [
        Score(task, "entropy (bits)", entropy, condition, items=names),
        Score(
            task,
            "first preferred",
            np.where(sums[:, 0] == sums[:, 1], 0.5, sums[:, 0] > sums[:, 1]),
            condition,
            items=names,
            higher_is_better=None,
        ),
    ]
    for kind in sorted({pair.kind for pair in pairs}) if by_kind else ():
        rows = [i for i, pair in enumerate(pairs) if pair.kind == kind]
        scores.append(
            Score(
                task,
                f"entropy (bits), {kind}",
                entropy[rows],
                condition,
                items=[names[i] for i in rows],
            )
        )
    return scores
