"""The named suites: which files, which prompts, which scores.

A suite is run for one policy and gives its scores; `result_table` sets policies side by
side. Public suites read files of the published formats in a folder (or in its
sub-folder of the suite's name) or a dataset of the hub; world suites need no file.
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from rlhf_jax.data.records import Prompt
from rlhf_jax.errors import InputError
from rlhf_jax.evaluation import (
    choice,
    drop,
    quac,
    squad,
    summarization,
    translation,
    wsc,
)
from rlhf_jax.evaluation.bias import bias_scores, read_crows_pairs, read_winogender
from rlhf_jax.evaluation.files import HUB, find_file
from rlhf_jax.evaluation.policy import Policy
from rlhf_jax.evaluation.prompts import NUM_SHOTS
from rlhf_jax.evaluation.scores import Score
from rlhf_jax.evaluation.tasks import Item, draw_shots
from rlhf_jax.evaluation.toxicity import (
    PREFIXES,
    Scorer,
    read_toxicity_prompts,
    toxicity_scores,
    uniform_in_toxicity,
)
from rlhf_jax.evaluation.truthfulness import (
    STYLES,
    TruthJudge,
    choice_truthfulness,
    generated_truthfulness,
    judge_by_references,
    read_truthfulqa,
)
from rlhf_jax.evaluation.world import WORLD_SUITES

__all__ = ["GROUPS", "SUITES", "Settings", "run_suite", "suite_names"]


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


Run = Callable[[Policy, Settings], list[Score]]


@dataclasses.dataclass(frozen=True)
class Suite:
    """A named evaluation.

    Attributes:
      summary: one line for `--help`.
      run: (policy, settings) -> scores.
    """

    summary: str
    run: Run


def _folder(settings: Settings, *names: str) -> str | os.PathLike:
    """The data folder, or its sub-folder of one of these names."""
    if settings.data is None:
        raise InputError(f"suite {names[0]} needs --data: a folder, file or hub: name")
    if not str(settings.data).startswith(HUB):
        for name in names:
            if (pathlib.Path(settings.data) / name).is_dir():
                return pathlib.Path(settings.data) / name
    return settings.data


def _limited(items: Sequence, settings: Settings) -> list:
    if settings.limit is None or settings.limit >= len(items):
        return list(items)
    rng = np.random.default_rng(settings.seed)
    rows = np.sort(rng.choice(len(items), settings.limit, replace=False))
    return [items[i] for i in rows]


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
        folder = _folder(settings, self.task, *self.folders)
        path = find_file(folder, self.files) if self.files else folder
        items, pool = self.read(path), self._examples(folder, path)
        count = settings.num_shots
        count = NUM_SHOTS[self.task] if count is None else count
        if not count:
            return self.score(
                policy, _limited(items, settings), shots=[], condition="zero-shot"
            )
        shots, left = self._shots(items, pool, count, settings.seed)
        left = _limited(left, settings)
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


def run_truthfulqa(policy: Policy, settings: Settings) -> list[Score]:
    """Generation under the three prompts, and multiple choice under the QA prompt."""
    path = find_file(_folder(settings, "truthfulqa"), ["TruthfulQA.csv"])
    questions = _limited(read_truthfulqa(path), settings)
    scores = [
        score
        for style in STYLES
        for score in generated_truthfulness(
            policy, questions, style=style, judge=settings.truth_judge
        )
    ]
    return scores + choice_truthfulness(policy, questions)


def run_toxicity(policy: Policy, settings: Settings) -> list[Score]:
    """Continuations under the three prompts, prompts uniform in toxicity if limited."""
    if settings.toxicity is None:
        raise InputError("suite toxicity needs a scorer: --toxicity words:FILE or URL")
    names = ["prompts.jsonl", "realtoxicityprompts-data.jsonl"]
    path = find_file(_folder(settings, "toxicity", "realtoxicityprompts"), names)
    prompts = list({p.text: p for p in read_toxicity_prompts(path)}.values())
    if settings.limit is not None:
        prompts = uniform_in_toxicity(
            prompts, settings.limit, seed=settings.seed
        ) or _limited(prompts, settings)
    return [
        score
        for condition in PREFIXES
        for score in toxicity_scores(
            policy,
            prompts,
            settings.toxicity,
            condition=condition,
            num_samples=settings.num_samples,
            continuity=settings.continuity,
            seed=settings.seed,
        )
    ]


def _run_bias(task, read, names, policy: Policy, settings: Settings) -> list[Score]:
    pairs = _limited(read(find_file(_folder(settings, task), names)), settings)
    return [
        score
        for condition in PREFIXES
        for score in bias_scores(
            task, policy, pairs, condition=condition, by_kind=settings.by_kind
        )
    ]


def _choice(task: str):
    return functools.partial(choice.choice_scores, task)


def _summary(task: str):
    return functools.partial(summarization.summarization_scores, task)


_SUMMARY_FILES = ("test.jsonl", "test.csv")
_FEW_SHOT = {
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


def _world(name: str) -> Run:
    return lambda policy, settings: WORLD_SUITES[name](
        policy, settings.prompts, settings.seed
    )


_WORLD = {
    "world-gold": "gold utility and its criteria on held-out prompts",
    "world-truth": "answers about the valley's myths, MC1, MC2",
    "world-toxicity": "rude continuations under three prompts",
    "world-bias": "entropy over pronouns of occupations",
    "world-hallucination": "inventions in closed-domain answers",
    "world-skills": "held-out skills of pretraining",
}

SUITES: dict[str, Suite] = {
    **{name: Suite(summary, run) for name, (summary, run) in _FEW_SHOT.items()},
    "truthfulqa": Suite("TruthfulQA: true, informative, MC1, MC2", run_truthfulqa),
    "toxicity": Suite("RealToxicityPrompts: toxicity, 3 prompts", run_toxicity),
    "winogender": Suite(
        "Winogender: entropy over pronouns",
        functools.partial(
            _run_bias, "winogender", read_winogender, ["all_sentences.tsv"]
        ),
    ),
    "crows_pairs": Suite(
        "CrowS-Pairs: entropy over groups",
        functools.partial(
            _run_bias, "crows_pairs", read_crows_pairs, ["crows_pairs_anonymized.csv"]
        ),
    ),
    **{name: Suite(summary, _world(name)) for name, summary in _WORLD.items()},
}
GROUPS = {
    "world": tuple(_WORLD),
    "bias": ("winogender", "crows_pairs"),
    "public": tuple(name for name in SUITES if name not in _WORLD),
}


def suite_names(asked: Sequence[str]) -> list[str]:
    """Names of suites and groups, spelt out, each once.

    Raises:
      InputError: an unknown name, with the nearest one.
    """
    import difflib

    names: list[str] = []
    for name in asked:
        if name not in SUITES and name not in GROUPS:
            near = difflib.get_close_matches(name, [*SUITES, *GROUPS], 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            known = ", ".join([*SUITES, *GROUPS])
            raise InputError(f"no suite {name!r}{hint} (there are {known})")
        names += [n for n in GROUPS.get(name, (name,)) if n not in names]
    return names


def run_suite(name: str, policy: Policy, settings: Settings) -> list[Score]:
    """The scores of one policy in one suite.

    Raises:
      InputError: missing or malformed data, with its place.
    """
    return SUITES[name].run(policy, settings)
