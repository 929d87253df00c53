"""`rlhf-jax label STUDY`: the server on which people write, rate and rank."""

import argparse
import json
import pathlib
from typing import Any

HELP = "serve people's labelling tasks; import, invite, export, verify, simulate"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    parser.add_argument("study", help="a directory, a file, or postgresql://...")
    parser.epilog = "Without an action it serves. docs/labelling.md is the guide."
    act = parser.add_argument_group("actions").add_mutually_exclusive_group()
    act.add_argument("--import", dest="file", metavar="FILE", help="make a batch of it")
    act.add_argument(
        "--invite", nargs="+", metavar="NAME", help="persons, by pseudonym"
    )
    act.add_argument("--export", metavar="FILE", help="write answers")
    act.add_argument("--verify", action="store_true", help="check the whole database")
    act.add_argument("--backup", metavar="FILE", help="copy the database, also running")
    act.add_argument(
        "--simulate", choices=["training", "held_out"],
        help="let the embedded world's labelers answer all that is open",
    )  # fmt: skip
    _serving(parser.add_argument_group("serving"))
    _batch(parser.add_argument_group("with --import"))
    invite = parser.add_argument_group("with --invite")
    invite.add_argument("--group", default="train", help="train or held-out")
    invite.add_argument("--researcher", action="store_true", help="as researchers")
    invite.add_argument("--qualify", action="store_true", help="screen them first")
    export = parser.add_argument_group("with --export")
    export.add_argument("--format", default="jsonl", help="jsonl, trl, csv, answers")
    export.add_argument("--as-of", type=int, metavar="EVENT", help="frozen there")
    export.add_argument("--batch", help="of this batch alone")
    export.add_argument(
        "--also", default="", help="gold,repeat,qualification,extra: these too"
    )
    parser.add_argument("--count", type=int, default=40, help="simulated persons (40)")
    parser.add_argument("--seed", type=int, default=0, help="of simulated persons")


def _serving(group: Any) -> None:
    group.add_argument("--host", default="127.0.0.1")
    group.add_argument("--port", type=int, default=8000)
    group.add_argument("--title", default="Labelling", help="of the pages")
    group.add_argument("--allow-remote", action="store_true", help="any --host")
    group.add_argument("--secure", action="store_true", help="cookies over https only")


def _batch(group: Any) -> None:
    group.add_argument("--name", help="of the batch (default: the file's)")
    group.add_argument("--task", default="ranking", help="a kind, or a YAML/JSON file")
    group.add_argument("--guideline", default="training", help="a set, or a .md file")
    group.add_argument("--people", default="train", help="train, held-out or both")
    group.add_argument("--purpose", default="work", help="work or qualification")
    group.add_argument("--overlap", type=int, default=1, help="answers for each item")
    group.add_argument("--gold", metavar="FILE", help="rankings to mix in as tests")
    group.add_argument("--gold-rate", type=float, default=0.05)
    group.add_argument("--repeat-rate", type=float, default=0.02)
    group.add_argument("--lease-minutes", type=float, default=30.0)
    group.add_argument("--priority", type=int, default=0, help="smallest first")
    group.add_argument("--price", type=float, help="of one answer")
    group.add_argument("--models", metavar="FILE", help="JSON: the two of a chat task")


def run(args: argparse.Namespace) -> int:
    """Does the one thing that was asked."""
    from rlhf_jax.errors import InputError

    try:
        from rlhf_jax.labelling.store import open_store
    except ImportError as error:
        raise InputError(
            f"label: {error.name} is not installed: pip install 'rlhf_jax[labelling]'"
        ) from error
    reads = args.export or args.verify or args.backup
    store = open_store(args.study, create=not reads)
    try:
        for name, action in _ACTIONS.items():
            if getattr(args, name):
                return action(store, args) or 0
        return serve(store, args)
    finally:
        store.close()


def serve(store: Any, args: argparse.Namespace) -> int:
    """Serves; at the first start, makes a researcher and shows their token."""
    from rlhf_jax.labelling.serving import first_researcher, serve
    from rlhf_jax.labelling.web.app import create_app

    token = first_researcher(store)
    if token is not None:
        print(f"The researcher's token, shown this once: {token}", flush=True)
    print(f"http://{args.host}:{args.port}/login", flush=True)
    app = create_app(store, title=args.title, secure=args.secure)
    serve(app, args.host, args.port, allow_remote=args.allow_remote)
    return 0


def import_file(store: Any, args: argparse.Namespace) -> None:
    """A batch of a file's records."""
    from rlhf_jax.errors import InputError
    from rlhf_jax.labelling.imports import Batch, add_batch, read_items

    names = (
        "task", "guideline", "people", "purpose", "overlap", "gold_rate",
        "repeat_rate", "lease_minutes", "priority", "price",
    )  # fmt: skip
    settings: dict[str, Any] = {}
    if args.models:
        try:
            settings["models"] = json.loads(pathlib.Path(args.models).read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"--models {args.models}: {error}") from error
    name = args.name or pathlib.Path(args.file).stem
    batch = Batch(name=name, settings=settings, **{n: getattr(args, n) for n in names})
    records = read_items(args.file)
    gold = read_items(args.gold) if args.gold else []
    if batch.purpose == "qualification":
        records, gold = [], [*records, *gold]
    add_batch(store, batch, records, gold=gold)
    print(f"batch {name}: {len(records)} items, {len(gold)} gold questions")


def invite(store: Any, args: argparse.Namespace) -> None:
    """Persons and their tokens, which are printed this once."""
    from rlhf_jax.labelling.access import add_person

    role = "researcher" if args.researcher else "labeler"
    for name in args.invite:
        _, token = add_person(
            store, name, role=role, group=args.group, qualify=args.qualify
        )
        print(f"{name}\t{token}")


def export(store: Any, args: argparse.Namespace) -> None:
    """Answers as a file, and what is not in it."""
    from rlhf_jax.labelling.exports import export

    also = {word.strip() for word in args.also.split(",") if word.strip()}
    made = export(
        store, args.export, form=args.format, as_of=args.as_of, batch=args.batch,
        purposes={"work", "adjudication", *also}, extras="extra" in also,
    )  # fmt: skip
    print(f"{made.records} records as of event {made.as_of}: {args.export}")
    for why, count in made.left_out.items():
        print(f"  left out: {count} {why}")


def verify(store: Any, args: argparse.Namespace) -> int:
    """0 where all is as it was written, else 2 and what is not."""
    problems = store.verify()
    print(
        "\n".join(problems) or "events, answers and overlaps are as they were written"
    )
    return 2 if problems else 0


def backup(store: Any, args: argparse.Namespace) -> None:
    """A copy of the database."""
    store.backup(args.backup)
    print(args.backup)


def simulate(store: Any, args: argparse.Namespace) -> None:
    """The world's persons answer through a server of their own."""
    from rlhf_jax.labelling.serving import running
    from rlhf_jax.labelling.simulate import simulate
    from rlhf_jax.labelling.web.app import create_app

    fast = (1e9, 1e9)
    app = create_app(store, login_rate=fast, request_rate=fast)
    with running(app) as address:
        done = simulate(store, address, args.simulate, count=args.count, seed=args.seed)
    print(f"{done} answers by {args.count} simulated persons")


_ACTIONS = {
    "file": import_file,
    "invite": invite,
    "export": export,
    "verify": verify,
    "backup": backup,
    "simulate": simulate,
}
