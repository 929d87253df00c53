"""Rows stay rows: a device computes its own, and weights are what travels.

Read from the compiled programs of the stages on 8 virtual devices, and from the numbers
that they give.
"""

import functools
import math

import jax
import numpy as np
import pytest
from tiny_programs import (
    FUNCTIONS,
    LARGEST_WEIGHT,
    UPDATES,
    B,
    D,
    V,
    small_chunks,
)

from rlhf_jax.errors import InputError
from rlhf_jax.losses import chunked
from rlhf_jax.parallel import (
    compile_function,
    compile_update,
    in_force,
    make_mesh,
    placed,
    put_batch,
    take_rows,
)
from rlhf_jax.parallel.compiled_text import collectives, product_flops

ONE, FSDP, ALL = (1, 1, 1), (1, 8, 1), (2, 2, 2)
slow = pytest.mark.slow
CASES = [
    ("ppo with ptx", FSDP),
    pytest.param("pretrain in micro-batches", ALL, marks=slow),
    *(pytest.param("ppo with ptx", s, marks=slow) for s in (ALL, (8, 1, 1))),
    pytest.param("ppo with ptx", (1, 1, 8), marks=slow),
    *(pytest.param(name, FSDP, marks=slow) for name in ("pretrain", "reward")),
]
SAID = [
    ("assessment", FSDP),
    *(pytest.param("assessment", s, marks=slow) for s in (ALL, (1, 1, 8), (8, 1, 1))),
    pytest.param("perplexity", ALL),
    pytest.param("scores", ALL, marks=slow),
]


def mesh_of(shape):
    return make_mesh(*shape, devices=jax.devices()[: math.prod(shape)])


@functools.cache
def updated(name, shape):
    """Metrics, parameters and the program's text of one update."""
    update, state, batch = UPDATES[name]()
    driver = compile_update(update, mesh_of(shape))
    state, metrics = driver(state, batch)
    (program,) = driver.programs.values()
    return jax.device_get((metrics, state.params)), program.as_text()


@functools.cache
def said(name, shape):
    function, params, batch = FUNCTIONS[name]()
    driver = compile_function(function, mesh_of(shape))
    found = driver(params, batch)
    (program,) = driver.programs.values()
    return found, program.as_text()


def chunked_alike(monkeypatch, shape):
    """So that FLOPs may be compared: chunks are per device."""
    small_chunks(monkeypatch, math.prod(shape))


