"""The human side: who ranks, and how much the rankers agree.

labelers     one interface for people (files, the server), simulated persons, models
agreement    how often two labelers order a pair alike; Krippendorff's alpha
aggregation  several labelers' rankings of the same responses -> one
"""

from rlhf_jax.feedback.aggregation import aggregate
from rlhf_jax.feedback.agreement import krippendorff_alpha, pairwise_agreement
from rlhf_jax.feedback.labelers import (
    Asked,
    FileLabeler,
    Labeler,
    People,
    RewardLabeler,
    load_labelers,
    rankings_by,
    rankings_of,
)

__all__ = [
    "Asked",
    "FileLabeler",
    "Labeler",
    "People",
    "RewardLabeler",
    "aggregate",
    "krippendorff_alpha",
    "load_labelers",
    "pairwise_agreement",
    "rankings_by",
    "rankings_of",
]
