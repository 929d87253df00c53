"""Published sets of preferences -> rankings: K-wise where the set is K-wise.

UltraFeedback (Cui et al. 2023), Nectar (Zhu et al. 2023), HelpSteer 2 and 3 (Wang et
al. 2024, 2025), the Stanford Human Preferences (Ethayarajh et al. 2022).
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from rlhf_jax.data.readers.assembled import Before, before, opening, ranked
from rlhf_jax.data.readers.dialogues import transcript_messages
from rlhf_jax.data.readers.pairs import origin
from rlhf_jax.data.records import Message, Ranking, stable_id
from rlhf_jax.data.rows import Row, RowError, as_dict, as_list, as_number, as_text

ABSENT = (None, "", "N/A", "nan", "NaN")
ASPECTS = ("helpfulness", "honesty", "instruction_following", "truthfulness")
ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
TURN = re.compile(r"\n?<extra_id_1>(User|Assistant)\n")
RATED = "responses to one prompt"  # the key under which `rated_rows` joins rows


def ultrafeedback(row: Row) -> Iterator[Ranking]:
    """UltraFeedback: an instruction and completions, each with its scores.

    Ranked by `overall_score`; where no completion has one, by `fine-grained_score`, or
    else by the mean of the aspects' ratings. A completion without a score is left out
    and noted. Scores and what was told to a single completion's model
    (`custom_system_prompt`) stay in `meta`.
    """
    items = as_list(row.value.get("completions"), "completions")
    found = [as_dict(item, f"completions[{i}]") for i, item in enumerate(items)]
    name, scores = _measured(found)
    kept = [i for i, score in enumerate(scores) if score is not None]
    row.notes.extend(["completion without a score"] * (len(found) - len(kept)))
    texts = [
        as_text(found[i].get("response"), f"completions[{i}].response") for i in kept
    ]
    meta: dict[str, Any] = {"measure": name, "scores": [scores[i] for i in kept]}
    for key in ("model", "custom_system_prompt"):
        if any(found[i].get(key) for i in kept):
            meta[key] = [found[i].get(key) for i in kept]
    yield ranked(
        opening(row, row.text("instruction")),
        texts,
        [-scores[i] for i in kept],
        id=row.optional_text("id") or row.name,
        use_case=row.optional_text("source"),
        source="ultrafeedback",
        meta=meta,
    )


def _measured(found: list[dict[str, Any]]) -> tuple[str, list[float | None]]:
    """The first measure that two completions have, and its values."""
    measures = {
        "overall_score": lambda item: item.get("overall_score"),
        "fine-grained_score": lambda item: item.get("fine-grained_score"),
        "mean of ratings": _mean_rating,
    }
    for name, measure in measures.items():
        values = [measure(item) for item in found]
        if sum(value not in ABSENT for value in values) > 1:
            return name, [
                None if v in ABSENT else as_number(v, f"completions[{i}].{name}")
                for i, v in enumerate(values)
            ]
    raise RowError("completions", "expected scores of two completions or more")


def _mean_rating(item: dict[str, Any]) -> float | None:
    """The mean of the four aspects; None unless all are rated."""
    notes = item.get("annotations")
    notes = notes if isinstance(notes, dict) else {}
    ratings = []
    for aspect in ASPECTS:
        note = notes.get(aspect)
        rating = note.get("Rating") if isinstance(note, dict) else None
        if rating in ABSENT:
            return None
        ratings.append(as_number(rating, f"annotations.{aspect}.Rating"))
    return sum(ratings) / len(ratings)


def nectar(row: Row) -> Iterator[Ranking]:
    """Nectar: a transcript, and up to seven answers with their ranks."""
    prompt = row.text("prompt")
    said: Before = transcript_messages(prompt) or prompt
    texts, ranks, models = [], [], []
    for i, item in enumerate(as_list(row.value.get("answers"), "answers")):
        answer = as_dict(item, f"answers[{i}]")
        if answer.get("rank") in ABSENT:
            row.notes.append("answer without a rank")
            continue
        texts.append(as_text(answer.get("answer"), f"answers[{i}].answer"))
        ranks.append(as_number(answer.get("rank"), f"answers[{i}].rank"))
        models.append(answer.get("model"))
    name = row.optional_text("id") or row.name
    meta = {"model": models} if any(models) else {}
    yield ranked(said, texts, ranks, id=name, source="nectar", meta=meta)


def rated_rows(rows: Iterable[Row]) -> Iterator[Row]:
    """HelpSteer's rows, one response each, as one row per prompt, in order of the
    first; holds the file in memory.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        prompt = row.value.get("prompt") if isinstance(row.value, dict) else None
        if isinstance(prompt, str):
            groups.setdefault(prompt, []).append(row)
        else:
            yield row  # refused by its reader
    for group in groups.values():
        raw = b"\n".join(row.raw for row in group)
        value = {"prompt": group[0].value["prompt"], RATED: group}
        yield Row(group[0].file, group[0].line, value, raw)


