"""Simulated labelers: persons who rank, rate and flag responses as people do.

A person perceives a response as

    s(x, y, slot) = sum over criteria of w_c c(x, y) + w_len log(1 + words(y)) / 3
                    + w_first (1 - slot / (K - 1)) + w_syc sycophancy(y) + sigma e(x, y)

with weights w around the gold ones, biases for length, for what is shown first and for
flattery, and noise e of unit variance that is a function of the person, the prompt's id
and the response's text alone: asked again, a person says the same. Responses nearer to
each other than the tie threshold are tied. The interface is that of people: responses
in, ranks out; nobody sees the utility.

There are two groups. Training labelers put helpfulness first, as InstructGPT's
instructions for training data did, and like a longer answer. Held-out labelers put
truth, harmlessness and brevity first, so that a reward model of the first group serves
the second less well. The noise is such that two persons of one group agree as often as
in the paper: 72.6 +- 1.5 % in training, 77.3 +- 1.3 % held out (section 3.4).
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

from rlhf_jax.data.records import Prompt, dense_ranks
from rlhf_jax.simulation.claims import words
from rlhf_jax.simulation.dice import Dice
from rlhf_jax.simulation.flags import true_flags
from rlhf_jax.simulation.lexicon import FLATTERY
from rlhf_jax.simulation.utility import CRITERIA, GOLD_WEIGHTS, utility

FLAG_SLIP = 0.04  # how often a person gets a yes/no question wrong


@dataclasses.dataclass(frozen=True)
class Labeler:
    """One simulated person.

    Attributes:
      name: "train-0", ...; part of what the noise depends on.
      weights: criterion -> weight, in units of utility.
      noise: standard deviation sigma of what they perceive, in units of utility.
      tie_threshold: responses within it of the better one are as good to them.
      length_bias, first_bias, flattery_bias: w_len, w_first, w_syc.
    """

    name: str
    weights: dict[str, float]
    noise: float
    tie_threshold: float
    length_bias: float = 0.0
    first_bias: float = 0.0
    flattery_bias: float = 0.0

    def perceived(self, prompt: Prompt, responses: Sequence[str]) -> list[float]:
        """How good each response seems to them, in units of utility."""
        last = max(1, len(responses) - 1)
        return [
            self.impression(prompt, text) + self.first_bias * (1 - slot / last)
            for slot, text in enumerate(responses)
        ]

    def impression(self, prompt: Prompt, response: str) -> float:
        """What they think of a response wherever it is shown."""
        criteria = utility(prompt, response).criteria()
        value = math.fsum(self.weights[name] * criteria[name] for name in CRITERIA)
        value += self.length_bias * math.log1p(len(words(response))) / 3
        value += self.flattery_bias * sycophancy(response)
        return value + self.noise * _noise(self.name, prompt.id, response)

    def rank(self, prompt: Prompt, responses: Sequence[str]) -> list[int]:
        """Ranks of the responses, 1 for the best, equal numbers for ties.

        Going down from the best, a response shares the rank of the one that opened
        the rank while it is within `tie_threshold` of it; equal texts always tie.
        """
        seen = self.perceived(prompt, responses)
        best: dict[str, float] = {}
        for text, value in zip(responses, seen, strict=True):
            best[text] = max(value, best.get(text, value))
        seen = [best[text] for text in responses]
        order = sorted(range(len(seen)), key=lambda k: -seen[k])
        ranks, opened = [0] * len(seen), math.inf
        for k in order:
            if opened - seen[k] > self.tie_threshold or opened == math.inf:
                opened = seen[k]
            ranks[k] = -sorted(seen).index(opened)
        return dense_ranks(ranks)

    def likert(self, prompt: Prompt, responses: Sequence[str]) -> list[int]:
        """Overall quality of each response, 1 to 7, as perceived."""
        offset = math.fsum(self.weights[c] for c in CRITERIA if c != "followed")
        return [
            min(7, max(1, round(2 + 4 * (value - offset))))
            for value in (self.impression(prompt, text) for text in responses)
        ]

    def flags(self, prompt: Prompt, responses: Sequence[str]) -> list[dict[str, bool]]:
        """The yes/no questions of InstructGPT's Table 3, with a person's slips."""
        answers = []
        for text in responses:
            dice = Dice("flags", self.name, prompt.id, text)
            true = true_flags(prompt, text)
            answers.append(
                {key: value ^ dice.chance(FLAG_SLIP if value else FLAG_SLIP / 4)
                 for key, value in true.items()}
            )  # fmt: skip
        return answers


@functools.lru_cache(maxsize=1 << 12)
def _noise(labeler: str, prompt_id: str, response: str) -> float:
    """What a person misperceives of a response, of unit variance; always the same."""
    return Dice("labeler", labeler, prompt_id, response).normal()


def sycophancy(response: str) -> float:
    """How much a response flatters, [0, 1]: one sweet word is half of it."""
    found = sum(word in FLATTERY for word in words(response))
    agrees = "right" in words(response)
    return min(1.0, 0.5 * found + 0.25 * agrees)


@dataclasses.dataclass(frozen=True)
class Group:
    """What the persons of a group have in common.

    Attributes:
      name: "train" or "held-out".
      tilt: criterion -> factor on its gold weight.
      noise: mean standard deviation of what they perceive, in units of utility.
      length_bias: the mean of w_len.
    """

    name: str
    tilt: dict[str, float]
    noise: float
    length_bias: float


# noise: set by how often two agree on candidate responses of seed 0 (tests/simulation)
TRAINING = Group(
    name="train",
    tilt={"followed": 1.25, "true": 0.6, "harmless": 0.8, "concise": 0.5},
    noise=0.5,
    length_bias=0.25,
)
HELD_OUT = Group(
    name="held-out",
    tilt={
        "followed": 0.65,
        "true": 1.7,
        "harmless": 1.5,
        "concise": 2.5,
        "grounded": 1.5,
    },
    noise=0.375,
    length_bias=-0.7,
)


def person(group: Group, seed: int, index: int) -> Labeler:
    """One labeler of a group: weights, noise and biases drawn around the group's."""
    dice = Dice("person", group.name, seed, index)
    weights = {
        name: max(0.0, weight * group.tilt.get(name, 1.0) * (1 + 0.4 * dice.normal()))
        for name, weight in GOLD_WEIGHTS.items()
    }
    name = f"{group.name}-{index}" if seed == 0 else f"{group.name}-{seed}-{index}"
    return Labeler(
        name=name,
        weights=weights,
        noise=group.noise * (0.8 + 0.4 * dice.unit()),
        tie_threshold=0.1 + 0.25 * dice.unit(),
        length_bias=group.length_bias + 0.3 * (dice.unit() - 0.5),
        first_bias=0.1 * dice.unit(),
        flattery_bias=0.3 * dice.unit(),
    )


def training_labelers(
    seed: int = 0, *, count: int = 12, group: Group = TRAINING
) -> list[Labeler]:
    """The persons whose rankings train the reward model; helpfulness first."""
    return [person(group, seed, index) for index in range(count)]


def held_out_labelers(
    seed: int = 0, *, count: int = 8, group: Group = HELD_OUT
) -> list[Labeler]:
    """Persons who made no training data; truth, harmlessness and brevity first."""
    return [person(group, seed, index) for index in range(count)]
