"""What holds for every loss of the table (`table.ROWS`), drawn by Hypothesis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from loss_row import Row, arrays_of, compiled, run
from table import ROWS

# Few shapes, so that each loss compiles a handful of times; any number of values.
SHAPES = st.sampled_from([(1, 1), (8, 3)])
SEEDS = st.integers(0, 2**31)
every_loss = pytest.mark.parametrize("row", ROWS.values(), ids=str)
few = settings(max_examples=8)


def drawn(row: Row, shape: tuple[int, int], seed: int) -> tuple[dict, np.ndarray]:
    """(inputs, a mask of the values: of rows and of single values)."""
    rng = np.random.default_rng(seed)
    inputs = row.draw(rng, *shape)
    size = row.oracle(**inputs).shape
    kept = rng.random(size) < rng.choice([0.3, 0.8, 1.0])
    rows = rng.random(size[0]) < 0.8
    mask = kept & rows.reshape(-1, *(1,) * (kept.ndim - 1))
    if row.mask and inputs[row.mask].shape == size:
        mask &= inputs[row.mask]
    return inputs, mask


def weights_of(mask: np.ndarray) -> np.ndarray:
    return mask / max(mask.sum(), 1)


def spoiled(row: Row, inputs: dict, mask: np.ndarray, number: float) -> dict:
    """The inputs with `number` at every float on which no weight falls."""
    changed = {}
    for name, array in inputs.items():
        array = array.copy()
        changed[name] = array
        if name in row.shared or array.dtype.kind != "f":
            continue
        unused = ~mask
        if row.forward_looking:  # only a row that counts nowhere is unused
            unused = np.broadcast_to(unused.all(axis=1, keepdims=True), mask.shape)
        if row.shift:  # the last position predicts nothing
            unused = np.pad(unused, ((0, 0), (0, row.shift)), constant_values=True)
        if array.ndim < unused.ndim:  # one number per row of values
            unused = unused.all(axis=1)
        array[unused] = number
        if row.mask and array.shape == inputs[row.mask].shape:
            array[~inputs[row.mask]] = number
    return changed


@every_loss
def test_the_hand_worked_example_comes_out(row):
    inputs, expected = row.hand
    values = np.asarray(row.loss(**arrays_of(inputs)))
    np.testing.assert_allclose(values, expected, atol=1e-4)


@every_loss
@few
@given(SHAPES, SEEDS, st.sampled_from([0.1, 1.0, 5.0]))
def test_a_loss_equals_a_plain_float64_loop(row, shape, seed, scale):
    inputs, mask = drawn(row, shape, seed)
    for name, array in inputs.items():
        if array.dtype.kind == "f":
            inputs[name] = (array * scale).astype(np.float32).astype(np.float64)
    _, values, _ = run(row, inputs, weights_of(mask))
    expected = row.oracle(**inputs)
    np.testing.assert_allclose(values, expected, rtol=2e-5, atol=2e-5 * scale)


@every_loss
def test_jit_and_vmap_change_nothing(row):
    pairs = [row.draw(np.random.default_rng(seed), 3, 4) for seed in (0, 1)]
    pairs = [arrays_of(inputs) for inputs in pairs]
    plain = [row.loss(**inputs) for inputs in pairs]
    stacked = {name: jnp.stack([p[name] for p in pairs]) for name in pairs[0]}
    mapped = jax.jit(jax.vmap(lambda arrays: row.loss(**arrays)))(stacked)
    np.testing.assert_allclose(mapped, jnp.stack(plain), rtol=1e-5, atol=1e-6)


@every_loss
def test_the_gradient_is_that_of_the_value(row):
    inputs = row.draw(np.random.default_rng(3), 2, 3)
    exact = not row.float32_only
    with jax.enable_x64(exact):
        arrays = arrays_of(inputs, jnp.float64 if exact else jnp.float32)
        floats = {n: a for n, a in arrays.items() if a.dtype.kind == "f"}
        others = {n: a for n, a in arrays.items() if n not in floats}
        tolerance = 1e-6 if exact else 2e-2
        check_grads(
            jax.jit(lambda floats: row.loss(**floats, **others)),
            (floats,),
            order=1,
            modes=("rev",),
            atol=tolerance,
            rtol=tolerance,
            eps=1e-5 if exact else 1e-2,
        )


@every_loss
@few
@given(SHAPES, SEEDS, st.sampled_from([np.nan, np.inf, -np.inf, 1e30, -7.0]))
def test_what_carries_no_weight_changes_neither_value_nor_gradient(
    row, shape, seed, number
):
    inputs, mask = drawn(row, shape, seed)
    changed = spoiled(row, inputs, mask, number)
    total, _, gradients = run(row, inputs, weights_of(mask))
    new_total, _, new_gradients = run(row, changed, weights_of(mask))
    assert np.isfinite(total) and new_total == total
    for name, gradient in gradients.items():
        np.testing.assert_array_equal(new_gradients[name], gradient, err_msg=name)
        if name not in row.shared:
            unused = np.isnan(spoiled(row, inputs, mask, np.nan)[name])
            assert not gradient[unused].any(), name


@every_loss
@few
@given(SHAPES, SEEDS)
def test_a_nan_that_carries_weight_is_not_hidden(row, shape, seed):
    inputs, mask = drawn(row, shape, seed)
    total, _, gradients = run(row, inputs, weights_of(mask))
    for name, gradient in gradients.items():
        weighed = np.argwhere(gradient != 0)
        if not weighed.size:
            continue
        broken = dict(inputs, **{name: inputs[name].copy()})
        broken[name][tuple(weighed[0])] = np.nan
        assert np.isnan(run(row, broken, weights_of(mask))[0]), name


@every_loss
def test_bfloat16_goes_in_and_float32_comes_out(row):
    inputs = row.draw(np.random.default_rng(5), 3, 4)
    short = arrays_of(inputs, jnp.bfloat16)
    values = row.loss(**short)
    assert values.dtype == jnp.float32
    rounded = {
        n: a.astype(jnp.float32) if a.dtype == jnp.bfloat16 else a
        for n, a in short.items()
    }
    # The same numbers in float32: only the projection itself may round differently.
    np.testing.assert_allclose(values, row.loss(**rounded), rtol=1e-5, atol=1e-5)


@every_loss
def test_an_empty_mask_gives_zero_and_no_gradient(row):
    inputs, mask = drawn(row, (3, 4), 0)
    nothing = np.zeros_like(mask)
    if row.mask:
        inputs[row.mask] = np.zeros_like(inputs[row.mask])
    broken = spoiled(row, inputs, nothing, np.nan)
    total, _, gradients = run(row, broken, weights_of(nothing))
    assert total == 0.0
    assert not any(gradient.any() for gradient in gradients.values())


@every_loss
@few
@given(SEEDS, st.lists(st.integers(1, 7), min_size=1, max_size=3, unique=True))
def test_any_split_of_the_batch_adds_up_to_the_same_gradient(row, seed, cuts):
    inputs, mask = drawn(row, (8, 3), seed)
    weights = weights_of(mask)
    total, _, gradients = run(row, inputs, weights)
    sums = {name: np.zeros_like(g) for name, g in gradients.items()}
    part_total = 0.0
    for part in np.split(np.arange(8), sorted(cuts)):
        # Rows outside the part keep their shape and lose their weight: one program.
        kept = np.isin(np.arange(8), part).reshape(-1, *(1,) * (weights.ndim - 1))
        value, _, parts = run(row, inputs, np.where(kept, weights, 0))
        part_total += value
        sums = {name: sums[name] + parts[name] for name in sums}
    np.testing.assert_allclose(part_total, total, rtol=1e-5, atol=1e-6)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(sums[name], gradient, rtol=1e-5, atol=1e-6)


@every_loss
def test_a_row_knows_nothing_of_its_batch_mates(row):
    inputs, mask = drawn(row, (8, 3), 11)
    _, values, _ = run(row, inputs, weights_of(mask))
    order = np.random.default_rng(0).permutation(8)
    moved = {n: a if n in row.shared else a[order] for n, a in inputs.items()}
    _, moved_values, _ = run(row, moved, weights_of(mask))
    np.testing.assert_allclose(moved_values, values[order], rtol=1e-6, atol=1e-6)


def _sloppy(row: Row, unchecked, monkeypatch):
    """The row's loss without the run-time checker, as people call it."""
    from rlhf_jax import losses

    for name, function in vars(unchecked).items():
        monkeypatch.setattr(losses, name, function)
    return row.loss


