"""How a stage is run: machine, checkpoints, trackers."""

import dataclasses
from collections.abc import Iterator

from jax.sharding import Mesh

from rlhf_jax.parallel import make_mesh, parse_mesh
from rlhf_jax.schema import one_of, positive

__all__ = ["RunSettings"]


@dataclasses.dataclass
class RunSettings:
    """How to run, not what to compute: nothing here changes a stage's result.

    (But for rounding: another mesh adds in another order.)
    """

    # "auto", "data=2,fsdp=4" or "2,4,1" (data, fsdp, tensor); see parallel.parse_mesh
    mesh: str = "auto"
    # start jax.distributed: "auto" (when a cluster is detected), "on", "off"
    distributed: str = "auto"
    # models that are not trained (references, rewards, policies that only write) are
    # kept in the dtype that they "compute" in: the same numbers in less memory; or in
    # "float32"
    frozen: str = "compute"
    # steps (PPO: iterations) between checkpoints
    save_every: int = 100
    # newest checkpoints kept
    keep_last: int = 2
    # besides, every n-th step's checkpoint is kept for good; None: none
    keep_every: int | None = None
    # steps whose metrics are fetched from the device together
    fetch_every: int = 8
    # updates in a row with non-finite gradients that end the run
    max_skipped: int = 5
    # seconds without a finished step (and no less than 20 of the slowest so far) after
    # which all stacks are dumped and the run ends, to be started again; a first step
    # has four times as many. None: no watchdog
    hang_seconds: float | None = 1800.0
    # write TensorBoard event files beside metrics.jsonl
    tensorboard: bool = True
    # Weights & Biases project; None: not used
    wandb: str | None = None

    def make_mesh(self) -> Mesh:
        """The mesh that these settings describe."""
        return make_mesh(**parse_mesh(self.mesh))

    @property
    def light(self) -> bool:
        """Whether models that are not trained are kept as they compute."""
        return self.frozen == "compute"

    def problems(self) -> Iterator[str]:
        """Values out of range, one line each."""
        for name in ("save_every", "keep_last", "fetch_every", "max_skipped"):
            if getattr(self, name) < 1:
                yield f"{name}: {getattr(self, name)} is not at least 1"
        yield from one_of(self, "frozen", ("compute", "float32"))
        yield from positive(self, "hang_seconds")
