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

from rlhf_jax.data import Prompt, Ranking
from rlhf_jax.data.inputs import encode_prompts, read_prompts
from rlhf_jax.errors import InputError
from rlhf_jax.experience.scoring import WIDTH, decoded, sample_batch, sampling_spec
from rlhf_jax.faults import fault
from rlhf_jax.feedback import FileLabeler, Labeler, load_labelers
from rlhf_jax.fields import Answers, DataFile, ModelName
from rlhf_jax.registry.model_directory import load_model
from rlhf_jax.sampling.randomness import named_key
from rlhf_jax.schema import at_least, positive
from rlhf_jax.storage import replacing, write_lines
from rlhf_jax.training.session import RunSettings, portable

__all__ = ["Config", "rank_candidates", "run"]


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
    del settings  # sampling needs no mesh of its own here
    workdir = pathlib.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    prompts = prompts_of_round(config)
    responses = _sampled_once(config, prompts, workdir)
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
    config: Config, prompts: Sequence[Prompt], workdir: pathlib.Path
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
    responses = sample_candidates(config, prompts)
    lines = [
        {"id": p.id, "prompt": p.prompt, "responses": texts, "config": digest}
        for p, texts in zip(prompts, responses, strict=True)
    ]
    write_lines(path, lines)
    return responses


def prompts_of_round(config: Config) -> list[Prompt]:
    """The prompts whose turn it is: each round goes on where the last one ended."""
    prompts = read_prompts(config.prompts)
    if config.max_prompts is None or config.max_prompts >= len(prompts):
        return prompts
    start = (config.round - 1) * config.max_prompts % len(prompts)
    return (prompts[start:] + prompts[:start])[: config.max_prompts]


def sample_candidates(config: Config, prompts: Sequence[Prompt]) -> list[list[str]]:
    """K responses for each prompt; K is drawn per prompt, duplicates are kept."""
    counts = np.random.default_rng(_seeds(config)).integers(
        config.min_k, config.max_k + 1, size=len(prompts)
    )
    answers: list[list[str]] = [[] for _ in prompts]
    for number, name in enumerate(config.policies):
        rows = [i for i in range(len(prompts)) if i % len(config.policies) == number]
        wanted = [i for i in rows for _ in range(counts[i])]
        for i, text in _sampled(config, name, prompts, wanted):
            answers[i].append(text)
    return answers


def _sampled(
    config: Config, name: str, prompts: Sequence[Prompt], wanted: list[int]
) -> Iterator[tuple[int, str]]:
    """(prompt, text) of every wanted sample; prompts of one length come together."""
    policy = load_model(name).with_config(residual_dropout=0.0)
    spec = sampling_spec(policy, config.max_response, config.temperature)
    key = named_key(jax.random.key(config.seed), "candidates", *_seeds(config)[1:])
    tokens = policy.tokenizer.encode_batch([prompt.prompt for prompt in prompts])
    order = sorted(range(len(wanted)), key=lambda slot: len(tokens[wanted[slot]]))
    for start in range(0, len(order), config.batch_size):
        slots = order[start : start + config.batch_size]
        filled = slots + slots[:1] * (config.batch_size - len(slots))
        longest = 1 + len(tokens[wanted[slots[-1]]])  # and a begin token, if any
        batch = encode_prompts(
            [prompts[wanted[slot]].prompt for slot in filled],
            policy.tokenizer,
            min(config.max_prompt, -(-longest // WIDTH) * WIDTH),
        )
        batch["row"] = np.array(filled)
        samples = sample_batch(policy.model, policy.params, batch, key, spec)
        texts = decoded(policy.tokenizer, samples, spec.end_tokens)
        rows = [wanted[slot] for slot in slots]
        yield from zip(rows, texts[: len(rows)], strict=True)


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
        fields = prompt.model_dump(exclude={"prompt"})
        rankings.append(
            Ranking(
                **fields,
                prompt=prompt.prompt,
                responses=list(candidates),
                ranks=list(labeler.rank(prompt, candidates)),
                labeler=labeler.name,
            )
        )
    return rankings
