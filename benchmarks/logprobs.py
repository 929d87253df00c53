"""The chunked logprobs against the plain ones: peak memory and time of one gradient.

    python benchmarks/logprobs.py [--tokens 2048] [--width 256] [--words 32768]

One JSON line per variant: temporary memory of the compiled program in MiB, seconds per
call (the best of the repeats), each also as a ratio to the plain op of the same dtype,
and the largest difference of its results from it.
"""

import argparse
import functools
import json
import time

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax import losses


def plain(hidden, unembedding, tokens, with_entropy):
    logits = jnp.einsum(
        "btd,vd->btv", hidden, unembedding, preferred_element_type=jnp.float32
    )
    entropy = losses.entropy(logits) if with_entropy else None
    return losses.TokenStatistics(losses.token_logprobs(logits, tokens), entropy)


def chunked(hidden, unembedding, tokens, with_entropy, chunk_size):
    return losses.chunked_logprobs(
        hidden, unembedding, tokens, with_entropy=with_entropy, chunk_size=chunk_size
    )


def gradient_of(op):
    """The program a training step runs: value and gradient of a weighted sum."""

    def loss(hidden, unembedding, tokens):
        logprobs, entropy = op(hidden, unembedding, tokens)
        weights = losses.normalize(jnp.ones(tokens.shape, bool))
        total = losses.weighted_sum(-logprobs, weights)
        if entropy is not None:
            total -= 0.01 * losses.weighted_sum(entropy, weights)
        return total, logprobs

    return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)


def measure(op, arrays, repeats):
    """(MiB of temporaries, seconds, results) of one compiled gradient."""
    program = jax.jit(gradient_of(op)).lower(*arrays).compile()
    memory = program.memory_analysis().temp_size_in_bytes / 2**20
    results = jax.block_until_ready(program(*arrays))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(program(*arrays))
        seconds.append(time.perf_counter() - start)
    return memory, min(seconds), results


def difference(results, reference) -> float:
    """The largest error of logprobs or gradients, relative to the largest entry."""
    pairs = zip(jax.tree.leaves(results), jax.tree.leaves(reference), strict=True)
    arrays = [[np.asarray(x, np.float32) for x in pair] for pair in pairs]
    return float(max(np.abs(a - b).max() / np.abs(b).max() for a, b in arrays))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=2048, help="in all rows together")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--words", type=int, default=32768)
    parser.add_argument("--chunks", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--dtypes", nargs="+", default=["float32"])
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    shape = (args.rows, args.tokens // args.rows)
    keys = jax.random.split(jax.random.key(0), 3)
    for dtype in args.dtypes:
        arrays = (
            jax.random.normal(keys[0], (*shape, args.width), dtype),
            jax.random.normal(keys[1], (args.words, args.width), dtype)
            * args.width**-0.5,
            jax.random.randint(keys[2], shape, 0, args.words),
        )
        for with_entropy in (False, True):
            ops = {"plain": functools.partial(plain, with_entropy=with_entropy)}
            for size in args.chunks:
                ops[f"chunked {size}"] = functools.partial(
                    chunked, with_entropy=with_entropy, chunk_size=size
                )
            reference = None
            for name, op in ops.items():
                memory, seconds, results = measure(op, arrays, args.repeats)
                reference = reference or (memory, seconds, results)
                line = {
                    "variant": name,
                    "entropy": with_entropy,
                    "dtype": dtype,
                    "device": jax.devices()[0].device_kind,
                    "tokens": args.tokens,
                    "width": args.width,
                    "words": args.words,
                    "temp_mib": round(memory, 1),
                    "seconds": round(seconds, 4),
                    "memory_ratio": round(memory / reference[0], 3),
                    "time_ratio": round(seconds / reference[1], 3),
                    "max_relative_difference": difference(results, reference[2]),
                }
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
