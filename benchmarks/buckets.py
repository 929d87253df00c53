"""Reward-model training on rankings of mixed K and length, in three layouts.

    python benchmarks/buckets.py                            mostly K = 2, full length
    python benchmarks/buckets.py --share 0 --shortest 0.2   K = 3 to 9, mixed lengths

padded   every ranking takes max_k responses of the full length
buckets  buckets of K (`k_buckets`)
packed   a ranking is one row (`packed`)

One JSON line: rankings/s over whole epochs of the stage's own stream and update, the
layouts in turn in one process (their ratios to "padded" drift less than the figures),
and the share of token slots that hold a token. A share of the rankings has K = 2, the
rest 3 to 9.
"""

import argparse
import json
import statistics
import time

PROMPT, RESPONSE, MAX_K = 96, 48, 9


def parse(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--share", type=float, default=0.9, help="rankings of K = 2")
    parser.add_argument("--rankings", type=int, default=160)
    parser.add_argument("--batch", type=int, default=16, help="rankings per step")
    parser.add_argument("--buckets", type=int, nargs="+", default=[2, 4, 6])
    parser.add_argument("--packed", type=int, nargs="+", default=[192, 256, 384])
    parser.add_argument(
        "--shortest", type=float, default=1.0, help="least length, of the full one"
    )
    parser.add_argument("--epochs", type=int, default=3, help="timed, after one more")
    return parser.parse_args(argv)


def rankings(count, share, shortest):
    """Random bytes; lengths are drawn from `shortest` of the full one up to it."""
    import numpy as np

    from rlhf_jax.data import Ranking

    rng = np.random.default_rng(0)

    def text(full):
        length = int(rng.integers(max(1, round(shortest * full)), full + 1))
        return bytes(rng.integers(97, 123, length).tolist()).decode()

    for i in range(count):
        k = 2 if rng.random() < share else int(rng.integers(3, MAX_K + 1))
        yield Ranking(
            id=str(i),
            prompt=text(PROMPT - 1),
            responses=[text(RESPONSE - 1) for _ in range(k)],
            ranks=list(range(1, k + 1)),
        )


class Layout:
    """One way to batch the rankings, and its compiled update."""

    def __init__(self, args, **layout):
        import jax

        from rlhf_jax import parallel, training
        from rlhf_jax.data import ByteTokenizer, ranking_stream
        from rlhf_jax.models import ScalarModel, TrunkConfig, init_params
        from rlhf_jax.stages import reward

        tokenizer = ByteTokenizer()
        self.stream = ranking_stream(
            rankings(args.rankings, args.share, args.shortest),
            tokenizer,
            batch_size=args.batch,
            max_prompt=PROMPT,
            max_response=RESPONSE,
            max_k=MAX_K,
            **layout,
        )
        model = ScalarModel(TrunkConfig(tokenizer.vocab_size, 256, 128, 4, 4))
        tx = training.make_optimizer(
            training.OptimizerConfig(learning_rate=1e-5, schedule="constant")
        )
        mesh = parallel.make_mesh()
        self.update = parallel.compile_update(
            training.make_update(reward.make_loss(model), tx), mesh
        )
        params = jax.jit(lambda: init_params(model, jax.random.key(0)))()
        self.state = parallel.init_sharded(
            lambda p, k: training.init_state(p, tx, k),
            params,
            jax.random.key(0),
            mesh=mesh,
        )

    def epoch(self, number):
        """Seconds of an epoch."""
        import jax

        steps = self.stream.steps_per_epoch
        began = time.perf_counter()
        for step in range(number * steps, (number + 1) * steps):
            batch = self.stream.batch(step)
            batch = {name: rows for name, rows in batch.items() if name != "row"}
            self.state, metrics = self.update(self.state, batch)
        jax.block_until_ready(metrics)
        return time.perf_counter() - began

    def real(self):
        """The share of an epoch's token slots that hold a token."""
        names = ("valid", "prompt_valid", "response_valid")
        batches = [self.stream.batch(i) for i in range(len(self))]
        there = [batch[name] for batch in batches for name in names if name in batch]
        return sum(t.sum() for t in there) / sum(t.size for t in there)

    def __len__(self):
        return self.stream.steps_per_epoch


def main():
    args = parse()
    from rlhf_jax.parallel import keep_freed_memory

    keep_freed_memory()
    import jax

    layouts = {
        "padded": Layout(args),
        "buckets": Layout(args, k_buckets=tuple(args.buckets)),
        "packed": Layout(args, packed=tuple(args.packed)),
    }
    seconds = {name: [] for name in layouts}
    for epoch in range(args.epochs + 1):
        for name, layout in layouts.items():
            seconds[name].append(layout.epoch(epoch))
    timed = {name: some[1:] for name, some in seconds.items()}
    ratios = {
        name: [round(a / b, 2) for a, b in zip(timed["padded"], some, strict=True)]
        for name, some in timed.items()
        if name != "padded"
    }
    speeds = {n: args.rankings / statistics.median(some) for n, some in timed.items()}
    row = {
        "benchmark": "ranking layouts",
        "value": {name: round(speed, 2) for name, speed in speeds.items()},
        "unit": "rankings/s",
        "ratio": {n: round(statistics.median(some), 2) for n, some in ratios.items()},
        "ratios": ratios,
        "real_tokens": {n: round(float(o.real()), 3) for n, o in layouts.items()},
        "programs": {n: o.update.compilations for n, o in layouts.items()},
        "share": args.share,
        "shortest": args.shortest,
        "buckets": args.buckets,
        "packed": args.packed,
        "batch": args.batch,
        "tokens": [PROMPT, RESPONSE],
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "jax": jax.__version__,
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main()
