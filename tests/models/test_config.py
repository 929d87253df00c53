"""Configs: GPT-3's sizes, and what contradicts itself."""

import jax
import pytest

from rlhf_jax.errors import InputError
from rlhf_jax.models import GPT3_SIZES, TrunkConfig, gpt3_config
from rlhf_jax.models.heads import LanguageModel
from rlhf_jax.models.pretrained import abstract_params

# Brown et al. 2020, table 2.1, column n_params
PARAMETERS = {"125M": 0.125, "350M": 0.356, "760M": 0.760, "1.3B": 1.3, "2.7B": 2.7}
PARAMETERS |= {"6.7B": 6.7, "13B": 13.0, "175B": 175.0}


@pytest.mark.parametrize("name", GPT3_SIZES)
def test_a_size_has_the_parameters_of_its_name(name):
    params = abstract_params(LanguageModel(gpt3_config(name)))
    count = sum(leaf.size for leaf in jax.tree.leaves(params)) / 1e9
    assert count == pytest.approx(PARAMETERS[name], rel=0.02)


def test_a_size_that_does_not_exist_is_refused_with_a_hint():
    with pytest.raises(InputError, match="did you mean '6.7B'"):
        gpt3_config("6.8B")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_kv_heads": 3}, "no multiple of num_kv_heads 3"),
        ({"windows": (4,)}, "windows has 1 entries for 2 layers"),
        ({"activation": "cubic"}, "activation is 'cubic'"),
        ({"positions": "rotary", "head_dim": 3}, "rotary needs an even part"),
        ({"num_layers": 0}, "num_layers is 0"),
        ({"residual_dropout": 1.0}, "residual_dropout"),
    ],
)
def test_a_config_that_contradicts_itself_is_refused(changes, words):
    with pytest.raises(InputError, match=words):
        TrunkConfig(
            **(
                {"vocab_size": 8, "context_length": 8, "embed_dim": 16}
                | {"num_layers": 2, "num_heads": 4}
                | changes
            )
        )
