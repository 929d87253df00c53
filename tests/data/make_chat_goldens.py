"""Writes tests/data/golden/chat_templates.json: run once with transformers.

    PYTHONPATH=. python tests/data/make_chat_goldens.py

For each family and conversation what `apply_chat_template` gives with the assistant's
turn opened and, where it has spoken last, without.
"""

import json
import pathlib
import tempfile

import transformers
from chat_families import CHAT_FAMILIES, CONVERSATIONS, cases, messages_of

GOLDEN = pathlib.Path(__file__).parent / "golden" / "chat_templates.json"


def ids_of(family: str, name: str) -> dict[str, list[int]]:
    _, turns, tools = CONVERSATIONS[name]
    messages = messages_of(turns)
    with tempfile.TemporaryDirectory() as folder:
        CHAT_FAMILIES[family].tokenizer.save(folder)
        theirs = transformers.AutoTokenizer.from_pretrained(folder)
    found = {}
    for key, opened in (("prompt", True), ("whole", False)):
        found[key] = theirs.apply_chat_template(
            messages,
            tools=tools,
            add_generation_prompt=opened,
            return_dict=True,
            date_string="27 Nov 2026",
        )["input_ids"]
    return found


if __name__ == "__main__":
    made = {f"{family}: {name}": ids_of(family, name) for family, name in cases()}
    GOLDEN.parent.mkdir(exist_ok=True)
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in made.items()]
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"written with transformers {transformers.__version__} to {GOLDEN}")
