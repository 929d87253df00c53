"""A training run as rows of metrics that somebody asks for, one after the other."""

from collections.abc import Callable, Generator
from typing import Any

__all__ = ["Rows", "Run"]

# yields (steps completed, metrics), returns what is left at the end
Rows = Generator[tuple[int, dict], None, Any]


class Run:
    """A training run to step through: iterate for its metrics, ask for its model.

    >>> def rows():
    ...     yield 1, {"loss": 2.0}
    ...     yield 2, {"loss": 1.5}
    ...     return "the state"
    >>> run = Run(rows(), lambda state: f"the model of {state}")
    >>> [(row["step"], row["loss"]) for row in run]
    [(1, 2.0), (2, 1.5)]
    >>> run.model
    'the model of the state'
    """

    def __init__(self, rows: Rows, finish: Callable[[Any], Any]):
        """Wraps the rows of a loop.

        Args:
          rows: yields (steps completed, metrics), returns what `finish` takes.
          finish: makes the model of it; called once.
        """
        self._rows, self._finish, self._model = rows, finish, None
        self._ended = False

    def __iter__(self) -> "Run":
        return self

    def __next__(self) -> dict[str, Any]:
        """The next step's metrics, with "step": steps completed."""
        if self._ended:
            raise StopIteration
        try:
            step, metrics = next(self._rows)
        except StopIteration as end:
            self._ended, self._model = True, self._finish(end.value)
            raise StopIteration from None
        return {"step": step, **metrics}

    def result(self) -> Any:
        """The trained model; steps that nobody has asked for are run first."""
        for _ in self:
            pass
        return self._model

    @property
    def model(self) -> Any:
        """`result()`."""
        return self.result()
