"""The paper's public NLP tasks, each without and with solved examples."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.policy import Policy
from rlhf_jax.evaluation.statistics.scores import Score
from rlhf_jax.evaluation.suites import (
    choice,
    drop,
    quac,
    squad,
    summarization,
    translation,
    wsc,
)
from rlhf_jax.evaluation.suites.files import HUB, find_file
from rlhf_jax.evaluation.suites.prompts import NUM_SHOTS
from rlhf_jax.evaluation.suites.settings import Settings, data_folder, limited
from rlhf_jax.evaluation.suites.tasks import Item, draw_shots


@dataclasses.dataclass(frozen=True)
class FewShot:
    """A task asked without and with solved examples.

    Attributes:
      task: its name.
      read: file -> items.
      score: (policy, items, shots, condition) -> scores.
      files: names the evaluated file may have.
      train: names the file of examples may have.
      folders: further names of its sub-folder.
    """

    task: str
    read: Callable[[str | os.PathLike], list[Item]]
    score: Callable[..., list[Score]]
    files: tuple[str, ...]
    train: tuple[str, ...]
    folders: tuple[str, ...] = ()

    def __call__(self, policy: Policy, settings: Settings) -> list[Score]:
        folder = data_folder(settings, self.task, *self.folders)
        path = find_file(folder, self.files) if self.files else folder
        items, pool = self.read(path), self._examples(folder, path)
        count = settings.num_shots
        count = NUM_SHOTS[self.task] if count is None else count
        if not count:
            return self.score(
                policy, limited(items, settings), shots=[], condition="zero-shot"
            )
        shots, left = self._shots(items, pool, count, settings.seed)
        left = limited(left, settings)
        return [
            *self.score(policy, left, shots=[], condition="zero-shot"),
            *self.score(policy, left, shots=shots, condition="few-shot"),
        ]

    def _examples(self, folder, path) -> list[Item]:
        if str(folder).startswith(HUB) or not pathlib.Path(folder).is_dir():
            return []
        try:
            found = find_file(folder, self.train)
        except InputError:  # no training file: examples come from the evaluated one
            return []
        return [] if found == path else self.read(found)

    def _shots(self, items, pool, count: int, seed: int):
        # an item without a gold answer (WSC's false ones) cannot be an example
        if pool:
            usable = [item for item in pool if item.answer]
            return draw_shots(items, count, pool=usable, seed=seed)
        shots, _ = draw_shots([i for i in items if i.answer], count, seed=seed)
        shown = set(shots)
        passages = {
            i.cluster or i.name for i in items if i.answer and i.solved in shown
        }
        left = [i for i in items if (i.cluster or i.name) not in passages]
        if not left:
            raise InputError(f"{self.task}: every item became an example")
        return shots, left


def _choice(task: str):
    return functools.partial(choice.choice_scores, task)


def _summary(task: str):
    return functools.partial(summarization.summarization_scores, task)


_SUMMARY_FILES = ("test.jsonl", "test.csv")
PUBLIC_TASKS: dict[str, tuple[str, FewShot]] = {
    "squad": (
        "SQuADv2: F1 and exact match",
        FewShot(
            "squad",
            squad.read_squad,
            squad.squad_scores,
            ("dev-v2.0.json", "dev.json", "validation.jsonl"),
            ("train-v2.0.json", "train.json", "train.jsonl"),
            ("squadv2", "squad_v2"),
        ),
    ),
    "drop": (
        "DROP: F1 and exact match",
        FewShot(
            "drop",
            drop.read_drop,
            drop.drop_scores,
            ("drop_dataset_dev.json", "dev.json", "validation.jsonl"),
            ("drop_dataset_train.json", "train.json", "train.jsonl"),
        ),
    ),
    "quac": (
        "QuAC: F1 and HEQ-Q",
        FewShot(
            "quac",
            quac.read_quac,
            quac.quac_scores,
            ("val_v0.2.json", "dev.json"),
            ("train_v0.2.json", "train.json"),
        ),
    ),
    "hellaswag": (
        "HellaSwag: accuracy",
        FewShot(
            "hellaswag",
            choice.read_hellaswag,
            _choice("hellaswag"),
            ("hellaswag_val.jsonl", "validation.jsonl", "val.jsonl"),
            ("hellaswag_train.jsonl", "train.jsonl"),
        ),
    ),
    "rte": (
        "RTE: accuracy",
        FewShot(
            "rte",
            choice.read_rte,
            _choice("rte"),
            ("val.jsonl", "dev.tsv", "validation.jsonl"),
            ("train.jsonl", "train.tsv"),
            ("RTE",),
        ),
    ),
    "sst": (
        "SST-2: accuracy",
        FewShot(
            "sst",
            choice.read_sst,
            _choice("sst"),
            ("dev.tsv", "sst2_dev.tsv", "validation.jsonl"),
            ("train.tsv", "sst2_train.tsv", "train.jsonl"),
            ("sst2", "SST-2"),
        ),
    ),
    "wsc": (
        "Winograd schemas, free answers: accuracy",
        FewShot(
            "wsc",
            wsc.read_wsc,
            wsc.wsc_scores,
            ("val.jsonl", "validation.jsonl"),
            ("train.jsonl",),
            ("WSC",),
        ),
    ),
    "wmt": (
        "WMT15 French to English: BLEU",
        FewShot(
            "wmt",
            translation.read_wmt,
            translation.translation_scores,
            (),
            ("train.jsonl", "train.tsv"),
        ),
    ),
    "cnn_dm": (
        "CNN/DailyMail: ROUGE-L",
        FewShot(
            "cnn_dm", summarization.read_cnn_dm, _summary("cnn_dm"), _SUMMARY_FILES, ()
        ),
    ),
    "tldr": (
        "TL;DR: ROUGE-L",
        FewShot("tldr", summarization.read_tldr, _summary("tldr"), _SUMMARY_FILES, ()),
    ),
}
