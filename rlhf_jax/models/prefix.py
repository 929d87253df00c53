"""K responses against one prompt: the prompt is computed once.

Separate sequences cost K (P + R) tokens; here P + K R. Values and gradients are those
of separate sequences: attention over the prompt's keys and over the response's own
join exactly by their normalisers (`attention.merged`).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.models.cache import init_cache
from rlhf_jax.models.heads import LanguageModel, ScalarModel


def shared_prefix_values(
    model: ScalarModel,
    params: dict,
    prompts: Int[Array, "B P"],
    prompt_valid: Bool[Array, "B P"],
    responses: Int[Array, "B K R"],
    response_valid: Bool[Array, "B K R"],
    **kwargs,
) -> Float[Array, "B K R"]:
    """The value at every response token, as if each followed its prompt alone.

    Args:
      model: reward model or value function.
      params: its parameters.
      prompts: token ids.
      prompt_valid: true at real tokens; padding anywhere.
      responses: K per prompt.
      response_valid: true at real tokens; padding anywhere.
      **kwargs: `deterministic`, `rngs`, as for `model.apply`.

    Returns:
      Values, float32. The score of a response is that at its last real token
      (`last_values`).
    """
    _, values = _both(
        model, params, prompts, prompt_valid, responses, response_valid, None, kwargs
    )
    return values.reshape(responses.shape)


def shared_prefix_hidden(
    model: LanguageModel,
    params: dict,
    prompts: Int[Array, "B P"],
    prompt_valid: Bool[Array, "B P"],
    responses: Int[Array, "B K R"],
    response_valid: Bool[Array, "B K R"],
    **kwargs,
) -> Float[Array, "B K R D"]:
    """The hidden state that predicts each response token.

    Entry r is the state at response token r - 1, and at the prompt's last real token
    for r = 0: `chunked_logprobs(hidden, model.unembedding(params), responses)` gives
    the log-probabilities of the responses.

    Args: as for `shared_prefix_values`; responses are padded on the right.

    Returns:
      Final hidden states in the compute dtype.
    """
    before, states = _both(
        model,
        params,
        prompts,
        prompt_valid,
        responses,
        response_valid,
        "hidden",
        kwargs,
    )
    slots = jnp.arange(prompts.shape[1], dtype=jnp.int32)
    last = jnp.where(prompt_valid, slots[None], 0).max(axis=1)
    first = jnp.take_along_axis(before, last[:, None, None], axis=1)  # [B 1 D]
    states = states.reshape(*responses.shape, -1)
    first = jnp.broadcast_to(first[:, None], (*responses.shape[:2], *first.shape[1:]))
    return jnp.concatenate([first, states[:, :, :-1]], axis=2)


def _both(
    model, params, prompts, prompt_valid, responses, response_valid, method, kwargs
):
    """Outputs at the prompt [B, P, ..] and at the responses [B K, R, ..]."""
    kwargs = dict(kwargs)
    rngs = kwargs.pop("rngs", None) or {}
    sides = [
        {name: jax.random.fold_in(key, i) for name, key in rngs.items()} or None
        for i in range(2)
    ]
    unstacked = isinstance(params["trunk"]["layers"], tuple | list)
    empty = init_cache(model.config, *prompts.shape, unstacked=unstacked)
    before, prefix = model.apply(
        {"params": params},
        prompts,
        prompt_valid,
        cache=empty,
        cache_index=0,
        method=method,
        rngs=sides[0],
        **kwargs,
    )
    width = responses.shape[-1]
    after = model.apply(
        {"params": params},
        responses.reshape(-1, width),
        response_valid.reshape(-1, width),
        prefix=prefix,
        method=method,
        rngs=sides[1],
        **kwargs,
    )
    return before, after