def assert_close(found, expected, **tolerance):
    for one, other in zip(
        jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(one, other, **tolerance)


def assert_rows_stay(text, plain, shape, micro_batches=False):
    looped, table = [c for c in collectives(text) if c.depth], {V // shape[2], D}
    rows = shape[0] * shape[1]
    if rows > 1:
        assert not [c for c in looped if any(s[:1] == (B,) for s in c.shapes)]
        assert max((c.largest for c in looped), default=0) <= LARGEST_WEIGHT
        inner = [c for c in looped if c.depth > micro_batches]  # they add gradients
        assert not [c for c in inner if any(set(s) == table for s in c.shapes)]
    share = product_flops(text) * math.prod(shape) / product_flops(plain)
    assert 0.9 < share < 1.1


@pytest.mark.parametrize(("name", "shape"), CASES, ids=str)
def test_an_update_keeps_rows_and_numbers(name, shape, monkeypatch):
    """As on one device: the metrics, the weights, and an eighth of the products."""
    chunked_alike(monkeypatch, ONE)
    (metrics, params), plain = updated(name, ONE)
    chunked_alike(monkeypatch, shape)
    (found, moved), text = updated(name, shape)
    assert_close(found, metrics, rtol=2e-4, atol=2e-5)
    assert_close(moved, params, atol=2e-4)
    assert_rows_stay(text, plain, shape, "micro-batches" in name)


@pytest.mark.parametrize(("name", "shape"), SAID, ids=str)
def test_what_models_say_keeps_rows_and_numbers(name, shape, monkeypatch):
    chunked_alike(monkeypatch, ONE)
    expected, plain = said(name, ONE)
    chunked_alike(monkeypatch, shape)
    found, text = said(name, shape)
    assert_close(found, expected, atol=2e-5)
    assert_rows_stay(text, plain, shape)
    for leaf in jax.tree.leaves(found):
        ways = shape[0] * shape[1]
        assert leaf.addressable_shards[0].data.shape[0] == B // ways


def test_without_a_mesh_in_force_rows_would_be_gathered(monkeypatch):
    """The tests above can fail: this is the same function, laid out but not told."""
    chunked_alike(monkeypatch, ALL)
    function, params, batch = FUNCTIONS["perplexity"]()
    args = placed(params, mesh_of(ALL)), put_batch(batch, mesh_of(ALL))
    text = jax.jit(function).lower(*args).compile().as_text()
    chunked_alike(monkeypatch, ONE)
    with pytest.raises(AssertionError):
        assert_rows_stay(text, said("perplexity", ONE)[1], ALL)


def test_a_program_of_one_device_is_the_plain_one():
    """Line by line, as it is given to the compiler."""
    function, params, batch = FUNCTIONS["perplexity"]()

    def lowered(shape):
        with in_force(mesh_of(shape)):
            return jax.jit(function).lower(params, batch).as_text()

    bare = jax.jit(function).lower(params, batch).as_text()
    assert lowered(ONE) == bare
    assert lowered(FSDP) != bare


def test_chunks_of_logits_are_as_large_on_each_device(monkeypatch):
    """Eight devices hold eight times the logits: no more turns than they need."""
    sizes = []
    cut = chunked.over_chunks

    def seen(how, hiddens, weights, tokens, chunk_size):
        sizes.append(chunk_size)
        return cut(how, hiddens, weights, tokens, chunk_size)

    monkeypatch.setattr(chunked, "over_chunks", seen)
    monkeypatch.setattr(chunked, "CHUNK_LOGITS", V * 8)  # 8 tokens
    function, params, batch = FUNCTIONS["perplexity"]()
    for shape in (ONE, FSDP, (1, 1, 8)):
        with in_force(mesh_of(shape)):
            jax.eval_shape(function, params, batch)
    assert sizes == [8, 8, 64]


def test_rows_that_would_be_copied_are_refused_by_name():
    function, params, batch = FUNCTIONS["perplexity"]()
    few = jax.tree.map(lambda leaf: leaf[:12], batch)
    with pytest.raises(InputError, match="mask: 12 rows .* multiple of 8"):
        compile_function(function, mesh_of(FSDP))(params, few)
    update, state, _ = UPDATES["pretrain"]()
    driver = compile_update(update, mesh_of(FSDP))
    on_one = jax.tree.map(jax.numpy.asarray, few)
    with pytest.raises(InputError, match="mask: 12 rows"):
        driver(state, on_one)
    shapes = jax.eval_shape(lambda: on_one)
    with pytest.raises(InputError, match="mask: 12 rows"):
        driver.compiled(state, shapes)


def test_micro_batches_that_would_be_copied_are_refused_by_name():
    update, state, batch = UPDATES["pretrain in micro-batches"]()
    few = jax.tree.map(lambda leaf: leaf[:24], batch)
    with pytest.raises(InputError, match=r"mask: a micro-batch of 12 rows \(2 of them"):
        compile_update(update, mesh_of(FSDP))(state, few)


def test_a_batch_that_lies_elsewhere_is_put_in_its_place():
    function, params, batch = FUNCTIONS["scores"]()
    driver = compile_function(function, mesh_of(FSDP))
    everywhere = jax.device_put(batch, jax.sharding.NamedSharding(driver.mesh, jax.P()))
    assert_close(driver(params, everywhere), driver(params, batch), atol=0)
    assert len(driver.programs) == 1


def test_a_minibatch_of_a_rollout_lies_like_a_batch():
    mesh = mesh_of(ALL)
    whole = {"a": np.arange(32).reshape(16, 2), "b": np.arange(16)}
    rows = np.array([3, 1, 15, 8])
    taken = take_rows(put_batch(whole, mesh), rows, mesh)
    assert_close(taken, jax.tree.map(lambda leaf: leaf[rows], whole))
    assert {s.data.shape for s in taken["a"].addressable_shards} == {(1, 2)}
    with pytest.raises(InputError, match="rows: 6 rows .* multiple of 4"):
        take_rows(put_batch(whole, mesh), np.arange(6), mesh)
