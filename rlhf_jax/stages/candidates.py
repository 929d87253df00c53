"""Candidates for the labelers: K responses per prompt, ranked (step 2 of the paper).

Several policies may write: "mostly from supervised policies, some from PPO" (section
3.1). Whoever ranks stands behind one interface, `rank(prompt, responses) -> ranks`;
people rank files or at the labelling server, and the stage stops until they have;
simulated labelers and rewards rank at once. With the policy of one round this stage
starts the next.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from rlhf_jax.data import Prompt, Ranking
from rlhf_jax.data.account import Account
from rlhf_jax.data.encoding import said_before
from rlhf_jax.data.inputs import fitting, read_prompts
from rlhf_jax.data.records import dense_ranks
from rlhf_jax.errors import InputError
from rlhf_jax.experience import Writer
from rlhf_jax.faults import fault
from rlhf_jax.feedback import (
    Asked,
    Labeler,
    People,
    RewardLabeler,
    load_labelers,
    rankings_of,
)
from rlhf_jax.fields import Answers, DataFile, Length, ModelName, RewardName, Stop
from rlhf_jax.registry import (
    LoadedModel,
    load_model,
    load_reward,
    require_language_model,
    reward_account,
)
from rlhf_jax.sampling.randomness import named_key
from rlhf_jax.schema import at_least, positive
from rlhf_jax.storage import is_first_process, replacing, write_lines
from rlhf_jax.training.session import RunSettings, portable, tell_rows


@dataclasses.dataclass
class Config:
    """Settings of collecting comparisons."""

    # model directories of the policies that write; prompt i goes to policy i mod n
    policies: tuple[ModelName, ...]
    # files of prompts
    prompts: tuple[DataFile, ...]
    # who ranks; see feedback.load_labelers, rankings_by
    labelers: Answers = "simulated:training"
    # of people at the labelling server: how many rank each set; which share of the sets
    # must be complete before the run goes on; after how many hours what there is must
    # do (None: never). Section 5.3: most comparisons had one labeler
    overlap: Length = 1
    # of people: share of the sets that must be complete
    quorum: Stop = 1.0
    # hours after which what was answered must do; None: never
    deadline_hours: Stop | None = None
    # a reward model, or "python:FILE.py:NAME", ranks in their place; empty: they do
    reward: RewardName = ""
    # of each set only the best and the worst response are kept (Dong et al. 2024);
    # if all tie, the first and the last
    best_and_worst: bool = False
    # most prompts taken; None: all
    max_prompts: int | None = None
    # round of feedback: another one takes the next `max_prompts` prompts (from the
    # start again after the last) and draws anew; the labelers stay the same
    round: int = 1
    # responses per prompt, drawn per prompt between the two; section 3.5: 4 to 9
    min_k: int = 4
    # most responses per prompt
    max_k: int = 9
    # longest prompt and response in tokens
    max_prompt: int = 1000
    # longest response in tokens, its end token included
    max_response: int = 1000
    # of sampling
    temperature: float = 1.0
    # prompts sampled together
    batch_size: int = 64
    # of all that is drawn at random
    seed: int = 0

    def problems(self) -> Iterator[str]:
        """What cannot work, one line each."""
        if not self.policies:
            yield "policies: at least one model is needed"
        if not self.prompts:
            yield "prompts: at least one file is needed"
        yield from unknown_labelers(self.labelers)
        if self.reward and self.labelers != Config.labelers:
            yield f"labelers: {self.labelers} do not rank where there is a reward"
        yield from at_least(self, 1, "round", "max_prompts", "batch_size", "overlap")
        yield from at_least(self, 1, "max_prompt", "max_response")
        yield from positive(self, "temperature", "quorum", "deadline_hours")
        if self.quorum > 1:
            yield f"quorum: {self.quorum} is a share, at most 1"
        if not 2 <= self.min_k <= self.max_k:
            yield f"min_k: {self.min_k} to {self.max_k} is not a range from 2 up"


def unknown_labelers(name: str) -> Iterator[str]:
    """A line where `load_labelers` knows no labelers of that name; reads no file."""
    kind, _, rest = name.partition(":")
    if kind in {"file", "label"} and rest:
        return
    try:
        load_labelers(name)
    except InputError as error:
        yield f"labelers: {str(error).removeprefix('labelers ')}"


def run(
    config: Config, workdir: str | pathlib.Path, settings: RunSettings | None = None
) -> pathlib.Path:
    """Writes `candidates.jsonl`, has them ranked into `rankings.jsonl`; its path."""
    settings = settings or RunSettings()
    mesh = settings.make_mesh()
    options = {"mesh": mesh, "light": settings.light}
    workdir = pathlib.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    account = Account("prompts")
    prompts = read_prompts(config.prompts, account)
    policies = [_policy(name, prompts, options) for name in config.policies]
    for policy in policies:  # one rule for all: what does not fit is left out, and told
        prompts = fitting(prompts, policy.form, config.max_prompt, account)
    asked = prompts_of_round(config, prompts)
    account.limit("max_prompts", config.max_prompts, len(prompts) - len(asked))
    tell_rows([account], workdir)
    prompts = asked
    responses = _sampled_once(config, policies, prompts, workdir, mesh)
    labelers = labelers_of(config, **options)
    asked = Asked(config.overlap, config.quorum, config.deadline_hours)
    require_people(prompts, responses, labelers, asked)
    rankings = rank_candidates(prompts, responses, labelers, _seeds(config))
    rewards = [who.reward for who in labelers if isinstance(who, RewardLabeler)]
    tell_rows(map(reward_account, rewards), workdir, more=True)
    if config.best_and_worst:
        rankings = [best_and_worst(ranking) for ranking in rankings]
    target = workdir / "rankings.jsonl"
    with replacing(target) as file:
        for ranking in rankings:
            file.write(json.dumps(ranking.model_dump(), ensure_ascii=False) + "\n")
        fault("candidates.before_rename")
    return target


def labelers_of(config: Config, **options: Any) -> list[Labeler]:
    """Who ranks.

    Args:
      config: the settings.
      **options: `mesh` and `light` of `load_reward`.
    """
    if not config.reward:
        return load_labelers(config.labelers, seed=config.seed)
    limits = {"max_prompt": config.max_prompt, "max_response": config.max_response}
    return [RewardLabeler(load_reward(config.reward, **limits, **options))]


def _sampled_once(
    config: Config,
    policies: Sequence[LoadedModel],
    prompts: Sequence[Prompt],
    workdir: pathlib.Path,
    mesh: Mesh,
) -> list[list[str]]:
    """The candidates in `candidates.jsonl`, which is written when they are sampled.

    People rank these texts, maybe for days: a run that goes on elsewhere must not
    sample them again, where a token may come out otherwise. Those of another config,
    whoever ranks, are sampled anew.
    """
    path = workdir / "candidates.jsonl"
    nobody = dataclasses.replace(
        config,
        labelers="",
        overlap=1,
        quorum=1.0,
        deadline_hours=None,
        reward="",
        best_and_worst=False,
    )
    asked = portable(nobody, workdir.parent)
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    wanted = [(prompt.id, digest) for prompt in prompts]
    if path.exists():
        lines = path.read_text(encoding="utf-8").split("\n")
        rows = [json.loads(line) for line in lines if line]
        if [(row["id"], row["config"]) for row in rows] == wanted:
            return [row["responses"] for row in rows]
    responses = sample_candidates(config, policies, prompts, mesh, workdir, digest)
    lines = [
        {"id": p.id, "prompt": p.prompt, "responses": texts, "config": digest}
        for p, texts in zip(prompts, responses, strict=True)
    ]
    write_lines(path, lines)
    if is_first_process():
        for part in workdir.glob("sampled.*.jsonl"):
            part.unlink()
    return responses


def _policy(
    name: str, prompts: Sequence[Prompt], options: dict[str, Any]
) -> LoadedModel:
    found = load_model(name, **options)
    policy = require_language_model(found, f"candidates.policies: {name}")
    return policy.in_form(prompts, where="candidates.policies")


def prompts_of_round(config: Config, prompts: list[Prompt]) -> list[Prompt]:
    """The prompts whose turn it is: each round goes on where the last one ended."""
    if config.max_prompts is None or config.max_prompts >= len(prompts):
        return prompts
    start = (config.round - 1) * config.max_prompts % len(prompts)
    return (prompts[start:] + prompts[:start])[: config.max_prompts]


def sample_candidates(
    config: Config,
    policies: Sequence[LoadedModel],
    prompts: Sequence[Prompt],
    mesh: Mesh,
    workdir: pathlib.Path,
    digest: str,
) -> list[list[str]]:
    """K responses for each prompt; K is drawn per prompt, duplicates are kept.

    What each policy has written so far is kept in `sampled.<number>.jsonl`.
    """
    counts = np.random.default_rng(_seeds(config)).integers(
        config.min_k, config.max_k + 1, size=len(prompts)
    )
    key = named_key(jax.random.key(config.seed), "candidates", *_seeds(config)[1:])
    answers: list[list[str]] = [[] for _ in prompts]
    for number, policy in enumerate(policies):
        rows = [i for i in range(len(prompts)) if i % len(policies) == number]
        wanted = [i for i in rows for _ in range(counts[i])]
        writer = Writer(
            policy,
            config.max_response,
            config.max_prompt,
            config.temperature,
            batch_size=config.batch_size,
            mesh=mesh,
        )
        texts = writer.resumed(
            workdir / f"sampled.{number}.jsonl",
            f"{digest} {len(wanted)}",
            [said_before(prompts[i]) for i in wanted],
            key,
        )
        for i, text in zip(wanted, texts, strict=True):
            answers[i].append(text)
    return answers


def _seeds(config: Config) -> list[int]:
    """The seed, and the round where it is not the first."""
    return [config.seed, *([config.round] if config.round > 1 else [])]


def require_people(
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[str]],
    labelers: Sequence[Labeler],
    asked: Asked,
) -> None:
    """Stops where people have not ranked enough yet.

    Raises:
      InputError: says how many sets wait, and where.
    """
    for labeler in labelers:
        if isinstance(labeler, People):
            labeler.require(prompts, responses, asked)


def rank_candidates(
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[str]],
    labelers: Sequence[Labeler],
    seeds: Sequence[int],
) -> list[Ranking]:
    """One labeler, drawn per prompt, ranks its candidates (section 5.3: most
    comparisons were labelled by a single contractor); of people every ranking of a set
    is kept."""
    who = np.random.default_rng([*seeds, 1]).integers(len(labelers), size=len(prompts))
    asked = [labelers[index] for index in who]
    return rankings_of(asked, prompts, responses)


def best_and_worst(ranking: Ranking) -> Ranking:
    """The pair at the ends of a ranking: the first best and the last worst response.

    >>> whole = Ranking(id="1", prompt="p", responses=list("abc"), ranks=[2, 1, 3])
    >>> pair = best_and_worst(whole)
    >>> pair.responses, pair.ranks
    (['b', 'c'], [1, 2])
    """
    ranks = ranking.ranks
    best = ranks.index(min(ranks))
    worst = len(ranks) - 1 - ranks[::-1].index(max(ranks))
    both = sorted((best, worst))

    def kept(values: list | None) -> list | None:
        return None if values is None else [values[i] for i in both]

    shown = ranking.shown_order
    return ranking.model_copy(
        update={
            "responses": kept(ranking.responses),
            "ranks": dense_ranks(kept(ranks)),
            "likert": kept(ranking.likert),
            "flags": kept(ranking.flags),
            "shown_order": shown and [both.index(i) for i in shown if i in both],
        }
    )
