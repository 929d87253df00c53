"""The policy writes: rollouts, candidates, evaluation, chat.

spec          SamplingSpec: budget, temperature, end tokens, filters
filters       from logits to the sampled distribution
draw          one token per row, with a key that names the token
samples       Samples: tokens, mask, log-probabilities, finished, lengths
prompts       checks, packing, per-row limits
decoder       prefill, one step, one draw, over any LanguageModel
static        all rows start together
continuous    finished rows make room for the queue
generation    generate: either engine, one device or a mesh
layout        parameters laid out once for a rollout
repetition    what a response says again
stop_strings  cutting texts on the host
stream        one response, token by token
"""

from rlhf_jax.sampling.decoder import decoding_params
from rlhf_jax.sampling.generation import ENGINES, generate, rollout_program
from rlhf_jax.sampling.layout import layout_for_rollout
from rlhf_jax.sampling.repetition import repeated_pairs
from rlhf_jax.sampling.samples import Samples
from rlhf_jax.sampling.spec import SamplingSpec
from rlhf_jax.sampling.stop_strings import cut_at_stop_strings
from rlhf_jax.sampling.stream import stream

__all__ = [
    "ENGINES",
    "Samples",
    "SamplingSpec",
    "cut_at_stop_strings",
    "decoding_params",
    "generate",
    "layout_for_rollout",
    "repeated_pairs",
    "rollout_program",
    "stream",
]
