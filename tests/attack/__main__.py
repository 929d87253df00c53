"""`python tests/attack`: every attack, and one table at the end.

python tests/attack --quick              minutes
python tests/attack                      all of it: hours on two cores
python tests/attack --only flip,disk --seed 7
"""

import argparse
import os
import pathlib
import sys
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

# name -> (tries of the whole, of --quick)
KINDS = {
    "damage": (400, 40),
    "models": (10_000, 600),
    "rows": (10_000, 2_000),
    "kill": (100, 8),
    "disk": (50, 10),
    "people": (2, 2),
}


def main(words: list[str]) -> int:
    """Runs the attacks; 1 where one of them was not withstood."""
    args = _arguments().parse_args(words)
    only = args.only.split(",") if args.only else list(KINDS)
    if unknown := sorted(set(only) - set(KINDS)):
        print(f"--only {unknown[0]}: there are {', '.join(KINDS)}", file=sys.stderr)
        return 2
    from outcomes import Outcomes

    outcomes = Outcomes()
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # no waiting
    with tempfile.TemporaryDirectory(prefix="attack-", dir=memory) as made:
        folder = pathlib.Path(args.folder or made)
        folder.mkdir(parents=True, exist_ok=True)
        for kind in only:
            count = args.count or KINDS[kind][args.quick]
            print(f"{kind}: {count}", file=sys.stderr, flush=True)
            _attack(kind, folder, outcomes, count, args)
    print("\n".join(outcomes.lines()))
    return 1 if outcomes.bad else 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("attack", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="of all choices")
    parser.add_argument("--count", type=int, help="tries of each kind")
    parser.add_argument("--only", help=f"some of {', '.join(KINDS)}, with commas")
    parser.add_argument("--quick", action="store_true", help="fewer tries")
    parser.add_argument("--folder", help="kept, with the finished run, for next time")
    return parser


def _attack(kind: str, folder: pathlib.Path, outcomes, count: int, args) -> None:
    import bounded
    import damage
    import disks
    import kills
    import small_run

    if kind in ("models", "rows"):
        work = f"hostile_{kind}:make"
        place = str(folder / kind)
        for _, outcome, about in bounded.results(work, args.seed, count, place):
            outcomes.add(f"fuzz {kind}", outcome, about)
        return
    whole = folder / "whole"
    if not (whole / "report/done.json").is_file():
        small_run.finish(whole)
    if kind == "damage":
        victim = damage.Victim(whole, folder / "damaged")
        few = count if args.quick or args.count else None
        damage.attack(victim, outcomes, flips=count, count=few, seed=args.seed)
    elif kind == "kill":
        kills.attack(whole, folder / "killed", outcomes, count, args.seed)
    elif kind == "disk":
        disks.full(whole, folder / "disk", outcomes, count)
    else:
        disks.others(folder / "others", outcomes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
