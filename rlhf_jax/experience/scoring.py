"""Sampling from a policy and scoring with a reward model, outside of PPO."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rlhf_jax.data.inputs import encode_prompts
from rlhf_jax.registry.ensemble import load_reward, reward_scores
from rlhf_jax.registry.model_directory import LoadedModel, require_one_tokenizer
from rlhf_jax.sampling import SamplingSpec, generate

__all__ = [
    "WIDTH",
    "decoded",
    "make_policy_score",
    "make_text_reward",
    "reward_of",
    "sample_batch",
    "sampling_spec",
]


# Texts are padded to a multiple of this: one compiled program per multiple.
WIDTH = 32


def sampling_spec(
    model: LoadedModel,
    max_response: int,
    temperature: float = 1.0,
    end_tokens: Sequence[int] = (),
) -> SamplingSpec:
    """The `SamplingSpec` with the tokenizer's pad and (unless given) end token."""
    return SamplingSpec(
        max_new_tokens=max_response,
        temperature=temperature,
        end_tokens=tuple(end_tokens) or tuple(model.tokenizer.end_tokens),
        pad_token=model.tokenizer.pad_token,
    )


def sample_batch(
    model: Any, params: Any, batch: dict, key: Any, spec: SamplingSpec
) -> dict[str, Array]:
    """Responses to a batch of prompts.

    Args:
      model: `LanguageModel`.
      params: its params.
      batch: `prompts [B,P]` left padded, `valid [B,P]`; `row [B]` names the rows'
        randomness where present, else their place does.
      key: typed key.
      spec: how to sample.

    Returns:
      `prompts`, `valid`, `tokens [B,R]`, `mask [B,R]`, `finished [B]`,
      `sampler_logprobs [B,R]`.
    """
    prompts, valid = jnp.asarray(batch["prompts"]), jnp.asarray(batch["valid"])
    row_ids = jnp.asarray(batch.get("row", np.arange(prompts.shape[0])))
    samples = generate(model, params, prompts, valid, row_ids, key, spec)
    return {
        "prompts": prompts,
        "valid": valid,
        "tokens": samples.tokens,
        "mask": samples.mask,
        "finished": samples.finished,
        "sampler_logprobs": samples.logprobs,
    }


def decoded(tokenizer: Any, samples: dict, end_tokens: Sequence[int]) -> list[str]:
    """The text of each response, without its end token."""
    tokens, mask = np.asarray(samples["tokens"]), np.asarray(samples["mask"])
    ends = set(end_tokens)
    return [
        tokenizer.decode([int(t) for t in row[kept] if int(t) not in ends])
        for row, kept in zip(tokens, mask, strict=True)
    ]


@functools.partial(jax.jit, static_argnums=0)
def _judged(model: Any, params: Any, rows: dict) -> Float[Array, " B"]:
    return reward_scores(model, params, rows)["scores"]


def make_policy_score(
    policy: LoadedModel, reward: LoadedModel, *, max_response: int
) -> Callable[[Any, dict, Any], Float[Array, " B"]]:
    """`(policy params, batch of prompts, key) -> scores [B]` of fresh samples.

    Args:
      policy: whose params will come.
      reward: of `load_reward`: one model or an ensemble.
      max_response: tokens sampled at most.

    Raises:
      InputError: the two have different tokenizers.
    """
    require_one_tokenizer(policy, reward, "the policy and the reward model")
    spec = sampling_spec(policy, max_response)
    sampler = policy.with_config(residual_dropout=0.0).model

    def score(params: Any, batch: dict, key: Any) -> Float[Array, " B"]:
        samples = sample_batch(sampler, params, batch, key, spec)
        return _judged(reward.model, reward.params, samples)

    return score


def make_text_reward(
    reward: LoadedModel, *, max_prompt: int, max_response: int, batch_size: int = 64
) -> Callable[[Sequence[str], Sequence[str]], np.ndarray]:
    """A reward model as a function of texts: `(prompts, responses) -> scores [N]`.

    Args:
      reward: of `load_reward`: one model or an ensemble.
      max_prompt: tokens; a longer prompt loses its beginning.
      max_response: tokens with the end token; a longer response loses its end.
      batch_size: rows forwarded together.
    """
    tokenizer = reward.tokenizer
    limits = np.array([max_prompt, max_response])

    def scores(prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        asked = tokenizer.encode_batch(list(prompts))
        said = tokenizer.encode_batch(list(responses))
        said = [[*row, tokenizer.end_token] for row in said]
        pairs = zip(asked, said, strict=True)
        sizes = np.array([(1 + len(p), len(r)) for p, r in pairs])
        found = np.zeros(len(prompts), np.float32)
        order = np.lexsort(sizes.reshape(-1, 2).T[::-1])  # of one length together
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            widths = -(-sizes[rows].max(axis=0) // WIDTH) * WIDTH
            width, room = np.minimum(widths, limits).tolist()
            filled = [prompts[i] for i in rows] + [""] * (batch_size - len(rows))
            batch = encode_prompts(filled, tokenizer, width)
            batch |= _padded([said[i] for i in rows], batch_size, room, tokenizer)
            scored = _judged(reward.model, reward.params, batch)
            found[rows] = np.asarray(scored)[: len(rows)]
        return found

    return scores


def reward_of(config: Any) -> Callable[[Sequence[str], Sequence[str]], np.ndarray]:
    """The reward model that a stage's config names, as `make_text_reward` gives it.

    Args:
      config: with `reward`, `ensemble`, `variance_coef`, `max_prompt` and
        `max_response`.
    """
    loaded = load_reward(
        config.reward,
        combination=config.ensemble,
        variance_coef=config.variance_coef,
    )
    return make_text_reward(
        loaded, max_prompt=config.max_prompt, max_response=config.max_response
    )


def _padded(
    rows: list[list[int]], count: int, length: int, tokenizer: Any
) -> dict[str, np.ndarray]:
    """`tokens` and `mask` [count, length]: rows cut or padded on the right."""
    tokens = np.full((count, length), tokenizer.pad_token, np.int32)
    mask = np.zeros((count, length), bool)
    for i, row in enumerate(rows):
        kept = row[:length]
        tokens[i, : len(kept)], mask[i, : len(kept)] = kept, True
    return {"tokens": tokens, "mask": mask}