@pytest.mark.parametrize("row", [r for r in ROWS.values() if r.unequal], ids=str)
def test_unequal_shapes_are_refused_by_name(row, unchecked, monkeypatch):
    loss = _sloppy(row, unchecked, monkeypatch)
    arrays = arrays_of(row.draw(np.random.default_rng(0), 3, 4))
    first, second = row.unequal
    arrays[first] = arrays[first][:2]
    with pytest.raises(ValueError) as refusal:
        loss(**arrays)
    for name in (first, second):
        assert name in str(refusal.value)
        assert str(arrays[name].shape) in str(refusal.value)


@pytest.mark.parametrize("row", [r for r in ROWS.values() if not r.shared], ids=str)
def test_integers_where_numbers_are_due_are_refused(row, unchecked, monkeypatch):
    loss = _sloppy(row, unchecked, monkeypatch)
    arrays = arrays_of(row.draw(np.random.default_rng(0), 3, 4))
    for name, array in arrays.items():
        if array.dtype == jnp.float32:
            with pytest.raises(TypeError, match=name):
                loss(**dict(arrays, **{name: array.astype(jnp.int32)}))


def test_the_table_has_every_loss():
    from rlhf_jax import losses

    reductions = {"normalize", "weighted_sum", "masked_mean", "masked_whiten"}
    not_losses = reductions | {
        "TokenComparison",
        "TokenStatistics",
        "adaptive_kl_coef",
        "best_of_n_estimate",
        "best_of_n_kl",
        "next_token_pairs",
        "ranking_accuracy",
        "terminal_index",
        "untied_pairs",
    }
    uncovered = [
        name
        for name in set(losses.__all__) - not_losses
        if not any(row_name.startswith(name) for row_name in ROWS)
    ]
    assert not uncovered
    assert compiled.cache_info().currsize <= len(ROWS)
