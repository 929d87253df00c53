"""`rlhf-jax data check | convert | show`: look at data before training on it."""

import argparse
import itertools
import json
from collections.abc import Iterator

from rlhf_jax.errors import InputError

HELP = "check, convert and show data files"
FORMS = ("template", "transcript", "plain")
STAGES = ("sft", "reward", "dpo", "ppo", "candidates", "best_of_n", "pretrain")
FILE = "a path or hf: name, with a format or a column map behind a # (docs/formats.md)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """check FILE..., convert FILE OUT, show FILE N."""
    commands = parser.add_subparsers(dest="action", required=True)
    check = commands.add_parser("check", help="read files, report what is in them")
    check.add_argument("files", nargs="+", metavar="FILE", help=FILE)
    check.add_argument("--json", action="store_true", help="the report as JSON")
    _add_trial(check)
    convert = commands.add_parser("convert", help="write a file in another format")
    convert.add_argument("files", nargs=1, metavar="FILE", help=FILE)
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
    show.add_argument("files", nargs=1, metavar="FILE", help=FILE)
    show.add_argument("number", type=int, metavar="N", help="record, counted from 0")
    show.add_argument(
        "--model",
        metavar="DIR",
        help="show what a stage with this model trains: its tokenizer and its form",
    )
    show.add_argument("--train-on-prompt", action="store_true")
    show.add_argument(
        "--form",
        choices=FORMS,
        help="of conversations; absent: the model's, or the prompt as it stands",
    )
    show.add_argument(
        "--train-turns",
        choices=("all", "last"),
        default="all",
        help="of the assistant, with --form",
    )
    for command in (check, convert, show):
        _add_reading(command)


def _add_trial(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--model",
        metavar="DIR",
        help="say what a stage with this model would do with the rows, in its form",
    )
    add("--stage", choices=STAGES, help="which; absent: one for such records")
    add("--max-prompt", type=int, help="tokens; absent: as the stage has it")
    add("--max-response", type=int, help="tokens; absent: as the stage has it")
    add("--form", choices=FORMS, help="as `form` of SFT; absent: the model's")
    add("--train-turns", choices=("all", "last"), default="all", help="of SFT")


def _add_reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format", default="auto", help="of the files, or map:prompt=..., for all"
    )
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
    from rlhf_jax.data.report import survey_files
    from rlhf_jax.data.tokenizer_files import load_tokenizer

    tokenizer = _reader(args.model).tokenizer if args.model else None
    tokenizer = tokenizer or load_tokenizer(args.tokenizer)
    with _intake(args) as intake:
        found = survey_files(_files(args, intake), tokenizer)
    tried = _tried(args, found) if args.model else None
    if args.json:
        report = {
            **found.as_dict(),
            "rows": intake.rows,
            "rejected": intake.rejected,
            "left_out": dict(intake.left),
            "warnings": dict(intake.warnings),
            "stage": tried and tried.as_dict(),
        }
        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        print("\n".join([*_reading(intake), *found.lines()]))
        if tried:
            print("\n".join(tried.lines()))
    return 2 if found.errors or (tried and tried.errors) else 0


def _tried(args: argparse.Namespace, found):
    """What a stage with the model would do with the rows."""
    from rlhf_jax.pipeline.trial import stage_for, stage_trial

    return stage_trial(
        args.stage or stage_for(next(iter(found.counts["records by type"]))),
        _named(args),
        args.model,
        max_prompt=args.max_prompt,
        max_response=args.max_response,
        form=args.form,
        train_turns=args.train_turns,
        max_k=args.max_k,
        on_bad_row=_again(args).on_bad_row,
    )


def _named(args: argparse.Namespace) -> list[str]:
    """The files as a config names them, their format or map behind a #."""
    if args.format == "auto":
        return args.files
    return [f if "#" in f else f"{f}#{args.format}" for f in args.files]


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
    if args.out.endswith(".zst"):
        raise InputError(f"{args.out}: expected a plain name, or one with .gz")
    with _intake(args) as intake:
        written = write(args.out, _wanted(args, intake))
    print("\n".join([*_reading(intake), f"{args.out}: {written} rows"]))
    return 0


def _wanted(args: argparse.Namespace, intake) -> Iterator:
    """The records to write; a set without any is an error."""
    records = _records(args, intake)
    if args.clean:
        from rlhf_jax.data.account import told
        from rlhf_jax.data.hygiene import account_of, clean
        from rlhf_jax.data.tokenizer_files import load_tokenizer

        tokenizer = load_tokenizer(args.tokenizer)
        cleaned, reports = clean(list(records), tokenizer, seed=args.seed)
        for report in reports:
            counts = ", ".join(f"{k} {n}" for k, n in report.counts.items())
            print(f"{report.rule}: {report.read} -> {report.kept} ({counts})")
        print("\n".join(told([account_of(reports)])))
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

    if args.model:
        rows = _records(args, _again(args))
        form = _reader(args.model).in_form(rows, args.form, args.model).form
        tokenizer = form.tokenizer
    else:
        tokenizer = load_tokenizer(args.tokenizer)
        form = conversation_form(args.form, tokenizer) if args.form else None
    text = shown_tokens(
        record,
        tokenizer,
        train_on_prompt=args.train_on_prompt,
        form=form,
        train_turns=args.train_turns,
    )
    Console(highlight=False, soft_wrap=True).print(text)
    return 0


def _reader(model: str):
    from rlhf_jax.registry import load_reader

    return load_reader(model)


def _intake(args: argparse.Namespace):
    from rlhf_jax.data.rows import Intake

    return Intake(args.on_bad_row, args.rejects)


def _again(args: argparse.Namespace):
    """For another reading of the same rows; bad ones are kept once."""
    from rlhf_jax.data.rows import Intake

    return Intake("error" if args.on_bad_row == "error" else "skip")


def _records(args: argparse.Namespace, intake) -> Iterator:
    return itertools.chain.from_iterable(_files(args, intake))


def _files(args: argparse.Namespace, intake) -> Iterator[Iterator]:
    """The records of each file."""
    from rlhf_jax.data.readers import read

    for path in args.files:
        yield read(path, args.format, intake=intake, max_k=args.max_k)
    if intake.records == 0:
        raise InputError(
            f"{', '.join(args.files)}: no record is left of {intake.rows} rows "
            f"({intake.rejected} rejected)"
        )


def _reading(intake) -> list[str]:
    from rlhf_jax.data.account import Account

    lines = [
        f"rows: {intake.rows} read, {intake.rejected} rejected; "
        f"records: {intake.records}"
    ]
    lines += [f"rejected: {message}" for message in intake.messages]
    more = intake.rejected - len(intake.messages)
    lines += [f"rejected: ... and {more} more"] if more else []
    for why, number in intake.left.most_common():
        lines.append(f"left out: {why}: {number} (first: {intake.first[why]})")
    for what, number in intake.warnings.most_common():
        lines.append(f"warning: {what}: {number} (first: {intake.first[what]})")
    warning = Account(read=intake.records).begin(intake).warning()
    return lines + ([f"warning: {warning}"] if warning else [])
