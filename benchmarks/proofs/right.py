"""Is it right here? Each proof compares with something that cannot share its fault."""

import concurrent.futures
import dataclasses
import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

import jax
import jax.numpy as jnp
import numpy as np

from proofs.rows import Row
from rlhf_jax.models import (
    LanguageModel,
    TrunkConfig,
    init_params,
    load_pretrained,
)

GOLDEN = pathlib.Path(__file__).parents[2] / "tests/models/golden"
KERNEL = {"gpu": "cudnn", "cuda": "cudnn", "tpu": "splash"}
# of the largest golden logit; in bfloat16 a CPU is up to 0.088 away (llama_yarn)
LOGITS = {"float32": 1e-4, "bfloat16": 0.13}


def logits(dtype: str):
    """Logits of every golden family against transformers', on this device."""
    for folder in sorted(GOLDEN.glob("*_lm")):
        loaded = load_pretrained(folder)
        expected = np.load(folder / "expected.npz")
        model = LanguageModel(dataclasses.replace(loaded.config, dtype=dtype))
        found = jax.jit(lambda p, t, m=model: m.apply({"params": p}, t))(
            loaded.params, expected["tokens"]
        )
        gap = np.abs(np.asarray(found) - expected["logits"]).max()
        gap /= np.abs(expected["logits"]).max()
        name = f"{folder.name.removesuffix('_lm')} {dtype}"
        yield Row("logits", name, float(gap), "of the largest", LOGITS[dtype])


# how rows look to attention: (fields of the config, arguments of a forward pass)
LENGTH = 256


def _packed():
    lengths = [40, 100, 116]
    segments = np.repeat(np.arange(3), lengths)[None].repeat(4, 0)
    return {"segments": jnp.asarray(segments, jnp.int32)}


def _padded():
    valid = np.ones((4, LENGTH), bool)
    valid[0, :50], valid[1, -70:] = False, False
    return {"valid": jnp.asarray(valid)}


VIEWS = {
    "plain": ({}, dict),
    "padding": ({}, _padded),
    "packing": ({}, _packed),
    "odd length": ({}, dict),
    "windows": ({"windows": (64, 0)}, _padded),
    "groups": ({"num_kv_heads": 2}, _padded),
    "soft cap": ({"attention_soft_cap": 20.0}, _padded),
}


def kernels():
    """The device's attention kernel against plain array code in float32.

    Both attentions in bfloat16 are compared with the reference in float32, in value
    and gradient; a kernel may be half as far again from it as the array code is.
    """
    name = KERNEL.get(jax.default_backend())
    if name is None:
        yield Row("kernels", "all", None, note="no kernel for this device")
        return
    for view, (fields, arguments) in VIEWS.items():
        if name == "cudnn" and view == "soft cap":
            yield Row("kernels", f"{name} {view}", None, note="cuDNN has none: refused")
            continue
        length = LENGTH - 1 if view == "odd length" else LENGTH
        gaps = _kernel_gaps(name, fields, arguments(), length)
        for what, (fast, plain) in gaps.items():
            note = f"xla: {plain:.2g}"
            case = f"{name} {view}, {what}"
            yield Row(
                "kernels", case, fast, "relative", max(1.5 * plain, 1e-3), note=note
            )


def _kernel_gaps(name, fields, arguments, length):
    """{"value" and "gradient": (gap of the kernel, gap of array code)}, relative."""
    shape = TrunkConfig(512, 256, 256, 2, 4, dtype="float32", **fields)
    params = jax.jit(lambda k: init_params(LanguageModel(shape), k))(jax.random.key(0))
    params = jax.tree.map(
        lambda x: x + 0.02 * jax.random.normal(jax.random.key(x.size), x.shape), params
    )
    rng = np.random.default_rng(0)
    tokens = jnp.asarray(rng.integers(0, 512, (4, length)), jnp.int32)
    weight = jnp.asarray(rng.normal(size=(4, length, 256)), jnp.float32)
    if (valid := arguments.get("valid")) is not None:
        weight *= valid[:, :length, None]
    arguments = {key: x[:, :length] for key, x in arguments.items()}

    def apply(model, params):
        variables = {"params": params}
        return model.apply(variables, tokens, method="hidden", **arguments)

    def outcome(**changes):
        model = LanguageModel(dataclasses.replace(shape, **changes))

        def loss(params):
            hidden = apply(model, params).astype(jnp.float32)
            return (hidden * weight).sum(), hidden * (weight != 0)

        (_, hidden), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
        return {"value": hidden, "gradient": gradient}

    reference = outcome()
    fast = outcome(dtype="bfloat16", attention=name)
    plain = outcome(dtype="bfloat16")
    return {
        what: tuple(_relative(o[what], reference[what]) for o in (fast, plain))
        for what in reference
    }


