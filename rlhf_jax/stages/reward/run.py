"""Training: a single model, or an ensemble of seeds."""

import dataclasses
import pathlib
from typing import Any

import jax

from rlhf_jax.data.inputs import ranking_stream
from rlhf_jax.errors import InputError
from rlhf_jax.registry.ensemble import load_reward, save_ensemble
from rlhf_jax.registry.model_directory import (
    LoadedModel,
    load_model,
    reward_from,
    save_model,
)
from rlhf_jax.sampling.randomness import named_key
from rlhf_jax.stages.reward.config import Config
from rlhf_jax.stages.reward.measure import (
    centre_on_demonstrations,
    make_measure,
    metrics_of,
)
from rlhf_jax.stages.reward.objective import make_loss
from rlhf_jax.storage import write_json
from rlhf_jax.training.session import RunSettings, fit

__all__ = ["run"]


def run(
    config: Config, workdir: str | pathlib.Path, settings: RunSettings | None = None
) -> pathlib.Path:
    """Trains a reward model and returns its directory; `report.json` tells how good.

    With `seeds` each member trains in a directory of its own, `seed_<entry>`, with its
    own checkpoints, metrics and report, and the result is an ensemble of them: its
    report is that of the members' mean score.
    """
    workdir = pathlib.Path(workdir)
    settings = settings or RunSettings()
    if not config.seeds:
        return train(config, workdir, settings)
    for entry in config.seeds:
        member = dataclasses.replace(config, seed=config.seed + entry, seeds=())
        train(member, workdir / f"seed_{entry}", settings)
    target = workdir / "model"
    members = [f"../seed_{entry}/model" for entry in config.seeds]
    save_ensemble(target, members, {"stage": "reward"})
    whole = load_reward(target)
    report = make_measure(config, whole)(whole.params)
    _write_report(workdir, report)
    return target


def train(config: Config, workdir: pathlib.Path, settings: RunSettings) -> pathlib.Path:
    """Trains one model and returns its directory."""
    base = load_model(config.init).with_config(residual_dropout=config.residual_dropout)
    start = reward_from(base, named_key(jax.random.key(config.seed), "head"))
    _require_room(config, start)
    stream = _stream(config, start)
    measure = make_measure(config, start)
    steps = config.epochs * stream.steps_per_epoch
    params = fit(
        config,
        workdir,
        settings,
        make_loss(start.model),
        start.params,
        stream,
        steps,
        dtype=start.model.config.dtype,
        # the report has the end
        evaluate=(lambda params, _: metrics_of(measure(params)))
        if config.evaluate_every
        else None,
        evaluate_every=config.evaluate_every,
    )
    trained = dataclasses.replace(start, params=params)
    centred, bias = centre_on_demonstrations(config, trained)
    target = workdir / "model"
    model = centred.with_config(residual_dropout=0.0).model
    meta = {"stage": "reward", "bias": bias}
    save_model(target, model, centred.params, centred.tokenizer, meta)
    _write_report(workdir, measure(centred.params) | {"bias": bias})
    return target


def _require_room(config: Config, start: LoadedModel) -> None:
    """Learned positions end with the context; past it they would all be the last."""
    room, needed = start.model.config.context_length, config.max_prompt
    needed += config.max_response
    if start.model.config.positions == "learned" and needed > room:
        raise InputError(
            f"reward: max_prompt + max_response is {needed}, expected at most {room}, "
            f"the context of {config.init}"
        )


def _stream(config: Config, model: LoadedModel) -> Any:
    return ranking_stream(
        config.rankings,
        model.tokenizer,
        max_prompt=config.max_prompt,
        max_response=config.max_response,
        max_k=config.max_k,
        k_buckets=config.k_buckets,
        packed=config.packed,
        batch_size=config.batch_size,
        seed=config.seed,
    )


def _write_report(workdir: pathlib.Path, report: dict) -> None:
    write_json(workdir / "report.json", report)
