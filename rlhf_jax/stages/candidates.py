"""Candidates for the labelers: K responses per prompt, ranked (step 2 of the paper).

Several policies may write: "mostly from supervised policies, some from PPO" (section
3.1). Whoever ranks stands behind one interface, `rank(prompt, responses) -> ranks`;
people rank files, simulated labelers rank at once. With the policy of one round this
stage starts the next.
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
from rlhf_jax.data.inputs import read_prompts
from rlhf_jax.errors import InputError
from rlhf_jax.experience import Writer
from rlhf_jax.faults import fault
from rlhf_jax.feedback import FileLabeler, Labeler, load_labelers
from rlhf_jax.fields import Answers, DataFile, ModelName
from rlhf_jax.registry import load_model, require_language_model
from rlhf_jax.sampling.randomness import named_key
from rlhf_jax.schema import at_least, positive
from rlhf_jax.storage import is_first_process, replacing, write_lines
from rlhf_jax.training.session import RunSettings, portable


@dataclasses.dataclass
class Config:
    """Settings of collecting comparisons."""

    # model directories of the policies that write; prompt i goes to policy i mod n
    policies: tuple[ModelName, ...]
    # files of prompts
    prompts: tuple[DataFile, ...]
    # who ranks; see feedback.load_labelers
    labelers: Answers = "simulated:training"
    # most prompts taken; None: all
    max_prompts: int | None = None
    # round of feedback: another one takes the next `max_prompts` prompts (from the
    # start again after the last) and draws anew; the labelers stay the same
    round: int = 1
    # responses per prompt, drawn per prompt between the two; section 3.5: 4 to 9
    min_k: int = 4
    max_k: int = 9
    # longest prompt and response in tokens
    max_prompt: int = 1000
    max_response: int = 1000
    # of sampling
    temperature: float = 1.0
    # prompts sampled together
    batch_size: int = 64
    seed: int = 0

    def problems(self) -> Iterator[str]:
        """What cannot work, one line each."""
        if not self.policies:
            yield "policies: at least one model is needed"
        if not self.prompts:
            yield "prompts: at least one file is needed"
        yield from unknown_labelers(self.labelers)
        yield from at_least(self, 1, "round", "max_prompts", "batch_size")
        yield from at_least(self, 1, "max_prompt", "max_response")
        yield from positive(self, "temperature")
        if not 2 <= self.min_k <= self.max_k:
            yield f"min_k: {self.min_k} to {self.max_k} is not a range from 2 up"


def unknown_labelers(name: str) -> Iterator[str]:
    """A line where `load_labelers` knows no labelers of that name; reads no file."""
    kind, _, rest = name.partition(":")
    if kind == "file" and rest:
        return
    try:
        load_labelers(name)
    except InputError as error:
        yield f"labelers: {str(error).removeprefix('labelers ')}"


def run(
    config: Config, workdir: str | pathlib.Path, settings: RunSettings | None = None
) -> pathlib.Path:
    """Writes `candidates.jsonl`, has them ranked into `rankings.jsonl`; its path."""
    mesh = (settings or RunSettings()).make_mesh()
    workdir = pathlib.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    prompts = prompts_of_round(config)
    responses = _sampled_once(config, prompts, workdir, mesh)
    labelers = load_labelers(config.labelers, seed=config.seed)
    require_people(prompts, responses, labelers)
    rankings = rank_candidates(prompts, responses, labelers, _seeds(config))
    target = workdir / "rankings.jsonl"
    with replacing(target) as file:
        for ranking in rankings:
            file.write(json.dumps(ranking.model_dump(), ensure_ascii=False) + "\n")
        fault("candidates.before_rename")
    return target


def _sampled_once(
    config: Config, prompts: Sequence[Prompt], workdir: pathlib.Path, mesh: Mesh
) -> list[list[str]]:
    """The candidates in `candidates.jsonl`, which is written when they are sampled.

    People rank these texts, maybe for days: a run that goes on elsewhere must not
    sample them again, where a token may come out otherwise. Those of another config,
    whoever ranks, are sampled anew.
    """
    path = workdir / "candidates.jsonl"
    asked = portable(dataclasses.replace(config, labelers=""), workdir.parent)
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    wanted = [(prompt.id, digest) for prompt in prompts]
    if path.exists():
        lines = path.read_text(encoding="utf-8").split("\n")
        rows = [json.loads(line) for line in lines if line]
        if [(row["id"], row["config"]) for row in rows] == wanted:
            return [row["responses"] for row in rows]
    responses = sample_candidates(config, prompts, mesh, workdir, digest)
    lines = [
        {"id": p.id, "prompt": p.prompt, "responses": texts, "config": digest}
        for p, texts in zip(prompts, responses, strict=True)
    ]
    write_lines(path, lines)
    if is_first_process():
        for part in workdir.glob("sampled.*.jsonl"):
            part.unlink()
    return responses


def prompts_of_round(config: Config) -> list[Prompt]:
    """The prompts whose turn it is: each round goes on where the last one ended."""
    prompts = read_prompts(config.prompts)
    if config.max_prompts is None or config.max_prompts >= len(prompts):
        return prompts
    start = (config.round - 1) * config.max_prompts % len(prompts)
    return (prompts[start:] + prompts[:start])[: config.max_prompts]


def sample_candidates(
    config: Config,
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
    for number, name in enumerate(config.policies):
        rows = [i for i in range(len(prompts)) if i % len(config.policies) == number]
        wanted = [i for i in rows for _ in range(counts[i])]
        policy = require_language_model(load_model(name), f"candidates: {name}")
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
            [prompts[i].prompt for i in wanted],
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
) -> None:
    """Stops, with a to-do file, where people have not ranked everything yet.

    Raises:
      InputError: says how many sets wait, and in which file.
    """
    for labeler in labelers:
        if isinstance(labeler, FileLabeler) and (
            count := labeler.missing(prompts, responses)
        ):
            raise InputError(
                f"{count} sets of responses wait for people in {labeler.todo}: rank "
                f"them into {labeler.path} (add ranks, 1 is best) and run again"
            )


def rank_candidates(
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[str]],
    labelers: Sequence[Labeler],
    seeds: Sequence[int],
) -> list[Ranking]:
    """One labeler, drawn per prompt, ranks its candidates (section 5.3: most
    comparisons were labelled by a single contractor)."""
    who = np.random.default_rng([*seeds, 1]).integers(len(labelers), size=len(prompts))
    rankings = []
    for prompt, candidates, index in zip(prompts, responses, who, strict=True):
        labeler: Any = labelers[index]
        rankings.append(
            Ranking(
                **prompt.model_dump(),
                responses=list(candidates),
                ranks=list(labeler.rank(prompt, candidates)),
                labeler=labeler.name,
            )
        )
    return rankings
