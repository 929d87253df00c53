"""Tokens per second of `generate`, one JSON line per figure.

    python benchmarks/generation.py [--workload tiny] [--engine static] [--dtype D]
    python benchmarks/generation.py --peer peers/gen_hf.py --peer-python VENV/bin/python

Workloads: 32 prompts of 64 tokens, 128 new tokens each, temperature 1, no end token,
prefill included, random weights; `tiny` is 4 layers of width 256 with 4 heads and a
vocabulary of 8192, `gpt2` is GPT-2 small (124M). On an accelerator also `gpt2` at
batch 64, and the share of the memory-bandwidth bound:

    bound = bytes of one decode step (every weight once, the valid cache once) / B/s

On a CPU `--cpu-devices N`, one per core, is the fastest: each virtual device decodes
its share of the rows, where one device leaves attention over the cache to one thread.

`uneven` draws limits 1..128 for 128 rows, where the continuous engine may gain.

A peer is a script that prints one JSON line with "value" [tokens/s] for
`--workload W --dtype D`; it is timed in turns with ours, in one run, and the ratio of
the medians is printed: figures drift with the machine, ratios less.
"""

import argparse
import functools
import json
import statistics
import subprocess
import sys
import time

import jax
import numpy as np

from rlhf_jax.models import LanguageModel, TrunkConfig, init_params
from rlhf_jax.parallel import make_mesh
from rlhf_jax.sampling import (
    ENGINES,
    SamplingSpec,
    decoding_params,
    generate,
    layout_for_rollout,
)

WORKLOADS = {
    "tiny": dict(
        vocab_size=8192, context_length=256, embed_dim=256, num_layers=4, num_heads=4
    ),
    "gpt2": dict(
        vocab_size=50257, context_length=512, embed_dim=768, num_layers=12, num_heads=12
    ),
}
PROMPT, NEW = 64, 128
BANDWIDTH = {"H200": 4.8e12, "H100": 3.35e12, "A100": 2.0e12}  # data sheets, B/s


@functools.cache
def policy(workload: str, dtype: str):
    """The model, its parameters, laid out for decoding once, and the mesh."""
    model = LanguageModel(TrunkConfig(**WORKLOADS[workload], dtype=dtype))
    params = jax.jit(lambda key: init_params(model, key))(jax.random.key(0))
    params = jax.jit(decoding_params, static_argnums=1)(params, dtype)
    if jax.device_count() == 1:
        return model, params, None
    mesh = make_mesh(data=jax.device_count())
    return model, layout_for_rollout(params, mesh, dtype), mesh


