"""Typed configs: everything wrong is said at once, with its key."""

import dataclasses

import pytest

from rlhf_jax.errors import InputError
from rlhf_jax.schema import as_config_dict, from_config_dict, resolved_json


@dataclasses.dataclass
class Inner:
    rate: float = 0.1
    name: str = "adam"


@dataclasses.dataclass
class Outer:
    steps: int = 3
    files: tuple[str, ...] = ()
    inner: Inner = dataclasses.field(default_factory=Inner)
    start: str | None = None
    sizes: dict[str, int] = dataclasses.field(default_factory=dict)

    def problems(self):
        if self.steps < 1:
            yield f"steps: {self.steps} is not at least 1"


def test_a_config_survives_the_round_trip():
    config = Outer(5, ("a", "b"), Inner(0.5), None, {"x": 1})
    assert from_config_dict(Outer, as_config_dict(config)) == config


def test_an_override_of_an_empty_field_keeps_its_type():
    values = as_config_dict(Outer())
    values.start = "model"
    assert from_config_dict(Outer, values).start == "model"
    with pytest.raises(TypeError):
        values.start = 3


def test_integers_are_taken_for_floats_and_not_the_other_way_round():
    assert from_config_dict(Outer, {"inner": {"rate": 1}}).inner.rate == 1.0
    with pytest.raises(InputError, match="config.steps: expected int, got 2.5"):
        from_config_dict(Outer, {"steps": 2.5})


def test_all_problems_are_reported_at_once_with_a_suggestion():
    bad = {"stepz": 1, "files": "a", "inner": {"rate": "x", "nam": "y"}}
    with pytest.raises(InputError) as caught:
        from_config_dict(Outer, bad)
    text = str(caught.value)
    assert "the config has 4 problems" in text
    assert "config.stepz: unknown field; did you mean 'steps'?" in text
    assert "config.files: expected a tuple, got 'a'" in text
    assert "config.inner.rate: expected float, got 'x' (str)" in text
    assert "config.inner.nam: unknown field; did you mean 'name'?" in text


def test_numbers_that_are_not_finite_are_refused():
    with pytest.raises(InputError, match="not a finite number"):
        from_config_dict(Outer, {"inner": {"rate": float("nan")}})


def test_a_config_checks_its_own_sense():
    with pytest.raises(InputError, match="config.steps: 0 is not at least 1"):
        from_config_dict(Outer, {"steps": 0})


def test_the_stored_config_does_not_depend_on_the_order_of_keys():
    one = resolved_json({"b": 1, "a": (1, 2)})
    assert one == resolved_json({"a": [1, 2], "b": 1})
