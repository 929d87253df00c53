"""How many tokens the model reads: nothing runs after the last row has ended."""

import dataclasses

import jax
import numpy as np
import pytest

from rlhf_jax.models import LanguageModel
from rlhf_jax.sampling import SamplingSpec, generate


@dataclasses.dataclass(frozen=True, eq=False)  # each is its own program
class Counted:
    """A model that notes the shape of every call while the program runs."""

    model: LanguageModel
    calls: list = dataclasses.field(default_factory=list)

    @property
    def config(self):
        return self.model.config

    def logits(self, params, hidden):
        return self.model.logits(params, hidden)

    def apply(self, variables, tokens, valid, **kwargs):
        jax.debug.callback(lambda shape=tokens.shape: self.calls.append(shape))
        return self.model.apply(variables, tokens, valid, **kwargs)


@pytest.fixture(scope="module")
def shallow(policy):
    """One layer: a program that calls back is compiled anew in every test."""
    model = LanguageModel(dataclasses.replace(policy.model.config, num_layers=1))
    trunk = policy.params["trunk"]
    first = jax.tree.map(lambda leaf: leaf[:1], trunk["layers"])
    params = {**policy.params, "trunk": {**trunk, "layers": first}}
    return dataclasses.replace(policy, model=model, params=params)


def calls(policy, batch, key, limits, **options) -> list[tuple[int, int]]:
    model = Counted(policy.model)
    copies = len(limits) // len(batch.prompts)
    samples = generate(
        model,
        policy.params,
        batch.prompts,
        batch.valid,
        np.arange(len(limits), dtype=np.int32),
        key,
        SamplingSpec(24),
        limits=np.array(limits, np.int32),
        samples_per_prompt=copies,
        **options,
    )
    assert samples.lengths.tolist() == limits
    jax.effects_barrier()
    return model.calls


def test_the_static_engine_ends_with_its_longest_row(shallow, batch, key):
    seen = calls(shallow, batch, key, [1, 3, 2, 5, 0, 1])
    assert sorted(seen) == sorted([(6, 12)] + [(6, 1)] * 4)


def test_the_continuous_engine_refills_slots_of_rows_that_ended(shallow, batch, key):
    """Two slots: one writes 8 tokens, the other five rows of 2, one after the other.

    Static, with batches of two, would take 7 + 1 + 1 decode steps and the second slot
    would stand still for most of them.
    """
    seen = calls(
        shallow, batch, key, [8, 2, 2, 2, 2, 2], engine="continuous", slots=2, refill=1
    )
    assert seen.count((1, 12)) == 6
    assert seen.count((2, 1)) == 7


@pytest.mark.parametrize(
    ("engine", "options"),
    [("static", {}), ("continuous", {"slots": 12, "refill": 2})],
)
def test_copies_of_a_prompt_are_prefilled_once(shallow, batch, key, engine, options):
    seen = calls(shallow, batch, key, [2] * 24, engine=engine, **options)
    prefilled = sum(rows for rows, width in seen if width == 12)
    assert prefilled == 6
