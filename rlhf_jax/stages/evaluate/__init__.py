"""The evaluation of a run on the embedded world: the paper's tables, in small.

Preference against a fixed baseline, by gold utility and by labelers who trained
nothing; the alignment tax, as held-out text and held-out skills; truth, toxicity,
bias, hallucination; and reward against KL. `results.json` holds every number,
`samples.jsonl` what the policies wrote.
"""

from rlhf_jax.stages.evaluate.config import Config
from rlhf_jax.stages.evaluate.run import run
from rlhf_jax.stages.evaluate.tables import preference

__all__ = ["Config", "preference", "run"]
