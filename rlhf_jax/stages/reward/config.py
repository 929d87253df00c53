"""Settings of the reward model, each with its source.

NOT STATED marks what the InstructGPT paper does not say.
"""

import dataclasses
import itertools
from collections.abc import Iterator

from rlhf_jax.fields import DataFile, Length, ModelName, TokenizerName, Watch
from rlhf_jax.models import EncoderConfig, LoRA
from rlhf_jax.models.encoder import POOLINGS
from rlhf_jax.schema import at_least, divides, one_of, positive, shares
from rlhf_jax.training import OptimizerConfig

__all__ = ["Config"]


@dataclasses.dataclass
class Config:
    """Settings of reward-model training."""

    # model directory or hub name whose trunk is taken: section 3.5 the SFT model (the
    # paper's final one came from a 6B GPT-3 fine-tuned on public NLP sets, C.2). A
    # reward model is trained on; a BERT becomes an encoder of prompt and response
    init: ModelName = ""
    # files of rankings
    rankings: tuple[DataFile, ...] = ()
    # held-out rankings by the same labelers, and by labelers never trained on
    valid_rankings: tuple[DataFile, ...] = ()
    # rankings by labelers who trained nothing
    held_out_rankings: tuple[DataFile, ...] = ()
    # demonstrations whose mean score becomes 0; empty: no bias is set
    demonstrations: tuple[DataFile, ...] = ()
    # passes; C.2: a single one, "several epochs quickly overfit"
    epochs: Length = 1
    # prompts per update (each with up to C(9,2) = 36 comparisons); C.2: 64
    batch_size: int = 64
    # longest prompt and response in tokens; an encoder's begin and end tokens count
    max_prompt: int = 1000
    # longest response in tokens, its end token included
    max_response: int = 1000
    # most responses per prompt; section 3.5: 4 to 9
    max_k: int = 9
    # rising numbers of responses, up to max_k: every batch then holds rankings of one
    # bucket and is only as wide as it, which saves padding where most rankings have
    # K = 2; the step compiles once per bucket. Empty: every batch is max_k wide
    k_buckets: tuple[int, ...] = ()
    # a ranking is one row, its prompt and then its responses, instead of being padded
    # to max_k x max_response: rising lengths in tokens of the batches; a final bucket
    # of the full width is added. Attention is over whole rows, so this is for
    # responses that are short. None: not packed
    packed: tuple[int, ...] | None = None
    # C.2: 9e-6, cosine to 10 %; ±50 % made little difference
    optimizer: OptimizerConfig = dataclasses.field(
        default_factory=lambda: OptimizerConfig(name="adam", learning_rate=9e-6)
    )
    # largest gradient norm; NOT STATED
    clip_norm: float | None = None
    # parts of a batch trained one after the other
    microbatches: int = 1
    # dropout in training; NOT STATED
    residual_dropout: float = 0.0
    # updates between evaluations; None: only the report, after training
    evaluate_every: Watch | None = None
    # of all that is drawn at random
    seed: int = 0
    # an ensemble: one model for each entry, with `seed` plus the entry as its seed
    # (another head, another order); empty: a single model
    seeds: tuple[int, ...] = ()
    # what a BERT makes of a text, one of models.EncoderConfig.pooling; None: "cls"
    pooling: str | None = None
    # instead of `init` a fresh encoder of this shape, score = w · (BERT(x) ⊕ BERT(y))
    # + b, and its tokenizer ("byte", a directory or a hub name), whose vocabulary it
    # takes. A baseline: prompt and response do not see each other
    encoder: EncoderConfig | None = None
    # of an encoder: "byte", a directory or a hub name
    tokenizer: TokenizerName = ""
    # train this adapter and the head beside the frozen model; None: the whole model
    adapter: LoRA | None = None
    # train the head alone, a linear model on fixed features, of a decoder or an encoder
    frozen: bool = False

    def problems(self) -> Iterator[str]:
        """What cannot work, one line each."""
        yield from self._problems_of_start()
        if not self.rankings:
            yield "rankings: at least one file is needed"
        if self.max_k < 2:
            yield f"max_k: {self.max_k}; a comparison needs two responses"
        yield from at_least(self, 1, "epochs", "batch_size", "microbatches")
        yield from at_least(self, 1, "max_prompt", "max_response", "evaluate_every")
        yield from shares(self, "residual_dropout")
        yield from positive(self, "clip_norm")
        yield from divides(self, "microbatches", "batch_size")
        if self.k_buckets and not _rising((1, *self.k_buckets), self.max_k):
            yield (
                f"k_buckets: {self.k_buckets} must rise from 2 or more to at most "
                f"max_k {self.max_k}"
            )
        if self.packed is not None and self.k_buckets:
            yield "packed: has buckets of its own; leave k_buckets empty"
        for smaller, larger in itertools.pairwise((0, *(self.packed or ()))):
            if smaller >= larger:
                yield f"packed: {self.packed} does not rise"
                break
        if len(set(self.seeds)) < len(self.seeds):
            yield f"seeds: {self.seeds} names a member twice"
        if self.frozen and self.adapter is not None:
            yield "adapter: `frozen` trains the head alone; leave the adapter None"

    def _problems_of_start(self) -> Iterator[str]:
        if self.encoder is None:
            if not self.init:
                yield "init: the model to start from is needed, or a fresh encoder"
            if self.tokenizer:
                yield "tokenizer: only for a fresh encoder; `init` has its own"
            yield from one_of(self, "pooling", (None, *POOLINGS))
            return
        if self.init:
            yield "init: either this model or a fresh encoder, not both"
        if not self.tokenizer:
            yield "tokenizer: needed for a fresh encoder"
        if self.pooling is not None:
            yield "pooling: of a fresh encoder it is encoder.pooling"
        yield from self.problems_of_encoder(self.encoder)

    def problems_of_encoder(self, shape: EncoderConfig) -> Iterator[str]:
        """What an encoder of this shape cannot do, one line each."""
        for name in ("max_prompt", "max_response"):  # read apart
            tokens, room = getattr(self, name), shape.context_length
            if tokens > room:
                yield f"{name}: {tokens} is over {room}, the context of the encoder"
        if self.packed is not None:
            yield "packed: an encoder reads each response by itself; leave it None"
        if self.seeds:
            yield "seeds: an ensemble is of decoders; leave it empty for an encoder"
        if self.adapter is not None:
            yield "adapter: an encoder has none; leave it None"
        if self.residual_dropout:
            yield "residual_dropout: an encoder has none; leave it 0"


def _rising(numbers: tuple[int, ...], most: int) -> bool:
    ordered = all(a < b for a, b in itertools.pairwise(numbers))
    return ordered and numbers[-1] <= most
