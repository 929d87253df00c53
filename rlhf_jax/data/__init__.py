"""Records and text: real data in, exact batches out. numpy only, no jax."""

from rlhf_jax.data.records import Demonstration, Prompt, Ranking, Record, Text

__all__ = ["Demonstration", "Prompt", "Ranking", "Record", "Text"]
