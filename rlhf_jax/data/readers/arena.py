"""Arena-style comparisons: two answers by two models, and which one won.

Chatbot Arena's sets (Zheng et al. 2023): conversations side by side, or prompt and two
responses; `winner` is a side, the name of a model, a tie, or that both are bad. The
55k set has three columns of 0 and 1 instead.
"""

from collections.abc import Iterator
from typing import Any

from rlhf_jax.data.readers.assembled import Before, before, opening, ranked
from rlhf_jax.data.readers.conversations import messages_of, shared_beginning
from rlhf_jax.data.records import Message, Ranking
from rlhf_jax.data.rows import Row, RowError, as_number, as_text
from rlhf_jax.data.strict_json import parsed

SIDES = (
    ("conversation_a", "conversation_b"),
    ("response_a", "response_b"),
    ("answer_a", "answer_b"),
    ("output_a", "output_b"),
    ("completion_a", "completion_b"),
)
FLAGS = ("winner_model_a", "winner_model_b", "winner_tie")
ASKED = ("prompt", "question", "instruction")
USES = {"winner", "model_a", "model_b", *FLAGS, "winner_tie_bothbad", *ASKED}
USES |= {
    "system",
    "system_prompt",
    "history",
    *(name for both in SIDES for name in both),
}
FIRST = ("a", "model_a", "response_a", "answer_a", "assistant_a", "left")
SECOND = ("b", "model_b", "response_b", "answer_b", "assistant_b", "right")
TIED = ("tie", "tied", "draw", "both", "equal")
BAD = ("tie (bothbad)", "tie(bothbad)", "both_bad", "bothbad", "both bad", "neither")


def arena(row: Row) -> Iterator[Ranking]:
    """The ranking of two answers; ties and "both bad" are ties.

    Raises:
      RowError: no winner, or one that names neither side.
    """
    ranks, bad = _ranks(row)
    for names in SIDES:
        if all(row.value.get(name) is not None for name in names):
            break
    else:
        expected = ", ".join(f"{a} and {b}" for a, b in SIDES)
        raise RowError("conversation_a", f"missing, expected one of {expected}")
    if names == SIDES[0]:
        said, responses = _side_by_side(row)
    else:
        said, responses = _answers(row, names)
    models = [row.optional_text(name) for name in ("model_a", "model_b")]
    meta: dict[str, Any] = {"model": models} if any(models) else {}
    yield ranked(
        said,
        responses,
        ranks,
        id=row.optional_text("question_id") or row.optional_text("id") or row.name,
        labeler=row.optional_text("judge"),
        source="arena",
        meta=meta | ({"both_bad": True} if bad else {}),
    )


def _side_by_side(row: Row) -> tuple[Before, list[str]]:
    both = [messages_of(row.value[name], name) for name in SIDES[0]]
    found = shared_beginning(*both)
    if found is None:
        raise RowError("conversation_b", "expected the question of conversation_a")
    return found


def _answers(row: Row, names: tuple[str, str]) -> tuple[Before, list[str]]:
    """A prompt and two responses; each may be a list of turns, as in the 55k set."""
    name = next((key for key in ASKED if row.has(key)), None)
    if name is None:
        raise RowError("prompt", "missing, expected text or a list of turns")
    said = _unfolded(row.value[name])
    sides = [_unfolded(row.value[key]) for key in names]
    if isinstance(said, list) and said and all(isinstance(turn, str) for turn in said):
        both = [
            _alternating(said, answers, key)
            for answers, key in zip(sides, names, strict=True)
        ]
        found = shared_beginning(*both)
        if found is None:
            raise RowError(names[0], "expected an answer to each turn of the prompt")
        return found
    texts = [as_text(side, key) for side, key in zip(sides, names, strict=True)]
    if isinstance(said, str):
        return opening(row, said), texts
    return before(said, name), texts


def _alternating(asked: list[str], answers: Any, field: str) -> list[Message]:
    """Questions and answers in turn; an answer that is null is empty."""
    if not isinstance(answers, list) or len(answers) != len(asked):
        raise RowError(field, f"expected {len(asked)} answers, one per question")
    turns = []
    for question, answer in zip(asked, answers, strict=True):
        said = as_text("" if answer is None else answer, field)
        turns.append(Message(role="user", content=question))
        turns.append(Message(role="assistant", content=said))
    return turns


def _unfolded(value: Any) -> Any:
    """A list that stands as JSON in a text, as itself."""
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        try:
            found = parsed(value.encode("utf-8", "surrogatepass"))
        except RowError:
            return value
        plain = all(item is None or isinstance(item, str) for item in found)
        return found if found and plain else value
    return value


def _ranks(row: Row) -> tuple[list[int], bool]:
    """The two ranks, and whether both are bad."""
    if row.has("winner"):
        return _won(row, str(row.value["winner"]).strip())
    flags = [name for name in (*FLAGS, "winner_tie_bothbad") if row.has(name)]
    won = [name for name in flags if as_number(row.value[name], name)]
    if len(won) != 1:
        got = ", ".join(won) or "none"
        raise RowError("winner", f"expected who won, got {got}")
    bad = won[0] == "winner_tie_bothbad"
    return {FLAGS[0]: [1, 2], FLAGS[1]: [2, 1]}.get(won[0], [1, 1]), bad


def _won(row: Row, winner: str) -> tuple[list[int], bool]:
    models = [row.optional_text(name) for name in ("model_a", "model_b")]
    if winner in models and models[0] != models[1]:
        return ([1, 2] if winner == models[0] else [2, 1]), False
    word = winner.lower()
    for words, ranks in ((FIRST, [1, 2]), (SECOND, [2, 1]), (TIED, [1, 1])):
        if word in words:
            return ranks, False
    if word in BAD:
        return [1, 1], True
    raise RowError(
        "winner", f"expected model_a, model_b, tie or both_bad, got {winner!r}"
    )
