"""The directory of a stage: as it is, set aside, taken back, or made longer."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

from rlhf_jax.errors import InputError
from rlhf_jax.fields import leaves
from rlhf_jax.pipeline.content import lengths
from rlhf_jax.pipeline.finished import DONE, MANIFEST, damage, done_hash
from rlhf_jax.storage import clear_partials

__all__ = ["settle"]


def settle(
    config: Any,
    folder: pathlib.Path,
    wanted: str,
    identity: str,
    *,
    extend: bool,
    say: Callable[[str], None],
) -> None:
    """Brings the directory of a stage to where the stage can go on.

    What is damaged, or was made under other settings, is set aside; what was made under
    these is taken back.

    Args:
      config: of the stage.
      folder: its directory.
      wanted: its content hash.
      identity: see `pipeline.content`.
      extend: a stage that was made longer may go on.
      say: tells a person what happens.

    Raises:
      InputError: the stage was made longer without `extend`, or shorter.
    """
    before = _description(folder)
    if before and done_hash(folder) == before.get("hash") and (wrong := damage(folder)):
        aside = _aside(folder, "damaged")
        say(f"{folder.name}: {wrong}; runs again, the damaged one is {aside}")
    elif before and before.get("identity") != identity:
        aside = _aside(folder, str(before.get("hash"))[:8])
        say(f"{folder.name}: settings or inputs changed; the old run is {aside}")
    if not folder.exists():
        _take_back(folder, wanted, identity, say)
    if done_hash(folder) == wanted and damage(folder) is None:
        return
    _require_length(config, folder, extend, say)
    for name in (DONE, MANIFEST):
        (folder / name).unlink(missing_ok=True)
    clear_partials(folder.rglob(".*.partial"))


def _description(folder: pathlib.Path) -> dict[str, Any]:
    """What `stage.json` tells; {} where there is none."""
    try:
        found = json.loads((folder / "stage.json").read_text())
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}


def _aside(folder: pathlib.Path, mark: str) -> str:
    """Renames a directory; its new name."""
    aside, number = folder.with_name(f"{folder.name}.{mark}"), 1
    while aside.exists():
        number += 1
        aside = folder.with_name(f"{folder.name}.{mark}.{number}")
    folder.rename(aside)
    return aside.name


def _take_back(
    folder: pathlib.Path, wanted: str, identity: str, say: Callable[[str], None]
) -> None:
    """Gives the stage its directory back that was set aside under these settings."""

    def worth(path: pathlib.Path) -> tuple[bool, bool]:
        exact = _description(path).get("hash") == wanted
        return exact, exact and done_hash(path) == wanted

    same = [
        path
        for path in sorted(folder.parent.glob(f"{folder.name}.*"))
        if _description(path).get("identity") == identity
        and not (done_hash(path) and damage(path))
    ]
    if same:
        best = max(same, key=worth)
        best.rename(folder)
        say(f"{folder.name}: settings as in {best.name}, which is taken back")


def _require_length(
    config: Any, folder: pathlib.Path, extend: bool, say: Callable[[str], None]
) -> None:
    """A stage that has begun goes on under another length only when told to."""
    before, now = _description(folder).get("length", {}), lengths(config)
    changed = {key: (before[key], now[key]) for key in now if key in before}
    changed = {key: pair for key, pair in changed.items() if pair[0] != pair[1]}
    begun = done_hash(folder) or next(folder.glob("**/checkpoints/*"), None)
    if not changed or not begun:
        return
    told = ", ".join(f"{key} {old} -> {new}" for key, (old, new) in changed.items())
    if done_hash(folder) and any(new < old for old, new in changed.values()):
        raise InputError(
            f"{folder.name}: is done, {told}: a run can be made longer, not shorter; "
            "take another --workdir"
        )
    if not extend:
        raise InputError(
            f"{folder.name}: has run under another length, {told}: add --extend to go "
            f"on from its last checkpoint{_schedules(config)}"
        )
    say(f"{folder.name}: {told}, from its last checkpoint{_schedules(config)}")


def _schedules(config: Any) -> str:
    """What another length does to the learning rate."""
    kinds = [
        f"{key} {value!r}"
        for key, _, value in leaves(config)
        if key.rpartition(".")[2] == "schedule" and value != "constant"
    ]
    if not kinds:
        return ""
    return (
        f" ({', '.join(kinds)}: the learning rate goes on as that of the new length at "
        "this step, so the result is not that of a run which had it from the start)"
    )
