"""Published sets of instructions with answers: each row -> demonstrations."""

import re
from collections.abc import Iterator
from typing import Any

from rlhf_jax.data.readers.assembled import Before, demonstration, opening
from rlhf_jax.data.records import Demonstration
from rlhf_jax.data.rows import Row, RowError, as_dict, as_list, as_text

END_MARK = "###eos_token###"  # some copies of Dolly end their answers with it
CALCULATOR = re.compile(r"<<[^<>]*>>")


def dolly(row: Row) -> Iterator[Demonstration]:
    """Dolly: instruction, context, response, category; or prompt and answer."""
    if "answer" in row.value:
        prompt, answer = row.text("prompt"), row.text("answer")
        response = answer.removesuffix(END_MARK).rstrip()
    else:
        prompt = joined(row.text("instruction"), row.optional_text("context"))
        response = row.text("response")
    category = row.optional_text("category")
    yield _made(row, opening(row, prompt), response, "dolly", use_case=category)


def alpaca(row: Row) -> Iterator[Demonstration]:
    """Alpaca: instruction, input, output; and maybe `system` and `history`."""
    prompt = joined(row.text("instruction"), row.optional_text("input"))
    yield _made(row, opening(row, prompt), row.text("output"), "alpaca")


def self_instruct(row: Row) -> Iterator[Demonstration]:
    """Self-instruct: an instruction with instances of input and output."""
    instances = as_list(row.value.get("instances"), "instances")
    for i, item in enumerate(instances):
        instance = as_dict(item, f"instances[{i}]")
        given = as_text(instance.get("input", ""), f"instances[{i}].input")
        output = as_text(instance.get("output"), f"instances[{i}].output")
        name = row.optional_text("id") or row.name
        yield Demonstration(
            id=name if i == 0 else f"{name}/{i}",
            prompt=joined(row.text("instruction"), given),
            response=output,
            group=name,
            use_case=row.optional_text("name"),
            source="self-instruct",
        )


def gsm8k(row: Row) -> Iterator[Demonstration]:
    """GSM8K: question and worked answer; the calculator's marks are taken out.

    The final answer, after `####`, is also in `meta["final"]`.
    """
    answer = row.text("answer")
    worked, mark, final = answer.rpartition("####")
    if not mark:
        raise RowError("answer", "expected a line '#### final answer'")
    response = CALCULATOR.sub("", worked).rstrip() + "\n#### " + final.strip()
    yield _made(
        row, row.text("question"), response, "gsm8k", meta={"final": final.strip()}
    )


def squality(row: Row) -> Iterator[Demonstration]:
    """SQuALITY: a story, questions, and people's answers to each question."""
    story = row.text("document")
    uid = as_dict(row.value.get("metadata"), "metadata").get("uid", row.name)
    story_id = as_text(uid, "metadata.uid")
    for question in as_list(row.value.get("questions"), "questions"):
        asked = as_dict(question, "questions")
        text = as_text(asked.get("question_text"), "questions.question_text")
        number = asked.get("question_number")
        responses = as_list(asked.get("responses"), "questions.responses")
        for i, response in enumerate(responses):
            answer = as_dict(response, "questions.responses")
            worker = answer.get("worker_id")
            yield Demonstration(
                id=f"{story_id}/{number}/{i}",
                prompt=f"{story.strip()}\n\nQuestion: {text}\n\nAnswer:",
                response=as_text(answer.get("response_text"), "response_text"),
                user=None if worker is None else str(worker),
                group=story_id,
                use_case="summarization",
                source="squality",
            )


def joined(instruction: str, given: str | None) -> str:
    """An instruction with what it is about, if anything."""
    return f"{instruction}\n\n{given}" if given and given.strip() else instruction


def _made(
    row: Row, prompt: Before, response: str, source: str, **fields: Any
) -> Demonstration:
    name = row.optional_text("id") or row.name
    return demonstration(prompt, response, id=name, source=source, **fields)
