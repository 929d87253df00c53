"""Data files with something wrong in them, through every reader."""

import gzip
import json
import pathlib
from collections.abc import Callable

import mutations
import numpy as np

from rlhf_jax.errors import RunError

MESSAGES = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
]
# format -> rows that it reads
ROWS = {
    "jsonl": [
        {"id": "1", "prompt": "p", "responses": ["a", "b", "c"], "ranks": [1, 2, 2]},
        {"id": "2", "prompt": "p", "response": "r"},
        {"id": "3", "text": "t"},
        {"id": "4", "prompt": "p", "messages": MESSAGES, "response": "r"},
    ],
    "trl": [
        {"prompt": "p", "chosen": "a", "rejected": "b"},
        {"messages": MESSAGES},
        {"prompt": "p", "completion": "c"},
    ],
    "hh": [
        {
            "chosen": "\n\nHuman: a\n\nAssistant: b",
            "rejected": "\n\nHuman: a\n\nAssistant: c",
        }
    ],
    "alpaca": [{"instruction": "i", "input": "x", "output": "o", "history": []}],
    "sharegpt": [{"conversations": [{"from": "human", "value": "a"}] * 2}],
    "dolly": [{"instruction": "i", "context": "c", "response": "r"}],
    "gsm8k": [{"question": "q", "answer": "a #### 4"}],
    "nectar": [
        {
            "prompt": "\n\nHuman: a\n\nAssistant: ",
            "answers": [{"answer": "x", "rank": 1}, {"answer": "y", "rank": 2}],
        }
    ],
    "ultrafeedback": [
        {
            "instruction": "i",
            "completions": [
                {"response": "a", "overall_score": 1.0},
                {"response": "b", "overall_score": 2.0},
            ],
        }
    ],
    "helpsteer": [{"prompt": "p", "response": "r", "helpfulness": 3}] * 2,
    "shp": [{"history": "h", "human_ref_A": "a", "human_ref_B": "b", "labels": 1}],
    "oasst": [
        {
            "message_tree_id": "t",
            "prompt": {
                "message_id": "m",
                "text": "a",
                "role": "prompter",
                "replies": [
                    {"text": "b", "role": "assistant", "rank": 0, "replies": []},
                    {"text": "c", "role": "assistant", "rank": 1, "replies": []},
                ],
            },
        }
    ],
    "self-instruct": [
        {"instruction": "i", "instances": [{"input": "", "output": "o"}]}
    ],
    "labelled": [{"sentence": "s", "label": 1}, {"sentence": "t", "label": 0}],
    "arena": [
        {
            "conversation_a": MESSAGES,
            "conversation_b": MESSAGES,
            "winner": "model_a",
            "model_a": "m",
            "model_b": "n",
        }
    ],
}
CSV = 'prompt,response\r\n"a, b","c\r\nd"\r\nx,y\r\n'


def make(folder: str) -> Callable:
    """`work(number, seed)` over mutated files of every format."""
    place = pathlib.Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    names = [*ROWS, "csv", "tsv", "text", "lines", "auto", "strings", "map"]

    def work(number: int, seed: int):
        rng = np.random.default_rng([seed, number])
        name = names[int(rng.integers(len(names)))]
        path, format = _written(place, name, rng)
        about = f"{name} {path.name} (seed {seed}, number {number})"
        return about, lambda: outcome(path, format)

    return work


def outcome(path: pathlib.Path, format: str) -> tuple[str, str]:
    """What becomes of a file."""
    from rlhf_jax.data.readers import read

    try:
        count = sum(1 for _ in read(path, format, max_k=9))
    except RunError as error:
        return ("refused", "") if str(error).strip() else ("SILENT", "no message")
    except BaseException as error:
        return "TRACEBACK", repr(error)[:300]
    return "read", f"{count} records"


def _written(place: pathlib.Path, name: str, rng: np.random.Generator):
    if name in ROWS or name == "auto":
        known = list(ROWS)
        rows = ROWS[name if name in ROWS else known[int(rng.integers(len(known)))]]
        data = _rows(json.loads(json.dumps(rows)), rng)
        suffix = ".jsonl" if rng.random() < 0.8 else ".json"
        format = name
    else:
        data = CSV.replace(",", "\t" if name == "tsv" else ",").encode()
        data = mutations.changed_bytes(data, rng)
        suffix = {"csv": ".csv", "tsv": ".tsv", "map": ".csv"}.get(name, ".txt")
        format = "map:prompt=prompt,response=response" if name == "map" else name
        if name == "strings":
            data, suffix = (
                mutations.written(mutations.changed_json(["a"], rng)),
                ".json",
            )
    if rng.random() < 0.1:
        data, suffix = gzip.compress(data), f"{suffix}.gz"
        if rng.random() < 0.5:
            data = mutations.changed_bytes(data, rng)
    path = place / f"rows{suffix}"
    path.write_bytes(data)
    return path, format


def _rows(rows: list, rng: np.random.Generator) -> bytes:
    if rng.random() < 0.8:
        place = int(rng.integers(len(rows)))
        rows[place] = mutations.changed_json(rows[place], rng)
    data = b"\n".join(mutations.written(row) for row in rows) + b"\n"
    return mutations.changed_bytes(data, rng) if rng.random() < 0.3 else data
