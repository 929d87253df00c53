"""One iteration of PPO: sample, assess, shape, update.

A pure function of (state, iteration): prompts, sampling keys and the order of the
minibatches are named by the iteration, so an iteration cut anywhere is simply done
again from the last checkpoint, with the same bits.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.experience.rollout import advantages_of, make_assess, rollout_metrics
from rlhf_jax.faults import fault
from rlhf_jax.losses import adaptive_kl_coef
from rlhf_jax.parallel import put_batch
from rlhf_jax.registry.model_directory import LoadedModel
from rlhf_jax.sampling import SamplingSpec, generate, layout_for_rollout
from rlhf_jax.sampling.randomness import named_key
from rlhf_jax.stages.ppo.config import Config

__all__ = ["Iteration", "Players"]

_TRAINED = (
    "prompts",
    "valid",
    "tokens",
    "mask",
    "old_logprobs",
    "old_values",
    "advantages",
    "returns",
)


@dataclasses.dataclass(frozen=True)
class Players:
    """The four models. `policy` is also the frozen reference; `reward` may be None."""

    policy: LoadedModel
    value: LoadedModel
    reward: LoadedModel | None
    reward_fn: Callable[[list[str], list[str]], Any] | None = None


class Iteration:
    """`(state, iteration) -> (state, metrics)` for `run_loop`.

    Attributes:
      config: the settings.
      players: the models.
      prompts: stream of `{"prompts", "valid"}`; batch i belongs to iteration i.
      texts: stream of pretraining windows, one batch per update; None when γ = 0.
      update: the compiled update of `make_loss`.
      mesh: where everything runs.
    """

    def __init__(
        self,
        config: Config,
        players: Players,
        prompts: Any,
        texts: Any,
        update: Callable,
        mesh: Any,
        frozen: dict,
    ):
        self.config, self.players = config, players
        self.prompts, self.texts = prompts, texts
        self.update, self.mesh, self.frozen = update, mesh, frozen
        tokenizer = players.policy.tokenizer
        self.spec = SamplingSpec(
            max_new_tokens=config.max_response,
            temperature=config.temperature,
            end_tokens=config.end_tokens or tuple(tokenizer.end_tokens),
            pad_token=tokenizer.pad_token,
        )
        dtype = config.rollout_dtype or players.policy.model.config.dtype
        self.sampler = players.policy.with_config(dtype=dtype).model
        self.assess = make_assess(
            players.policy.model,
            None if players.reward is None else players.reward.model,
            players.value.model,
            temperature=config.temperature,
        )
        self.shape = jax.jit(self._shape)
        self.take = jax.jit(
            lambda rollout, rows: jax.tree.map(lambda leaf: leaf[rows], rollout)
        )

    def __call__(self, state: Any, iteration: int) -> tuple[Any, dict]:
        samples = self.sample(state, iteration)
        assessed = self.score(state, samples)
        fault("ppo.advantages")
        rollout, metrics = self.shape(assessed, state.extra["kl_coef"])
        state, updates = self.learn(state, rollout, iteration)
        return self.adapt_kl(state, metrics, iteration), metrics | updates

    def measure(self, state: Any, iteration: int) -> dict:
        """The metrics of a rollout from which nothing is learned."""
        assessed = self.score(state, self.sample(state, iteration))
        return self.shape(assessed, state.extra["kl_coef"])[1]

    def sample(self, state: Any, iteration: int) -> dict:
        """Prompts of this iteration and the policy's responses to them."""
        fault("ppo.generate")
        batch = put_batch(self.prompts.batch(iteration), self.mesh)
        rows = batch["prompts"].shape[0]
        params = layout_for_rollout(
            state.params["policy"], self.mesh, self.sampler.config.dtype
        )
        samples = generate(
            self.sampler,
            params,
            batch["prompts"],
            batch["valid"],
            jnp.arange(rows),
            named_key(state.rng, "generate", iteration),
            self.spec,
            mesh=self.mesh if self.mesh.size > 1 else None,
        )
        return {
            "prompts": batch["prompts"],
            "valid": batch["valid"],
            "tokens": samples.tokens,
            "mask": samples.mask,
            "finished": samples.finished,
            "sampler_logprobs": samples.logprobs,
        }

    def score(self, state: Any, samples: dict) -> dict:
        """What reference, reward and value say about the responses."""
        fault("ppo.score")
        params = dict(
            self.frozen, policy=state.params["policy"], value=state.params["value"]
        )
        assessed = self.assess(params, samples)
        if self.players.reward_fn is not None:
            assessed["scores"] = self._called(samples)
        return assessed

    def _called(self, samples: dict) -> jax.Array:
        decode = self.players.policy.tokenizer.decode
        host = jax.device_get(samples)
        ends = set(self.spec.end_tokens)

        def texts(tokens: np.ndarray, mask: np.ndarray, left_out=()) -> list[str]:
            return [
                decode([int(t) for t in row[kept] if int(t) not in left_out])
                for row, kept in zip(tokens, mask, strict=True)
            ]

        scores = self.players.reward_fn(
            texts(host["prompts"], host["valid"]),
            texts(host["tokens"], host["mask"], ends),
        )
        return jnp.asarray(np.asarray(scores, np.float32))

    def _shape(self, assessed: dict, kl_coef: Any) -> tuple[dict, dict]:
        rollout = advantages_of(assessed, kl_coef, self.config.shaping)
        trained = {name: rollout[name] for name in _TRAINED}
        return trained, rollout_metrics(rollout)

    def learn(self, state: Any, rollout: dict, iteration: int) -> tuple[Any, dict]:
        """The updates of one rollout: every epoch in its own order of rows."""
        config, steps = self.config, []
        policy_on = float(not self.rests(iteration))
        for epoch in range(config.inner_epochs):
            order = jax.random.permutation(
                named_key(state.rng, "shuffle", iteration, epoch), config.batch_size
            )
            for rows in order.reshape(-1, config.minibatch_size):
                fault("ppo.minibatch")
                batch = {
                    "rollout": self.take(rollout, rows),
                    "policy_on": np.float32(policy_on),
                }
                if self.texts is not None:
                    fault("ppo.ptx")
                    index = iteration * config.minibatches + len(steps)
                    batch["ptx"] = self.texts.batch(index)
                state, metrics = self.update(state, batch)
                steps.append(metrics)
        fault("ppo.ema")
        return state, _over_updates(steps)

    def rests(self, iteration: int) -> bool:
        """Whether only the value function learns in this iteration."""
        return iteration < self.config.value_warmup_iterations

    def adapt_kl(self, state: Any, metrics: dict, iteration: int) -> Any:
        """β after this iteration; reports the β that was used.

        While the policy rests its KL of 0 says nothing about β.
        """
        control = self.config.kl
        metrics["kl_coef"] = state.extra["kl_coef"]
        if control.target is None or self.rests(iteration):
            metrics["kl_coef"] = metrics["kl_coef"] + 0.0  # a copy: state is donated
            return state
        adapted = adaptive_kl_coef(
            state.extra["kl_coef"],
            metrics["kl"],
            target=control.target,
            horizon=control.horizon,
            num_episodes=self.config.batch_size,
        )
        return state.replace(extra={**state.extra, "kl_coef": adapted})


def _over_updates(steps: list[dict]) -> dict:
    """Means over the updates of an iteration; counts are summed."""
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *steps)
    metrics = {name: values.mean() for name, values in stacked.items()}
    metrics["first_ratio_error"] = jnp.abs(stacked["ratio"][0] - 1.0)
    metrics["skipped"] = stacked["skipped"].sum()
    metrics["skipped_in_a_row"] = stacked["skipped_in_a_row"][-1]
    return metrics
