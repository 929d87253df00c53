"""OpenAssistant's conversation trees: sibling replies ranked by people.

A line holds one tree, a prompt with `replies`, each with its own `replies`; or, as on
the hub, one message, which names its parent. Replies to one message carry `rank`, 0
being the best. Messages of models (`synthetic`) and deleted ones are left out.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from rlhf_jax.data.readers.assembled import asked, demonstration, ranked
from rlhf_jax.data.readers.conversations import ROLES
from rlhf_jax.data.records import Demonstration, Message, Prompt, Ranking
from rlhf_jax.data.rows import Row, RowError, as_dict, as_list

Path = list[Message]
TREE, WRONG = "message_tree_id", "what is wrong with a tree"


def tree_rankings(row: Row) -> Iterator[Ranking]:
    """One ranking for each set of two or more human replies that are all ranked."""
    unranked, found = 0, False
    for path, parent, replies in _questions(row):
        ranks = [_rank(reply) for reply in replies]
        if len(replies) < 2 or None in ranks:
            unranked += len(replies) > 1
            continue
        found = True
        yield ranked(
            path,
            [reply["text"] for reply in replies],
            ranks,
            id=parent["message_id"],
            group=_tree_id(row),
            source="oasst",
            meta={"replies": [r["message_id"] for r in replies]},
        )
    if not found:
        row.notes.append("tree without ranked replies")
    row.notes.extend(["replies that are not all ranked"] * unranked)


def tree_demonstrations(row: Row) -> Iterator[Demonstration]:
    """The best human reply to each user message, along paths of best replies."""
    found = False
    for path, parent, replies in _questions(row, best_only=True):
        best = _best(replies)
        if best is not None:
            yield demonstration(
                path,
                best["text"],
                id=parent["message_id"],
                group=_tree_id(row),
                source="oasst",
            )
            found = True
    if not found:
        row.notes.append("tree without a person's reply")


def tree_prompts(row: Row) -> Iterator[Prompt]:
    """The message with which each tree begins."""
    root = _root(row)
    if _human(root):
        prompt = _message(root).content
        yield asked(prompt, id=row.text(TREE), group=_tree_id(row), source="oasst")
    else:
        row.notes.append("tree that no person began")


def tree_rows(rows: Iterable[Row]) -> Iterator[Row]:
    """Flat rows, one message each, as one row per tree; holds the file in memory.

    Trees come in the order of their first messages. A tree with a message whose parent
    is in no row, or with no message that is its root, is refused when it is read.
    """
    trees: dict[Any, list[Row]] = {}
    for row in rows:
        if not isinstance(row.value, dict) or not isinstance(
            row.value.get("message_id"), str
        ):
            yield row  # refused by its reader
            continue
        name = row.value.get(TREE) or row.value["message_id"]
        trees.setdefault(str(name), []).append(row)
    for name, members in trees.items():
        yield _tree(name, members)


def _tree(name: str, members: list[Row]) -> Row:
    """The messages of a tree, each with its replies."""
    nodes = {row.value["message_id"]: {**row.value, "replies": []} for row in members}
    roots, wrong = [], None
    for row in members:
        parent, node = row.value.get("parent_id"), nodes[row.value["message_id"]]
        if parent is None or parent == "":
            roots.append(node)
        elif isinstance(parent, str) and parent in nodes:
            nodes[parent]["replies"].append(node)
        else:
            wrong = wrong or f"parent_id: no message of the tree has it: {parent!r}"
    if len(nodes) < len(members):
        wrong = f"message_id: occurs more than once in tree {name!r}"
    if len(roots) != 1:
        wrong = wrong or f"parent_id: expected one root in a tree, got {len(roots)}"
    value = {TREE: name, "prompt": roots[0] if roots else None}
    first = members[0]
    raw = b"\n".join(row.raw for row in members)
    return Row(first.file, first.line, value | ({WRONG: wrong} if wrong else {}), raw)


def _root(row: Row) -> dict[str, Any]:
    value = as_dict(row.value, "")
    if WRONG in value:
        field, _, why = value[WRONG].partition(": ")
        raise RowError(field, why)
    return as_dict(value.get("prompt"), "prompt")


def _questions(
    row: Row, *, best_only: bool = False
) -> Iterator[tuple[Path, dict[str, Any], list[dict[str, Any]]]]:
    """(path of messages, the user's message, its human replies), depth first."""
    waiting: list[tuple[Path, dict[str, Any]]] = [([], _root(row))]
    while waiting:
        before, node = waiting.pop()
        if not _human(node):
            continue
        path = [*before, _message(node)]
        replies = [
            _checked(reply)
            for reply in as_list(node.get("replies") or [], "replies")
            if _human(as_dict(reply, "replies"))
        ]
        followed = replies
        if path[-1].role == "user":
            yield path, _checked(node), replies
            if best_only:
                best = _best(replies)
                followed = [] if best is None else [best]
        waiting += [(path, reply) for reply in reversed(followed)]


def _rank(reply: dict[str, Any]) -> int | None:
    """The place of a reply; tables without whole numbers have it as 0.0."""
    rank = reply.get("rank")
    if isinstance(rank, str) and rank.strip().removesuffix(".0").isdigit():
        rank = float(rank)
    whole = isinstance(rank, int | float) and rank == rank // 1
    return int(rank) if whole and not isinstance(rank, bool) else None


def _best(replies: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The reply of rank 0, or the only one, which nobody had to rank."""
    if len(replies) == 1:
        return replies[0]
    return next((reply for reply in replies if _rank(reply) == 0), None)


def _human(node: dict[str, Any]) -> bool:
    said = [node.get("synthetic"), node.get("deleted")]
    return not any(s.lower() == "true" if isinstance(s, str) else s for s in said)


def _checked(node: dict[str, Any]) -> dict[str, Any]:
    for key in ("message_id", "text"):
        if not isinstance(node.get(key), str):
            raise RowError(
                key, f"expected text in every message, got {node.get(key)!r}"
            )
    return node


def _message(node: dict[str, Any]) -> Message:
    role = node.get("role")
    if role not in ("prompter", "assistant"):
        raise RowError("role", f"expected prompter or assistant, got {role!r}")
    return Message(role=ROLES.get(role, role), content=_checked(node)["text"])


def _tree_id(row: Row) -> str:
    return row.text(TREE)
