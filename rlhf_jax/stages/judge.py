"""Policies before an independent judge: has the preferred quality risen, and at what
price?

The judge is a classifier of another kind, trained on labels that the reward model has
not seen, so a policy that has merely found what its reward model mistakes for quality
does not rise here. Beside it: the reward itself, the likelihood of held-out text
(the alignment tax), length and repetition, and reward against √KL for every snapshot
of every run, with best-of-n.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from rlhf_jax.data import Intake, Prompt, Text
from rlhf_jax.data.account import Account
from rlhf_jax.data.encoding import said_before
from rlhf_jax.data.inputs import read_prompts, read_told
from rlhf_jax.data.labelled import labelled_sentences
from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.reward_models.bag_of_words import (
    TextClassifier,
    fit_classifier,
)
from rlhf_jax.evaluation.reward_models.overoptimization import best_of_n_frontier
from rlhf_jax.evaluation.statistics.degeneration import (
    distinct_share,
    repeated_share,
    word_counts,
)
from rlhf_jax.evaluation.statistics.intervals import Interval, rate_interval
from rlhf_jax.evaluation.statistics.scores import Score
from rlhf_jax.experience import Writer, make_distance
from rlhf_jax.fields import DataFile, Folder, ModelName, RewardName
from rlhf_jax.registry import (
    Combination,
    LoadedModel,
    Reward,
    load_model,
    reward_account,
    reward_of,
    score_records,
)
from rlhf_jax.sampling.randomness import named_key
from rlhf_jax.schema import at_least, distinct
from rlhf_jax.stages.likelihood import held_out_score, per_count
from rlhf_jax.storage import beside, write_json, write_lines
from rlhf_jax.training.session import RunSettings, tell_rows


@dataclasses.dataclass
class Config:
    """Settings of the judgement."""

    # names of the policies, and their model directories in the same order; the first
    # is the one that the others started from
    names: tuple[str, ...]
    # their model directories, in the same order
    policies: tuple[ModelName, ...]
    # table of labelled sentences (0 or 1) that trains the judge
    labelled: DataFile
    # model directory of the reward model that the policies were trained against
    reward: RewardName
    # files of held-out prompts
    prompts: tuple[DataFile, ...]
    # files of held-out text
    texts: tuple[DataFile, ...]
    # directories of PPO stages by name of the policy: their metrics and snapshots
    runs: dict[str, Folder] = dataclasses.field(default_factory=dict)
    # directories of other stages by name, for learning curves
    stages: dict[str, Folder] = dataclasses.field(default_factory=dict)
    # samples of the best-of-n stage; None: none
    best_of_n: Folder | None = None
    # what the label 1 means, in a word, for the report
    quality: str = "positive"
    # prompts at most; each policy writes once for each, at temperature 1
    max_prompts: int = 400
    # prompts for each snapshot's place in reward against KL
    frontier_prompts: int = 200
    # share of the labelled sentences kept apart to measure the judge
    judge_test: float = 0.2
    # longest prompt in tokens
    max_prompt: int = 64
    # longest response in tokens, its end token included
    max_response: int = 48
    # tokens of a window of held-out text
    window: int = 256
    # of an ensemble: how its members' scores become one, "mean", "min" or
    # "uncertainty_weighted" with this λ; ignored for a single model
    ensemble: Combination = "mean"
    # λ of "uncertainty_weighted"
    variance_coef: float = 0.1
    # of all that is drawn at random
    seed: int = 0

    def problems(self) -> Iterator[str]:
        """What cannot work, one line each."""
        yield from distinct(self, "names")
        if len(self.names) != len(self.policies):
            yield f"names: {len(self.names)} names for {len(self.policies)} policies"
        if not self.policies:
            yield "policies: at least one model is needed"
        yield from at_least(self, 1, "max_prompts", "frontier_prompts", "window")
        yield from at_least(self, 1, "max_prompt", "max_response")
        yield from at_least(self, 0, "variance_coef")
        if not 0 < self.judge_test < 1:
            yield f"judge_test: {self.judge_test} is not between 0 and 1"
        for name in self.runs:
            if name not in self.names:
                yield f"runs: {name!r} is not one of {', '.join(self.names)}"


@dataclasses.dataclass(frozen=True)
class Writing:
    """One response per prompt.

    Attributes:
      texts: [N] responses without their end token.
      kl: [N] KL(π ‖ π_first) over the tokens of each response, in nats.
    """

    texts: list[str]
    kl: Float[np.ndarray, " N"]


def run(
    config: Config, workdir: str | pathlib.Path, settings: RunSettings | None = None
) -> pathlib.Path:
    """Writes `results.json` and `samples.jsonl`; returns the first."""
    settings = settings or RunSettings()
    load = functools.partial(
        load_model, mesh=settings.make_mesh(), light=settings.light
    )
    workdir = pathlib.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    labelled = Account("labelled sentences")
    judge, judge_accuracy = trained_judge(config, labelled)
    reward = reward_of(config, **load.keywords)
    asked, read = Account("prompts"), Account("held-out texts")
    prompts = read_prompts(config.prompts, asked)
    prompts = asked.first(prompts, "max_prompts", config.max_prompts)
    groups = [prompt.split_key for prompt in prompts]
    write = make_writing(config, load(config.policies[0]), asked)
    held_out = read_told(config.texts, Text, read)
    samples, scores = {}, {}
    for name, path in zip(config.names, config.policies, strict=True):
        model = load(path)
        written = write(model, prompts)
        samples[name] = written.texts
        scores[name] = [
            *_quality(judge, written.texts, groups),
            Score(
                "reward",
                "score",
                score_records(reward, prompts, written.texts),
                clusters=groups,
            ),
            *_manner(written, groups),
            held_out_score(model, held_out, config.window),
        ]
    results = {
        "report": "judge",
        "names": list(config.names),
        "quality": config.quality,
        "judge": {"accuracy": judge_accuracy.document(), "trained_on": config.labelled},
        "rows": _rows(config.names, scores),
        "distinct_bigrams": {n: distinct_share(rows) for n, rows in samples.items()},
        "stages": beside(config.stages, workdir),
        "runs": beside(config.runs, workdir),
        "frontier": frontier(config, prompts, write, judge, reward, load),
    }
    tell_rows([labelled, asked, read, reward_account(reward)], workdir)
    write_lines(workdir / "samples.jsonl", _sample_lines(prompts, samples, judge))
    target = workdir / "results.json"
    write_json(target, results)
    return target


def trained_judge(config: Config, account: Account) -> tuple[TextClassifier, Interval]:
    """The judge, and its accuracy on sentences that it was not trained on."""
    intake = Intake()
    rows = labelled_sentences(config.labelled, min_words=3, intake=intake)
    account.read += len(rows)
    account.begin(intake)
    order = np.random.default_rng(config.seed).permutation(len(rows))
    rows = [rows[i] for i in order]
    cut = round(len(rows) * config.judge_test)
    texts, labels = [r.text for r in rows], [r.label for r in rows]
    judge = fit_classifier(texts[cut:], labels[cut:])
    return judge, rate_interval(judge.accuracy(texts[:cut], labels[:cut]))


def _quality(
    judge: TextClassifier, written: Sequence[str], groups: Sequence[str]
) -> Iterator[Score]:
    chance = judge(written)
    yield Score("judge", "mean probability", chance, clusters=groups)
    over = (chance > 0.5).astype(float)
    yield Score("judge", "share over one half", over, clusters=groups)


def _manner(written: Writing, groups: Sequence[str]) -> Iterator[Score]:
    options: dict[str, Any] = {"clusters": groups, "higher_is_better": None}
    nats = np.stack([written.kl, np.ones_like(written.kl)], axis=-1)
    yield Score("distance", "KL in nats", nats, statistic=per_count, **options)
    yield Score("manner", "words", word_counts(written.texts), **options)
    repeated = np.array([repeated_share(text) for text in written.texts])
    options["higher_is_better"] = False
    yield Score("manner", "repeated 3-grams", repeated, **options)


def make_writing(
    config: Config, first: LoadedModel, account: Account
) -> Callable[[LoadedModel, Sequence[Prompt]], Writing]:
    """`(policy, prompts) -> Writing` at temperature 1.

    Policies that are given the same prompts share their random numbers, so that their
    difference is less noisy than each of them.

    Args:
      config: `max_prompt`, `max_response` and `seed`.
      first: the policy from which distances are measured, of the same shape as the
        policies to come; they write where they lie.
      account: books the prompts that lose their beginning.

    Raises:
      InputError: on a call, a policy of another shape than `first`.
    """
    first = first.with_config(residual_dropout=0.0)
    key = named_key(jax.random.key(config.seed), "writing")
    distance = make_distance(first.model)

    def write(policy: LoadedModel, prompts: Sequence[Prompt]) -> Writing:
        policy = policy.in_form(prompts, where="judge.policies")
        policy = policy.with_config(residual_dropout=0.0)
        if policy.model.config != first.model.config:
            raise InputError(
                "policies: expected models of one shape, got "
                f"{policy.model.config} after {first.model.config}"
            )
        writer = Writer(policy, config.max_response, config.max_prompt)
        said = [said_before(prompt) for prompt in prompts]
        by = f"at the beginning to max_prompt {writer.most_prompt}"
        account.cut_by_any(by, writer.count_too_long(said))
        texts, kl = [""] * len(prompts), np.zeros(len(prompts), np.float32)
        for batch in writer.batches(said, key):
            nats = distance(policy.params, first.params, batch.samples)
            kl[batch.rows] = np.asarray(nats)[: len(batch.rows)]
            for row, text in zip(batch.rows, batch.texts, strict=True):
                texts[row] = text
        return Writing(texts, kl)

    return write


def _rows(
    names: Sequence[str], scores: dict[str, Sequence[Score]]
) -> list[dict[str, Any]]:
    """Per metric: each policy's interval, and its paired difference to the first."""
    first = {score.key: score for score in scores[names[0]]}
    rows: list[dict[str, Any]] = []
    for key in first:
        row: dict[str, Any] = {"task": key[0], "metric": key[1]}
        row["higher_is_better"] = first[key].higher_is_better
        row["cells"], row["differences"] = {}, {}
        for name in names:
            score = next(s for s in scores[name] if s.key == key)
            row["cells"][name] = score.interval().document()
            if name != names[0]:
                row["differences"][name] = score.minus(first[key]).document()
        rows.append(row)
    return rows