def _relative(found, expected):
    """‖found - expected‖ / ‖expected‖ over all leaves, in float64."""
    pairs = zip(*map(jax.tree.leaves, (found, expected)), strict=True)
    pairs = [(np.asarray(a, float), np.asarray(b, float)) for a, b in pairs]
    over = sum(((a - b) ** 2).sum() for a, b in pairs)
    return float(np.sqrt(over / sum((b**2).sum() for _, b in pairs)))


def sampler(dtype: str):
    """What the sampler says of its tokens against what a training forward says.

    And the same row with other batch mates, in another order, by the other engine.
    """
    from rlhf_jax.models.responses import response_statistics
    from rlhf_jax.sampling import SamplingSpec, generate

    model = LanguageModel(TrunkConfig(2048, 128, 256, 4, 4, dtype=dtype))
    params = jax.jit(lambda key: init_params(model, key))(jax.random.key(0))
    params = jax.tree.map(lambda x: 4 * x if x.ndim > 2 else x, params)  # not uniform
    rng = np.random.default_rng(0)
    prompts = rng.integers(2, 2048, (32, 48)).astype(np.int32)
    valid = np.arange(48) >= rng.integers(0, 40, 32)[:, None]
    spec = SamplingSpec(64)

    def written(rows, **options):
        names = np.asarray(rows, np.int32)
        out = generate(
            model,
            params,
            prompts[rows],
            valid[rows],
            names,
            jax.random.key(1),
            spec,
            **options,
        )
        return jax.tree.map(np.asarray, out)

    whole = written(list(range(32)))
    batch = {"prompts": prompts, "valid": valid}
    batch |= {"tokens": whole.tokens, "mask": whole.mask}
    learner = jax.jit(
        lambda p, b: response_statistics(model, p, b, temperature=1.0).logprobs
    )(params, batch)
    gap = np.abs(np.asarray(learner) - whole.logprobs)[whole.mask]
    limits = {"float32": 1e-3, "bfloat16": 0.25}
    note = f"mean {gap.mean():.1e}"
    yield Row(
        "sampler",
        f"{dtype}, learner's log-probabilities",
        float(gap.max()),
        "nats",
        limits[dtype],
        note=note,
    )
    others = {
        "in reverse": written(list(range(31, -1, -1))).tokens[::-1],
        "eight at a time": np.concatenate(
            [written(list(range(i, i + 8))).tokens for i in range(0, 32, 8)]
        ),
        "continuous engine": written(list(range(32)), engine="continuous").tokens,
    }
    for name, tokens in others.items():
        same = float((tokens == whole.tokens).all(axis=1).mean())
        exact = dtype == "float32" or name == "in reverse"
        yield Row(
            "sampler",
            f"{dtype}, same text {name}",
            same,
            "of rows",
            0.96 if exact else None,
            "least",
        )


def resume(script: str, flags: str = ""):
    """A tiny PPO-ptx, killed and resumed, beside one that nobody killed: their bits.

    Each run is a process, and both go on beside each other. On a GPU sums by atomic
    additions and kernels chosen by a stopwatch may differ between two runs; the XLA
    flag `--xla_gpu_deterministic_ops=true` forbids both.
    """
    run = functools.partial(_resume_run, script, flags)
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            uncut = pool.submit(run, root / "uncut")
            for fault in ("ppo.minibatch:7:SIGKILL", "ckpt.before_commit:2:SIGKILL"):
                run(root / "cut", fault)
            cut, uncut = run(root / "cut"), uncut.result()
    on_gpu = jax.default_backend() in ("gpu", "cuda")
    yield Row(
        "resume",
        f"killed twice {flags}".strip(),
        sum(cut[name] == bits for name, bits in uncut.items()) / len(uncut),
        f"of {len(uncut)} leaves equal",
        1.0 if flags or not on_gpu else None,
        "least",
    )