def helpsteer(row: Row) -> Iterator[Ranking]:
    """HelpSteer 2: responses to one prompt, ranked by their `helpfulness` (0 to 4).

    A prompt with one response alone is left out and noted. The other attributes stay
    in `meta`.
    """
    prompt = row.text("prompt")
    rated = as_list(row.value.get(RATED), "prompt")
    members = [m for m in rated if m.value.get("helpfulness") not in ABSENT]
    if len(members) < len(rated):
        row.notes.append("response without its helpfulness")
    if len(members) < 2:
        row.notes.append("response to a prompt that has no other")
        return
    scores = {
        name: [as_number(m.value[name], name) for m in members]
        for name in ATTRIBUTES
        if all(m.has(name) for m in members)
    }
    yield ranked(
        marked_turns(prompt),
        [m.text("response") for m in members],
        [-score for score in scores["helpfulness"]],
        id=stable_id(prompt),
        source="helpsteer",
        meta={"scores": scores},
    )


def helpsteer_preference(row: Row) -> Iterator[Ranking]:
    """HelpSteer's preferences: two responses, and which is better by how much.

    The strength, -3 to 3, is negative where the first response is better; 0 is a tie.
    """
    old = "preference_strength" in row.value
    field = "preference_strength" if old else "overall_preference"
    strength = as_number(row.value.get(field), field)
    names = ["response_1" if "response_1" in row.value else "response1"]
    names.append(names[0].replace("1", "2"))
    prompt = row.value.get("prompt", row.value.get("context"))
    said = marked_turns(prompt) if isinstance(prompt, str) else before(prompt, "prompt")
    text = prompt if isinstance(prompt, str) else str(prompt)
    yield ranked(
        said,
        [row.text(name) for name in names],
        [strength, -strength],
        id=row.optional_text("id") or row.name,
        group=f"helpsteer/{stable_id(text)}",
        split=origin(row)["split"],
        use_case=row.optional_text("domain"),
        source="helpsteer",
        meta={"strength": strength},
    )


def marked_turns(prompt: str) -> Before:
    """HelpSteer's prompt: a text, or turns divided by `<extra_id_1>` and a name.

    >>> [turn.role for turn in marked_turns("Hi\\n<extra_id_1>Assistant\\nHello!"
    ...                                     "\\n<extra_id_1>User\\n2+2?")]
    ['user', 'assistant', 'user']
    """
    first, *rest = TURN.split(prompt)
    if not rest:
        return prompt
    turns = [Message(role="user", content=first)]
    for who, said in zip(rest[::2], rest[1::2], strict=True):
        turns.append(Message(role=who.lower(), content=said))
    if turns[-1].role == "assistant" and not turns[-1].content.strip():
        turns.pop()
    return turns


def shp(row: Row) -> Iterator[Ranking]:
    """SHP: a post (`history`) and two comments; `labels` is 1 where A is preferred."""
    label = as_number(row.value.get("labels"), "labels")
    if label not in (0, 1):
        raise RowError("labels", f"expected 0 or 1, got {label:g}")
    meta = {}
    if row.has("score_A") and row.has("score_B"):
        scores = [as_number(row.value[key], key) for key in ("score_A", "score_B")]
        if (scores[0] > scores[1]) != bool(label) and scores[0] != scores[1]:
            raise RowError("labels", f"{label:g} is at odds with the scores {scores}")
        meta["scores"] = scores
    post = row.optional_text("post_id") or stable_id(row.text("history"))
    comments = [row.optional_text(f"c_root_id_{side}") or "" for side in "AB"]
    yield ranked(
        row.text("history"),
        [row.text("human_ref_A"), row.text("human_ref_B")],
        [1, 2] if label else [2, 1],
        id="/".join([post, *comments]) if all(comments) else row.name,
        group=f"shp/{post}",
        use_case=row.optional_text("domain"),
        source="shp",
        meta=meta,
    )
