"""What people are asked: kinds of task, their fields, and what makes an answer valid.

A definition is a YAML or JSON file with a name and a version; those that ship are in
`definitions/`. What it says is stored with the study and never changed, only followed
by a next version, so that every answer keeps the questions that it answers.
"""

import json
import pathlib
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rlhf_jax.data.records import KINDS, dense_ranks
from rlhf_jax.errors import InputError

__all__ = ["Definition", "Question", "load_definition", "valid_answer"]

FOLDER = pathlib.Path(__file__).with_name("definitions")
TASKS = ("ranking", "pairwise", "demonstration", "prompt", "flags", "chat")
CHOICES = ("first", "second", "tie", "both_bad")
MAX_TEXT = 200_000  # characters of one text that a person writes


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Question(_Strict):
    """One thing to be said about a response or an item."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    type: Literal["scale", "yes_no", "choice", "text"]
    label: str
    help: str = ""
    required: bool = False
    low: int = 1
    high: int = 7
    anchors: dict[int, str] = Field(default_factory=dict)
    options: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.type == "choice" and not self.options:
            raise ValueError(f"{self.name}: a choice needs options")
        if self.type == "scale" and not 1 <= self.high - self.low <= 10:
            raise ValueError(f"{self.name}: {self.low} to {self.high} is no scale")
        return self

    def checked(self, value: Any, where: str) -> Any:
        """The value as it is stored.

        Raises:
          InputError: it is not one of those that the question allows.
        """
        if value is None or value == "":
            if self.required:
                raise InputError(f"{where}.{self.name}: expected an answer, got none")
            return False if self.type == "yes_no" else None
        if self.type == "yes_no" and isinstance(value, bool):
            return value
        whole = isinstance(value, int) and not isinstance(value, bool)
        if self.type == "scale" and whole and self.low <= value <= self.high:
            return value
        if self.type == "choice" and value in self.options:
            return value
        if self.type == "text" and isinstance(value, str):
            return clean_text(value, f"{where}.{self.name}")
        expected = {
            "yes_no": "yes or no",
            "scale": f"a whole number from {self.low} to {self.high}",
            "choice": f"one of {', '.join(self.options)}",
            "text": "a text",
        }[self.type]
        shown = repr(value)[:40]
        raise InputError(f"{where}.{self.name}: expected {expected}, got {shown}")


class Definition(_Strict):
    """A task as people see it."""

    name: str
    version: Annotated[int, Field(ge=1)]
    kind: Literal["ranking", "pairwise", "demonstration", "prompt", "flags", "chat"]
    title: str
    question: str
    response_fields: list[Question] = Field(default_factory=list)
    item_fields: list[Question] = Field(default_factory=list)
    skip_reasons: list[str] = Field(default_factory=lambda: ["I cannot do this"])

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        for fields in (self.response_fields, self.item_fields):
            names = [field.name for field in fields]
            if len(set(names)) < len(names):
                raise ValueError(f"a field occurs twice among {', '.join(names)}")
        return self


def load_definition(source: str | pathlib.Path) -> Definition:
    """A definition that ships (by the name of its kind) or one from a file.

    Raises:
      InputError: no such file, or what is wrong in it, by field.
    """
    path = FOLDER / f"{source}.yaml" if str(source) in TASKS else pathlib.Path(source)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        kinds = ", ".join(TASKS)
        raise InputError(
            f"{path}: expected a readable YAML or JSON file, or one of {kinds}"
        ) from error
    return parse_definition(text, str(path))


def parse_definition(text: str, where: str) -> Definition:
    """The definition that a YAML or JSON text spells."""
    import yaml

    try:
        value = json.loads(text) if where.endswith(".json") else yaml.safe_load(text)
        return Definition.model_validate(value)
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        raise InputError(f"{where}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the whole"
        raise InputError(f"{where}: {field}: {first['msg']}") from error


def valid_answer(definition: Definition, content: Any, texts: int) -> dict[str, Any]:
    """An answer as it is stored.

    Args:
      definition: what was asked.
      content: from the page: `slots` (one object per shown text: `fields`, and `rank`
        in a ranking), `fields` of the item, and `choice`, `text` or `prompt`,
        `kind`, `examples`, as the kind of task needs.
      texts: how many different texts were shown.

    Returns:
      The same with dense ranks and every field there, in the order of the screen.

    Raises:
      InputError: what is missing or wrong, by field.
    """
    if not isinstance(content, dict):
        raise InputError(f"answer: expected an object, got {type(content).__name__}")
    answer: dict[str, Any] = {
        "fields": _fields(definition.item_fields, content.get("fields"), "fields")
    }
    if definition.kind in {"ranking", "pairwise", "flags"}:
        slots = content.get("slots")
        if not isinstance(slots, list) or len(slots) != texts:
            raise InputError(f"slots: expected {texts}, one per text shown")
        answer["slots"] = [
            {"fields": _fields(definition.response_fields, _of(slot), f"slots.{n}")}
            for n, slot in enumerate(slots, 1)
        ]
        if definition.kind == "ranking":
            for slot, rank in zip(answer["slots"], _ranks(slots), strict=True):
                slot["rank"] = rank
    if definition.kind in {"pairwise", "chat"}:
        answer["choice"] = _one_of(content.get("choice"), CHOICES, "choice")
    if definition.kind == "demonstration":
        answer["text"] = filled_text(content.get("text"), "text")
    if definition.kind == "prompt":
        answer |= _prompt(content)
    return answer


def _fields(questions: list[Question], values: Any, where: str) -> dict[str, Any]:
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise InputError(f"{where}: expected an object of fields")
    known = {question.name for question in questions}
    if unknown := sorted(set(values) - known):
        raise InputError(f"{where}.{unknown[0]}: no such field")
    return {q.name: q.checked(values.get(q.name), where) for q in questions}


def _of(slot: Any) -> Any:
    return slot.get("fields") if isinstance(slot, dict) else None


def _ranks(slots: list[Any]) -> list[int]:
    ranks = [slot.get("rank") if isinstance(slot, dict) else None for slot in slots]
    for number, rank in enumerate(ranks, 1):
        if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= 99:
            raise InputError(
                f"slots.{number}.rank: expected a whole number from 1, got {rank!r}"
            )
    return dense_ranks(ranks)


def _prompt(content: dict[str, Any]) -> dict[str, Any]:
    """A prompt that a person wrote; few-shot ones bring queries with responses."""
    kind = _one_of(content.get("kind"), KINDS, "kind")
    answer: dict[str, Any] = {
        "kind": kind,
        "prompt": filled_text(content.get("prompt"), "prompt"),
    }
    if kind != "few-shot":
        return answer
    examples = content.get("examples")
    if not isinstance(examples, list) or len(examples) < 2:
        raise InputError("examples: a few-shot prompt needs two or more")
    answer["examples"] = []
    for number, example in enumerate(examples, 1):
        row = example if isinstance(example, dict) else {}
        answer["examples"].append(
            {
                name: filled_text(row.get(name), f"examples.{number}.{name}")
                for name in ("query", "response")
            }
        )
    return answer


def _one_of(value: Any, known: tuple[str, ...], where: str) -> str:
    if value not in known:
        shown = repr(value)[:40]
        raise InputError(f"{where}: expected one of {', '.join(known)}, got {shown}")
    return value


def filled_text(value: Any, where: str) -> str:
    """A text with something in it."""
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where}: expected a text, got nothing")
    return clean_text(value, where)


def clean_text(value: str, where: str) -> str:
    """The text, halves of surrogate pairs replaced.

    Raises:
      InputError: it is longer than `MAX_TEXT`.
    """
    if len(value) > MAX_TEXT:
        raise InputError(f"{where}: {len(value)} characters, at most {MAX_TEXT} fit")
    return value.encode("utf-8", "replace").decode("utf-8")
