"""DPO and its kin: `train` on objects, `run` as a stage."""

import dataclasses
import pathlib
from collections.abc import Iterable

from rlhf_jax import data
from rlhf_jax.data import Ranking
from rlhf_jax.data.inputs import as_records, read_rows
from rlhf_jax.errors import InputError
from rlhf_jax.registry import (
    LoadedModel,
    form_of,
    light_params,
    load_model,
    require_language_model,
    require_one_tokenizer,
    save_model,
)
from rlhf_jax.stages.dpo.config import Config
from rlhf_jax.stages.dpo.objective import kl_baseline, make_loss
from rlhf_jax.stages.split import Split, split_reference, split_start
from rlhf_jax.training.session import Run, RunSettings, fit

__all__ = ["run", "train"]


def run(
    config: Config, workdir: str | pathlib.Path, settings: RunSettings | None = None
) -> pathlib.Path:
    """Trains and returns the directory of the model."""
    workdir, settings = pathlib.Path(workdir), settings or RunSettings()
    mesh = settings.make_mesh()
    made = train(
        load_model(config.init, mesh=mesh),
        read_rows(config.rankings, Ranking),
        reference=load_model(config.reference, mesh=mesh, light=settings.light)
        if config.reference
        else None,
        config=config,
        workdir=workdir,
        settings=settings,
    ).result()
    target = workdir / "model"
    save_model(
        target, made.model, made.params, made.tokenizer, made.meta, adapter=made.adapter
    )
    return target


def train(
    start: LoadedModel,
    rankings: Iterable[Ranking],
    *,
    reference: LoadedModel | None = None,
    config: Config | None = None,
    workdir: str | pathlib.Path | None = None,
    settings: RunSettings | None = None,
) -> Run:
    """DPO or another of its kin on objects: iterate for the metrics, ask for the model.

    Args:
      start: a language model.
      rankings: records.
      reference: the frozen model that the policy is compared with; None: `start`. A
        loss without a reference keeps none in memory.
      config: the settings; its names of models and files are not looked at.
      workdir: where checkpoints and metrics go; None: nowhere.
      settings: how to run.

    Returns:
      A `Run`: yields the metrics of each update; its `model` is the policy.

    Raises:
      InputError: no language model, a reference of another shape or tokenizer, or one
        that the loss does not have.
    """
    config = config or Config()
    start = require_language_model(start, "dpo.init")
    start = start.with_config(residual_dropout=0.0)
    records = as_records(rankings, Ranking)
    start = start.in_form(records, where="dpo.init")
    settings = settings or RunSettings()
    reference = _reference(config, start, reference)
    model, first = split_start(start, config.adapter, config.seed)
    start, beside, frozen = model.shell, None, None
    if config.has_reference:
        reference = model.loaded(first) if reference is None else reference
        beside, frozen = split_reference(reference, model)
        if settings.light and beside.adapter is None:
            frozen = light_params(beside.shell.model, frozen)
    del reference
    stream = data.ranking_stream(
        records,
        start.tokenizer,
        max_prompt=config.max_prompt,
        max_response=config.max_response,
        max_k=config.max_k,
        form=None if start.form.name == "plain" else start.form,
        batch_size=config.batch_size,
        seed=config.seed,
    )
    rows = fit(
        config,
        workdir,
        settings,
        model.loss(make_loss(start.model, config), beside),
        first,
        stream,
        config.epochs * stream.steps_per_epoch,
        frozen=model.frozen(frozen),
        prepare=model.prepare(kl_baseline(start.model), beside)
        if config.loss == "kto"
        else None,
        dtype=start.model.config.dtype,
    )
    meta = {"stage": "dpo", "loss": config.loss, **form_of(start)}
    meta |= config.hyperparameters()
    shell = Split(dataclasses.replace(start, meta=meta))
    return Run(rows, shell.loaded)


def _reference(
    config: Config, start: LoadedModel, reference: LoadedModel | None
) -> LoadedModel | None:
    """What the policy is compared with; None: its start, or nothing."""
    if reference is None:
        return None
    if not config.has_reference:
        raise InputError(f"dpo.reference: loss {config.loss!r} has none")
    reference = require_language_model(reference, "dpo.reference")
    require_one_tokenizer(start, reference, "dpo.reference: the policy and it")
    dtype = start.model.config.dtype
    reference = reference.with_config(residual_dropout=0.0, dtype=dtype)
    if reference.model.config != start.model.config:
        raise InputError("dpo.reference: is of another shape than the policy")
    return reference
