"""Sets of responses to prompts of the embedded world."""

from rlhf_jax.labelling.imports import CandidateSet
from rlhf_jax.simulation import make_world
from rlhf_jax.simulation.candidates import candidates
from rlhf_jax.simulation.dataset import prompt_set
from rlhf_jax.simulation.dice import Dice


def world_sets(count, name="label"):
    found = []
    for prompt in prompt_set(make_world(0), name, count, set()):
        dice = Dice("labelling", prompt.id)
        texts = [c.text for c in candidates(prompt, dice, dice.between(4, 9))]
        fields = prompt.model_dump(exclude_defaults=True)
        found.append(CandidateSet(**fields, responses=texts))
    return found
