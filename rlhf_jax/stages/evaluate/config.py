"""Settings of the evaluation on the embedded world."""

import dataclasses
from collections.abc import Iterator

from rlhf_jax.fields import Answers, Folder, ModelName, RewardName
from rlhf_jax.registry.ensemble import Combination
from rlhf_jax.schema import at_least, distinct
from rlhf_jax.stages.candidates import unknown_labelers


@dataclasses.dataclass
class Config:
    """Settings of the evaluation."""

    # names of the policies, the first of which is the pretrained model
    names: tuple[str, ...]
    # their model directories, in the same order
    policies: tuple[ModelName, ...]
    # directory of the embedded world's files
    world: Folder
    # the policy that the others are compared with (the paper's is SFT)
    baseline: str = "SFT"
    # model directory of the reward model; None: no proxy scores
    reward: RewardName | None = None
    # directories of PPO stages by policy name: their metrics and snapshots are read
    runs: dict[str, Folder] = dataclasses.field(default_factory=dict)
    # directories of other stages by name, for the report's learning curves
    stages: dict[str, Folder] = dataclasses.field(default_factory=dict)
    # frontier of the best-of-n stage; None: none
    best_of_n: Folder | None = None
    # who judges preference besides the gold utility
    labelers: Answers = "simulated:held_out"
    # held-out prompts; sampled at temperature 1 (App. F of the paper)
    max_prompts: int = 200
    # responses to each; intervals take a prompt's responses as one cluster
    samples_per_prompt: int = 1
    # prompts for each snapshot's place in reward against KL
    frontier_prompts: int = 96
    # examples per held-out skill
    skill_examples: int = 60
    # seed of the embedded world
    world_seed: int = 0
    # longest prompt in tokens
    max_prompt: int = 96
    # longest response in tokens, its end token included
    max_response: int = 48
    # tokens of a held-out window of pretraining text, and how many
    window: int = 144
    # most such windows
    max_windows: int = 192
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
        if self.baseline not in self.names:
            yield f"baseline: {self.baseline!r} is not one of {', '.join(self.names)}"
        yield from unknown_labelers(self.labelers)
        yield from at_least(self, 1, "max_prompts", "samples_per_prompt")
        yield from at_least(self, 1, "frontier_prompts", "skill_examples")
        yield from at_least(self, 1, "max_prompt", "max_response")
        yield from at_least(self, 1, "window", "max_windows")
        yield from at_least(self, 0, "variance_coef")
        for name in self.runs:
            if name not in self.names:
                yield f"runs: {name!r} is not one of {', '.join(self.names)}"
