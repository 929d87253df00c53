"""Rows over devices: the same tokens, and nobody waits for anybody within a loop."""

import re

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from rlhf_jax.sampling import SamplingSpec, generate, layout_for_rollout
from rlhf_jax.sampling.generation import rollout_program

COLLECTIVE = re.compile(
    r"= (?:\([^)]*\)|\S+) "
    r"(?:all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)"
    r"(?:-start)?\("
)


def mesh_of(data: int, fsdp: int, tensor: int):
    count = data * fsdp * tensor
    return jax.sharding.Mesh(
        np.array(jax.devices()[:count]).reshape(data, fsdp, tensor),
        ("data", "fsdp", "tensor"),
        axis_types=(jax.sharding.AxisType.Auto,) * 3,
    )


def split_params(params, mesh, axis: str):
    """Each stacked matrix split over `axis` in its last dimension."""

    def put(leaf):
        fits = leaf.ndim == 3 and leaf.shape[-1] % mesh.shape[axis] == 0
        spec = PartitionSpec(None, None, axis) if fits else PartitionSpec()
        return jax.device_put(leaf, NamedSharding(mesh, spec))

    return jax.tree.map(put, params)


def collectives(compiled_text: str) -> list[str]:
    """Every collective of a compiled program, with its replica groups."""
    return [line for line in compiled_text.splitlines() if COLLECTIVE.search(line)]


def compiled(policy, params, batch, spec, key, mesh, engine="static") -> str:
    program = rollout_program(policy.model, spec, engine=engine, mesh=mesh)
    prompts, valid = np.tile(batch.prompts, (4, 1)), np.tile(batch.valid, (4, 1))
    row_ids = np.arange(24, dtype=np.int32)
    limits = np.full(24, spec.max_new_tokens, np.int32)
    lowered = program.lower(params, prompts, valid, row_ids, limits, key)
    return lowered.compile().as_text()


@pytest.fixture(scope="module")
def one_device(policy, batch, spec, key):
    return generate(
        policy.model,
        policy.params,
        batch.prompts,
        batch.valid,
        batch.row_ids,
        key,
        spec,
    )


def assert_same(samples, reference):
    for name in ("tokens", "mask", "finished", "lengths"):
        np.testing.assert_array_equal(getattr(samples, name), getattr(reference, name))
    np.testing.assert_allclose(samples.logprobs, reference.logprobs, atol=2e-5)


@pytest.mark.parametrize("engine", ["static", "continuous"])
def test_eight_devices_write_what_one_writes(
    policy, batch, spec, key, one_device, engine
):
    """6 rows over 8 devices: two get fillers only."""
    mesh = mesh_of(4, 2, 1)
    params = layout_for_rollout(split_params(policy.params, mesh, "fsdp"), mesh)
    rows = (batch.prompts, batch.valid, batch.row_ids)
    samples = generate(policy.model, params, *rows, key, spec, engine=engine, mesh=mesh)
    assert_same(samples, one_device)


def test_tensor_parallel_parameters_write_the_same(
    policy, batch, spec, key, one_device
):
    mesh = mesh_of(2, 1, 2)
    params = layout_for_rollout(split_params(policy.params, mesh, "tensor"), mesh)
    samples = generate(
        policy.model,
        params,
        batch.prompts,
        batch.valid,
        batch.row_ids,
        key,
        spec,
        mesh=mesh,
    )
    assert_same(samples, one_device)


@pytest.mark.parametrize("engine", ["static", "continuous"])
def test_data_parallel_programs_hold_no_collective(policy, batch, spec, key, engine):
    mesh = mesh_of(4, 2, 1)
    params = layout_for_rollout(split_params(policy.params, mesh, "fsdp"), mesh)
    text = compiled(policy, params, batch, spec, key, mesh, engine)
    assert "while(" in text and not collectives(text)


def test_without_the_layout_parameters_would_be_gathered(policy, batch, spec, key):
    """The test above can fail: parameters split over fsdp do need collectives."""
    mesh = mesh_of(1, 4, 1)
    params = split_params(policy.params, mesh, "fsdp")
    assert collectives(compiled(policy, params, batch, spec, key, mesh))


def test_tensor_parallel_programs_talk_within_a_replica_only(policy, batch, key):
    """Devices 0, 1 are one replica, 2, 3 the other: groups never join them."""
    mesh = mesh_of(2, 1, 2)
    params = layout_for_rollout(split_params(policy.params, mesh, "tensor"), mesh)
    lines = collectives(compiled(policy, params, batch, SamplingSpec(8), key, mesh))
    assert lines
    for line in lines:
        pairs = re.findall(r"\{(\d),(\d)\}", line.split("replica_groups=")[-1])
        within = pairs and all(int(a) // 2 == int(b) // 2 for a, b in pairs)
        assert within or "replica_groups=[2,2]<=[4]" in line, line


def test_the_layout_keeps_the_tensor_axis_alone(policy):
    mesh = mesh_of(2, 2, 2)
    both = jax.device_put(
        np.ones((3, 8, 8), np.float32),
        NamedSharding(mesh, PartitionSpec(None, "fsdp", ("tensor", "data"))),
    )
    laid = layout_for_rollout({"layers": {"kernel": both}}, mesh)["layers"]["kernel"]
    assert laid.sharding.spec == PartitionSpec(None, None, "tensor")


def test_the_layout_casts_matrices_and_leaves_vectors(policy):
    tree = {
        "layers": {"kernel": np.ones((3, 8, 8)), "scale": np.ones((3, 8), np.float32)},
        "norm": np.ones(8, np.float32),
        "embedding": np.ones((9, 8), np.float32),
    }
    tree = jax.tree.map(jax.numpy.asarray, tree)
    laid = layout_for_rollout(tree, mesh_of(1, 1, 1), "bfloat16")
    dtypes = jax.tree.map(lambda leaf: leaf.dtype.name, laid)
    assert dtypes == {
        "layers": {"kernel": "bfloat16", "scale": "float32"},
        "norm": "float32",
        "embedding": "bfloat16",
    }


def test_the_layout_casts_unstacked_layers_alike():
    tree = {"layers": ({"kernel": jax.numpy.ones((8, 8)), "scale": jax.numpy.ones(8)},)}
    laid = layout_for_rollout(tree, mesh_of(1, 1, 1), "bfloat16")["layers"][0]
    assert laid["kernel"].dtype == "bfloat16" and laid["scale"].dtype == "float32"
