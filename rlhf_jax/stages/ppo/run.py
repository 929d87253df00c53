"""PPO as a function of objects, `train`, and as a stage, `run`."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp

from rlhf_jax import data
from rlhf_jax.data import Prompt, Text
from rlhf_jax.data.account import Account
from rlhf_jax.data.inputs import as_records, fitting, read_rows
from rlhf_jax.errors import InputError
from rlhf_jax.experience import check_players
from rlhf_jax.models import LanguageModel
from rlhf_jax.parallel import compile_update, placed
from rlhf_jax.registry import (
    LoadedModel,
    ModelReward,
    Reward,
    as_reward,
    form_of,
    load_model,
    merged_model,
    require_language_model,
    require_one_tokenizer,
    reward_account,
    reward_from,
    reward_of,
    save_model,
    value_from,
    with_adapter,
)
from rlhf_jax.registry.ensemble import first_member
from rlhf_jax.registry.functions import FunctionReward
from rlhf_jax.sampling.randomness import named_key
from rlhf_jax.stages.ppo.alarms import alarms
from rlhf_jax.stages.ppo.cast import Cast, Players
from rlhf_jax.stages.ppo.config import Config
from rlhf_jax.stages.ppo.iteration import Iteration
from rlhf_jax.stages.ppo.objective import make_loss
from rlhf_jax.stages.split import split
from rlhf_jax.training import (
    first_loss_scale,
    init_state,
    make_optimizer,
    make_update,
)
from rlhf_jax.training.session import (
    Rows,
    Run,
    RunSettings,
    Session,
    open_session,
    tell_rows,
)

__all__ = ["run", "train"]


def run(
    config: Config, workdir: str | pathlib.Path, settings: RunSettings | None = None
) -> pathlib.Path:
    """Trains the policy and returns the directory of the result.

    Args:
      config: what to do.
      workdir: where; a run cut anywhere continues from its last checkpoint.
      settings: how to run.

    Raises:
      InputError: a model, a file or a setting cannot be used, or the self-check fails.
    """
    workdir, settings = pathlib.Path(workdir), settings or RunSettings()
    mesh = settings.make_mesh()
    value = config.value
    trained = train(
        load_model(config.init, mesh=mesh),
        read_rows(config.prompts, Prompt),
        # whole, where the value function starts from it
        reward=reward_of(config, mesh=mesh, light=settings.light and _is_apart(config)),
        value=None if value is None else load_model(value, mesh=mesh),
        texts=read_rows(config.texts, Text) if config.ptx_coef > 0 else (),
        config=config,
        workdir=workdir,
        settings=settings,
    ).model
    meta = {"stage": "ppo", "result": config.result, "ptx_coef": config.ptx_coef}
    meta |= form_of(trained)
    target = workdir / "model"
    save_model(
        target,
        trained.model,
        trained.params,
        trained.tokenizer,
        meta,
        adapter=trained.adapter,
    )
    return target


def _is_apart(config: Config) -> bool:
    """Whether nothing that is trained starts from the reward model."""
    return config.value is not None or config.advantages != "gae"


def train(
    policy: LoadedModel,
    prompts: Iterable[Prompt | str],
    *,
    reward: Any,
    value: LoadedModel | None = None,
    texts: Iterable[Text | str] = (),
    config: Config | None = None,
    workdir: str | pathlib.Path | None = None,
    settings: RunSettings | None = None,
    make_loss: Callable = make_loss,
) -> Run:
    """PPO on objects: iterate for the metrics, ask for the model.

    Args:
      policy: the start, which is also the KL reference.
      prompts: records or texts; those of more than `max_prompt` tokens are left out.
      reward: a loaded reward model, a `Reward`, a callable of `(prompts, responses)`
        or `(prompts, responses, records)`, or a name; see `registry.as_reward`.
      value: what the value function starts from; None: see `Config.value`.
      texts: of the pretraining mix; needed when `ptx_coef` > 0.
      config: the settings; its names of models and files are not looked at.
      workdir: where checkpoints and metrics go; None: nowhere.
      settings: how to run.
      make_loss: `(policy, value, config) -> terms` of an update, to train with another
        loss; see `objective.make_loss`.

    Returns:
      A `Run`: yields the metrics of each iteration; its `model` is the policy.

    Raises:
      InputError: a model, a prompt or a setting cannot be used, or the self-check
        fails.
    """
    config = config or Config(ptx_coef=0.0)
    limits = {"max_prompt": config.max_prompt, "max_response": config.max_response}
    given = as_reward(reward, **limits)
    given_rows = as_records(prompts, Prompt)
    rows = list(given_rows)
    account = Account("prompts", read=len(rows))
    if (intake := getattr(given_rows, "intake", None)) is not None:
        account.begin(intake)
    policy = policy.in_form(rows, where="ppo.init")
    players = make_players(config, policy, given, value)
    tokenizer, form = players.policy.tokenizer, players.policy.form
    records = fitting(rows, form, config.max_prompt, account)
    stream = data.prompt_stream(
        records,
        tokenizer,
        form=None if form.name == "plain" else form,
        batch_size=config.batch_size // config.samples_per_prompt,
        max_prompt=config.max_prompt,
        seed=config.seed,
        last="drop",
        buckets=config.prompt_buckets,
    )
    account.left_over = stream.accounts[0].left_over
    windows = None
    if config.ptx_coef > 0:
        windows = data.text_stream(
            as_records(texts, Text),
            tokenizer,
            batch_size=config.minibatch_size * config.ptx_per_episode,
            context_length=config.ptx_window,
            seed=config.seed + 1,
        )
    if config.snapshot_every and workdir is None:
        raise InputError("ppo.snapshot_every: snapshots need a directory, `workdir`")
    check_players(config, players, stream.batch(0))
    terms = make_loss(
        players.policy.model, players.value and players.value.model, config
    )
    functions = {"make_loss": make_loss}
    if isinstance(given, FunctionReward):
        functions["reward"] = given.function
    settings = settings or RunSettings()
    session = open_session(
        workdir,
        settings,
        alarms=alarms(config),
        identity=config,
        functions=functions,
        steps=config.iterations,
        accounts=(account, *(windows.accounts if windows else ())),
    )
    rows = _rows(session, config, players, stream, records, windows, terms)
    shell = players.released()  # the same counts

    def finish(state: Any) -> LoadedModel:
        if workdir is not None and shell.reward.counts["scored"]:  # as texts
            told = [reward_account(shell.reward)]
            tell_rows(told, pathlib.Path(workdir), more=True)
        return _result(config, shell.policy, state)

    return Run(rows, finish)


def make_players(
    config: Config, policy: LoadedModel, reward: Reward, value: LoadedModel | None
) -> Players:
    """Policy, value and reward; dropout is off in RL (Huang et al. 2023, detail 13).

    Raises:
      InputError: the policy is no language model, or tokenizers differ.
    """
    policy = require_language_model(policy, "ppo.init")
    policy = policy.with_config(residual_dropout=0.0)
    key = jax.random.key(config.seed)
    policy = _as_trained(policy, config, named_key(key, "policy adapter"))
    if isinstance(reward, ModelReward):
        what = "ppo.reward: the policy and the reward model"
        require_one_tokenizer(policy, reward.loaded, what)
    if config.advantages != "gae":
        return Players(policy, None, reward)
    if value is not None:
        require_one_tokenizer(
            policy, value, "ppo.value: the policy and the value model"
        )
    elif isinstance(reward, ModelReward):
        value = value_from(first_member(reward.loaded))
    else:
        value = policy
    if isinstance(value.model, LanguageModel):
        value = reward_from(value, named_key(key, "value head"))
    if value.adapter is None or config.adapter is None:
        value = _as_trained(value, config, named_key(key, "value adapter"))
    return Players(policy, value.with_config(residual_dropout=0.0), reward)


def _as_trained(model: LoadedModel, config: Config, key: Any) -> LoadedModel:
    """A model as an adapter where the config has one, else whole."""
    if config.adapter is None:
        return merged_model(model)
    return with_adapter(model, config.adapter, key)


def _rows(opened: Any, *args: Any) -> Rows:
    with opened as session:
        rows = _train(session, *args)
        del args  # the first params: the state has its own
        return (yield from rows)


def _result(config: Config, policy: LoadedModel, state: Any) -> LoadedModel:
    kept = state.ema if config.result == "ema" else state.params
    return split(policy)[0].loaded(kept["policy"])


def _train(
    session: Session,
    config: Config,
    players: Players,
    prompts: Any,
    records: Any,
    texts: Any,
    terms: dict[str, Callable],
) -> Rows:
    tx = _optimizers(config)
    cast = Cast.of(players, light=session.settings.light)
    update = compile_update(
        make_update(
            cast.terms(terms),
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
            ema=("policy",),
            loss_scale=first_loss_scale(players.policy.model.config.dtype),
            extra={"kl_coef": jnp.float32(config.kl.kl_coef)},
        )

    frozen, params = placed(cast.frozen, session.mesh), cast.first
    players = players.released()
    cast = dataclasses.replace(cast, first={}, frozen={})
    iteration = Iteration(
        config, players, prompts, records, texts, update, session.mesh, frozen, cast
    )
    return session.loop(
        with_snapshots(iteration, session.workdir, config),
        init,
        params,
        jax.random.key(config.seed),
        steps=config.iterations,
    )


def _optimizers(config: Config) -> dict[str, Any]:
    """One for the policy, which rests at first, and one for the value function."""
    updates = config.iterations * config.minibatches
    resting = config.value_warmup_iterations * config.minibatches
    warmup = config.warmup_iterations * config.minibatches
    policy = dataclasses.replace(config.optimizer, warmup_steps=warmup)
    tx = {"policy": make_optimizer(policy, max(1, updates - resting))}
    if config.advantages == "gae":
        tx["value"] = make_optimizer(config.value_optimizer, updates)
    return tx


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
            {
                "stage": "ppo",
                "iteration": after,
                "kl": float(metrics["kl_exact"]),
                **form_of(policy),
            },
            adapter=policy.adapter,
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
