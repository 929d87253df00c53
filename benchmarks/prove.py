"""Is this project right and fast on this machine? One table, one JSON file.

    make prove
    python benchmarks/prove.py [--budget 480] [--only right,fast] [--out prove.json]

Each part is a process of its own, so that memory peaks do not mix and a crash ends one
part. Parts that time nothing run beside each other; the others one by one. What the
budget [s] leaves no room for is said, as is what this machine cannot have.

Nothing but the checkout and its dependencies is needed: no config, no data set. Exit
code 1: something is wrong. A goal of speed that is missed is only told.
"""

import argparse
import concurrent.futures
import dataclasses
import datetime
import importlib
import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from proofs.rows import Row, table  # noqa: E402


@dataclasses.dataclass(frozen=True)
class Part:
    """One process.

    Attributes:
      name: `module.function argument ...` below `proofs`.
      seconds: what it may take on an accelerator.
      alone: it times something.
      flags: of XLA.
    """

    name: str
    seconds: int
    alone: bool = True
    flags: str = ""


EXACT = "--xla_gpu_deterministic_ops=true"
QUICK = "--xla_gpu_autotune_level=0"  # numbers do not need the fastest kernel
GRAPHS = "--xla_gpu_enable_command_buffer=+WHILE,+CONDITIONAL"
RIGHT = (
    Part("right.resume", 240, alone=False),
    Part(f"right.resume {EXACT}", 240, alone=False),
    Part("right.logits float32", 150, alone=False, flags=QUICK),
    Part("right.logits bfloat16", 150, alone=False, flags=QUICK),
    Part("right.kernels", 150, alone=False, flags=QUICK),
    Part("right.sampler float32", 150, alone=False, flags=QUICK),
    Part("right.sampler bfloat16", 150, alone=False, flags=QUICK),
    Part("right.guards", 120, alone=False, flags=QUICK),
)
ACCELERATOR = (
    Part("fast.ceilings", 60),
    Part("fast.step 124M KERNEL", 90),
    Part("fast.rollout gpt2 64", 90),
    Part("fast.halves 124M KERNEL", 60),
    Part("fast.ppo gpt2", 120),
    Part("fast.peers 124M", 150),
    Part("fast.step 1.3B KERNEL", 120),
    Part("fast.reward gpt2", 90),
    Part("fast.rollout gpt2 64 graphs", 90, flags=GRAPHS),
    Part("fast.rollout gpt2 256", 90),
    Part("fast.step 124M xla", 90),
    Part("fast.step 774M KERNEL", 120),
    Part("fast.ppo 1.3B", 180),
)
CPU = (
    Part("fast.ceilings", 60),
    Part("fast.step tiny xla", 90),
    Part("fast.rollout tiny 32", 90),
    Part("fast.ppo tiny", 120),
    Part("fast.reward tiny", 120),
    Part("fast.peers tiny", 150),
)
KERNELS = {"gpu": "cudnn", "cuda": "cudnn", "tpu": "splash", "cpu": "xla"}
MARK = "row: "
TODAY = datetime.date.today().isoformat()
WARM = 7  # parts whose programs are compiled beside the proofs


