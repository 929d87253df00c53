"""Speed of the input side: encoding text, packing, and making batches.

    python benchmarks/data.py                        on text made here
    python benchmarks/data.py --data FOLDER          on .txt, .txt.gz, .jsonl files
    python benchmarks/data.py --tokenizer FOLDER     GPT-2's files, say

One JSON line per figure. "value" is tokens per second of processor time, so one core's
work, whatever else the machine is doing; "wall" is tokens per second of the clock. A
figure is the median of the runs. Encoding is timed cold (a tokenizer that has seen
nothing) and warm, and beside the bare `tokenizers` call on the same text.
"""

import argparse
import json
import pathlib
import statistics
import time

import numpy as np

from rlhf_jax.data import (
    Demonstration,
    Prompt,
    Ranking,
    Text,
    demonstration_stream,
    load_tokenizer,
    prompt_stream,
    ranking_stream,
    text_stream,
    train_bpe,
)
from rlhf_jax.data.readers import read
from rlhf_jax.data.rows import Intake

CONTEXT, BATCH = 1024, 32
TOKEN_KEYS = ("tokens", "prompts", "responses")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=pathlib.Path, help="folder of text files")
    parser.add_argument(
        "--tokenizer", help="directory or hub name; trained here if not"
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30, help="batches per run")
    args = parser.parse_args()
    texts = real_texts(args.data) if args.data else made_texts()

    def tokenizer():
        return load_tokenizer(args.tokenizer) if args.tokenizer else trained

    trained = None if args.tokenizer else train_bpe(texts[:200], 8192)
    encoding(texts, tokenizer, args)
    assembly(texts, tokenizer(), args)


def real_texts(folder: pathlib.Path) -> list[str]:
    """Every document under a folder, in pieces of at most some 8,000 characters."""
    patterns = ("*.txt", "*.txt.gz", "*.jsonl", "*.jsonl.gz")
    texts = []
    for path in sorted(p for pattern in patterns for p in folder.rglob(pattern)):
        for record in read(path, intake=Intake("skip")):
            text = getattr(record, "text", None) or record.prompt
            texts += [text[i : i + 8000] for i in range(0, len(text), 8000)]
    return texts


def made_texts(count: int = 600, words: int = 600) -> list[str]:
    """Documents of made-up words, as unevenly frequent as real ones (Zipf)."""
    rng = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfwypvbgk"))
    lexicon = ["".join(rng.choice(letters, rng.integers(2, 9))) for _ in range(20_000)]
    drawn = np.minimum(rng.zipf(1.2, (count, words)), len(lexicon)) - 1
    return [" ".join(lexicon[i] for i in row) + "." for row in drawn]


def encoding(texts: list[str], tokenizer, args) -> None:
    """Tokens per second of `encode_batch`, and of the library below it."""

    def encoded(found) -> int:
        return sum(map(len, found.encode_batch(texts)))

    fresh = tokenizer()
    backend = fresh.backend
    cold = type(fresh)(backend, fresh.config)
    figure("encode, cold", [timed(lambda: encoded(cold))])
    figure("encode, warm", [timed(lambda: encoded(cold)) for _ in range(args.runs)])

    def bare() -> int:
        found = backend.encode_batch_fast(texts, add_special_tokens=False)
        return sum(len(encoding.ids) for encoding in found)

    figure("encode, tokenizers alone", [timed(bare) for _ in range(args.runs)])


def assembly(texts: list[str], tokenizer, args) -> None:
    """Tokens per second of building a stream, and of its batches."""
    halves = [(t[: len(t) // 4], t[len(t) // 4 : 1200]) for t in texts]
    halves = [(a[:1200], b) for a, b in halves if a.strip() and b.strip()]
    rows = [
        Demonstration(id=str(i), prompt=a, response=b)
        for i, (a, b) in enumerate(halves)
    ]
    ranked = [
        Ranking(id=str(i), prompt=a, responses=[b] * 4, ranks=[1, 2, 3, 4])
        for i, (a, b) in enumerate(halves)
    ]
    prompts = [Prompt(id=str(i), prompt=a) for i, (a, _) in enumerate(halves)]
    documents = [Text(id=str(i), text=text) for i, text in enumerate(texts)]
    settings = {"batch_size": BATCH, "seed": 0}
    wide = {**settings, "context_length": CONTEXT}
    short = {**settings, "max_prompt": 512}
    makers = {
        "packed": lambda: demonstration_stream(rows, tokenizer, **wide),
        "padded": lambda: demonstration_stream(
            rows, tokenizer, layout="padded", **wide
        ),
        "windows": lambda: text_stream(documents, tokenizer, **wide),
        "rankings": lambda: ranking_stream(
            ranked, tokenizer, max_response=512, **short
        ),
        "prompts": lambda: prompt_stream(prompts, tokenizer, **short),
    }
    for name, make in makers.items():
        stream = make()
        runs = [timed(lambda s=stream: drawn(s, args.steps)) for _ in range(args.runs)]
        figure(f"batches, {name}", runs)
    pack = makers["packed"]
    figure("encode and pack", [timed(lambda: packed_tokens(pack()))])


def packed_tokens(stream) -> int:
    """Tokens that a packed stream holds."""
    return len(stream.rows.sequences.tokens.values)


def drawn(stream, steps: int) -> int:
    """Places for tokens in `steps` batches, filler included: what was written."""
    places = 0
    for step in range(steps):
        batch = stream.batch(step)
        places += sum(v.size for k, v in batch.items() if k in TOKEN_KEYS)
    return places


def timed(work) -> tuple[float, float]:
    """(per second of processor time, per second of the clock)."""
    clock, processor = time.perf_counter(), time.process_time()
    amount = work()
    spent = time.process_time() - processor
    return amount / spent, amount / (time.perf_counter() - clock)


def figure(name: str, runs: list[tuple[float, float]], unit: str = "tokens/s") -> None:
    value, wall = (statistics.median(column) for column in zip(*runs, strict=True))
    line = {"figure": name, "value": round(value), "wall": round(wall), "unit": unit}
    print(json.dumps({**line, "runs": len(runs)}), flush=True)


if __name__ == "__main__":
    main()
