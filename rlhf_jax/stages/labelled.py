"""Human labels of sentences -> comparisons in the domain of the policy.

The smallest way to a reward model when nobody has compared the policy's own texts: a
labelled set (SST-2's sentiment) says what is preferred, real prompts of the domain say
after what. See `data.labelled_rankings`.
"""

import dataclasses
import pathlib
from collections.abc import Iterator

from rlhf_jax.data import Intake, write_jsonl
from rlhf_jax.data.account import Account
from rlhf_jax.data.inputs import read_prompts
from rlhf_jax.data.labelled import Labelled, labelled_rankings, labelled_sentences
from rlhf_jax.fields import DataFile
from rlhf_jax.training.session import RunSettings, tell_rows


@dataclasses.dataclass
class Config:
    """Settings of rankings made of labels."""

    # tables with the columns sentence and label
    labelled: tuple[DataFile, ...]
    # files of prompts
    prompts: tuple[DataFile, ...]
    # share of the sentences kept apart for the validation rankings
    valid: float = 0.1
    # rankings to make of the two parts
    count: int = 8000
    valid_count: int = 400
    # responses per ranking; InstructGPT section 3.5: 4 to 9
    responses: int = 4
    # shorter sentences are left out: words
    min_sentence: int = 3
    # least length of a response, drawn between the two: words
    response_words: tuple[int, ...] = (4, 32)
    seed: int = 0

    def problems(self) -> Iterator[str]:
        """What cannot work, one line each."""
        if not self.labelled or not self.prompts:
            yield "labelled: tables of sentences and files of prompts are needed"
        if not 0 < self.valid < 1:
            yield f"valid: {self.valid} is not between 0 and 1"
        if len(self.response_words) != 2:
            yield "response_words: expected two numbers, least and most"


def run(
    config: Config, workdir: str | pathlib.Path, settings: RunSettings | None = None
) -> pathlib.Path:
    """Writes `rankings.train.jsonl` and `rankings.valid.jsonl`; returns the folder."""
    del settings
    workdir = pathlib.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    intake = Intake()
    sentences = [
        sentence
        for path in config.labelled
        for sentence in labelled_sentences(
            path, min_words=config.min_sentence, intake=intake
        )
    ]
    account = Account("prompts")
    prompts = read_prompts(config.prompts, account)
    read = Account("labelled sentences", read=len(sentences)).begin(intake)
    tell_rows([read, account], workdir)
    cut = round(len(sentences) * config.valid)
    least, most = config.response_words
    parts: dict[str, tuple[list[Labelled], int]] = {
        "train": (sentences[cut:], config.count),
        "valid": (sentences[:cut], config.valid_count),
    }
    for number, (split, (some, count)) in enumerate(parts.items()):
        rows = labelled_rankings(
            some,
            prompts,
            count=count,
            responses=config.responses,
            min_words=least,
            max_words=most,
            seed=2 * config.seed + number,
        )
        write_jsonl(workdir / f"rankings.{split}.jsonl", rows)
    return workdir