def _resume_run(script: str, flags: str, workdir: pathlib.Path, fault: str = ""):
    """Runs the worker; {leaf: hash}, or None when the fault killed it."""
    env = os.environ | {"RLHF_FAULT": fault}
    env["XLA_FLAGS"] = f"{env.get('XLA_FLAGS', '')} {flags}".strip()
    words = [sys.executable, script, "--worker", str(workdir)]
    done = subprocess.run(words, env=env, capture_output=True, text=True)
    if fault and done.returncode == -signal.SIGKILL:
        return None
    if done.returncode or fault:
        raise RuntimeError(f"code {done.returncode}: {done.stderr[-800:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def resume_worker(workdir: str) -> None:
    """Six iterations of PPO-ptx in the directory; prints the hash of each leaf."""
    import hashlib

    from rlhf_jax.data import ByteTokenizer
    from rlhf_jax.registry import reward_from
    from rlhf_jax.stages import ppo
    from rlhf_jax.stages.pretrain import fresh_model
    from rlhf_jax.training import OptimizerConfig
    from rlhf_jax.training.settings import RunSettings

    shape = TrunkConfig(1, 96, 64, 2, 4, dtype="bfloat16")
    policy = fresh_model(shape, ByteTokenizer())
    adam = OptimizerConfig(name="adam", learning_rate=1e-3, schedule="constant")
    config = ppo.Config(
        ptx_coef=1.0,
        ptx_per_episode=1,
        ptx_window=48,
        episodes=96,
        batch_size=16,
        minibatch_size=8,
        max_prompt=32,
        max_response=24,
        optimizer=adam,
        value_optimizer=adam,
        warmup_iterations=1,
    )
    run = ppo.train(
        policy,
        [f"What is {i} and {i + 1}?" for i in range(64)],
        reward=reward_from(policy, jax.random.key(1)),
        texts=[f"The number {i} is followed by {i + 1}. " * 4 for i in range(64)],
        config=config,
        workdir=workdir,
        settings=RunSettings(save_every=2, tensorboard=False, mesh="1,1,1"),
    )
    leaves = jax.tree_util.tree_leaves_with_path(run.model.params)
    hashes = {
        jax.tree_util.keystr(path): hashlib.sha256(
            np.asarray(leaf).tobytes()
        ).hexdigest()
        for path, leaf in leaves
    }
    print(json.dumps(hashes))


def guards():
    """A batch of NaN is skipped whole; float16 finds its scale and learns."""
    from rlhf_jax import losses, parallel, training

    def update_of(dtype):
        model = LanguageModel(TrunkConfig(64, 32, 64, 2, 4, dtype=dtype))

        def loss_fn(params, batch, rng):
            hidden = model.apply({"params": params}, batch["tokens"], method="hidden")
            stats = losses.chunked_logprobs(
                hidden[:, :-1], model.unembedding(params), batch["tokens"][:, 1:]
            )
            values = -stats.logprobs * batch["factor"][:, None]
            return losses.weighted_sum(values, batch["weights"]), {}

        config = training.OptimizerConfig(learning_rate=3e-3, schedule="constant")
        tx, mesh = training.make_optimizer(config), parallel.make_mesh()
        state = training.init_state(
            init_params(model, jax.random.key(0)),
            tx,
            jax.random.key(0),
            loss_scale=training.first_loss_scale(dtype),
        )
        update = parallel.compile_update(training.make_update(loss_fn, tx), mesh)
        return update, update.place(state)

    rows = 8 * jax.device_count()
    tokens = np.tile(np.arange(17) % 5, (rows, 1)).astype(np.int32)
    batch = {"tokens": tokens, "mask": np.ones((rows, 16), bool)}
    good = batch | {"factor": np.ones(rows, np.float32)}
    bad = batch | {"factor": np.full(rows, np.nan, np.float32)}
    for dtype in ("bfloat16", "float16"):
        update, state = update_of(dtype)
        state, first = update(state, good)
        before = jax.tree.map(np.asarray, state.params)
        state, metrics = update(state, bad)
        kept = jax.tree.map(
            lambda a, b: (a == np.asarray(b)).all(), before, state.params
        )
        skipped = float(metrics["skipped"]) * all(jax.tree.leaves(kept))
        yield Row(
            "guards", f"{dtype}: NaN leaves every parameter", skipped, "", 1.0, "least"
        )
        for _ in range(40):
            state, last = update(state, good)
        fall = float(last["loss"]) / float(first["loss"])
        yield Row(
            "guards", f"{dtype}: the loss of 40 steps more", fall, "of the first", 0.5
        )
