"""What a rollout gives back."""

import dataclasses

import jax
from jaxtyping import Array, Bool, Float, Int


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Samples:
    """Responses of B rows within a budget of R tokens.

    Attributes:
      tokens: the response, `pad_token` behind it.
      mask: true at the tokens of the response, its end token included.
      logprobs: log-probability [nats] of each token under the distribution it was
        drawn from: softmax(z / τ), after the spec's filters; at temperature 0,
        softmax(z). 0 outside the mask.
      finished: true if the response ends with an end token, false if a limit cut it.
      lengths: tokens in the response [tokens], the end token included.
    """

    tokens: Int[Array, "B R"]
    mask: Bool[Array, "B R"]
    logprobs: Float[Array, "B R"]
    finished: Bool[Array, "B"]
    lengths: Int[Array, "B"]
