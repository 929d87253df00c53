"""What a policy writes for given prompts, and how far it has moved to write it."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rlhf_jax.data.inputs import encode_prompts
from rlhf_jax.errors import InputError
from rlhf_jax.experience.scoring import decoded, sample_batch, sampling_spec
from rlhf_jax.models.responses import response_hidden, response_kl
from rlhf_jax.registry.model_directory import LoadedModel
from rlhf_jax.sampling.randomness import named_key

__all__ = ["Writing", "make_writer"]


@dataclasses.dataclass(frozen=True)
class Writing:
    """One response per prompt.

    Attributes:
      texts: [N] responses without their end token.
      kl: [N] Σ_t KL(π(·|s_t) ‖ π_first(·|s_t)) over the tokens of the response, in
        nats; its mean estimates KL(π ‖ π_first) with less noise than log-ratios.
    """

    texts: list[str]
    kl: Float[np.ndarray, " N"]


def make_writer(
    first: LoadedModel,
    *,
    max_prompt: int,
    max_response: int,
    batch_size: int = 64,
    seed: int = 0,
) -> Callable[[LoadedModel, Sequence[str]], Writing]:
    """`(policy, prompts) -> Writing` at temperature 1.

    Policies that are given the same prompts share their random numbers, so that their
    difference is less noisy than each of them.

    Args:
      first: the policy from which distances are measured, of the same shape as the
        policies to come.
      max_prompt: tokens; a longer prompt loses its beginning.
      max_response: tokens sampled at most.
      batch_size: rows sampled together.
      seed: of the samples.

    Raises:
      InputError: on a call, a policy of another shape than `first`.
    """
    first = first.with_config(residual_dropout=0.0)
    spec = sampling_spec(first, max_response)
    key = named_key(jax.random.key(seed), "writing")
    distance = jax.jit(functools.partial(_distance, first.model))

    def write(policy: LoadedModel, prompts: Sequence[str]) -> Writing:
        policy = policy.with_config(residual_dropout=0.0)
        if policy.model.config != first.model.config:
            raise InputError(
                "policies: expected models of one shape, got "
                f"{policy.model.config} after {first.model.config}"
            )
        texts: list[str] = []
        kl: list[np.ndarray] = []
        for start in range(0, len(prompts), batch_size):
            some = list(prompts[start : start + batch_size])
            filled = some + some[:1] * (batch_size - len(some))
            batch = encode_prompts(filled, first.tokenizer, max_prompt)
            batch["row"] = start + np.arange(batch_size)
            samples = sample_batch(first.model, policy.params, batch, key, spec)
            written = decoded(first.tokenizer, samples, spec.end_tokens)
            texts += written[: len(some)]
            nats = distance(policy.params, first.params, samples)
            kl.append(np.asarray(nats)[: len(some)])
        return Writing(texts, np.concatenate(kl) if kl else np.zeros(0, np.float32))

    return write


def _distance(
    model: Any, params: Any, ref_params: Any, samples: dict
) -> Float[Array, " B"]:
    per_token = response_kl(
        model,
        params,
        ref_params,
        response_hidden(model, params, samples),
        response_hidden(model, ref_params, samples),
        temperature=1.0,
    )
    return jnp.where(samples["mask"], per_token, 0.0).sum(axis=1)
