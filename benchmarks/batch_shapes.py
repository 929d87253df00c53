"""How often another batch shape moves a draw, one JSON line per dtype and batch.

    python benchmarks/batch_shapes.py [--model DIR] [--rows 32] [--tokens 32]

The same tokens are decoded in batches of 1, of 8 and of all rows. Their logits differ
in the last bits, and a draw moves where its random number falls between the two
cumulative distributions; `draw_tokens` inverts two of them, the columns' and the
column's rows:

    P(moves) ≈ Σ_c |F(c) - F'(c)| + Σ_c P(c) Σ_r |F(r | c) - F'(r | c)|

in float64, so that no draw needs to be made. Without `--model` the model is fresh: 4
layers of width 256, 50,257 words.
"""

import argparse
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.models import LanguageModel, TrunkConfig, init_params, load_pretrained
from rlhf_jax.sampling import SamplingSpec, decoding_params
from rlhf_jax.sampling.decoder import Decoder

FRESH = dict(
    vocab_size=50257, context_length=256, embed_dim=256, num_layers=4, num_heads=4
)
COLUMNS = 128  # of `draw_tokens`


def decoded_logits(model, params, tokens, prompt: int, batch: int) -> np.ndarray:
    """Logits [T - P, N, V] of `tokens` [N, T] read one by one behind P of them."""
    width = tokens.shape[1]

    @jax.jit
    def some_rows(tokens):
        decoder = Decoder(model, params, SamplingSpec(width - prompt))
        start = tokens[:, :prompt]
        _, cache = decoder.prefill(start, jnp.ones(start.shape, bool))
        cache = decoder.grow(cache, width)

        def step(cache, t):
            at = jnp.full(tokens.shape[0], t)
            hidden, cache = decoder.step(tokens[:, t], at, cache, t)
            return cache, model.logits(params, hidden)

        return jax.lax.scan(step, cache, jnp.arange(prompt, width))[1]

    parts = range(0, len(tokens), batch)
    return np.concatenate([some_rows(tokens[i : i + batch]) for i in parts], axis=1)


def grid(logits: np.ndarray) -> np.ndarray:
    """Probabilities [.., V] -> [.., columns, rows], token v in column v mod 128."""
    weights = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    size = logits.shape[-1]
    columns = min(COLUMNS, size)
    fill = [(0, 0)] * (logits.ndim - 1) + [(0, -size % columns)]
    table = np.pad(weights / weights.sum(-1, keepdims=True), fill)
    return np.swapaxes(table.reshape(*logits.shape[:-1], -1, columns), -1, -2)


def gap(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Σ |F - F'| along the last axis, of weights that need not add to 1."""
    one, other = (np.cumsum(weights, axis=-1) for weights in (one, other))
    return np.abs(one / one[..., -1:] - other / other[..., -1:]).sum(-1)


def moved(one: np.ndarray, other: np.ndarray) -> float:
    """Expected share of draws that move, over all rows and steps."""
    total = []
    for a, b in zip(one, other, strict=True):  # a step: [N, V]
        a, b = grid(a), grid(b)
        columns = a.sum(-1)
        within = (columns * gap(a + 1e-300, b + 1e-300)).sum(-1)
        total.append(gap(columns, b.sum(-1)) + within)
    return float(np.mean(total))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="a checkpoint in transformers' layout")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=32, help="per row, decoded")
    parser.add_argument("--prompt", type=int, default=16)
    args = parser.parse_args()
    if args.model:
        loaded = load_pretrained(args.model)
        config, params = loaded.config, loaded.params
    else:
        config = TrunkConfig(**FRESH)
        params = init_params(LanguageModel(config), jax.random.key(0))
    shape = (args.rows, args.prompt + args.tokens)
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, shape)
    for dtype in ("float32", "bfloat16"):
        model = LanguageModel(dataclasses.replace(config, dtype=dtype))
        cast = decoding_params(params, jnp.dtype(dtype))
        rows = tokens.astype(np.int32)
        whole = decoded_logits(model, cast, rows, args.prompt, args.rows)
        for batch in (1, 8):
            other = decoded_logits(model, cast, rows, args.prompt, batch)
            row = {"measure": "moved draws", "model": args.model or "fresh"}
            row |= {"dtype": dtype, "batch": batch, "against": args.rows}
            row |= {"value": moved(whole, other), "unit": "per draw"}
            row["largest_logit_difference"] = float(np.abs(whole - other).max())
            print(json.dumps({**row, "device": jax.devices()[0].device_kind}))


if __name__ == "__main__":
    main()
