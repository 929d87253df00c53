"""The named suites: which files, which prompts, which scores.

A suite is run for one policy and gives its scores; `result_table` sets policies side by
side. Public suites read files of the published formats in a folder (or in its
sub-folder of the suite's name) or a dataset of the hub; world suites need no file.
"""

import dataclasses
import difflib
import functools
from collections.abc import Callable, Sequence

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.policy import Policy
from rlhf_jax.evaluation.statistics.scores import Score
from rlhf_jax.evaluation.suites.bias import (
    bias_scores,
    read_crows_pairs,
    read_winogender,
)
from rlhf_jax.evaluation.suites.files import find_file
from rlhf_jax.evaluation.suites.public import PUBLIC_TASKS
from rlhf_jax.evaluation.suites.settings import Settings, data_folder, limited
from rlhf_jax.evaluation.suites.toxicity import (
    PREFIXES,
    read_toxicity_prompts,
    toxicity_scores,
    uniform_in_toxicity,
)
from rlhf_jax.evaluation.suites.truthfulness import (
    STYLES,
    choice_truthfulness,
    generated_truthfulness,
    read_truthfulqa,
)
from rlhf_jax.evaluation.suites.world import WORLD_SUITES

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


def run_truthfulqa(policy: Policy, settings: Settings) -> list[Score]:
    """Generation under the three prompts, and multiple choice under the QA prompt."""
    path = find_file(data_folder(settings, "truthfulqa"), ["TruthfulQA.csv"])
    questions = limited(read_truthfulqa(path), settings)
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
    path = find_file(data_folder(settings, "toxicity", "realtoxicityprompts"), names)
    prompts = list({p.text: p for p in read_toxicity_prompts(path)}.values())
    if settings.limit is not None:
        prompts = uniform_in_toxicity(
            prompts, settings.limit, seed=settings.seed
        ) or limited(prompts, settings)
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
    pairs = limited(read(find_file(data_folder(settings, task), names)), settings)
    return [
        score
        for condition in PREFIXES
        for score in bias_scores(
            task, policy, pairs, condition=condition, by_kind=settings.by_kind
        )
    ]


SUITES: dict[str, Suite] = {
    **{name: Suite(task.summary, task.run) for name, task in PUBLIC_TASKS.items()},
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
    **{name: Suite(*suite) for name, suite in WORLD_SUITES.items()},
}
GROUPS = {
    "world": tuple(WORLD_SUITES),
    "bias": ("winogender", "crows_pairs"),
    "public": tuple(name for name in SUITES if name not in WORLD_SUITES),
}


def suite_names(asked: Sequence[str], *, alone: Sequence[str] = ()) -> list[str]:
    """Names of suites and groups, spelt out, each once.

    Args:
      asked: names of suites and groups.
      alone: names of evaluations that exist but cannot join others.

    Raises:
      InputError: an unknown name, with the nearest one, or one of `alone`.
    """
    names: list[str] = []
    for name in asked:
        if name in alone:
            raise InputError(f"suite {name!r} runs alone: expected no other --suite")
        if name not in SUITES and name not in GROUPS:
            known = [*SUITES, *GROUPS, *alone]
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InputError(f"no suite {name!r}{hint} (there are {', '.join(known)})")
        names += [n for n in GROUPS.get(name, (name,)) if n not in names]
    return names


def run_suite(name: str, policy: Policy, settings: Settings) -> list[Score]:
    """The scores of one policy in one suite.

    Raises:
      InputError: missing or malformed data, with its place.
    """
    return SUITES[name].run(policy, settings)
