"""OpenAssistant's conversation trees: sibling replies ranked by people.

A line holds one tree: a prompt with `replies`, each with its own `replies`. Replies to
one message carry `rank`, 0 being the best. Messages of models (`synthetic`) and
deleted ones are left out.
"""

from collections.abc import Iterator
from typing import Any

from rlhf_jax.data.readers.dialogues import ROLES, transcript
from rlhf_jax.data.records import Demonstration, Prompt, Ranking, dense_ranks
from rlhf_jax.data.rows import Row, RowError, as_dict, as_list

Path = list[dict[str, str]]


def tree_rankings(row: Row) -> Iterator[Ranking]:
    """One ranking for each set of two or more human replies that are all ranked."""
    for path, parent, replies in _questions(row):
        ranks = [reply.get("rank") for reply in replies]
        if len(replies) < 2 or any(type(rank) is not int for rank in ranks):
            continue
        yield Ranking(
            id=parent["message_id"],
            prompt=transcript(path),
            responses=[reply["text"] for reply in replies],
            ranks=dense_ranks(ranks),
            group=_tree_id(row),
            source="oasst",
            meta={"messages": path, "replies": [r["message_id"] for r in replies]},
        )


def tree_demonstrations(row: Row) -> Iterator[Demonstration]:
    """The best human reply to each user message, along paths of best replies."""
    for path, parent, replies in _questions(row, best_only=True):
        best = _best(replies)
        if best is not None:
            yield Demonstration(
                id=parent["message_id"],
                prompt=transcript(path),
                response=best["text"],
                group=_tree_id(row),
                source="oasst",
                meta={"messages": path},
            )


def tree_prompts(row: Row) -> Iterator[Prompt]:
    """The message with which each tree begins."""
    root = as_dict(row.value.get("prompt"), "prompt")
    if _human(root):
        yield Prompt(
            id=row.text("message_tree_id"),
            prompt=_message(root)["content"],
            group=_tree_id(row),
            source="oasst",
        )


def _questions(
    row: Row, *, best_only: bool = False
) -> Iterator[tuple[Path, dict[str, Any], list[dict[str, Any]]]]:
    """(path of messages, the user's message, its human replies), depth first."""
    root = as_dict(as_dict(row.value, "").get("prompt"), "prompt")
    waiting: list[tuple[Path, dict[str, Any]]] = [([], root)]
    while waiting:
        before, node = waiting.pop()
        if not _human(node):
            continue
        path = [*before, _message(node)]
        replies = [
            _checked(reply)
            for reply in as_list(node.get("replies", []), "replies")
            if _human(as_dict(reply, "replies"))
        ]
        followed = replies
        if path[-1]["role"] == "user":
            yield path, _checked(node), replies
            if best_only:
                best = _best(replies)
                followed = [] if best is None else [best]
        waiting += [(path, reply) for reply in reversed(followed)]


def _best(replies: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The reply of rank 0, or the only one, which nobody had to rank."""
    if len(replies) == 1:
        return replies[0]
    return next((reply for reply in replies if reply.get("rank") == 0), None)


def _human(node: dict[str, Any]) -> bool:
    return not node.get("synthetic") and not node.get("deleted")


def _checked(node: dict[str, Any]) -> dict[str, Any]:
    for key in ("message_id", "text"):
        if not isinstance(node.get(key), str):
            raise RowError(
                key, f"expected text in every message, got {node.get(key)!r}"
            )
    return node


def _message(node: dict[str, Any]) -> dict[str, str]:
    role = node.get("role")
    if role not in ("prompter", "assistant"):
        raise RowError("role", f"expected prompter or assistant, got {role!r}")
    return {"role": ROLES.get(role, role), "content": _checked(node)["text"]}


def _tree_id(row: Row) -> str:
    return row.text("message_tree_id")
