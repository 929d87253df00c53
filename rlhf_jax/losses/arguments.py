"""What a loss accepts: real numbers in float32 or wider, and equal shapes.

Every loss states its shapes and holds them: no broadcasting between arguments, because
a [B] that silently becomes [B, B] is a wrong loss that still trains.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped


def real(**arrays: Shaped[Array, "..."]) -> list[Float[Array, "..."]]:
    """The arrays, by name, as float32 (float64 stays float64).

    Raises:
      TypeError: an array of integers or booleans. Scores and logprobs are never whole
        numbers; an integer one has lost its fraction on the way (0.73 -> 0).
    """
    floats = []
    for name, array in arrays.items():
        array = jnp.asarray(array)
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise TypeError(
                f"{name} must be floating point, got {array.dtype} "
                f"of shape {array.shape}"
            )
        floats.append(array.astype(float_dtype(array)))
    return floats


def float_dtype(*arrays: Shaped[Array, "..."]) -> jnp.dtype:
    """What arrays are computed in: float32, or float64 if one of them is that."""
    wide = any(array.dtype == jnp.float64 for array in arrays)
    return jnp.dtype(jnp.float64 if wide else jnp.float32)


def scalar(number: float | Float[Array, ""], like: Array) -> Float[Array, ""]:
    """A setting (a coefficient, a range) as an array of the dtype of `like`."""
    return jnp.asarray(number).astype(like.dtype)


def same_shape(**arrays: Shaped[Array, "..."]) -> None:
    """Holds that all arrays have the shape of the first.

    Raises:
      ValueError: naming the two arrays and both shapes.
    """
    (first, model), *others = arrays.items()
    for name, array in others:
        if jnp.shape(array) != jnp.shape(model):
            raise ValueError(
                f"{first} has shape {jnp.shape(model)} "
                f"but {name} has shape {jnp.shape(array)}"
            )


def spread_as(array: Shaped[Array, "..."], like: Shaped[Array, "..."]) -> Array:
    """`array` cast to `like`'s varying axes (`pvary`), its values unchanged.

    Only a `shard_map` with `check_vma` sees the difference: there the carry of a scan
    must have those axes, and the gradient of a weight so cast is the sum over devices.
    Elsewhere the compiler drops the selection.
    """
    if like.size == 0:
        return array
    other = jax.lax.stop_gradient(like[(0,) * like.ndim]).astype(array.dtype)
    return jnp.where(jnp.zeros(array.shape, jnp.bool_), other, array)


def guarded(
    loss: Callable[..., Array], *, by_row: bool = False
) -> Callable[..., Array]:
    """Where no weight falls on a value, its gradient is exactly 0, even at NaN.

    The chain rule alone gives 0 · NaN = NaN for a token that carries no weight. Here
    the reverse pass sees harmless zeros wherever the incoming gradient is 0, and the
    true arguments elsewhere: nothing that carries weight is hidden.

    Args:
      loss: positional arrays -> values. Each argument is a scalar setting, or its
        shape begins with the shape of the values.
      by_row: a value depends on other entries of its row (first axis); the guard then
        holds for rows of which no value carries weight.

    Returns:
      The same function, with that reverse pass. It can be differentiated in reverse
      and forward over reverse; not forward alone (`jax.jvp` of the loss itself).
    """
    guarded_loss = jax.custom_vjp(loss)

    def forward(*args: Array) -> tuple[Array, tuple[Array, ...]]:
        return loss(*args), args

    def backward(args: tuple[Array, ...], cotangent: Array) -> tuple[Array, ...]:
        weighed = cotangent != 0
        if by_row:
            weighed = jnp.any(weighed, axis=tuple(range(1, weighed.ndim)))
        safe = [_zero_unless(weighed, arg) for arg in args]
        return jax.vjp(loss, *safe)[1](cotangent)

    guarded_loss.defvjp(forward, backward)
    return functools.wraps(loss)(guarded_loss)


def _zero_unless(weighed: Array, arg: Array) -> Array:
    if jnp.ndim(arg) < weighed.ndim:  # a scalar setting
        return arg
    extra = (1,) * (jnp.ndim(arg) - weighed.ndim)
    return jnp.where(weighed.reshape(weighed.shape + extra), arg, jnp.zeros_like(arg))