def parse(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--budget", type=float, default=480.0, help="seconds of the whole")
    add("--only", help="parts whose name holds one of these words, by commas")
    add("--out", default="prove.json", help="file of all rows")
    add("--part", help=argparse.SUPPRESS)
    add("--worker", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def run_part(name: str) -> None:
    """In a process of its own: prints one marked JSON line per row."""
    from rlhf_jax.parallel import keep_freed_memory

    keep_freed_memory()
    where, *words = name.split()
    module, function = where.split(".")
    words = [int(word) if word.isdigit() else word for word in words]
    if where == "right.resume":
        words = [__file__, *words]
    found = getattr(importlib.import_module(f"proofs.{module}"), function)
    for row in found(*words):
        print(MARK + json.dumps(dataclasses.asdict(row)), flush=True)


def rows_of(part: Part, seconds: float, *, told: bool = True) -> list[Row]:
    """Runs a part; what ended it is a row too. Not `told`: for its programs alone."""
    words = [sys.executable, __file__, "--part", part.name]
    env = os.environ | {"TRANSFORMERS_VERBOSITY": "error"}
    if part.flags:
        env["XLA_FLAGS"] = f"{env.get('XLA_FLAGS', '')} {part.flags}".strip()
    if not part.alone or "peers" in part.name:
        env.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    else:
        env.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.92")
    error, began = "", time.monotonic()
    try:
        done = subprocess.run(
            words, env=env, capture_output=True, text=True, timeout=seconds
        )
        text = done.stdout
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no message"]
            error = f"code {done.returncode}: {lines[-1][:300]}"
    except subprocess.TimeoutExpired as expired:
        text = (expired.stdout or b"").decode()
        error = f"not done after {seconds:.0f} s"
    lines = [line for line in text.splitlines() if line.startswith(MARK)]
    rows = [Row(**json.loads(line.removeprefix(MARK))) for line in lines]
    if error:
        nan = float("nan")
        rows.append(Row(part.name, "ended early", nan, "", 0.0, note=error))
    took = time.monotonic() - began
    if not told:
        print(f"{part.name}: compiled in {took:.0f} s {error}", flush=True)
        return []
    print(f"{part.name}: {len(rows)} rows in {took:.0f} s", flush=True)
    for row in rows:
        if row.verdict in ("wrong", "missed"):
            print(f"  {row.verdict}: {row.case}: {row.value} {row.note}", flush=True)
    return rows


def machine() -> dict:
    """What this is, asked in a process of its own: a device is not held here."""
    code = (
        "import jax, json; d = jax.devices(); print(json.dumps({"
        "'platform': jax.default_backend(), 'devices': len(d),"
        "'kind': d[0].device_kind}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"jax finds no device: {done.stderr.strip().splitlines()[-1]}")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    versions = {}
    for name in ("jax", "flax", "optax", "orbax-checkpoint", "transformers", "torch"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    python = ".".join(map(str, sys.version_info[:3]))
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        cwd=HERE,
    ).stdout.strip()
    facts = {"commit": commit or None, "python": python, "cores": os.cpu_count()}
    return found | facts | {"versions": versions}


def parts_for(platform: str, only: str | None) -> list[Part]:
    """What this kind of machine can be asked."""
    kernel = KERNELS.get(platform, "xla")
    speed = CPU if platform == "cpu" else ACCELERATOR
    parts = [
        dataclasses.replace(part, name=part.name.replace("KERNEL", kernel))
        for part in (*RIGHT, *speed)
    ]
    if platform not in ("gpu", "cuda"):  # the flags are of XLA for NVIDIA
        parts = [
            dataclasses.replace(part, flags="")
            for part in parts
            if part.flags != GRAPHS and EXACT not in part.name
        ]
    words = [""] if only is None else only.split(",")
    return [part for part in parts if any(word in part.name for word in words)]


class Run:
    """The parts of one run, their rows, and the time that is left for them."""

    def __init__(self, here: dict, parts: list[Part], budget: float, out: str):
        self.here, self.parts, self.out = here, parts, pathlib.Path(out)
        self.began, self.budget = time.monotonic(), budget
        self.rows: list[Row] = []

    @property
    def took(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began

    def keep(self, rows: list[Row]) -> None:
        """Adds rows and writes the file anew: a run that is cut keeps what it has."""
        self.rows += rows
        told = {"date": TODAY, "machine": self.here, "seconds": round(self.took, 1)}
        told["rows"] = [row.record() for row in self.rows]
        self.out.write_text(json.dumps(told, indent=1))

    def all(self) -> None:
        """The parts that time nothing beside each other, then each of the others.

        On an accelerator most minutes go into compiling: the first programs that are
        timed are compiled beside the proofs, and found in a cache afterwards.
        """
        on_cpu, cores = self.here["platform"] == "cpu", os.cpu_count() or 2
        beside = [part for part in self.parts if not part.alone]
        alone = [part for part in self.parts if part.alone]
        early = [] if on_cpu else [p for p in alone if "peers" not in p.name][:WARM]
        jobs = min(len(beside) + len(early), cores // 2 if on_cpu else cores)
        with (
            tempfile.TemporaryDirectory() as cache,
            concurrent.futures.ThreadPoolExecutor(max(1, jobs)) as pool,
        ):
            os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", cache)
            proofs = [pool.submit(self.rows_of, part) for part in beside]
            compiled = [
                pool.submit(
                    rows_of, dataclasses.replace(part, alone=False), 200, told=False
                )
                for part in early
            ]
            for future in proofs:
                self.keep(future.result())
            concurrent.futures.wait(compiled)
            for part in alone:
                self.keep(self.rows_of(part))

    def rows_of(self, part: Part) -> list[Row]:
        """The rows of a part, or one that says that no time was left for it."""
        left = self.budget - self.took
        if part.alone and left < 0.3 * part.seconds:
            note = f"{left:.0f} s of the budget were left"
            return [Row(part.name, "all", None, note=note)]
        slow = 4 if self.here["platform"] == "cpu" else 1
        return rows_of(part, max(0.0, min(slow * part.seconds, left)))


def main() -> None:
    args = parse()
    if args.worker:
        from proofs.right import resume_worker

        return resume_worker(args.worker)
    if args.part:
        return run_part(args.part)
    here = machine()
    name = f"{here['devices']} x {here['kind']}"
    print(f"{name}, {here['versions']}", flush=True)
    run = Run(here, parts_for(here["platform"], args.only), args.budget, args.out)
    run.all()
    print(f"\n{table(run.rows)}")
    found = [row.verdict for row in run.rows]
    wrong, missed = found.count("wrong"), found.count("missed")
    print(
        f"\n{len(found)} rows, {wrong} wrong, {missed} goals missed, "
        f"{run.took:.0f} s, {TODAY}, {name}"
    )
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
