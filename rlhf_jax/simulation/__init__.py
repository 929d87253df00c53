"""The embedded world: a valley with tasks, a gold utility and simulated labelers.

Everything a run of InstructGPT needs, written for this project, from one seed, with
nothing to download and with the truth known.

    dice.py        randomness by name, the same on every machine
    lexicon.py     the words of the valley
    relations.py   its relations and how to state, ask and deny them
    facts.py       what is true, and what is only said: `make_world`
    claims.py      reading what a text claims
    narratives.py  stories and rhymes
    manners.py     fillers, praise, insults
    tasks/         the tasks of the ten use cases: asking, answering, judging
    prompts.py     users and their prompts
    corpus.py      the pretraining corpus
    skills.py      held-out skills of the corpus
    toxicity.py    how rude a text is
    clarity.py     whether a text is language
    utility.py     the gold utility and its criteria
    flags.py       the true answers to the labelers' yes/no questions
    labelers.py    simulated persons who rank, rate and flag
    candidates.py  responses of graded quality without a model
    probes.py      truth, bias, toxicity and hallucination probes
    dataset.py     all sets from one call: `simulate`, `write`
"""

from rlhf_jax.simulation.candidates import candidates
from rlhf_jax.simulation.dataset import (
    SIZES,
    VOCAB_SIZE,
    label,
    simulate,
    write,
)
from rlhf_jax.simulation.facts import World, make_world
from rlhf_jax.simulation.labelers import (
    Labeler,
    held_out_labelers,
    training_labelers,
)
from rlhf_jax.simulation.prompts import make_prompt, make_user
from rlhf_jax.simulation.skills import SKILLS, is_right, skill_examples
from rlhf_jax.simulation.toxicity import toxicity
from rlhf_jax.simulation.utility import GOLD_WEIGHTS, utility

__all__ = [
    "GOLD_WEIGHTS",
    "SIZES",
    "SKILLS",
    "VOCAB_SIZE",
    "Labeler",
    "World",
    "candidates",
    "held_out_labelers",
    "is_right",
    "label",
    "make_prompt",
    "make_user",
    "make_world",
    "simulate",
    "skill_examples",
    "toxicity",
    "training_labelers",
    "utility",
    "write",
]
