"""The three kinds of prompt that labelers wrote, and what few-shot ones become.

Ouyang et al. 2022, §3.2 and A.1: *plain* (an arbitrary task), *few-shot* (an
instruction with several query/response pairs) and *user-based* (a task that somebody
applied to the waiting list for). Few-shot ones with K pairs make K demonstrations,
each with the other K - 1 pairs in its context.
"""

from collections.abc import Sequence

from rlhf_jax.data.records import Demonstration
from rlhf_jax.errors import InputError


def few_shot_demonstrations(
    id: str,
    instruction: str,
    pairs: Sequence[tuple[str, str]],
    *,
    separator: str = "\n\n",
    **fields,
) -> list[Demonstration]:
    """K query/response pairs -> K demonstrations, each with the others in context.

    >>> for row in few_shot_demonstrations("a", "Antonyms.", [("hot", "cold"),
    ...                                                       ("up", "down")]):
    ...     print(repr(row.prompt), "->", row.response)
    'Antonyms.\\n\\nup\\ndown\\n\\nhot\\n' -> cold
    'Antonyms.\\n\\nhot\\ncold\\n\\nup\\n' -> down

    Args:
      id: names the group; the rows are `id/0`, `id/1`, ...
      instruction: the task.
      pairs: (query, response), at least two.
      separator: stands between the parts of a prompt.
      fields: further fields of the demonstrations.

    Raises:
      InputError: fewer than two pairs.
    """
    if len(pairs) < 2:
        raise InputError(
            f"few-shot {id!r}: pairs: expected at least 2, got {len(pairs)}"
        )
    rows = []
    for i, (query, response) in enumerate(pairs):
        shown = [f"{q}\n{r}" for j, (q, r) in enumerate(pairs) if j != i]
        prompt = separator.join([instruction, *shown, f"{query}\n"])
        given = {"group": id, "kind": "few-shot", **fields}
        rows.append(
            Demonstration(id=f"{id}/{i}", prompt=prompt, response=response, **given)
        )
    return rows
