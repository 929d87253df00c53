"""Speed of a PPO iteration by phase, and of reward-model training on K-wise rankings.

    python benchmarks/ppo.py                                 both figures
    python benchmarks/ppo.py --figures ppo --dtypes float32
    python benchmarks/ppo.py --figures ppo --peer ppo_trl.py --peer-python PYTHON
    python benchmarks/ppo.py --figures reward --peer rm_trl.py --peer-python PYTHON

One JSON line per figure, each from a fresh process.

ppo      seconds per iteration (median) and of its phases: generate, score, update.
         Policy, reference, reward and value of one size; 64 episodes of prompt 32 and
         response 64, 4 minibatches, one epoch.
reward   pairs/s of a training step on rankings of K = 9 whose prompt is twice as long
         as a response: the prompt forwarded once and each response once, against the
         same 36 pairs as 72 whole sequences, with the same model and optimizer.
         `loss_gap` and `gradient_gap` tell that both compute the same.

With `--peer`, a script that prints a JSON line with "value" (seconds of an iteration;
pairs/s) for `--workload SIZE --dtype fp32|bf16`, both run in turn, `--rounds` times,
and the line gives the ratio too.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
import types

SIZES = {
    "tiny": {"layers": 4, "width": 256, "heads": 4, "vocab": 8192, "context": 256},
    "gpt2": {"layers": 12, "width": 768, "heads": 12, "vocab": 50257, "context": 512},
    "1.3B": {"layers": 24, "width": 2048, "heads": 16, "vocab": 50257, "context": 512},
}
EPISODES, PROMPT, RESPONSE, MINIBATCHES = 64, 32, 64, 4
K = 9
PEER_DTYPES = {"float32": "fp32", "bfloat16": "bf16"}


def parse(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    figures = ("ppo", "reward")
    parser.add_argument("--figures", nargs="+", choices=figures, default=figures)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["tiny"])
    parser.add_argument("--dtypes", nargs="+", choices=PEER_DTYPES, default=["float32"])
    parser.add_argument("--runs", type=int, default=5, help="timed, after two more")
    parser.add_argument("--prompts", type=int, default=1, help="rankings per step")
    parser.add_argument("--no-remat", action="store_true", help="keep activations")
    parser.add_argument("--peer", help="script of the other side of a ratio")
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--peer-arguments", default="", help="in one string")
    parser.add_argument("--rounds", type=int, default=3, help="turns with --peer")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def shape_of(size, dtype, remat):
    from rlhf_jax.models import TrunkConfig

    spec = SIZES[size]
    return TrunkConfig(
        vocab_size=spec["vocab"],
        context_length=spec["context"],
        embed_dim=spec["width"],
        num_layers=spec["layers"],
        num_heads=spec["heads"],
        dtype=dtype,
        remat=remat,
    )


def players_of(shape):
    """Four random models; a tokenizer that only knows its special tokens."""
    import jax

    from rlhf_jax.models import LanguageModel, ScalarModel, init_params
    from rlhf_jax.registry import LoadedModel, ModelReward
    from rlhf_jax.stages.ppo import Players

    tokenizer = types.SimpleNamespace(end_tokens=(0,), pad_token=1)

    def loaded(kind, seed):
        model = kind(shape)
        params = jax.jit(lambda: init_params(model, jax.random.key(seed)))()
        return LoadedModel(model, params, tokenizer, {})

    judge = loaded(ScalarModel, 1)
    return Players(loaded(LanguageModel, 0), judge, ModelReward(judge))


def iteration_and_state(shape):
    """The real `Iteration` of the stage on random prompts, and its first state."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from rlhf_jax import parallel, training
    from rlhf_jax.stages import ppo

    config = ppo.Config(
        init="",
        reward="",
        prompts=("random",),
        ptx_coef=0.0,
        batch_size=EPISODES,
        minibatch_size=EPISODES // MINIBATCHES,
        max_prompt=PROMPT,
        max_response=RESPONSE,
    )
    players, mesh = players_of(shape), parallel.make_mesh()
    tx = {
        "policy": training.make_optimizer(config.optimizer, 1000),
        "value": training.make_optimizer(config.value_optimizer, 1000),
    }
    terms = ppo.make_loss(players.policy.model, players.value.model, config)
    step = training.make_update(
        terms, tx, ema_decay=config.ema_decay, switches={"policy": "policy_on"}
    )
    update = parallel.compile_update(step, mesh)

    def init(params, rng):
        extra = {"kl_coef": jnp.float32(config.kl.kl_coef)}
        return training.init_state(params, tx, rng, ema=True, extra=extra)

    params = {"policy": players.policy.params, "value": players.value.params}
    state = parallel.init_sharded(init, params, jax.random.key(0), mesh=mesh)

    def prompts(step):
        rng = np.random.default_rng(step)
        tokens = rng.integers(2, shape.vocab_size, (EPISODES, PROMPT)).astype(np.int32)
        return {"prompts": tokens, "valid": np.ones_like(tokens, bool)}

    stream = types.SimpleNamespace(batch=prompts)
    frozen = {"reference": players.policy.params, "reward": players.reward_params}
    iteration = ppo.Iteration(config, players, stream, [], None, update, mesh, frozen)
    return iteration, update.place(state)


