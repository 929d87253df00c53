"""Meshes by size, by name and by `auto`."""

import jax
import pytest
from jax.sharding import AxisType

from rlhf_jax.errors import InputError
from rlhf_jax.parallel import AXES, make_mesh, parse_mesh


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [
        ({}, (8, 1, 1)),
        ({"data": 2, "fsdp": -1}, (2, 4, 1)),
        ({"data": 1, "fsdp": 2, "tensor": 4}, (1, 2, 4)),
    ],
)
def test_one_size_may_be_the_rest(sizes, shape):
    mesh = make_mesh(**sizes)
    assert tuple(mesh.shape.values()) == shape and mesh.axis_names == AXES


def test_axes_are_auto():
    """Explicit axes would refuse an embedding lookup on sharded tokens."""
    for devices in (None, jax.devices()[:2]):
        mesh = make_mesh(devices=devices)
        assert set(mesh.axis_types) == {AxisType.Auto}


def test_some_devices_make_a_mesh():
    assert make_mesh(1, 2, 1, devices=jax.devices()[2:4]).size == 2


@pytest.mark.parametrize("sizes", [(3, 1, 1), (-1, -1, 1), (0, 8, 1), (-2, 1, 1)])
def test_sizes_that_do_not_fit_are_refused(sizes):
    with pytest.raises(InputError, match="mesh"):
        make_mesh(*sizes)


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("auto", (1, -1, 1)),
        ("2, 2, 2", (2, 2, 2)),
        ("fsdp=4,data=2", (2, 4, 1)),
        ("tensor=-1", (1, 1, -1)),
    ],
)
def test_settings_are_read(text, sizes):
    parsed = parse_mesh(text)
    assert tuple(parsed[axis] for axis in AXES) == sizes
    assert make_mesh(**parsed).size == 8


@pytest.mark.parametrize("text", ["", "8", "model=2", "data=two", "data=1=2", "1,2"])
def test_bad_settings_say_what_is_expected(text):
    with pytest.raises(InputError, match="mesh .*(expected|there are)"):
        parse_mesh(text)
