"""One response, token by token, for a person who waits for it."""

import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from rlhf_jax.models import LanguageModel
from rlhf_jax.sampling.decoder import Decoder, decoding_params
from rlhf_jax.sampling.draw import row_keys
from rlhf_jax.sampling.prompts import check_prompts
from rlhf_jax.sampling.spec import SamplingSpec

_SHORTEST_BUCKET = 32  # tokens


def stream(
    model: LanguageModel,
    params: dict,
    prompt: Sequence[int],
    key: PRNGKeyArray,
    spec: SamplingSpec,
    *,
    row_id: int = 0,
) -> Iterator[tuple[int, float]]:
    """Yields (token, log-probability [nats]) as they are drawn, the end token last.

    The same tokens as `generate` with this key and row id. Prompts are filled up to a
    power of two, so that a conversation compiles few programs.

    Args:
      model: a language model.
      params: its parameters; those by `decoding_params` are not copied.
      prompt: token ids.
      key: typed key.
      spec: what is drawn.
      row_id: name of the response.

    Raises:
      InputError: an empty prompt, or one that leaves no room in the context.
    """
    context = model.config.context_length
    tokens, valid = _bucket(prompt, context)
    ids = np.asarray([row_id], np.int32)
    check_prompts(tokens, valid, ids, None, copies=1, config=model.config)
    start, advance = _programs(model, spec)
    params = _prepared(params, model.config.dtype)
    budget = min(spec.max_new_tokens, context - len(prompt))
    if budget == 0:
        return
    keys = row_keys(key, jnp.asarray(ids))
    token, logprob, end, cache = start(params, tokens, valid, keys)
    for step in range(1, budget + 1):
        yield int(token[0]), float(logprob[0])
        if bool(end[0]) or step == budget:
            return
        token, logprob, end, cache = advance(
            params, cache, token, keys, step, len(prompt), tokens.shape[1]
        )


@functools.lru_cache(maxsize=8)
def _programs(model: LanguageModel, spec: SamplingSpec):
    """The jitted first draw and the jitted next one; the cache is updated in place."""
    awake = jnp.ones(1, bool)

    @jax.jit
    def start(params, tokens, valid, keys):
        maker = Decoder(model, params, spec)
        hidden, cache = maker.prefill(tokens, valid)
        cache = maker.grow(cache, tokens.shape[1] + spec.max_new_tokens)
        steps = jnp.zeros(1, jnp.int32)
        return (*maker.draw(hidden, keys, steps, awake), cache)

    @functools.partial(jax.jit, donate_argnums=1)
    def advance(params, cache, token, keys, step, length, width):
        maker = Decoder(model, params, spec)
        position = jnp.reshape(length + step - 1, (1,))
        hidden, cache = maker.step(token, position, cache, width + step - 1)
        steps = jnp.reshape(jnp.int32(step), (1,))
        return (*maker.draw(hidden, keys, steps, awake), cache)

    return start, advance


_prepared = jax.jit(decoding_params, static_argnames="dtype")


def _bucket(prompt: Sequence[int], context_length: int):
    """[1, P] tokens and valid, P a power of two (at most the context, if it fits)."""
    width = _SHORTEST_BUCKET
    while width < len(prompt):
        width *= 2
    width = max(len(prompt), min(width, context_length))
    tokens = np.zeros((1, width), np.int32)
    tokens[0, width - len(prompt) :] = prompt
    return tokens, np.arange(width)[None] >= width - len(prompt)
