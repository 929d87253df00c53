"""A reward model, or an ensemble of seeds: `train` on objects, `run` as a stage."""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from rlhf_jax import data
from rlhf_jax.data import Demonstration, Ranking, load_tokenizer
from rlhf_jax.data.account import Account
from rlhf_jax.data.inputs import as_records, booked, read_rows
from rlhf_jax.errors import InputError
from rlhf_jax.models import EncoderRewardModel, LanguageModel, is_encoder
from rlhf_jax.registry import (
    LoadedModel,
    form_of,
    fresh_encoder,
    load_bert,
    load_model,
    load_reward_model,
    model_directory,
    reward_from,
    save_ensemble,
    save_model,
    with_adapter,
)
from rlhf_jax.registry.loaded import require_reward_model
from rlhf_jax.sampling.randomness import named_key
from rlhf_jax.stages.reward.config import Config
from rlhf_jax.stages.reward.measure import (
    centre_on_demonstrations,
    make_measure,
    metrics_of,
    with_lengths,
)
from rlhf_jax.stages.reward.objective import make_loss
from rlhf_jax.stages.split import Split, split_start
from rlhf_jax.storage import write_json
from rlhf_jax.training.session import Run, RunSettings, fit, tell_rows

__all__ = ["run", "train"]


def run(
    config: Config, workdir: str | pathlib.Path, settings: RunSettings | None = None
) -> pathlib.Path:
    """Trains a reward model and returns its directory; `report.json` tells how good.

    With `seeds` each member trains in a directory of its own, `seed_<entry>`, with its
    own checkpoints, metrics and report, and the result is an ensemble of them: its
    report is that of the members' mean score.
    """
    workdir, settings = pathlib.Path(workdir), settings or RunSettings()
    mesh = settings.make_mesh()
    rows = Rankings.read(config)
    if not config.seeds:
        start = functools.partial(starting_point, config, mesh)
        return _run_one(config, start, rows, workdir, settings)
    for entry in config.seeds:
        member = dataclasses.replace(config, seed=config.seed + entry, seeds=())
        start = functools.partial(_start_of_member, config, member, mesh)
        _run_one(member, start, rows, workdir / f"seed_{entry}", settings)
    target = workdir / "model"
    members = [f"../seed_{entry}/model" for entry in config.seeds]
    save_ensemble(target, members, {"stage": "reward"})
    whole = load_reward_model(target, mesh=mesh, light=settings.light)
    held_out = {name: list(some) for name, some in rows.held_out.items()}
    report = make_measure(config, whole, held_out)(whole.params)
    write_json(workdir / "report.json", report)
    # the members have read the same rows
    told = (target.parent / f"seed_{config.seeds[0]}" / "rows.json").read_text()
    write_json(workdir / "rows.json", json.loads(told))
    return target


def _start_of_member(config: Config, member: Config, mesh: Mesh) -> LoadedModel:
    start = starting_point(member, mesh)
    _require_possible(config, start)
    return start


def _run_one(
    config: Config,
    start: Callable[[], LoadedModel],
    rows: "Rankings",
    workdir: pathlib.Path,
    settings: Any,
) -> pathlib.Path:
    made = train(
        start(),
        rows.train,
        held_out=rows.held_out,
        demonstrations=rows.demonstrations,
        config=config,
        workdir=workdir,
        settings=settings,
    ).model
    target = workdir / "model"
    save_model(
        target, made.model, made.params, made.tokenizer, made.meta, adapter=made.adapter
    )
    return target


def starting_point(config: Config, mesh: Mesh | None = None) -> LoadedModel:
    """A fresh encoder, a BERT under a fresh head, or the model that `init` names.

    (An encoder, which is small, is laid out on the mesh when its training begins.)

    Raises:
      InputError: no such model, or `pooling` is set for what is no BERT.
    """
    key = named_key(jax.random.key(config.seed), "head")
    if config.encoder is not None:
        return fresh_encoder(config.encoder, load_tokenizer(config.tokenizer), key)
    init = model_directory(config.init)
    if not (pathlib.Path(init) / "model.json").is_file() and is_encoder(init):
        return load_bert(init, key, pooling=config.pooling or "cls")
    if config.pooling is not None:
        raise InputError(f"reward.pooling: {config.init} is no BERT; leave it None")
    return load_model(config.init, mesh=mesh)


@dataclasses.dataclass(frozen=True)
class Rankings:
    """What a config's files hold: `train`, held-out sets by name, demonstrations."""

    train: Iterable[Ranking]
    held_out: dict[str, Iterable[Ranking]]
    demonstrations: Iterable[Demonstration]

    @classmethod
    def read(cls, config: Config) -> "Rankings":
        """The records of a config's files."""
        files = {"valid": config.valid_rankings, "held_out": config.held_out_rankings}
        return cls(
            read_rows(config.rankings, Ranking),
            {name: read_rows(f, Ranking) for name, f in files.items() if f},
            read_rows(config.demonstrations, Demonstration),
        )


