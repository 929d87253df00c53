"""Speed of one training step of a language model: forward, backward, AdamW.

    python benchmarks/training.py                          every size and dtype
    python benchmarks/training.py --sizes tiny --dtypes float32
    python benchmarks/training.py --peer train_torch.py --peer-python PYTHON

One JSON line per figure: tokens/s (median of the runs), peak memory, and the share of
the matmul rate that this machine reaches, measured in the same process. Each figure
comes from a fresh process, so that peaks of memory do not mix.

With `--peer`, a script that prints a JSON line with "value" in tokens/s for
`--workload SIZE --dtype fp32|bf16`, both run in turn, `--rounds` times, and the line
also gives the ratio: on a shared machine figures drift, ratios less.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

SIZES = {
    "tiny": {"layers": 4, "width": 256, "heads": 4, "vocab": 8192, "shape": (16, 256)},
    "gpt2": {
        "layers": 12,
        "width": 768,
        "heads": 12,
        "vocab": 50257,
        "shape": (4, 512),
    },
    "124M": {
        "layers": 12,
        "width": 768,
        "heads": 12,
        "vocab": 50257,
        "shape": (32, 1024),
    },
    "774M": {
        "layers": 36,
        "width": 1280,
        "heads": 20,
        "vocab": 50257,
        "shape": (16, 1024),
    },
    "1.3B": {
        "layers": 24,
        "width": 2048,
        "heads": 16,
        "vocab": 50257,
        "shape": (16, 1024),
    },
}
PEER_DTYPES = {"float32": "fp32", "bfloat16": "bf16"}


def parse(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["tiny", "gpt2"])
    parser.add_argument(
        "--dtypes", nargs="+", choices=PEER_DTYPES, default=list(PEER_DTYPES)
    )
    parser.add_argument("--runs", type=int, default=5, help="timed steps, at least")
    parser.add_argument("--seconds", type=float, default=3.0, help="timed, at least")
    parser.add_argument("--batch", type=int, help="rows instead of the size's own")
    parser.add_argument("--attention", default="xla", help="xla, cudnn or splash")
    parser.add_argument("--no-remat", action="store_true", help="keep activations")
    parser.add_argument("--peer", help="script of the other side of a ratio")
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--peer-arguments", default="", help="in one string")
    parser.add_argument("--rounds", type=int, default=3, help="turns with --peer")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def step_and_state(size, dtype, batch_size, remat, attention="xla"):
    """The compiled update, its first state and a batch, all on the device."""
    import jax
    import numpy as np

    from rlhf_jax import losses, models, parallel, training

    spec = SIZES[size]
    rows, context = batch_size or spec["shape"][0], spec["shape"][1]
    model = models.LanguageModel(
        models.TrunkConfig(
            vocab_size=spec["vocab"],
            context_length=context,
            embed_dim=spec["width"],
            num_layers=spec["layers"],
            num_heads=spec["heads"],
            dtype=dtype,
            remat=remat,
            attention=attention,
        )
    )

    def loss_fn(params, batch, rng):
        tokens = batch["tokens"]
        hidden = model.apply({"params": params}, tokens[:, :-1], method="hidden")
        stats = losses.chunked_logprobs(
            hidden, model.unembedding(params), tokens[:, 1:]
        )
        return losses.weighted_sum(-stats.logprobs, batch["weights"]), {}

    config = training.OptimizerConfig(
        learning_rate=1e-4, schedule="constant", weight_decay=0.1
    )
    tx = training.make_optimizer(config)
    mesh = parallel.make_mesh()

    def init(key):
        return training.init_state(models.init_params(model, key), tx, key)

    state = parallel.init_sharded(init, jax.random.key(0), mesh=mesh)
    update = parallel.compile_update(
        training.make_update(loss_fn, tx, clip_norm=1.0), mesh
    )
    tokens = np.random.default_rng(0).integers(0, spec["vocab"], (rows, context + 1))
    batch = {"tokens": tokens.astype(np.int32), "mask": np.ones((rows, context), bool)}
    return update, state, parallel.put_batch(batch, mesh)


def time_steps(update, state, batch, runs, seconds):
    """Seconds of each step, and what else is to be told.

    The CPU time of a step is steadier than its duration while others use the machine.
    """
    import jax

    began = time.perf_counter()
    state = update.place(state)
    update.compiled(state, batch)
    compile_seconds = time.perf_counter() - began
    for _ in range(2):
        state, metrics = update(state, batch)
        jax.block_until_ready((state, metrics))
    samples, cpu_began = [], time.process_time()
    while len(samples) < runs or sum(samples) < seconds:
        began = time.perf_counter()
        state, metrics = update(state, batch)
        jax.block_until_ready((state, metrics))
        samples.append(time.perf_counter() - began)
    cpu = (time.process_time() - cpu_began) / len(samples)
    facts = {
        "compile_seconds": round(compile_seconds, 2),
        "loss": metrics["loss"].item(),
    }
    return samples, facts | {"cpu_seconds_per_step": round(cpu, 4)}


def matmul_rate(dtype):
    """Best FLOP/s of a square product on one device, float32 result."""
    import jax
    import jax.numpy as jnp

    size = 2048 if jax.default_backend() == "cpu" else 8192
    kind = jnp.dtype(dtype)
    a = jax.random.normal(jax.random.key(0), (size, size)).astype(kind)
    # float32 as the models multiply it: without this a GPU would make it TF32
    precision = jax.lax.Precision.HIGHEST if dtype == "float32" else None
    product = jax.jit(
        lambda a: jnp.matmul(
            a, a, preferred_element_type=jnp.float32, precision=precision
        )
    )
    product(a).block_until_ready()
    best = float("inf")
    for _ in range(10):
        began = time.perf_counter()
        product(a).block_until_ready()
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def step_flops(size, rows, context):
    """Three forward passes; attention counts the full square (PaLM, appendix B)."""
    spec = SIZES[size]
    weights = 12 * spec["layers"] * spec["width"] ** 2 + spec["vocab"] * spec["width"]
    attention = 4 * spec["layers"] * spec["width"] * context
    return 3 * (2 * weights + attention) * rows * context


def peak_mib():
    """Peak memory: of the device where it tells, else of the process."""
    import jax

    stats = jax.devices()[0].memory_stats()
    if stats:
        return stats["peak_bytes_in_use"] / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def program_bytes(program):
    """What the compiler says that a program holds at its peak, its arguments too."""
    told = program.memory_analysis()
    results = told.output_size_in_bytes - told.alias_size_in_bytes
    return told.argument_size_in_bytes + told.temp_size_in_bytes + results


def measure(size, dtype, args):
    """One figure, in this process."""
    from rlhf_jax.parallel import keep_freed_memory

    keep_freed_memory()
    import jax

    spec = SIZES[size]
    rows, context = args.batch or spec["shape"][0], spec["shape"][1]
    update, state, batch = step_and_state(
        size, dtype, args.batch, not args.no_remat, args.attention
    )
    params = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    samples, facts = time_steps(update, state, batch, args.runs, args.seconds)
    (program,) = update.programs.values()
    peak, step = peak_mib(), statistics.median(samples)
    ceiling = matmul_rate(dtype) * jax.device_count()
    return {
        "benchmark": "training",
        "size": size,
        "dtype": dtype,
        "attention": args.attention,
        "batch": [rows, context],
        "parameters": params,
        "tokens_per_second": round(rows * context / step, 1),
        "fastest": round(rows * context / min(samples), 1),
        "seconds_per_step": round(step, 5),
        "steps": len(samples),
        "peak_mib": round(peak),
        "program_mib": program_bytes(program) >> 20,
        "program_temp_mib": program.memory_analysis().temp_size_in_bytes >> 20,
        "matmul_gflops": round(ceiling / 1e9, 1),
        "share_of_matmul": round(step_flops(size, rows, context) / step / ceiling, 3),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "jax": jax.__version__,
    } | facts


def fresh(command):
    """The last JSON line that a command prints."""
    env = os.environ | {"TRANSFORMERS_VERBOSITY": "error"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=env)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed: {done.returncode}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def side_by_side(size, dtype, own, args):
    """Ours and the peer in turn; our middle line, with the ratio."""
    peer = [args.peer_python, args.peer, "--workload", size]
    peer += ["--dtype", PEER_DTYPES[dtype], "--runs", str(args.runs)]
    peer += args.peer_arguments.split()
    lines = [(fresh(own), fresh(peer)) for _ in range(args.rounds)]
    ratios = [ours["tokens_per_second"] / theirs["value"] for ours, theirs in lines]
    lines.sort(key=lambda pair: pair[0]["tokens_per_second"])
    ours, theirs = lines[len(lines) // 2]
    return ours | {
        "peer": f"{theirs.get('system')} {theirs.get('variant')}",
        "peer_tokens_per_second": round(
            statistics.median(t["value"] for _, t in lines), 1
        ),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
    }


def main():
    args = parse()
    for size in args.sizes:
        for dtype in args.dtypes:
            if args.here:
                row = measure(size, dtype, args)
            else:
                own = [sys.executable, __file__, "--here", "--sizes", size]
                own += ["--dtypes", dtype, "--runs", str(args.runs)]
                own += ["--seconds", str(args.seconds)]
                own += ["--batch", str(args.batch)] if args.batch else []
                own += ["--attention", args.attention]
                own += ["--no-remat"] if args.no_remat else []
                row = side_by_side(size, dtype, own, args) if args.peer else fresh(own)
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
