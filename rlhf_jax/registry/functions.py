"""A reward that is a Python function, named in a config or given as an object.

    def correct(prompts, responses, records):
        return [float(r["answer"] in said) for said, r in zip(responses, records)]

A config names it as `"python:FILE.py:NAME"`. What it gives is checked: N finite numbers
for N pairs; NaN says that there is no score, and such a response takes no part.
"""

import asyncio
import collections
import concurrent.futures
import dataclasses
import importlib.util
import inspect
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from rlhf_jax.errors import InputError, RunError

_PREFIX = "python:"


@dataclasses.dataclass(frozen=True, eq=False)
class FunctionReward:
    """A function of prompts and responses as a `Reward`.

    Attributes:
      function: `(prompts, responses)` or `(prompts, responses, records) -> N numbers`;
        may be async.
      name: of the function, for messages.
      counts: "scored", "without a score".
    """

    function: Callable[..., Any]
    name: str = "reward function"
    counts: collections.Counter = dataclasses.field(default_factory=collections.Counter)

    def __post_init__(self):
        object.__setattr__(self, "_takes_records", _takes_records(self.function))

    def score(
        self,
        prompts: Sequence[str],
        responses: Sequence[str],
        records: Sequence[Mapping[str, Any]] | None = None,
    ) -> Float[np.ndarray, " N"]:
        """See `registry.Reward.score`.

        Raises:
          InputError: the function raised, or gave something else than N numbers.
        """
        arguments: list[Any] = [list(prompts), list(responses)]
        if self._takes_records:
            empty: list[Mapping[str, Any]] = [{} for _ in prompts]
            arguments.append(empty if records is None else list(records))
        try:
            given = self.function(*arguments)
            if inspect.isawaitable(given):
                with concurrent.futures.ThreadPoolExecutor(1) as elsewhere:
                    # a notebook has a running event loop in this thread
                    given = elsewhere.submit(asyncio.run, _awaited(given)).result()
        except RunError:
            raise
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            raise InputError(f"the reward {self.name} raised {why}") from error
        scores = self._numbers(given, len(prompts))
        self.counts["scored"] += len(scores)
        self.counts["without a score"] += int(np.isnan(scores).sum())
        return scores

    def _numbers(self, given: Any, count: int) -> Float[np.ndarray, " N"]:
        expected = f"expected {count} numbers, one for each response"

        def refused(what: str) -> InputError:
            return InputError(f"the reward {self.name} gave {what}; {expected}")

        if given is None or isinstance(given, str | bytes | Mapping):
            raise refused("None" if given is None else f"a {type(given).__name__}")
        try:
            items = list(given) if not hasattr(given, "shape") else given
            values = np.asarray(items)
            if values.dtype == object:  # None says "no score", as NaN does
                items = [np.nan if item is None else item for item in values]
                values = np.asarray(items)
        except (TypeError, ValueError) as error:
            raise refused(f"a {type(given).__name__}") from error
        if values.shape == () or values.ndim != 1:
            shown = "a single number" if values.ndim == 0 else f"shape {values.shape}"
            raise refused(shown)
        if values.dtype.kind not in "fiub":
            raise refused(
                f"values like {values[0].item()!r}" if len(values) else "no numbers"
            )
        if len(values) != count:
            raise refused(f"{len(values)} numbers")
        scores = values.astype(np.float32)
        if np.isinf(scores).any():
            place = int(np.flatnonzero(np.isinf(scores))[0])
            raise refused(f"{values[place]} for response {place}")
        return scores


async def _awaited(given: Any) -> Any:
    return await given


def _takes_records(function: Callable) -> bool:
    """Whether a third argument can be given by position."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    kinds = [p.kind for p in parameters]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return True
    positional = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    )
    return sum(kind in positional for kind in kinds) > 2


def is_function(name: Any) -> bool:
    """Whether a name is that of a function: `"python:FILE.py:NAME"`."""
    return isinstance(name, str) and name.startswith(_PREFIX)


def function_file(name: str) -> tuple[pathlib.Path, str]:
    """(file, function) of `"python:FILE.py:NAME"`.

    Raises:
      InputError: it is not of that form.
    """
    file, colon, function = name.removeprefix(_PREFIX).rpartition(":")
    if not colon or not file or not function.isidentifier():
        raise InputError(f"reward {name!r}: expected python:FILE.py:NAME")
    return pathlib.Path(file), function


def load_function(name: str) -> FunctionReward:
    """The function of `"python:FILE.py:NAME"`; the file's code runs.

    Raises:
      InputError: no such file or function, or the file raises when it is read.
    """
    file, function = function_file(name)
    if not file.is_file():
        raise InputError(f"reward {name!r}: there is no file {file}")
    spec = importlib.util.spec_from_file_location(f"reward_{file.stem}", file)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise InputError(f"reward {name!r}: {os.fspath(file)} raised {why}") from error
    found = getattr(module, function, None)
    if not callable(found):
        known = [
            key
            for key, value in vars(module).items()
            if inspect.isfunction(value) and value.__module__ == module.__name__
        ]
        raise InputError(
            f"reward {name!r}: {file} has no function {function!r}; it has "
            f"{', '.join(known) or 'none'}"
        )
    return FunctionReward(found, f"{file.name}:{function}")
