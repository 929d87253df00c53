"""What a person sees of an item: distinct texts, shuffled for them, and nothing else.

Names of models, the order in which responses were made, scores and researchers'
answers stay in the database. Identical responses are one card; their rank goes to all
of them when the answer is exported.
"""

import hashlib
import re
from typing import Any

import numpy as np

__all__ = ["JUDGED", "dice", "distinct", "order_for", "shown_item", "turns"]

# kinds of task that show texts of the record to be judged
JUDGED = {"ranking", "pairwise", "flags"}

_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant|User|System): ?")


def distinct(record: dict[str, Any]) -> tuple[list[str], list[int]]:
    """The different texts to be judged, and for each response which of them it is.

    >>> distinct({"responses": ["a", "b", "a"]})
    (['a', 'b'], [0, 1, 0])
    """
    responses = record.get("responses")
    if responses is None:
        responses = [record["response"]] if "response" in record else []
    texts = list(dict.fromkeys(responses))
    return texts, [texts.index(response) for response in responses]


def order_for(
    seed: str, item: int, person: int, repetition: int, count: int
) -> list[int]:
    """`order[slot]` is the text shown there; a function of its arguments alone."""
    name = f"{seed}/{item}/{person}/{repetition}".encode()
    words = np.frombuffer(hashlib.sha256(name).digest(), np.uint32)
    return np.random.default_rng(words).permutation(count).tolist()


def dice(seed: str, *names: Any) -> float:
    """A number in [0, 1) that depends on the names alone."""
    text = "/".join(map(str, (seed, *names))).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8]) / 2**64


def shown_item(record: dict[str, Any], order: list[int]) -> dict[str, Any]:
    """The part of an item that goes to the browser."""
    texts, _ = distinct(record)
    return {
        "turns": turns(record),
        "texts": [texts[index] for index in order],
        "kind": record.get("kind", "plain"),
    }


def turns(record: dict[str, Any]) -> list[dict[str, str]]:
    """The prompt as turns of a conversation; a plain prompt is one turn.

    >>> [t["role"] for t in turns({"prompt": "\\n\\nHuman: Hi\\n\\nAssistant:"})]
    ['user']
    """
    messages = (record.get("meta") or {}).get("messages")
    if isinstance(messages, list) and all(_is_message(m) for m in messages):
        return [{"role": m["role"], "text": m["content"]} for m in messages]
    prompt = record.get("prompt", "")
    parts = _TURN.split(prompt)
    if len(parts) < 3 or parts[0].strip():
        return [{"role": "user", "text": prompt}]
    names = {"Human": "user", "User": "user"}
    found = [
        {"role": names.get(role, role.lower()), "text": text.strip()}
        for role, text in zip(parts[1::2], parts[2::2], strict=True)
    ]
    return [turn for turn in found if turn["text"]] or [
        {"role": "user", "text": prompt}
    ]


def _is_message(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("role"), str)
        and isinstance(value.get("content"), str)
    )
