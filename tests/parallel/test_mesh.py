"""Meshes by size, by name and by `auto`."""

import dataclasses

import jax
import numpy as np
import pytest
from jax.sharding import AxisType

from rlhf_jax.errors import InputError
from rlhf_jax.parallel import AXES, make_mesh, parse_mesh
from rlhf_jax.parallel.mesh import arranged, island_of


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


@dataclasses.dataclass(frozen=True)
class Chip:
    """What a mesh reads of a device, of hardware that nobody here has."""

    id: int
    process_index: int
    slice_index: int | None = None
    platform: str = "gpu"
    device_kind: str = "NVIDIA H100"


def chips(islands, each, *, hosts_per_island=1, sliced=True):
    per_host = each // hosts_per_island
    return [
        Chip(i, i // per_host, i // each if sliced else None)
        for i in range(islands * each)
    ]


@pytest.mark.parametrize(
    ("devices", "sizes"),
    [
        (chips(1, 256, hosts_per_island=64), (1, -1, 1)),  # a slice of many hosts
        (chips(2, 16, hosts_per_island=4), (2, -1, 1)),
        (chips(4, 8, sliced=False), (4, -1, 1)),  # hosts, where nothing is told
    ],
)
def test_auto_cuts_parameters_over_one_fast_network(devices, sizes):
    assert tuple(parse_mesh("auto", devices).values()) == sizes


def islands_of(mesh):
    return np.vectorize(island_of)(mesh)


def test_slices_are_spread_over_data():
    mesh = arranged(chips(2, 16), (4, 4, 2))
    assert (islands_of(mesh)[:2] == 0).all() and (islands_of(mesh)[2:] == 1).all()
    assert {d.id for d in mesh.flat} == set(range(32))


def test_slices_that_data_cannot_hold_are_spread_over_fsdp_too():
    found = islands_of(arranged(chips(4, 8), (2, 16, 1)))
    assert found[0, :8].tolist() == [[0]] * 8 and found[0, 8:].tolist() == [[1]] * 8
    assert found[1, :8].tolist() == [[2]] * 8 and found[1, 8:].tolist() == [[3]] * 8


def test_neighbours_of_one_island_keep_to_the_inner_axes():
    found = islands_of(arranged(chips(8, 8, sliced=False), (8, 1, 8)))
    assert all(len(set(row)) == 1 for row in found[:, 0].tolist())


def test_unequal_islands_are_refused():
    with pytest.raises(InputError, match="unequal numbers .* 4 on 0, 2 on 1"):
        arranged(chips(2, 4)[:6], (2, 3, 1))
