"""Tables of parity with transformers: chat templates, tokenizers, exports.

    python benchmarks/parity.py [templates] [tokenizers] [exports] [--model DIR ...]

Markdown, as in docs/families.md; the files of the tests are what is compared, and any
real model directory beside them. Needs transformers, and torch for the exports. Exits 1
where something differs; a refusal is no difference.
"""

import argparse
import contextlib
import io
import logging
import os
import pathlib
import sys
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "data"))

import jax
import numpy as np
import transformers
from chat_families import CHAT_FAMILIES, CONVERSATIONS, HARD, messages_of

from rlhf_jax.data import load_tokenizer
from rlhf_jax.data.templates import TemplateForm
from rlhf_jax.errors import InputError
from rlhf_jax.models import load_pretrained, save_pretrained

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "tests" / "models" / "golden"
DATE = "27 Nov 2026"
SAME, REFUSED, DIFFERENT = "same", "refused", "DIFFERENT"


def their_template(theirs, messages, tools, opened: bool) -> list[int] | None:
    """The ids of `apply_chat_template`; None where it raises."""
    try:
        return theirs.apply_chat_template(
            messages,
            tools=tools,
            add_generation_prompt=opened,
            return_dict=True,
            date_string=DATE,
        )["input_ids"]
    except Exception:  # whatever a template raises
        return None


def compared_template(tokenizer, theirs, name: str) -> str:
    """Of one conversation: its prompt and, where it ends with an answer, the whole."""
    _, turns, tools = CONVERSATIONS[name]
    messages = messages_of(turns)
    form = TemplateForm(tokenizer, tools, date_string=DATE)
    expected = [their_template(theirs, messages, tools, opened) for opened in (1, 0)]
    try:
        found = [form.prompt_ids(messages)]
        if messages[-1]["role"] == "assistant":
            found.append(form.training_ids(messages, "last")[0])
    except InputError:
        return REFUSED if expected[0] is not None else f"{REFUSED} by both"
    return SAME if found == expected[: len(found)] else DIFFERENT


def templates(directories: dict[str, pathlib.Path]) -> list[list[str]]:
    """A row per family: what became of each conversation."""
    rows = [["family", *CONVERSATIONS]]
    for name, path in directories.items():
        ours = load_tokenizer(path)
        theirs = transformers.AutoTokenizer.from_pretrained(path)
        rows.append(
            [name, *(compared_template(ours, theirs, c) for c in CONVERSATIONS)]
        )
    return rows


def tokenizers(directories: dict[str, pathlib.Path]) -> list[list[str]]:
    """A row per family: hard texts with the same ids, and the ids that are named."""
    rows = [["family", "hard texts, same ids", "end, begin, pad", "vocabulary"]]
    for name, path in directories.items():
        ours = load_tokenizer(path)
        theirs = transformers.AutoTokenizer.from_pretrained(path)
        typed = {"add_special_tokens": False, "split_special_tokens": True}
        same = sum(ours.encode(t) == theirs(t, **typed).input_ids for t in HARD)
        named = ours.named_tokens == theirs.special_tokens_map
        named &= ours.end_token == theirs.eos_token_id
        size = ours.vocab_size == 1 + max(theirs.get_vocab().values())
        verdicts = [SAME if good else DIFFERENT for good in (named, size)]
        count = f"{same} of {len(HARD)}"
        count += "" if same == len(HARD) else f", {DIFFERENT}"
        rows.append([name, count, *verdicts])
    return rows


def exports(directories: dict[str, pathlib.Path]) -> list[list[str]]:
    """A row per model: ours, exported and read again by transformers, against ours."""
    import torch

    classes = {
        "lm": transformers.AutoModelForCausalLM,
        "scalar": transformers.AutoModelForSequenceClassification,
    }
    header = ["model", "kind", "largest difference", "largest number", "verdict"]
    rows = [header]
    for name, path in directories.items():
        loaded = load_pretrained(path)
        rng = np.random.default_rng(0)
        length = min(24, loaded.config.context_length)
        ids = rng.integers(2, loaded.config.vocab_size, (2, length), dtype=np.int32)
        found = jax.jit(loaded.model.apply)({"params": loaded.params}, ids)
        ours = np.asarray(found[:, -1] if loaded.kind == "scalar" else found)
        with tempfile.TemporaryDirectory() as out:
            save_pretrained(out, loaded.config, loaded.params, family=loaded.family)
            made = classes[loaded.kind].from_pretrained(out, dtype=torch.float32)
            with torch.no_grad():
                rows_of = [
                    made.eval()(input_ids=torch.tensor(row[None])) for row in ids
                ]
            theirs = np.concatenate([out.logits.numpy() for out in rows_of])
        theirs = theirs[:, 0] if loaded.kind == "scalar" else theirs
        gap, largest = np.abs(ours - theirs).max(), np.abs(theirs).max()
        verdict = SAME if gap <= 1e-4 * largest else DIFFERENT
        rows.append([name, loaded.kind, f"{gap:.1e}", f"{largest:.1f}", verdict])
    return rows


def markdown(rows: list[list[str]]) -> str:
    """A table."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def tokenizer_directories(folder: str, real: list[str]) -> dict[str, pathlib.Path]:
    """The families of the tests, written as directories, and real ones."""
    found = {}
    for name, family in CHAT_FAMILIES.items():
        found[name] = pathlib.Path(folder) / name
        family.tokenizer.save(found[name])
    return found | {pathlib.Path(p).name: pathlib.Path(p) for p in real}


def model_directories(real: list[str]) -> dict[str, pathlib.Path]:
    """The golden models of the tests, and real ones."""
    paths = [*sorted(GOLDEN.glob("*_*")), *map(pathlib.Path, real)]
    return {path.name: path for path in paths}


def main() -> int:
    """Prints the tables asked for; 1 where something differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = ("templates", "tokenizers", "exports")
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=", ".join(names))
    parser.add_argument("--model", action="append", default=[], metavar="DIR")
    args = parser.parse_args()
    if unknown := set(args.tables) - set(names):
        parser.error(f"no table {', '.join(unknown)}")
    logging.disable(logging.WARNING)
    print(f"transformers {transformers.__version__}")
    wrong = False
    with tempfile.TemporaryDirectory() as folder:
        for name in args.tables or names:
            given = tokenizer_directories(folder, args.model)
            given = model_directories(args.model) if name == "exports" else given
            with contextlib.redirect_stderr(io.StringIO()):
                rows = globals()[name](given)
            print(f"\n{name}\n\n{markdown(rows)}")
            wrong |= any(DIFFERENT in cell for row in rows for cell in row)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
