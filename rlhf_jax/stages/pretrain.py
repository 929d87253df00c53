"""Pretraining: the GPT baseline, from nothing or further from a given model.

max_φ  E_{x ~ D_pretrain} [ Σ_t log p_φ(x_t | x_<t) ]
"""

import dataclasses
import pathlib
from collections.abc import Iterator

import jax

from rlhf_jax.data import load_tokenizer
from rlhf_jax.data.inputs import one_epoch, text_stream
from rlhf_jax.fields import DataFile, Length, ModelName, TokenizerName, Watch
from rlhf_jax.models import LanguageModel, TrunkConfig, init_params
from rlhf_jax.registry.model_directory import LoadedModel, load_model, save_model
from rlhf_jax.schema import at_least, divides, positive
from rlhf_jax.stages.likelihood import make_loss, make_perplexity
from rlhf_jax.training import OptimizerConfig
from rlhf_jax.training.session import RunSettings, fit

__all__ = ["Config", "make_loss", "run"]


@dataclasses.dataclass
class Config:
    """Settings of pretraining."""

    # files of text: plain or JSONL, also compressed
    texts: tuple[DataFile, ...]
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
    start = starting_point(config)
    stream = text_stream(
        config.texts, start.tokenizer, config.window, config.batch_size, config.seed
    )
    perplexity = make_perplexity(start.model)
    held_out = config.valid_texts and text_stream(
        config.valid_texts, start.tokenizer, config.window, config.batch_size, 0
    )

    def evaluate(params: dict, step: int) -> dict[str, float]:
        found = perplexity(params, one_epoch(held_out))
        return {"valid/nats_per_token": found["nats_per_token"]}

    params = fit(
        config,
        workdir,
        settings,
        make_loss(start.model),
        start.params,
        stream,
        config.steps,
        dtype=start.model.config.dtype,
        evaluate=evaluate if config.valid_texts else None,
        evaluate_every=config.evaluate_every,
    )
    target = workdir / "model"
    save_model(target, start.model, params, start.tokenizer, {"stage": "pretrain"})
    return target


def starting_point(config: Config) -> LoadedModel:
    """The model to train: loaded, or fresh with the tokenizer's vocabulary."""
    if config.init is not None:
        return load_model(config.init)
    tokenizer = load_tokenizer(config.tokenizer)
    shape = dataclasses.replace(config.model, vocab_size=tokenizer.vocab_size)
    model = LanguageModel(shape)
    params = jax.jit(lambda: init_params(model, jax.random.key(config.seed)))()
    return LoadedModel(model, params, tokenizer, {})
