"""The production driver: one `jax.jit` program per batch shape, on any mesh."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from rlhf_jax.parallel.feeding import put_batch
from rlhf_jax.parallel.sharding import DEFAULT_RULES, Rules, shardings

Update = Callable[[Any, Any], tuple[Any, Any]]


@dataclasses.dataclass
class CompiledUpdate:
    """`(state, batch) -> (state, metrics)`, compiled ahead of time per batch shape.

    The state that goes in is donated: its buffers hold the state that comes out, so
    the caller must not use the old one again. A batch of numpy arrays is put on the
    mesh first (the whole global batch in every process, see `put_batch`).

    Attributes:
      mesh: where it runs.
      rules: the sharding of the state.
      programs: one executable per batch shape; its length is the number of
        compilations, and its `memory_analysis()` the plan of a run's memory.
    """

    update: Update
    mesh: Mesh
    rules: Rules
    donate: bool = True
    programs: dict[Any, jax.stages.Compiled] = dataclasses.field(default_factory=dict)

    def __call__(self, state: Any, batch: Any) -> tuple[Any, Any]:
        if not self.programs:  # later states are our own results, placed already
            state = self.place(state)
        batch = put_batch(batch, self.mesh)
        return self.compiled(state, batch)(state, batch)

    def place(self, state: Any) -> Any:
        """`state` laid out by the rules (the same arrays where it already is)."""
        return jax.device_put(state, shardings(state, self.mesh, self.rules))

    def compiled(self, state: Any, batch: Any) -> jax.stages.Compiled:
        """The executable for this shape of batch; arrays or shapes will do."""
        leaves, tree = jax.tree.flatten(batch)
        key = (tree, tuple((leaf.shape, leaf.dtype.name) for leaf in leaves))
        if key not in self.programs:
            donated = (0,) if self.donate else ()
            step = jax.jit(self._step, donate_argnums=donated)
            self.programs[key] = step.lower(state, batch).compile()
        return self.programs[key]

    @property
    def compilations(self) -> int:
        """How many programs were compiled: one per bucket of batch lengths."""
        return len(self.programs)

    def _step(self, state: Any, batch: Any) -> tuple[Any, Any]:
        state, metrics = self.update(state, batch)
        places = shardings(state, self.mesh, self.rules)
        return jax.lax.with_sharding_constraint(state, places), metrics


def compile_update(
    update: Update, mesh: Mesh, rules: Rules = DEFAULT_RULES, *, donate: bool = True
) -> CompiledUpdate:
    """Compiles a pure update for a mesh.

    Args:
      update: `(state, batch) -> (state, metrics)`, such as `make_update` gives.
      mesh: the mesh, `make_mesh(...)`.
      rules: where each leaf of the state lives.
      donate: reuse the buffers of the state that goes in.

    Returns:
      A callable like `update`.
    """
    return CompiledUpdate(update, mesh, rules, donate)
