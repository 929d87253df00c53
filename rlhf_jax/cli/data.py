"""`rlhf-jax data check | convert | show`: look at data before training on it."""

import argparse
import itertools
import json
from collections.abc import Iterator

from rlhf_jax.errors import InputError

HELP = "check, convert and show data files"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """check FILE..., convert FILE OUT, show FILE N."""
    commands = parser.add_subparsers(dest="action", required=True)
    check = commands.add_parser("check", help="read files, report what is in them")
    check.add_argument("files", nargs="+", metavar="FILE")
    check.add_argument("--json", action="store_true", help="the report as JSON")
    convert = commands.add_parser("convert", help="write a file in another format")
    convert.add_argument("files", nargs=1, metavar="FILE")
    convert.add_argument("out", metavar="OUT")
    convert.add_argument(
        "--to", choices=["jsonl", "trl", "trl-messages", "csv"], default="jsonl"
    )
    convert.add_argument(
        "--clean",
        action="store_true",
        help="apply the paper's rules: length, duplicates, 200 per user, split, PII",
    )
    convert.add_argument("--seed", type=int, default=0, help="of --clean")
    show = commands.add_parser(
        "show", help="one record as tokens, the trained in green"
    )
    show.add_argument("files", nargs=1, metavar="FILE")
    show.add_argument("number", type=int, metavar="N", help="record, counted from 0")
    show.add_argument("--train-on-prompt", action="store_true")
    show.add_argument(
        "--form",
        choices=("template", "transcript", "plain"),
        help="of conversations; absent: the prompt as it stands",
    )
    show.add_argument(
        "--train-turns",
        choices=("all", "last"),
        default="all",
        help="of the assistant, with --form",
    )
    for command in (check, convert, show):
        _add_reading(command)


def _add_reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", default="auto", help="of the files that are read")
    parser.add_argument(
        "--tokenizer", default="byte", help="directory, hub name, or 'byte'"
    )
    parser.add_argument(
        "--on-bad-row", choices=["error", "skip", "quarantine"], default="error"
    )
    parser.add_argument(
        "--rejects", default="rejects.jsonl", help="where quarantined rows go"
    )
    parser.add_argument("--max-k", type=int, default=9, help="responses per ranking")


def run(args: argparse.Namespace) -> int:
    """Runs the chosen action; 2 where `check` finds errors."""
    return {"check": check, "convert": convert, "show": show}[args.action](args)


def check(args: argparse.Namespace) -> int:
    """Reads every row, and prints the report."""
    from rlhf_jax.data.report import survey
    from rlhf_jax.data.tokenizer_files import load_tokenizer

    with _intake(args) as intake:
        found = survey(_records(args, intake), load_tokenizer(args.tokenizer))
    if args.json:
        report = {
            **found.as_dict(),
            "rows": intake.rows,
            "rejected": intake.rejected,
            "warnings": dict(intake.warnings),
        }
        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        print("\n".join([*_reading(intake), *found.lines()]))
    return 2 if found.errors else 0


def convert(args: argparse.Namespace) -> int:
    """Writes the records in another format; OUT appears whole or not at all."""
    from rlhf_jax.data import writers

    write = {
        "jsonl": writers.write_jsonl,
        "trl": writers.write_trl,
        "trl-messages": lambda path, records: writers.write_trl(
            path, records, conversational=True
        ),
        "csv": writers.write_csv,
    }[args.to]
    with _intake(args) as intake:
        written = write(args.out, _wanted(args, intake))
    print("\n".join([*_reading(intake), f"{args.out}: {written} rows"]))
    return 0


def _wanted(args: argparse.Namespace, intake) -> Iterator:
    """The records to write; a set without any is an error."""
    records = _records(args, intake)
    if args.clean:
        from rlhf_jax.data.hygiene import clean
        from rlhf_jax.data.tokenizer_files import load_tokenizer

        tokenizer = load_tokenizer(args.tokenizer)
        cleaned, reports = clean(list(records), tokenizer, seed=args.seed)
        for report in reports:
            counts = ", ".join(f"{k} {n}" for k, n in report.counts.items())
            print(f"{report.rule}: {report.read} -> {report.kept} ({counts})")
        records = iter(cleaned)
    first = next(records, None)
    if first is None:
        raise InputError(f"{args.files[0]}: no record is left to write")
    yield from itertools.chain([first], records)


def show(args: argparse.Namespace) -> int:
    """Prints the tokens of one record, coloured by what becomes of them."""
    from rlhf_jax.data.conversations import conversation_form
    from rlhf_jax.data.display import shown_tokens
    from rlhf_jax.data.tokenizer_files import load_tokenizer

    if args.number < 0:
        raise InputError(f"N: expected a number from 0, got {args.number}")
    with _intake(args) as intake:
        rest = itertools.islice(_records(args, intake), args.number, None)
        record = next(rest, None)
    if record is None:
        raise InputError(
            f"{args.files[0]}: expected N below {intake.records}, got {args.number}"
        )
    from rich.console import Console

    tokenizer = load_tokenizer(args.tokenizer)
    text = shown_tokens(
        record,
        tokenizer,
        train_on_prompt=args.train_on_prompt,
        form=conversation_form(args.form, tokenizer) if args.form else None,
        train_turns=args.train_turns,
    )
    Console(highlight=False, soft_wrap=True).print(text)
    return 0


def _intake(args: argparse.Namespace):
    from rlhf_jax.data.rows import Intake

    return Intake(args.on_bad_row, args.rejects)


def _records(args: argparse.Namespace, intake) -> Iterator:
    from rlhf_jax.data.readers import read

    for path in args.files:
        yield from read(path, args.format, intake=intake, max_k=args.max_k)
    if intake.records == 0:
        raise InputError(
            f"{', '.join(args.files)}: no record is left of {intake.rows} rows "
            f"({intake.rejected} rejected)"
        )


def _reading(intake) -> list[str]:
    lines = [
        f"rows: {intake.rows} read, {intake.rejected} rejected; "
        f"records: {intake.records}"
    ]
    lines += [f"rejected: {message}" for message in intake.messages]
    more = intake.rejected - len(intake.messages)
    lines += [f"rejected: ... and {more} more"] if more else []
    for what, number in intake.warnings.most_common():
        lines.append(f"warning: {what}: {number} (first: {intake.first[what]})")
    return lines
