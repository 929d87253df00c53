"""Datasets of the Hugging Face hub, by name."""

import json
from collections.abc import Iterator

from rlhf_jax.data.rows import Intake, Row
from rlhf_jax.errors import InputError

PREFIX = "hf:"


def hub_rows(name: str, intake: Intake) -> Iterator[Row]:
    """Rows of "hf:owner/dataset", "hf:owner/dataset:split" or "...:config:split".

    Rows are streamed; no code of the dataset is run.

    Raises:
      InputError: `datasets` is not installed, or has no such dataset or split.
    """
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            f"{name}: expected the `datasets` library: pip install 'rlhf_jax[data]'"
        ) from error
    owner, *rest = name.removeprefix(PREFIX).split(":")
    split = rest[-1] if rest else "train"
    config = rest[0] if len(rest) > 1 else None
    try:
        found = datasets.load_dataset(owner, config, split=split, streaming=True)
        for number, value in enumerate(found, 1):
            intake.rows += 1
            raw = json.dumps(value, ensure_ascii=False, default=str).encode()
            present = {k: v for k, v in value.items() if v is not None}
            yield Row(name, number, present, raw)
    except (OSError, ValueError, RuntimeError) as error:
        # `datasets` and the hub client raise subclasses of these three
        raise InputError(f"{name}: {str(error).splitlines()[0]}") from error
