"""The errors that end a command, and the exit code each stands for.

Anything a person can mend is an `InputError`: the command prints its message, no
traceback, and exits with 2. Everything else is a defect and shows its traceback.

    0 done | 2 bad config or data | 3 numerics abort | 4 no usable checkpoint |
    143 preempted (state saved)
"""


class RunError(Exception):
    """Ends a command with `exit_code` and one clear message."""

    exit_code = 1


class InputError(RunError, ValueError):
    """Bad config, data or argument; says where, what, and what was expected."""

    exit_code = 2


class NumericsError(RunError):
    """Training stopped because of non-finite numbers; the saved params are finite."""

    exit_code = 3


class CheckpointError(RunError):
    """There are checkpoints, but none that may be used."""

    exit_code = 4


class Preempted(RunError):
    """SIGTERM or SIGINT arrived; the state was saved before this was raised."""

    exit_code = 143