def train(
    start: LoadedModel,
    rankings: Iterable[Ranking],
    *,
    held_out: Mapping[str, Iterable[Ranking]] | None = None,
    demonstrations: Iterable[Demonstration] = (),
    config: Config | None = None,
    workdir: str | pathlib.Path | None = None,
    settings: RunSettings | None = None,
) -> Run:
    """A reward model on objects: iterate for the metrics, ask for the model.

    Args:
      start: a language model, whose trunk is taken, or a reward model, decoder or
        encoder, to train on.
      rankings: records.
      held_out: name -> rankings that are only measured.
      demonstrations: those whose mean score becomes 0; empty: no bias is set.
      config: the settings; its names of models and files are not looked at.
      workdir: where checkpoints, metrics and the report go; None: nowhere.
      settings: how to run.

    Returns:
      A `Run`: yields the metrics of each update; its `model` is the reward model.

    Raises:
      InputError: responses do not fit the context, or a setting is not for encoders.
    """
    config = config or Config()
    accounts = {name: Account(f"{name} rankings") for name in held_out or {}}
    held_out = {n: booked(rows, accounts[n]) for n, rows in (held_out or {}).items()}
    _require_possible(config, start)
    records = as_records(rankings, Ranking)
    base = _reward_model(config, start).in_form(records, where="reward.init")
    stream = _stream(config, base, records)
    model, params, frozen = _trained(config, base)
    base = model.shell

    def whole(params: Any) -> Any:
        return {**frozen, **params} if config.frozen else model.whole(params)

    measure = make_measure(config, base, held_out)
    answered = Account("demonstrations")
    answers = booked(as_records(demonstrations, Demonstration), answered)
    rows = fit(
        config,
        workdir,
        settings,
        model.loss(make_loss(base.model, head_alone=config.frozen)),
        params,
        stream,
        config.epochs * stream.steps_per_epoch,
        dtype=base.model.config.dtype,
        # final metrics are written with the report
        evaluate=(lambda params, _: metrics_of(measure(whole(params))))
        if config.evaluate_every
        else None,
        evaluate_every=config.evaluate_every,
        frozen=frozen,
        accounts=accounts.values(),
    )

    def finish(params: Any) -> LoadedModel:
        found = dataclasses.replace(base, params=whole(params))
        found, bias = centre_on_demonstrations(config, found, answers, answered)
        told = [answered] if answers else []
        if workdir is not None:
            report = measure(found.params, told) | {"bias": bias}
            write_json(pathlib.Path(workdir) / "report.json", report)
            tell_rows(told, pathlib.Path(workdir), more=True)
        meta = {"stage": "reward", "bias": bias, **form_of(base)}
        found = dataclasses.replace(require_reward_model(found, "reward"), meta=meta)
        return with_lengths(config, found)

    return Run(rows, finish)


def _trained(config: Config, base: LoadedModel) -> tuple[Split, Any, Any]:
    """The model, the first params of what is trained, and what the update freezes."""
    model, params = split_start(base, config.adapter, config.seed)
    if not config.frozen:
        return model, params, model.frozen()
    frozen = {name: part for name, part in params.items() if name != "head"}
    return model, {"head": params["head"]}, frozen


def _reward_model(config: Config, start: LoadedModel) -> LoadedModel:
    """What is trained: an encoder as it is, a decoder with a head and dropout."""
    if isinstance(start.model, EncoderRewardModel):
        return start
    base = start.with_config(residual_dropout=config.residual_dropout)
    key = jax.random.key(config.seed)
    if config.adapter is not None:  # of the language model, whose base others share
        base = with_adapter(base, config.adapter, named_key(key, "adapter"))
    if isinstance(base.model, LanguageModel):
        base = reward_from(base, named_key(key, "head"))
    _require_room(config, base)
    return base


def _require_possible(config: Config, start: LoadedModel) -> None:
    """Refuses settings that are for decoders, where the start is an encoder."""
    if not isinstance(start.model, EncoderRewardModel):
        return
    if found := list(config.problems_of_encoder(start.model.config)):
        raise InputError("\n".join(f"reward.{problem}" for problem in found))


def _require_room(config: Config, start: LoadedModel) -> None:
    """Learned positions end with the context; past it they would all be the last."""
    room, needed = start.model.config.context_length, config.max_prompt
    needed += config.max_response
    if start.model.config.positions == "learned" and needed > room:
        raise InputError(
            f"reward: max_prompt + max_response is {needed}, expected at most {room}, "
            f"the context of {config.init or 'the model'}"
        )


def _stream(config: Config, model: LoadedModel, rankings: Iterable[Ranking]) -> Any:
    return data.ranking_stream(
        rankings,
        model.tokenizer,
        max_prompt=config.max_prompt,
        max_response=config.max_response,
        max_k=config.max_k,
        k_buckets=config.k_buckets,
        packed=config.packed,
        apart=isinstance(model.model, EncoderRewardModel),
        form=None if model.form.name == "plain" else model.form,
        batch_size=config.batch_size,
        seed=config.seed,
    )
