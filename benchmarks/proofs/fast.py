"""Is it fast here? Shares of the ceilings that this device shows in the same process.

A share says how far the limit is where a ratio to a peer does not. What a step must do
is counted in `training.py` (products) and `generation.py` (bytes per decoded token).
"""

import argparse
import pathlib
import sys
import time

import jax
import jax.numpy as jnp

from proofs.rows import Row

HERE = pathlib.Path(__file__).parents[1]
ON_CPU = jax.default_backend() == "cpu"
SIZES = ("tiny",) if ON_CPU else ("124M", "774M", "1.3B")
STEP_GOALS = {"124M": 0.45, "774M": 0.55, "1.3B": 0.55}  # of the matmul rate
ROLLOUT_GOAL = 0.5  # of the bandwidth bound
KERNEL = {"gpu": "cudnn", "cuda": "cudnn", "tpu": "splash"}


def ceilings():
    """The device's own rates: a large product, a large copy."""
    import training

    for dtype in ("bfloat16", "float32"):
        rate = training.matmul_rate(dtype) / 1e12
        yield Row("ceilings", f"matmul, {dtype}", rate, "TFLOP/s")
    yield Row("ceilings", "copy, read and written", bandwidth() / 1e9, "GB/s")


def bandwidth() -> float:
    """Bytes read and written per second by a copy larger than any cache."""
    count = 2**27 if ON_CPU else 2**30
    array = jnp.arange(count, dtype=jnp.float32)
    copy = jax.jit(lambda x: x + 1.0)
    copy(array).block_until_ready()
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        copy(array).block_until_ready()
        best = min(best, time.perf_counter() - began)
    return 2 * 4 * count / best


def step(size: str, attention: str):
    """One training step of a language model: share of the matmul rate; its memory."""
    import training

    words = ["--attention", attention, "--seconds", "2", "--runs", "5"]
    row = training.measure(size, "bfloat16", training.parse(words))
    case = f"{size} {'x'.join(map(str, row['batch']))} {attention}"
    yield Row(
        "step",
        case,
        row["share_of_matmul"],
        "of matmul",
        STEP_GOALS.get(size),
        "least",
        goal=True,
        note=f"{row['tokens_per_second']:,.0f} tokens/s",
    )
    # On a CPU the peak is the whole process, its libraries included.
    ratio = row["peak_mib"] / row["program_mib"]
    yield Row(
        "memory",
        f"step {case}, peak over the compiler's word",
        ratio,
        "",
        None if ON_CPU else 1.1,
        note=f"{row['peak_mib']:,} MiB",
    )


def halves(size: str, attention: str):
    """Where a training step goes: the trunk, and the loss over the vocabulary."""
    import training

    from rlhf_jax import losses, models

    spec = training.SIZES[size]
    rows, length = spec["shape"]
    shape = models.TrunkConfig(
        spec["vocab"],
        length,
        spec["width"],
        spec["layers"],
        spec["heads"],
        dtype="bfloat16",
        attention=attention,
    )
    model = models.LanguageModel(shape)
    params = jax.jit(lambda k: models.init_params(model, k))(jax.random.key(0))
    tokens = jax.random.randint(jax.random.key(1), (rows, length), 0, spec["vocab"])

    def trunk(params):
        hidden = model.apply({"params": params}, tokens, method="hidden")
        return hidden.astype(jnp.float32).sum()

    def loss(hidden, table):
        return losses.chunked_logprobs(hidden, table, tokens).logprobs.sum()

    hidden = jax.random.normal(jax.random.key(2), (rows, length, shape.embed_dim))
    table = model.unembedding(params)
    calls = {
        "trunk": (jax.jit(jax.grad(trunk)), (params,)),
        "loss": (
            jax.jit(jax.grad(loss, argnums=(0, 1))),
            (hidden.astype(jnp.bfloat16), table),
        ),
    }
    for name, (call, arguments) in calls.items():
        jax.block_until_ready(call(*arguments))
        times = []
        for _ in range(5):
            began = time.perf_counter()
            jax.block_until_ready(call(*arguments))
            times.append(time.perf_counter() - began)
        yield Row("halves", f"{size} {attention}, {name}", 1e3 * min(times), "ms")


def rollout(workload: str, batch: int, how: str = ""):
    """Decoding: share of what the memory's bandwidth allows."""
    import generation

    dtype = "bfloat16"
    row = generation.measured(workload, dtype, "static", batch, 3)
    rate = bandwidth()
    tokens = generation.bandwidth_bound(workload, dtype, batch, rate)
    yield Row(
        "rollout",
        f"{workload}, {batch} rows {how}".strip(),
        row["value"] / tokens,
        "of the bandwidth bound",
        None if ON_CPU else ROLLOUT_GOAL,
        "least",
        goal=True,
        note=f"{row['value']:,.0f} tokens/s, {row['ms_per_step']} ms a token",
    )


def ppo(size: str):
    """An iteration of PPO by phase: 64 episodes of 32 + 64 tokens."""
    import ppo as benchmark

    row = benchmark.measure_ppo(size, "bfloat16", _arguments(benchmark))
    yield Row("ppo", f"{size}, iteration", row["value"], "s")
    for phase, seconds in row["phases"].items():
        yield Row("ppo", f"{size}, {phase}", seconds, "s")
    yield Row("ppo", f"{size}, to compile", row["compile_seconds"], "s")


def reward(size: str):
    """A step on rankings of K = 9, against the same pairs one by one."""
    import ppo as benchmark

    row = benchmark.measure_reward(size, "bfloat16", _arguments(benchmark))
    yield Row("reward", f"{size}, K = 9", row["value"], "pairs/s")
    yield Row("reward", f"{size}, over pair by pair", row["times_pair_by_pair"], "x")
    yield Row("reward", f"{size}, loss's distance", row["loss_gap"], "nats", 0.02)


def _arguments(benchmark) -> argparse.Namespace:
    return benchmark.parse(["--runs", "3"])


def peers(size: str):
    """Our training step and rollout beside PyTorch's, each a process of its own."""
    import training

    from proofs import peers as theirs

    if (why := theirs.absent()) is not None:
        yield Row("peers", "all", None, note=why)
        return
    attention = KERNEL.get(jax.default_backend(), "xla")
    words = ["training.py", "--here", "--sizes", size, "--dtypes", "bfloat16"]
    words += ["--attention", attention, "--seconds", "1"]
    ours = training.fresh([sys.executable, HERE / words[0], *words[1:]])
    found = theirs.fresh("step", size, training.SIZES[size]["shape"])
    yield Row(
        "peers",
        f"step {size}",
        ours["tokens_per_second"] / found["value"],
        "x PyTorch",
        note=f"{found['value']:,.0f} tokens/s of {found['what']}",
    )
    workload, batch = ("tiny", 32) if ON_CPU else ("gpt2", 64)
    words = ["generation.py", "--workload", workload, "--engine", "static"]
    words += ["--batch", str(batch), "--dtype", "bfloat16"]
    ours = training.fresh([sys.executable, HERE / words[0], *words[1:]])
    found = theirs.fresh("rollout", workload, (batch,))
    yield Row(
        "peers",
        f"rollout {workload}, {batch} rows",
        ours["value"] / found["value"],
        "x transformers",
        note=f"{found['value']:,.0f} tokens/s of {found['what']}",
    )
