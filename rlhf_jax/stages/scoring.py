"""Sampling from a policy and scoring with a reward model, outside of PPO."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rlhf_jax.sampling import SamplingSpec, generate
from rlhf_jax.stages.ensemble import reward_scores
from rlhf_jax.stages.hand_over import LoadedModel
from rlhf_jax.stages.inputs import encode_prompts

__all__ = [
    "decoded",
    "make_policy_score",
    "make_text_reward",
    "sample_batch",
    "sampling_spec",
]


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


def _judge(reward: LoadedModel) -> Callable[[Any, dict], Float[Array, " B"]]:
    return jax.jit(
        lambda params, rows: reward_scores(reward.model, params, rows)["scores"]
    )


def make_policy_score(
    policy: LoadedModel, reward: LoadedModel, *, max_response: int
) -> Callable[[Any, dict, Any], Float[Array, " B"]]:
    """`(policy params, batch of prompts, key) -> scores [B]` of fresh samples.

    Args:
      policy: whose params will come.
      reward: of `load_reward`: one model or an ensemble.
      max_response: tokens sampled at most.
    """
    spec = sampling_spec(policy, max_response)
    sampler = policy.with_config(residual_dropout=0.0).model
    judge = _judge(reward)

    def score(params: Any, batch: dict, key: Any) -> Float[Array, " B"]:
        samples = sample_batch(sampler, params, batch, key, spec)
        return judge(reward.params, samples)

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
    judge = _judge(reward)

    def rows_of(responses: Sequence[str]) -> dict[str, np.ndarray]:
        tokens = np.full((batch_size, max_response), tokenizer.pad_token, np.int32)
        mask = np.zeros((batch_size, max_response), bool)
        for i, text in enumerate(responses):
            row = [*tokenizer.encode(text), tokenizer.end_token][:max_response]
            tokens[i, : len(row)], mask[i, : len(row)] = row, True
        return {"tokens": tokens, "mask": mask}

    def scores(prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        found = []
        for start in range(0, len(prompts), batch_size):
            some = list(prompts[start : start + batch_size])
            filled = some + [""] * (batch_size - len(some))
            batch = encode_prompts(filled, tokenizer, max_prompt)
            batch |= rows_of(responses[start : start + batch_size])
            found.append(np.asarray(judge(reward.params, batch))[: len(some)])
        return np.concatenate(found) if found else np.zeros(0, np.float32)

    return scores