def make_rollout(workload: str, dtype: str, engine: str, batch: int, uneven: bool):
    """A function of a seed that writes one batch, and the tokens it writes."""
    model, params, mesh = policy(workload, dtype)
    rng = np.random.default_rng(0)
    prompts = rng.integers(2, model.config.vocab_size, (batch, PROMPT)).astype(np.int32)
    limits = rng.integers(1, NEW + 1, batch) if uneven else np.full(batch, NEW)
    limits = limits.astype(np.int32)
    valid, row_ids = np.ones((batch, PROMPT), bool), np.arange(batch, dtype=np.int32)
    slots = min(max(batch // jax.device_count(), 1), 32)
    options = {"slots": slots} if engine == "continuous" else {}

    def rollout(seed: int):
        samples = generate(
            model,
            params,
            prompts,
            valid,
            row_ids,
            jax.random.key(seed),
            SamplingSpec(NEW),
            engine=engine,
            limits=limits,
            mesh=mesh,
            **options,
        )
        return jax.block_until_ready(samples)

    return rollout, int(limits.sum())


def seconds(call, runs: int) -> tuple[float, list[float]]:
    """Seconds of the first call, which compiles, and of `runs` more."""
    times = []
    for seed in range(runs + 1):
        start = time.perf_counter()
        call(seed)
        times.append(time.perf_counter() - start)
    return times[0], times[1:]


def bandwidth_bound(
    workload: str, dtype: str, batch: int, rate: float | None = None
) -> float | None:
    """Tokens/s if a step cost only memory traffic, rows shared.

    `rate` is the memory's [B/s]; None: of the data sheet, and no bound on a CPU.
    """
    if rate is None:
        kind = jax.devices()[0].device_kind
        rate = next((r for name, r in BANDWIDTH.items() if name in kind), None)
    if rate is None:
        return None
    c = LanguageModel(TrunkConfig(**WORKLOADS[workload])).config
    item = 2 if dtype == "bfloat16" else 4
    weights = 12 * c.num_layers * c.embed_dim**2 + c.vocab_size * c.embed_dim
    cached = 2 * c.num_layers * batch * (PROMPT + NEW / 2) * c.embed_dim
    return batch * rate / (item * (weights + cached / jax.device_count()))


def measured(workload, dtype, engine, batch, runs, *, uneven=False) -> dict:
    """One row of results."""
    rollout, tokens = make_rollout(workload, dtype, engine, batch, uneven)
    first, times = seconds(rollout, runs)
    value = tokens / statistics.median(times)
    row = {
        "measure": "generate",
        "workload": workload + ("-uneven" if uneven else ""),
        "system": "rlhf_jax",
        "engine": engine,
        "dtype": dtype,
        "unit": "tokens/s",
        "value": round(value, 1),
        "min": round(tokens / max(times), 1),
        "max": round(tokens / min(times), 1),
        "runs": runs,
        "batch": batch,
        "prompt": PROMPT,
        "new": NEW,
        "ms_per_step": round(1e3 * statistics.median(times) / NEW, 3),
        "first_s": round(first, 1),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "jax": jax.__version__,
    }
    bound = bandwidth_bound(workload, dtype, batch)
    if bound and not uneven:
        row["bandwidth_share"] = round(value / bound, 3)
    return row


def peer_row(args, workload: str, dtype: str) -> dict:
    """The peer's own JSON line, of one short run of it."""
    words = [args.peer_python, args.peer, "--workload", workload, "--dtype", dtype]
    words += args.peer_args.split()
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"peer failed: {' '.join(words)}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def side_by_side(args, workload: str, rows: dict[str, dict]) -> None:
    """Ours and the peer's in turns; prints each peer's line and the ratios."""
    ours = {engine: [row["value"]] for engine, row in rows.items()}
    for dtype in args.peer_dtypes.split(","):
        theirs = []
        for _ in range(args.turns):
            theirs.append(peer_row(args, workload, dtype)["value"])
            for engine in ours:
                again = measured(workload, args.dtype, engine, args.batch, args.runs)
                ours[engine].append(again["value"])
        value = statistics.median(theirs)
        peer = {"system": args.peer.rsplit("/", 1)[-1], "dtype": dtype}
        show({"measure": "generate", "workload": workload, **peer, "value": value})
        for engine, values in ours.items():
            ratio = statistics.median(values) / value
            row = {"measure": "generate ratio", "workload": workload, "engine": engine}
            show({**row, "peer": peer, "value": round(ratio, 2), "unit": "x"})


def show(row: dict) -> None:
    print(json.dumps(row), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--workload", choices=[*WORKLOADS, "all"], default="all")
    add("--engine", choices=[*ENGINES, "both"], default="both")
    add("--dtype", choices=("float32", "bfloat16"), default=None)
    add("--batch", type=int, default=32)
    add("--runs", type=int, default=3, help="timed calls; the median is the figure")
    add("--uneven", action="store_true", help="also rows of unequal length")
    add("--peer", help="script to run side by side")
    add("--peer-python", default=sys.executable)
    add("--peer-args", default="--runs 2 --warmup 1", help="more words for the peer")
    add("--peer-dtypes", default="fp32,bf16")
    add("--turns", type=int, default=1, help="how often peer and ours alternate")
    add("--cpu-devices", type=int, help="virtual devices that share the rows, on CPU")
    args = parser.parse_args()
    if args.cpu_devices:
        jax.config.update("jax_num_cpu_devices", args.cpu_devices)
    on_cpu = jax.default_backend() == "cpu"
    args.dtype = args.dtype or ("float32" if on_cpu else "bfloat16")
    engines = ENGINES if args.engine == "both" else (args.engine,)
    for name in WORKLOADS if args.workload == "all" else (args.workload,):
        rows = {}
        for engine in engines:
            rows[engine] = measured(name, args.dtype, engine, args.batch, args.runs)
            show(rows[engine])
            if not on_cpu and name == "gpt2" and args.batch != 64:
                show(measured(name, args.dtype, engine, 64, args.runs))
            if args.uneven:
                batch = 4 * args.batch
                row = measured(name, args.dtype, engine, batch, args.runs, uneven=True)
                show(row)
        if args.peer:
            side_by_side(args, name, rows)


if __name__ == "__main__":
    main()
