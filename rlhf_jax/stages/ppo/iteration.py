"""One iteration of PPO: sample, assess, shape, update.

A pure function of (state, iteration): prompts, sampling keys and the order of the
minibatches are named by the iteration, so an iteration cut anywhere is simply done
again from the last checkpoint, with the same bits.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.data import Prompt
from rlhf_jax.experience import (
    advantages_of,
    make_assess,
    rollout_metrics,
    sample_batch,
    sampling_spec,
)
from rlhf_jax.experience.writer import decoded
from rlhf_jax.faults import fault
from rlhf_jax.losses import adaptive_kl_coef
from rlhf_jax.parallel import compile_function, put_batch, take_rows, to_host
from rlhf_jax.sampling import layout_for_rollout
from rlhf_jax.sampling.randomness import named_key
from rlhf_jax.stages.ppo.cast import Cast, Players
from rlhf_jax.stages.ppo.config import Config

__all__ = ["Iteration"]

_TRAINED = ("prompts", "valid", "tokens", "mask", "old_logprobs", "advantages")


class Iteration:
    """`(state, iteration) -> (state, metrics)` for the loop.

    Attributes:
      config: the settings.
      players: the models.
      prompts: stream of `{"prompts", "valid", "row"}`; batch i belongs to iteration i.
      records: the record of each row of the stream.
      texts: stream of pretraining windows, one batch per update; None when γ = 0.
      update: the compiled update of `make_loss`.
      mesh: where everything runs.
      frozen: of `cast`, on the mesh.
      cast: how the params of each role come of what is trained and what is frozen;
        None: that of the players.
    """

    def __init__(
        self,
        config: Config,
        players: Players,
        prompts: Any,
        records: Sequence[Prompt],
        texts: Any,
        update: Callable,
        mesh: Any,
        frozen: dict,
        cast: Cast | None = None,
    ):
        self.config, self.players, self.records = config, players, records
        self.prompts, self.texts = prompts, texts
        self.update, self.mesh, self.frozen = update, mesh, frozen
        self.cast, self.bases = cast or Cast.of(players), frozen.get("bases", {})
        self.spec = sampling_spec(
            players.policy, config.max_response, config.temperature, config.end_tokens
        )
        dtype = config.rollout_dtype or players.policy.model.config.dtype
        self.sampler = players.policy.with_config(dtype=dtype).model
        assess = make_assess(
            players.policy.model,
            players.reward_model,
            None if players.value is None else players.value.model,
            temperature=config.temperature,
        )
        self.assess = compile_function(self.cast.of_whole(assess), mesh)
        self.shape = jax.jit(self._shape)
        self.take = functools.partial(take_rows, mesh=mesh)

    def __call__(self, state: Any, iteration: int) -> tuple[Any, dict]:
        samples = self.sample(state, iteration)
        assessed = self.score(state, samples, iteration)
        fault("ppo.advantages")
        rollout, metrics = self.shape(assessed, state.extra["kl_coef"])
        state, updates = self.learn(state, rollout, iteration)
        return self.adapt_kl(state, metrics, iteration), metrics | updates

    def measure(self, state: Any, iteration: int) -> dict:
        """The metrics of a rollout from which nothing is learned."""
        assessed = self.score(state, self.sample(state, iteration), iteration)
        return self.shape(assessed, state.extra["kl_coef"])[1]

    def sample(self, state: Any, iteration: int) -> dict:
        """Prompts of this iteration and the policy's responses to them."""
        fault("ppo.generate")
        batch, copies = self.prompts.batch(iteration), self.config.samples_per_prompt
        on_mesh = put_batch(
            {key: batch[key] for key in ("prompts", "valid")}, self.mesh
        )
        on_mesh["row"] = np.arange(len(batch["prompts"]) * copies)
        own = {"policy": state.params["policy"]}
        params = layout_for_rollout(
            self.cast.whole(own, self.bases)["policy"],
            self.mesh,
            self.sampler.config.dtype,
        )
        samples = sample_batch(
            self.sampler,
            params,
            on_mesh,
            named_key(state.rng, "generate", iteration),
            self.spec,
            copies=copies,
            mesh=self.mesh,
        )
        return samples

    def score(self, state: Any, samples: dict, iteration: int) -> dict:
        """What reference, reward and value say about the responses."""
        fault("ppo.score")
        params = self.frozen | dict(state.params)
        assessed = self.assess(params, samples)
        if self.players.reward_model is None:
            rows = np.repeat(
                self.prompts.batch(iteration)["row"], self.config.samples_per_prompt
            )
            scores = self._scored_texts(samples, [self.records[row] for row in rows])
            assessed["scores"] = put_batch(scores, self.mesh)
        return assessed

    def _scored_texts(self, samples: dict, records: Sequence[Prompt]) -> np.ndarray:
        names = ("tokens", "mask")
        host = to_host({name: samples[name] for name in names})
        return self.players.reward.score(
            [record.prompt for record in records],
            decoded(self.players.policy.tokenizer, host, self.spec.end_tokens),
            [record.model_dump() for record in records],
        )

    def _shape(self, assessed: dict, kl_coef: Any) -> tuple[dict, dict]:
        config, in_loss = self.config, self.config.kl.place == "loss"
        rollout = advantages_of(
            assessed,
            jnp.zeros_like(kl_coef) if in_loss else kl_coef,
            config.shaping,
            kind=config.advantages,
            samples_per_prompt=config.samples_per_prompt,
        )
        names = [*_TRAINED, *(["ref_logprobs"] if in_loss else [])]
        names += ["old_values", "returns"] if self.players.value is not None else []
        trained = {name: rollout[name] for name in names}
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
                if config.kl.place == "loss":
                    batch["kl_coef"] = state.extra["kl_coef"] + 0.0  # state is donated
                if self.texts is not None:
                    fault("ppo.ptx")
                    index = iteration * config.minibatches + len(steps)
                    batch["ptx"] = self.texts.batch(index)
                state, metrics = self.update(state, batch, self.bases or None)
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
