"""`rlhf-jax config ppo.kl`: what a setting means, its default, where it is from."""

import argparse
import dataclasses
import json
import sys
import textwrap

HELP = "what each setting of a stage means: config [STAGE[.FIELD]]"
WIDTH = 84


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "name", nargs="?", help="ppo, ppo.kl, ppo.kl.kl_coef, settings; none: the kinds"
    )
    parser.add_argument("--json", action="store_true", help="for programs")


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from rlhf_jax.pipeline.settings_reference import found, kinds

    if args.name is None:
        every = kinds()
        if args.json:
            print(json.dumps(every, indent=1, ensure_ascii=False))
            return 0
        width = max(map(len, every))
        for kind, text in every.items():
            print(f"{kind:<{width}}  {text}")
        return 0
    settings = found(args.name)
    if args.json:
        rows = [dataclasses.asdict(setting) for setting in settings]
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return 0
    for setting in settings:
        given = "" if setting.default is None else f" = {setting.default}"
        print(f"{setting.key}: {setting.type}{given}")
        for text in filter(None, (setting.text, setting.role)):
            sys.stdout.write(textwrap.indent(textwrap.fill(text, WIDTH - 4), "    "))
            print()
    return 0
