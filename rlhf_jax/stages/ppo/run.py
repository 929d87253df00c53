"""Wiring of PPO: models in, streams, the loop, the policy out."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rlhf_jax.data.inputs import prompt_stream, text_stream
from rlhf_jax.errors import InputError
from rlhf_jax.experience.self_check import check_players
from rlhf_jax.parallel import compile_update, shardings
from rlhf_jax.registry.ensemble import first_member, load_reward
from rlhf_jax.registry.model_directory import (
    load_model,
    require_one_tokenizer,
    save_model,
    value_from,
)
from rlhf_jax.stages.ppo.config import Config
from rlhf_jax.stages.ppo.iteration import Iteration, Players
from rlhf_jax.stages.ppo.objective import make_loss
from rlhf_jax.training import (
    above,
    first_loss_scale,
    init_state,
    make_optimizer,
    make_update,
)
from rlhf_jax.training.alarms import Alarm, below
from rlhf_jax.training.session import RunSettings, Session, open_session

__all__ = ["run"]


def run(
    config: Config,
    workdir: str | pathlib.Path,
    settings: RunSettings | None = None,
    *,
    reward_fn: Callable[[list[str], list[str]], Any] | None = None,
) -> pathlib.Path:
    """Trains the policy and returns the directory of the result.

    Args:
      config: what to do.
      workdir: where; a run cut anywhere continues from its last checkpoint.
      settings: how to run.
      reward_fn: scores `(prompts, responses) -> [B]` instead of a reward model; then
        the value function starts from `config.value`.

    Raises:
      InputError: a model, a file or a setting cannot be used, or the self-check fails.
    """
    workdir = pathlib.Path(workdir)
    players = load_players(config, reward_fn)
    prompts = prompt_stream(
        config.prompts,
        players.policy.tokenizer,
        config.max_prompt,
        config.batch_size,
        config.seed,
        config.prompt_buckets,
    )
    texts = None
    if config.ptx_coef > 0:
        texts = text_stream(
            config.texts,
            players.policy.tokenizer,
            config.ptx_window,
            config.minibatch_size * config.ptx_per_episode,
            config.seed + 1,
        )
    check_players(config, players, prompts.batch(0))
    with open_session(
        workdir,
        settings or RunSettings(),
        alarms=alarms(config),
        identity=config,
        functions={"reward_fn": reward_fn},
        steps=config.iterations,
    ) as session:
        state = _train(session, config, players, prompts, texts)
    policy = state.ema["policy"] if config.result == "ema" else state.params["policy"]
    target = workdir / "model"
    meta = {"stage": "ppo", "result": config.result, "ptx_coef": config.ptx_coef}
    save_model(target, players.policy.model, policy, players.policy.tokenizer, meta)
    return target


def load_players(config: Config, reward_fn: Callable | None) -> Players:
    """Policy, value and reward; dropout is off in RL (Huang et al. 2023, detail 13)."""
    policy = load_model(config.init).with_config(residual_dropout=0.0)
    reward = None
    if reward_fn is None:
        reward = load_reward(
            config.reward,
            combination=config.ensemble,
            variance_coef=config.variance_coef,
        )
    if config.value is not None:
        value = load_model(config.value).with_config(residual_dropout=0.0)
    elif reward is None:
        raise InputError("ppo.value: with `reward_fn`, name a model to start from")
    else:
        value = value_from(first_member(reward))
    for name, model in (("reward", reward), ("value", value)):
        if model is not None:
            what = f"ppo.{name}: the policy and the {name} model"
            require_one_tokenizer(policy, model, what)
    return Players(policy, value, reward, reward_fn)


def _train(
    session: Session, config: Config, players: Players, prompts: Any, texts: Any
) -> Any:
    updates = config.iterations * config.minibatches
    resting = config.value_warmup_iterations * config.minibatches
    warmup = config.warmup_iterations * config.minibatches
    tx = {
        "policy": make_optimizer(
            dataclasses.replace(config.optimizer, warmup_steps=warmup),
            max(1, updates - resting),
        ),
        "value": make_optimizer(config.value_optimizer, updates),
    }
    terms = make_loss(players.policy.model, players.value.model, config)
    update = compile_update(
        make_update(
            terms,
            tx,
            microbatches=config.microbatches,
            clip_norm=config.clip_norm,
            ema_decay=config.ema_decay,
            switches={"policy": "policy_on"},
        ),
        session.mesh,
    )

    def init(params: Any, rng: Any) -> Any:
        return init_state(
            params,
            tx,
            rng,
            ema=True,
            loss_scale=first_loss_scale(players.policy.model.config.dtype),
            extra={"kl_coef": jnp.float32(config.kl.kl_coef)},
        )

    frozen = {"reference": players.policy.params}
    if players.reward is not None:
        frozen["reward"] = players.reward.params
    frozen = jax.device_put(frozen, shardings(frozen, session.mesh))
    iteration = Iteration(config, players, prompts, texts, update, session.mesh, frozen)
    return session.loop(
        with_snapshots(iteration, session.workdir, config),
        init,
        {"policy": players.policy.params, "value": players.value.params},
        jax.random.key(config.seed),
        steps=config.iterations,
    )


def with_snapshots(iteration: Iteration, workdir: pathlib.Path, config: Config):
    """Keeps the policy after every n-th iteration, for reward against KL.

    Its KL is what the next rollout measures, which is the first that it writes; after
    the last iteration a rollout is made for that.
    """
    every = config.snapshot_every

    def keep(after: int, params: Any, metrics: dict) -> None:
        policy = iteration.players.policy
        save_model(
            workdir / "snapshots" / f"{after:06d}",
            policy.model,
            params,
            policy.tokenizer,
            {"stage": "ppo", "iteration": after, "kl": float(metrics["kl_exact"])},
        )

    def step(state: Any, index: int) -> tuple[Any, dict]:
        if index == 0 or index % every:
            state, metrics = iteration(state, index)
        else:
            written_by = jax.tree.map(jnp.copy, state.params["policy"])  # donated
            state, metrics = iteration(state, index)
            keep(index, written_by, metrics)
        after = index + 1
        if after == config.iterations and after % every == 0:
            keep(after, state.params["policy"], iteration.measure(state, after))
        return state, metrics

    return step if every else iteration


def alarms(config: Config) -> tuple[Alarm, ...]:
    """What goes wrong in RL from human feedback, watched every iteration."""
    return (
        above("kl", config.max_kl, action="stop"),
        below("kl_exact", -0.01),
        above("truncated", 0.9),
        above("repetition", 0.5),
        above("sampler_gap_max", 0.5),
        above("bad_scores", 0.0),
        below("value_explained_variance", -1.0),
        _drifts("length", 3.0),
        _collapses("score"),
    )


def _drifts(metric: str, factor: float) -> Alarm:
    """Fires when a mean has moved by `factor` from that of the first iterations."""

    def when(history: tuple) -> str | None:
        first, last = history[0].get(metric), history[-1].get(metric)
        if not first or not last or 1 / factor <= last / first <= factor:
            return None
        return f"{metric} went from {first:.4g} to {last:.4g}"

    return Alarm(f"{metric} drifts", when)


def _collapses(metric: str, window: int = 20) -> Alarm:
    """Fires when the mean of the last steps is two spreads below the best before."""

    def when(history: tuple) -> str | None:
        values = [row[metric] for row in history if metric in row]
        if len(values) < 2 * window:
            return None
        means = [
            sum(values[i : i + window]) / window
            for i in range(0, len(values) - window + 1, window)
        ]
        spread = max(history[-1].get(f"{metric}_std", 0.0), 1e-6)
        if means[-1] >= max(means) - 2 * spread:
            return None
        return f"{metric} fell from {max(means):.4g} to {means[-1]:.4g}"

    return Alarm(f"{metric} collapses", when)
