"""Pretraining: the GPT baseline, from nothing or further from a given model.

max_φ  E_{x ~ D_pretrain} [ Σ_t log p_φ(x_t | x_<t) ]
"""

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import jax
from jax.sharding import Mesh

from rlhf_jax import data
from rlhf_jax.data import Text, load_tokenizer
from rlhf_jax.data.account import Account
from rlhf_jax.data.inputs import as_records, booked, read_rows
from rlhf_jax.fields import DataFile, Length, ModelName, TokenizerName, Watch
from rlhf_jax.models import LanguageModel, TrunkConfig, init_params
from rlhf_jax.parallel import init_sharded
from rlhf_jax.registry import LoadedModel, load_model, save_model
from rlhf_jax.schema import at_least, divides, positive
from rlhf_jax.stages.likelihood import held_out_batches, make_loss, make_perplexity
from rlhf_jax.stages.split import split_start
from rlhf_jax.training import OptimizerConfig
from rlhf_jax.training.session import Run, RunSettings, fit


@dataclasses.dataclass
class Config:
    """Settings of pretraining."""

    # files of text: plain or JSONL, also compressed
    texts: tuple[DataFile, ...] = ()
    # files of held-out text; empty: no evaluation
    valid_texts: tuple[DataFile, ...] = ()
    # a model to go on from; None: fresh parameters of shape `model`
    init: ModelName | None = None
    # shape of a fresh model; its vocabulary is the tokenizer's
    model: TrunkConfig | None = None
    # directory or hub name of the tokenizer; None: that of `init`
    tokenizer: TokenizerName | None = None
    # tokens of a window
    window: int = 256
    # windows per update
    batch_size: int = 32
    # updates
    steps: Length = 1000
    # peak rate, Brown et al. 2020 table 2.1 for 125M; cosine to 10 %
    optimizer: OptimizerConfig = dataclasses.field(
        default_factory=lambda: OptimizerConfig(
            learning_rate=6e-4, warmup_steps=50, weight_decay=0.1
        )
    )
    # largest gradient norm; Brown et al. 2020 appendix B
    clip_norm: float | None = 1.0
    # parts of a batch trained one after the other
    microbatches: int = 1
    # updates between evaluations on valid_texts
    evaluate_every: Watch = 200
    # of fresh params and of the order of the texts
    seed: int = 0

    def problems(self) -> Iterator[str]:
        """What cannot work, one line each."""
        if not self.texts:
            yield "texts: at least one file is needed"
        if self.init is None and (self.model is None or self.tokenizer is None):
            yield "init: without it, both model and tokenizer are needed"
        yield from at_least(self, 1, "window", "batch_size", "steps", "microbatches")
        yield from at_least(self, 1, "evaluate_every")
        yield from positive(self, "clip_norm")
        yield from divides(self, "microbatches", "batch_size")


def run(
    config: Config, workdir: str | pathlib.Path, settings: RunSettings | None = None
) -> pathlib.Path:
    """Pretrains and returns the directory of the model."""
    workdir = pathlib.Path(workdir)
    mesh = (settings or RunSettings()).make_mesh()
    trained = train(
        starting_point(config, mesh),
        read_rows(config.texts, Text),
        valid_texts=read_rows(config.valid_texts, Text) if config.valid_texts else (),
        config=config,
        workdir=workdir,
        settings=settings,
    ).model
    target = workdir / "model"
    meta = {"stage": "pretrain"}
    save_model(target, trained.model, trained.params, trained.tokenizer, meta)
    return target


def train(
    start: LoadedModel,
    texts: Iterable[Text | str],
    *,
    valid_texts: Iterable[Text | str] = (),
    config: Config | None = None,
    workdir: str | pathlib.Path | None = None,
    settings: RunSettings | None = None,
) -> Run:
    """Pretraining on objects: iterate for the metrics, ask for the model.

    Args:
      start: a language model, fresh or trained.
      texts: records or texts.
      valid_texts: held out, for the validation loss; empty: none.
      config: the settings; its names of models and files are not looked at.
      workdir: where checkpoints and metrics go; None: nowhere.
      settings: how to run.

    Returns:
      A `Run`: yields the metrics of each update; its `model` is the language model.
    """
    config = config or Config()
    model, first = split_start(start, None, config.seed)
    start = model.shell
    stream = data.text_stream(
        as_records(texts, Text),
        start.tokenizer,
        batch_size=config.batch_size,
        context_length=config.window,
        seed=config.seed,
    )
    perplexity, account = make_perplexity(start.model), Account("valid texts")
    valid = booked(as_records(valid_texts, Text), account)
    held_out = valid and held_out_batches(
        valid, start.tokenizer, config.window, config.batch_size
    )

    def evaluate(params: dict, step: int) -> dict[str, float]:
        found = perplexity(params, held_out)
        return {"valid/nats_per_token": found["nats_per_token"]}

    rows = fit(
        config,
        workdir,
        settings,
        make_loss(start.model),
        first,
        stream,
        config.steps,
        dtype=start.model.config.dtype,
        evaluate=evaluate if held_out else None,
        evaluate_every=config.evaluate_every,
        accounts=[account] if valid else (),
    )
    return Run(rows, model.loaded)


def starting_point(config: Config, mesh: Mesh | None = None) -> LoadedModel:
    """The model to train: loaded, or fresh with the tokenizer's vocabulary."""
    if config.init is not None:
        return load_model(config.init, mesh=mesh)
    tokenizer = load_tokenizer(config.tokenizer)
    return fresh_model(config.model, tokenizer, config.seed, mesh=mesh)


def fresh_model(
    shape: TrunkConfig, tokenizer: Any, seed: int = 0, *, mesh: Mesh | None = None
) -> LoadedModel:
    """A language model with fresh params and the tokenizer's vocabulary.

    Args:
      shape: of the trunk; its `vocab_size` is replaced.
      tokenizer: see `rlhf_jax.data`.
      seed: of the params; they are the same on every mesh.
      mesh: where each of them is born on its shard; None: one device.
    """
    model = LanguageModel(dataclasses.replace(shape, vocab_size=tokenizer.vocab_size))

    def init() -> dict:
        return init_params(model, jax.random.key(seed))

    params = jax.jit(init)() if mesh is None else init_sharded(init, mesh=mesh)
    return LoadedModel(model, params, tokenizer, {})
