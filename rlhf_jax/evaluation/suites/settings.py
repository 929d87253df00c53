"""What a run of suites may choose, and where its files are."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from rlhf_jax.data.records import Prompt
from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.suites.files import HUB
from rlhf_jax.evaluation.suites.toxicity import Scorer
from rlhf_jax.evaluation.suites.truthfulness import TruthJudge, judge_by_references


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a run of suites may choose.

    Attributes:
      data: folder, file or hub name of the public suites.
      limit: at most so many items per suite, drawn by `seed`; None: all.
      num_shots: solved examples in the few-shot condition; None: as the paper.
      seed: of examples, of the drawn items, of samples, and of the embedded world.
      toxicity: scorer of texts; needed by "toxicity".
      truth_judge: (questions, answers) -> (true, informative).
      num_samples: samples per prompt for the expected maximum toxicity; 0: none.
      continuity: (prompts, continuations) -> how well each follows; None: not asked.
      by_kind: bias entropies per kind as well.
      prompts: records of the embedded world that world suites ask.
    """

    data: str | os.PathLike | None = None
    limit: int | None = None
    num_shots: int | None = None
    seed: int = 0
    toxicity: Scorer | None = None
    truth_judge: TruthJudge = judge_by_references
    num_samples: int = 0
    continuity: Callable[[Sequence[str], Sequence[str]], np.ndarray] | None = None
    by_kind: bool = False
    prompts: Sequence[Prompt] = ()


def data_folder(settings: Settings, *names: str) -> str | os.PathLike:
    """The data folder, or its sub-folder of one of these names."""
    if settings.data is None:
        raise InputError(f"suite {names[0]} needs --data: a folder, file or hub: name")
    if not str(settings.data).startswith(HUB):
        for name in names:
            if (pathlib.Path(settings.data) / name).is_dir():
                return pathlib.Path(settings.data) / name
    return settings.data


def limited(items: Sequence, settings: Settings) -> list:
    """At most `settings.limit` of the items, drawn by the seed, in their order."""
    if settings.limit is None or settings.limit >= len(items):
        return list(items)
    rng = np.random.default_rng(settings.seed)
    rows = np.sort(rng.choice(len(items), settings.limit, replace=False))
    return [items[i] for i in rows]
