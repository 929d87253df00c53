"""Every file of a finished run flipped, cut, emptied, deleted, exchanged and linked."""

import os
import pathlib
import shutil
from collections.abc import Callable, Iterator

import asking
import numpy as np
from outcomes import Outcomes

from rlhf_jax.checkpoints.catalogue import Catalogue


class Victim:
    """A finished run that is damaged and made whole again.

    Attributes:
      whole: the run as it was; never touched.
      run: a copy that is.
      files: relative names of all its files, sorted.
    """

    def __init__(self, whole: pathlib.Path, run: pathlib.Path):
        self.whole, self.run = whole, run
        self.files = sorted(
            path.relative_to(whole).as_posix()
            for path in whole.rglob("*")
            if path.is_file()
        )
        markers = sorted(whole.rglob("model.json"))
        self.models = {
            path.parent.relative_to(whole).as_posix(): asking.loaded(path.parent)
            for path in markers
        }
        self.steps = {
            path.relative_to(whole).as_posix(): Catalogue(path).newest()
            for path in sorted(whole.rglob("checkpoints"))
        }
        self.restore()
        asking.run_again(self.run)
        asking.make_reports(self.run)
        self.pages = asking.read_pages(self.run)

    def restore(self) -> None:
        """The copy is whole again."""
        shutil.rmtree(self.run, ignore_errors=True)
        shutil.copytree(self.whole, self.run)

    def judged(self, name: str) -> str:
        """What the commands say of the run, one file of which was damaged."""
        for model, before in self.models.items():
            if name.startswith(f"{model}/"):
                found = asking.load(self.run / model, before)
                if found == "SILENT":
                    return found
        for folder, step in self.steps.items():
            if name.startswith(f"{folder}/"):
                return asking.resume(self.run / folder, step)
        if found := asking.run_again(self.run):
            return found
        path = self.run / name
        if path.is_file() and path.read_bytes() == (self.whole / name).read_bytes():
            return "rewritten"
        if name.startswith(asking.NO_INPUT):
            return "no input"
        return self._rewritten_by_report(name)

    def _rewritten_by_report(self, name: str) -> str:
        found = asking.report(self.run, self.pages)
        rewritten = found == "same" and name in self.pages
        return "rewritten" if rewritten else "SILENT" if found == "same" else found


def flipped(victim: Victim, name: str, rng: np.random.Generator) -> bool:
    """One bit of a file; False where it has none."""
    path = victim.run / name
    data = bytearray(path.read_bytes())
    if not data:
        return False
    place = int(rng.integers(len(data)))
    data[place] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)
    return True


def truncated(victim: Victim, name: str, rng: np.random.Generator) -> bool:
    """The end of a file is gone."""
    path = victim.run / name
    size = path.stat().st_size
    if size < 2:
        return False
    os.truncate(path, int(rng.integers(1, size)))
    return True


def emptied(victim: Victim, name: str, rng: np.random.Generator) -> bool:
    """Nothing is left of a file."""
    if not (victim.run / name).stat().st_size:
        return False
    os.truncate(victim.run / name, 0)
    return True


def deleted(victim: Victim, name: str, rng: np.random.Generator) -> bool:
    """A file is gone."""
    (victim.run / name).unlink()
    return True


def swapped(victim: Victim, name: str, rng: np.random.Generator) -> bool:
    """Another file of its name, of another step or stage, stands in its place."""
    mine = (victim.whole / name).read_bytes()
    others = [
        other
        for other in victim.files
        if pathlib.PurePath(other).name == pathlib.PurePath(name).name
        and (victim.whole / other).read_bytes() != mine
    ]
    if not others:
        return False
    shutil.copyfile(victim.whole / str(rng.choice(others)), victim.run / name)
    return True


def linked(victim: Victim, name: str, rng: np.random.Generator) -> bool:
    """A link to the same bytes elsewhere stands in its place."""
    (victim.run / name).unlink()
    (victim.run / name).symlink_to(victim.whole / name)
    return True


ATTACKS: dict[str, Callable] = {
    "flip": flipped,
    "truncate": truncated,
    "empty": emptied,
    "delete": deleted,
    "swap": swapped,
    "link": linked,
}


def attack(
    victim: Victim, outcomes: Outcomes, *, flips: int, count: int | None, seed: int
) -> None:
    """Makes all attacks.

    Args:
      victim: the run.
      outcomes: gets them.
      flips: single bits, spread over all files.
      count: files of each other attack; None: every file.
      seed: of the places.
    """
    rng = np.random.default_rng(seed)
    for kind, damage in ATTACKS.items():
        for name in _names(victim.files, flips if kind == "flip" else count, rng):
            if not damage(victim, name, rng):
                continue
            try:
                outcomes.add(kind, victim.judged(name), name)
            except Exception as error:  # whatever is no error of ours
                outcomes.add(kind, "TRACEBACK", f"{name}: {error!r}")
            victim.restore()
    _swap_models(victim, outcomes)


def _names(
    files: list[str], count: int | None, rng: np.random.Generator
) -> Iterator[str]:
    """`count` names, each file about as often; None: each once."""
    if count is None:
        yield from files
        return
    for start in range(0, count, len(files)):
        for place in rng.permutation(len(files))[: count - start]:
            yield files[place]


def _swap_models(victim: Victim, outcomes: Outcomes) -> None:
    """The parameters, or the tokenizer, of one model in the directory of another."""
    models = list(victim.models)
    for mine, other in zip(models, models[1:] + models[:1], strict=True):
        for part in ("params", "tokenizer", "model.json"):
            source, target = victim.whole / other / part, victim.run / mine / part
            if part == "model.json":
                shutil.copyfile(source, target)
            else:
                shutil.rmtree(target)
                shutil.copytree(source, target)
            if part == "tokenizer" and _same(source, victim.whole / mine / part):
                continue
            found = asking.load(victim.run / mine, victim.models[mine])
            outcomes.add(f"swap {part}", found, f"{mine} gets that of {other}")
            victim.restore()


def _same(one: pathlib.Path, other: pathlib.Path) -> bool:
    return all(
        path.read_bytes() == (other / path.name).read_bytes() for path in one.iterdir()
    )
