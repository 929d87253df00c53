import pytest

from rlhf_jax.errors import InputError
from rlhf_jax.sampling import SamplingSpec


def test_every_fault_is_named_at_once():
    with pytest.raises(InputError) as error:
        SamplingSpec(-1, temperature=-0.5, top_p=0.0, top_k=-2, end_tokens=(3, 3))
    for name in ("max_new_tokens", "temperature", "top_p", "top_k", "end_tokens"):
        assert name in str(error.value)


@pytest.mark.parametrize("temperature", [float("nan"), float("inf"), -1e-9])
def test_a_temperature_that_is_not_a_number_from_zero_up_is_refused(temperature):
    with pytest.raises(InputError, match="temperature"):
        SamplingSpec(8, temperature=temperature)


@pytest.mark.parametrize("budget", [1.5, True, "8", None])
def test_a_budget_that_is_not_a_count_is_refused(budget):
    with pytest.raises(InputError, match="max_new_tokens"):
        SamplingSpec(budget)


def test_a_spec_is_a_static_argument():
    first = SamplingSpec(8, end_tokens=[1, 2])
    assert hash(first) == hash(SamplingSpec(8, end_tokens=(1, 2)))
