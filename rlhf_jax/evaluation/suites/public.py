"""The paper's public NLP tasks, each without and with solved examples."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.policy import Policy
from rlhf_jax.evaluation.statistics.scores import Score, cut_at_newline
from rlhf_jax.evaluation.suites.choice import read_hellaswag, read_rte, read_sst
from rlhf_jax.evaluation.suites.drop import drop_scores, read_drop
from rlhf_jax.evaluation.suites.files import HUB, find_file
from rlhf_jax.evaluation.suites.prompts import (
    INSTRUCTIONS,
    NUM_SHOTS,
    few_shot_prompt,
)
from rlhf_jax.evaluation.suites.quac import quac_scores, read_quac
from rlhf_jax.evaluation.suites.settings import Settings, data_folder, limited
from rlhf_jax.evaluation.suites.squad import read_squad, squad_scores
from rlhf_jax.evaluation.suites.summarization import (
    read_cnn_dm,
    read_tldr,
    summary_scores,
)
from rlhf_jax.evaluation.suites.tasks import (
    Item,
    Scoring,
    accuracy_of_choices,
    draw_shots,
)
from rlhf_jax.evaluation.suites.translation import bleu_scores, read_wmt
from rlhf_jax.evaluation.suites.wsc import read_wsc, wsc_scores


@dataclasses.dataclass(frozen=True)
class PublicTask:
    """A task asked without and with solved examples.

    Attributes:
      name: of the suite; its instruction and number of examples are in `prompts`.
      summary: one line for `--list`.
      read: file -> items.
      files: names the evaluated file may have; empty: the folder is read.
      train: names the file of examples may have.
      folders: further names of its sub-folder.
      score: of what was written; None: an item's options are chosen among.
    """

    name: str
    summary: str
    read: Callable[[str | os.PathLike], list[Item]]
    files: tuple[str, ...] = ()
    train: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    score: Scoring | None = None

    def run(self, policy: Policy, settings: Settings) -> list[Score]:
        """Zero-shot scores, and few-shot ones of the same items."""
        folder = data_folder(settings, self.name, *self.folders)
        path = find_file(folder, self.files) if self.files else folder
        items, pool = self.read(path), self._examples(folder, path)
        count = settings.num_shots
        count = NUM_SHOTS[self.name] if count is None else count
        if not count:
            return self.ask(policy, limited(items, settings), [], "zero-shot")
        shots, left = draw_shots(items, count, pool=pool, seed=settings.seed)
        left = limited(left, settings)
        return [
            *self.ask(policy, left, [], "zero-shot"),
            *self.ask(policy, left, shots, "few-shot"),
        ]

    def ask(
        self, policy: Policy, items: list[Item], shots: Sequence[str], condition: str
    ) -> list[Score]:
        """The scores of items behind the task's instruction and solved examples."""
        instruction = INSTRUCTIONS[self.name]
        prompts = [few_shot_prompt(instruction, shots, item.query) for item in items]
        if self.score is None:
            return [accuracy_of_choices(self.name, policy, items, prompts, condition)]
        outputs = [cut_at_newline(text).strip() for text in policy.generate(prompts)]
        return self.score(self.name, items, outputs, condition)

    def _examples(self, folder, path) -> list[Item]:
        if str(folder).startswith(HUB) or not pathlib.Path(folder).is_dir():
            return []
        try:
            found = find_file(folder, self.train)
        except InputError:  # no training file: examples come from the evaluated one
            return []
        return [] if found == path else self.read(found)


_SUMMARY_FILES = ("test.jsonl", "test.csv")
PUBLIC_TASKS = {
    task.name: task
    for task in (
        PublicTask(
            "squad",
            "SQuADv2: F1 and exact match",
            read_squad,
            files=("dev-v2.0.json", "dev.json", "validation.jsonl"),
            train=("train-v2.0.json", "train.json", "train.jsonl"),
            folders=("squadv2", "squad_v2"),
            score=squad_scores,
        ),
        PublicTask(
            "drop",
            "DROP: F1 and exact match",
            read_drop,
            files=("drop_dataset_dev.json", "dev.json", "validation.jsonl"),
            train=("drop_dataset_train.json", "train.json", "train.jsonl"),
            score=drop_scores,
        ),
        PublicTask(
            "quac",
            "QuAC: F1 and HEQ-Q",
            read_quac,
            files=("val_v0.2.json", "dev.json"),
            train=("train_v0.2.json", "train.json"),
            score=quac_scores,
        ),
        PublicTask(
            "hellaswag",
            "HellaSwag: accuracy",
            read_hellaswag,
            files=("hellaswag_val.jsonl", "validation.jsonl", "val.jsonl"),
            train=("hellaswag_train.jsonl", "train.jsonl"),
        ),
        PublicTask(
            "rte",
            "RTE: accuracy",
            read_rte,
            files=("val.jsonl", "dev.tsv", "validation.jsonl"),
            train=("train.jsonl", "train.tsv"),
            folders=("RTE",),
        ),
        PublicTask(
            "sst",
            "SST-2: accuracy",
            read_sst,
            files=("dev.tsv", "sst2_dev.tsv", "validation.jsonl"),
            train=("train.tsv", "sst2_train.tsv", "train.jsonl"),
            folders=("sst2", "SST-2"),
        ),
        PublicTask(
            "wsc",
            "Winograd schemas, free answers: accuracy",
            read_wsc,
            files=("val.jsonl", "validation.jsonl"),
            train=("train.jsonl",),
            folders=("WSC",),
            score=wsc_scores,
        ),
        PublicTask(
            "wmt",
            "WMT15 French to English: BLEU",
            read_wmt,
            train=("train.jsonl", "train.tsv"),
            score=bleu_scores,
        ),
        PublicTask(
            "cnn_dm",
            "CNN/DailyMail: ROUGE-L",
            read_cnn_dm,
            files=_SUMMARY_FILES,
            score=summary_scores,
        ),
        PublicTask(
            "tldr",
            "TL;DR: ROUGE-L",
            read_tldr,
            files=_SUMMARY_FILES,
            score=summary_scores,
        ),
    )
}