def measure_ppo(size, dtype, args):
    """Seconds of whole iterations, and of the phases with a wait between them."""
    import jax

    iteration, state = iteration_and_state(shape_of(size, dtype, not args.no_remat))
    began = time.perf_counter()
    state, metrics = jax.block_until_ready(iteration(state, 0))
    compile_seconds = time.perf_counter() - began
    phases, whole = {"generate": [], "score": [], "update": []}, []
    cpu = time.process_time()
    for step in range(1, args.runs + 3):
        marks = [time.perf_counter()]
        samples = jax.block_until_ready(iteration.sample(state, step))
        marks.append(time.perf_counter())
        assessed = iteration.score(state, samples, step)
        rollout = iteration.shape(assessed, state.extra["kl_coef"])
        rollout, metrics = jax.block_until_ready(rollout)
        marks.append(time.perf_counter())
        state, updates = jax.block_until_ready(iteration.learn(state, rollout, step))
        marks.append(time.perf_counter())
        for name, (a, b) in zip(phases, itertools.pairwise(marks), strict=True):
            phases[name].append(b - a)
        whole.append(marks[-1] - marks[0])
    cpu = (time.process_time() - cpu) / len(whole)
    best = int(min(range(2, len(whole)), key=whole.__getitem__))
    return {
        "value": round(statistics.median(whole[2:]), 4),
        "unit": "s per iteration",
        "phases": {
            name: round(statistics.median(values[2:]), 4)
            for name, values in phases.items()
        },
        "fastest": round(whole[best], 4),
        "cpu_seconds": round(cpu, 4),
        "iterations": len(whole) - 2,
        "compile_seconds": round(compile_seconds, 1),
        "kl": float(metrics["kl"]),
        "length": float(metrics["length"]),
        "episodes": EPISODES,
        "tokens": [PROMPT, RESPONSE],
        "minibatches": MINIBATCHES,
    }


def rankings(shape, count):
    """Random rankings: prompt and responses fill the context, two to one."""
    import numpy as np

    response = shape.context_length // 3
    prompt = shape.context_length - response
    rng = np.random.default_rng(0)

    def tokens(*size):
        return rng.integers(2, shape.vocab_size, size).astype(np.int32)

    ranks = np.stack([rng.permutation(K) + 1 for _ in range(count)]).astype(np.int32)
    return {
        "prompts": tokens(count, prompt),
        "prompt_valid": np.ones((count, prompt), bool),
        "responses": tokens(count, K, response),
        "response_valid": np.ones((count, K, response), bool),
        "ranks": ranks,
        "present": np.ones((count, K), bool),
        "mask": np.ones(count, bool),
    }


def pair_by_pair(model):
    """The ranking loss as most code has it: each pair is two sequences of its own."""
    import jax
    import jax.numpy as jnp

    first, second = map(list, zip(*itertools.combinations(range(K), 2), strict=True))

    def loss_fn(params, batch, rng):
        del rng
        rows, prompt = batch["prompts"].shape
        pairs = len(first)

        def scores(which):
            responses = batch["responses"][:, jnp.array(which)]
            prompts = jnp.broadcast_to(batch["prompts"][:, None], (rows, pairs, prompt))
            whole = jnp.concatenate([prompts, responses], axis=-1)
            values = model.apply({"params": params}, whole.reshape(rows * pairs, -1))
            return values[:, -1].reshape(rows, pairs)

        ranks = batch["ranks"]
        sign = jnp.sign(ranks[:, jnp.array(second)] - ranks[:, jnp.array(first)])
        margins = sign * (scores(first) - scores(second))
        losses = -jax.nn.log_sigmoid(margins).mean(axis=1)
        return (losses * batch["weights"]).sum(), {}

    return loss_fn


