"""The embedded world as files: the first stage of a run that needs no download."""

import dataclasses
import json
import pathlib
from collections.abc import Iterator

from rlhf_jax import simulation
from rlhf_jax.schema import at_least
from rlhf_jax.storage import write_text
from rlhf_jax.training.session import RunSettings


@dataclasses.dataclass
class Config:
    """Settings of the embedded world."""

    # of the world and of everything drawn from it; the experiment's seed leaves it be
    world_seed: int = 0
    # rows of a set, where they are not simulation.SIZES
    sizes: dict[str, int] = dataclasses.field(default_factory=dict)
    # pieces of the tokenizer
    vocab_size: int = simulation.VOCAB_SIZE

    def problems(self) -> Iterator[str]:
        """What cannot work, one line each."""
        yield from at_least(self, 258, "vocab_size")  # the bytes, pad and end
        for name, count in self.sizes.items():
            if count < 0:
                yield f"sizes: {count} rows of {name!r} is not at least 0"
            if name not in simulation.SIZES:
                yield f"sizes: no set {name!r}; there are {', '.join(simulation.SIZES)}"


def run(
    config: Config, workdir: str | pathlib.Path, settings: RunSettings | None = None
) -> pathlib.Path:
    """Writes `<set>.jsonl`, `<set>.<split>.jsonl` and `tokenizer/`."""
    del settings
    workdir = pathlib.Path(workdir)
    paths = simulation.write(
        workdir, config.world_seed, config.sizes, vocab_size=config.vocab_size
    )
    for name, path in paths.items():
        if name != "tokenizer":
            _write_splits(path)
    return workdir


def _write_splits(path: pathlib.Path) -> None:
    rows: dict[str, list[str]] = {}
    with path.open(encoding="utf-8") as file:
        for line in file:
            split = json.loads(line).get("split")
            if split is not None:
                rows.setdefault(split, []).append(line)
    for split, lines in rows.items():
        target = path.with_suffix(f".{split}.jsonl")
        write_text(target, "".join(lines))
