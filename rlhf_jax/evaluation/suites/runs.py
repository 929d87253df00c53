"""From checkpoints, files and suite names to scores per policy."""

import functools
import json
import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from rlhf_jax.data.account import Account
from rlhf_jax.data.encoding import said_before
from rlhf_jax.data.inputs import read_prompts
from rlhf_jax.data.records import Prompt
from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.policy import Policy
from rlhf_jax.evaluation.preference.endpoint import EndpointJudge, perspective_scorer
from rlhf_jax.evaluation.preference.judges import judge_from_labels, judge_from_scores
from rlhf_jax.evaluation.preference.win_rates import Comparisons, Judge, compare
from rlhf_jax.evaluation.statistics.scores import Score
from rlhf_jax.evaluation.suites.catalogue import Settings, run_suite
from rlhf_jax.evaluation.suites.toxicity import Scorer, word_list_scorer
from rlhf_jax.evaluation.suites.world import gold_utilities, labeler_panel
from rlhf_jax.registry import load_reward, score_records


def named_checkpoints(words: Sequence[str]) -> dict[str, str]:
    """column name -> directory, from `DIR` or `NAME=DIR`.

    Raises:
      InputError: a name given twice.
    """
    found: dict[str, str] = {}
    for word in words:
        name, given, directory = word.partition("=")
        if not given:
            name, directory = os.path.basename(os.path.normpath(word)), word
        if name in found:
            raise InputError(f"{name}: two checkpoints of this name; write NAME=DIR")
        found[name] = directory
    return found


def run_suites(
    policies: Sequence[Policy],
    names: Sequence[str],
    settings: Settings,
    *,
    tell: Callable[[str], None] = lambda text: None,
) -> dict[str, list[Score]]:
    """policy -> scores of all suites.

    Args:
      policies: one after the other.
      names: of suites.
      settings: for all of them.
      tell: gets a line before each suite.
    """
    found: dict[str, list[Score]] = {}
    for policy in policies:
        found[policy.name] = []
        for name in names:
            tell(f"{policy.name}: {name}")
            found[policy.name] += run_suite(name, policy, settings)
    return found


def preference_results(
    policies: Sequence[Policy],
    prompts: Sequence[Prompt],
    baseline: str,
    judge: Judge,
) -> dict[str, Comparisons]:
    """policy -> verdicts against the baseline's greedy responses, both orders asked.

    Args:
      policies: the baseline among them.
      prompts: records; the judge gets them as they are.
      baseline: name of the fixed opponent (the paper's is the 175B SFT model).
      judge: of records.

    Raises:
      InputError: no policy of the baseline's name, or no other one.
    """
    names = [policy.name for policy in policies]
    if baseline not in names or len(names) < 2:
        raise InputError(
            f"preference needs --baseline, one of {', '.join(names)}, and one more "
            "policy"
        )
    asked = [said_before(record) for record in prompts]
    responses = {p.name: p.generate(asked) for p in policies}
    return {
        name: compare(
            judge,
            prompts,
            responses[name],
            responses[baseline],
            clusters=[record.id for record in prompts],
        )
        for name in names
        if name != baseline
    }


def judge_named(spec: str, *, seed: int = 0, kept: pathlib.Path | None = None) -> Judge:
    """A judge of records from its name on the command line.

    Args:
      spec: "gold" or "labelers" (embedded world), "labels:FILE", "reward:DIR", or
        "http(s)://...#MODEL", an OpenAI-compatible endpoint whose key, if it needs one,
        is in the environment variable RLHF_JAX_JUDGE_KEY; further fields of a request,
        instead of temperature and max_tokens, are a JSON object in
        RLHF_JAX_JUDGE_FIELDS.
      seed: of the held-out labelers.
      kept: file that an endpoint's verdicts are kept in; None: none.

    Raises:
      InputError: none of these.
    """
    if spec == "gold":
        return judge_from_scores(gold_utilities, tie_margin=0.01)
    if spec == "labelers":
        from rlhf_jax.simulation import held_out_labelers

        return labeler_panel(held_out_labelers(seed))
    kind, _, rest = spec.partition(":")
    if kind == "labels":
        return _of_texts(judge_from_labels(rest))
    if kind == "reward":
        return judge_from_scores(functools.partial(score_records, load_reward(rest)))
    if kind in ("http", "https") and "#" in spec:
        url, _, model = spec.partition("#")
        key = "RLHF_JAX_JUDGE_KEY" if os.environ.get("RLHF_JAX_JUDGE_KEY") else None
        options = {"key_variable": key, "kept": kept}
        if given := os.environ.get("RLHF_JAX_JUDGE_FIELDS"):
            options["fields"] = _json_object(given, "RLHF_JAX_JUDGE_FIELDS")
        return _of_texts(EndpointJudge(url, model, **options))
    raise InputError(
        f"--judge {spec!r}: expected gold, labelers, labels:FILE, reward:DIR or "
        "URL#MODEL"
    )


def _json_object(text: str, variable: str) -> dict:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{variable}: expected a JSON object, found {text[:80]!r}")
    return found


def _of_texts(judge: Judge) -> Judge:
    return lambda records, first, second: judge(
        [record.prompt for record in records], first, second
    )


def scorer_named(spec: str) -> Scorer:
    """A toxicity scorer: "world", "words:FILE", or the URL of a Perspective-like
    service.

    Raises:
      InputError: none of these.
    """
    kind, _, rest = spec.partition(":")
    if spec == "world":
        from rlhf_jax.simulation import toxicity

        return lambda texts: np.array([toxicity(text) for text in texts])
    if kind == "words":
        return word_list_scorer(rest)
    if kind in ("http", "https"):
        return perspective_scorer(spec)
    raise InputError(f"--toxicity {spec!r}: expected world, words:FILE or a URL")


def held_out_prompts(path: str, account: Account | None = None) -> list[Prompt]:
    """The prompts of a file, those of the split "test" if it names any.

    Args:
      path: as a config names it.
      account: books what became of its rows.

    Raises:
      InputError: another kind of record, a bad row, or no row of the split.
    """
    account = Account("prompts") if account is None else account
    records = read = read_prompts([path], account)
    if any(record.split for record in records):
        records = [record for record in records if record.split == "test"]
    account.limit("the split", "test", len(read) - len(records))
    if not records:
        raise InputError(f"{path}: split: no prompt of the split 'test'")
    return records


@functools.cache
def world_prompts(seed: int = 0) -> tuple[Prompt, ...]:
    """The held-out prompts of the embedded world of a seed, split "test"."""
    from rlhf_jax.simulation import simulate

    prompts = simulate(seed, {"pretraining": 0, "skills": 0})["prompts"]
    return tuple(record for record in prompts if record.split == "test")
