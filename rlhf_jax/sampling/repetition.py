"""How much of a response it has said before."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

__all__ = ["repeated_pairs"]


def repeated_pairs(
    tokens: Int[Array, "B R"], mask: Bool[Array, "B R"]
) -> Float[Array, "B R"]:
    """1 at a token that stood earlier in the response behind the same token, else 0.

    By sorting the pairs of each row, O(R log R); all pairs of pairs would be O(R²).

    Args:
      tokens: ids ≥ 0.
      mask: tokens that count, later and earlier ones; the token before a pair's second
        may be masked. The first token's pair is (none, token).

    >>> tokens = jnp.array([[7, 8, 7, 8, 8, 7]])
    >>> repeated_pairs(tokens, jnp.ones((1, 6), bool)).tolist()
    [[0.0, 0.0, 0.0, 1.0, 0.0, 1.0]]
    """
    if not tokens.shape[1]:
        return jnp.zeros(tokens.shape, jnp.float32)
    previous = jnp.pad(tokens, ((0, 0), (1, 0)), constant_values=-1)[:, :-1]
    places = jnp.broadcast_to(jnp.arange(tokens.shape[1])[None], tokens.shape)
    # masked ones last; equal pairs side by side, the earlier first
    keys = (~mask, previous, tokens, places)
    out, before, token, place = jax.lax.sort(keys, dimension=1, num_keys=4)
    same = (before[:, 1:] == before[:, :-1]) & (token[:, 1:] == token[:, :-1])
    again = jnp.pad(same & ~out[:, 1:], ((0, 0), (1, 0)))
    _, again = jax.lax.sort((place, again), dimension=1, num_keys=1)
    return again.astype(jnp.float32)