def frontier(
    config: Config,
    prompts: Sequence[Prompt],
    write: Callable[[LoadedModel, Sequence[Prompt]], Writing],
    judge: TextClassifier,
    reward: Reward,
    load: Callable[[str | pathlib.Path], LoadedModel],
) -> dict[str, list[dict]]:
    """(KL, reward, judge's probability) of best-of-n, and of the first policy and every
    snapshot of each run."""
    found: dict[str, list[dict]] = {}
    if config.best_of_n:
        lines = pathlib.Path(config.best_of_n).read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        proxy = np.array([row["scores"] for row in rows])
        gold = np.stack([judge(row["responses"]) for row in rows])
        points = best_of_n_frontier(proxy, gold)
        found["best of n"] = [dataclasses.asdict(point) for point in points]
    some = prompts[: config.frontier_prompts]

    def point(name: str, folder: str | pathlib.Path) -> dict[str, Any]:
        written = write(load(folder), some)
        return {
            "name": name,
            "kl": float(written.kl.mean()),
            "proxy": float(score_records(reward, some, written.texts).mean()),
            "gold": float(judge(written.texts).mean()),
        }

    start = point(config.names[0], config.policies[0])
    for name, folder in config.runs.items():
        files = sorted(pathlib.Path(folder).glob("snapshots/*/model.json"))
        snapshots = [point(file.parent.name, file.parent) for file in files]
        found[name] = [start, *snapshots]
    return found


def _sample_lines(
    prompts: Sequence[Prompt], samples: dict[str, list[str]], judge: TextClassifier
) -> Iterator[dict[str, Any]]:
    """Each prompt with what every policy wrote and what the judge thinks of it."""
    for i, prompt in enumerate(prompts):
        responses = {name: rows[i] for name, rows in samples.items()}
        chances = {n: round(float(judge([r])[0]), 4) for n, r in responses.items()}
        line = {"id": prompt.id, "prompt": prompt.prompt}
        yield line | {"responses": responses, "judge": chances}