def measure_reward(size, dtype, args):
    """Pairs/s of the stage's own update, and of the same pairs one by one."""
    import jax
    import numpy as np

    from rlhf_jax import parallel, training
    from rlhf_jax.models import ScalarModel, init_params
    from rlhf_jax.stages import reward

    shape = shape_of(size, dtype, not args.no_remat)
    model, mesh = ScalarModel(shape), parallel.make_mesh()
    tx = training.make_optimizer(
        training.OptimizerConfig(learning_rate=1e-5, schedule="constant")
    )
    batch = rankings(shape, args.prompts)
    params = jax.jit(lambda: init_params(model, jax.random.key(0)))()
    losses = {"shared": reward.make_loss(model), "pairs": pair_by_pair(model)}
    weighted = dict(batch, weights=np.full(args.prompts, 1 / args.prompts, np.float32))
    found = {
        name: jax.jit(
            jax.value_and_grad(lambda p, b, f=f: f(p, b, jax.random.key(0))[0])
        )(params, weighted)
        for name, f in losses.items()
    }
    (one, a), (two, b) = found["shared"], found["pairs"]
    largest = max(float(abs(leaf).max()) for leaf in jax.tree.leaves(b))
    gaps = jax.tree.map(lambda x, y: float(abs(x - y).max()) / largest, a, b)
    seconds = {}
    for name, loss_fn in losses.items():
        update = parallel.compile_update(training.make_update(loss_fn, tx), mesh)
        state = parallel.init_sharded(
            lambda p, k: training.init_state(p, tx, k),
            params,
            jax.random.key(0),
            mesh=mesh,
        )
        state, samples = update.place(state), []
        for _ in range(args.runs + 2):
            began = time.perf_counter()
            state, metrics = jax.block_until_ready(update(state, batch))
            samples.append(time.perf_counter() - began)
        seconds[name] = statistics.median(samples[2:])
    pairs = args.prompts * K * (K - 1) // 2
    return {
        "value": round(pairs / seconds["shared"], 2),
        "unit": "pairs/s",
        "pair_by_pair": round(pairs / seconds["pairs"], 2),
        "times_pair_by_pair": round(seconds["pairs"] / seconds["shared"], 2),
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "loss_gap": abs(float(one) - float(two)),
        "gradient_gap": max(jax.tree.leaves(gaps)),
        "k": K,
        "tokens": [batch["prompts"].shape[1], batch["responses"].shape[2]],
        "prompts": args.prompts,
    }


def fresh(command):
    """The last JSON line that a command prints."""
    env = os.environ | {"TRANSFORMERS_VERBOSITY": "error"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=env)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed: {done.returncode}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def side_by_side(figure, size, dtype, own, args):
    """Ours and the peer in turn; our middle line, with the ratio (above 1: faster)."""
    peer = [args.peer_python, args.peer, "--workload", size]
    peer += ["--dtype", PEER_DTYPES[dtype], *args.peer_arguments.split()]
    lines = [(fresh(own), fresh(peer)) for _ in range(args.rounds)]
    ratios = [ours["value"] / theirs["value"] for ours, theirs in lines]
    if figure == "ppo":  # seconds: smaller is better
        ratios = [1 / ratio for ratio in ratios]
    lines.sort(key=lambda pair: pair[0]["value"])
    ours, theirs = lines[len(lines) // 2]
    return ours | {
        "peer": f"{theirs.get('system')} {theirs.get('variant')}",
        "peer_value": round(statistics.median(t["value"] for _, t in lines), 4),
        "peer_phases": theirs.get("phases"),
        "ratio": round(statistics.median(ratios), 2),
        "ratios": [round(ratio, 2) for ratio in ratios],
    }


def here(figure, size, dtype, args):
    from rlhf_jax.parallel import keep_freed_memory

    keep_freed_memory()
    import jax

    row = {"ppo": measure_ppo, "reward": measure_reward}[figure](size, dtype, args)
    device = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    head = {"benchmark": figure, "size": size, "dtype": dtype}
    return head | row | {"device": device, "jax": jax.__version__}


def main():
    args = parse()
    cases = itertools.product(args.figures, args.sizes, args.dtypes)
    for figure, size, dtype in cases:
        if args.here:
            row = here(figure, size, dtype, args)
        else:
            own = [sys.executable, __file__, "--here", "--figures", figure]
            own += ["--sizes", size, "--dtypes", dtype, "--runs", str(args.runs)]
            own += ["--prompts", str(args.prompts)]
            own += ["--no-remat"] if args.no_remat else []
            row = (
                side_by_side(figure, size, dtype, own, args)
                if args.peer
                else fresh(own)
            )
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
