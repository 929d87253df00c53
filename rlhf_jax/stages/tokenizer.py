"""A tokenizer trained on the experiment's own text, where no ready one is taken."""

import dataclasses
import pathlib
from collections.abc import Iterator

from rlhf_jax.data import Text, train_bpe
from rlhf_jax.data.account import Account
from rlhf_jax.data.inputs import read_rows
from rlhf_jax.fields import DataFile
from rlhf_jax.training.session import RunSettings, tell_rows


@dataclasses.dataclass
class Config:
    """Settings of the tokenizer."""

    # files of text
    texts: tuple[DataFile, ...]
    # pieces, the 256 bytes and the special tokens included
    vocab_size: int = 8192

    def problems(self) -> Iterator[str]:
        """What cannot work, one line each."""
        if self.vocab_size < 300:
            yield f"vocab_size: {self.vocab_size} leaves no room beside the bytes"
        if not self.texts:
            yield "texts: at least one file is needed"


def run(
    config: Config, workdir: str | pathlib.Path, settings: RunSettings | None = None
) -> pathlib.Path:
    """Trains a byte-level BPE and returns its directory."""
    del settings
    target = pathlib.Path(workdir) / "model"
    rows, account = read_rows(config.texts, Text), Account("texts")

    def texts() -> Iterator[str]:
        for row in rows:
            account.read += 1
            yield row.text
        account.begin(rows.intake)

    train_bpe(texts(), config.vocab_size).save(target)
    tell_rows([account], pathlib.Path(workdir))
    return target
