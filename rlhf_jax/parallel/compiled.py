"""The production driver: one `jax.jit` program per batch shape, on any mesh.

Programs are traced with the mesh in force (`in_force`), so that rows stay rows: each
device computes its rows of the batch, and what travels are weights and gradients.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from rlhf_jax.layouts import kept_rows
from rlhf_jax.parallel.feeding import check_batch, put_batch
from rlhf_jax.parallel.mesh import in_force
from rlhf_jax.parallel.sharding import (
    DEFAULT_RULES,
    Rules,
    mesh_of,
    placed,
    shardings,
)

Update = Callable[..., tuple[Any, Any]]


@dataclasses.dataclass
class CompiledFunction:
    """`(params, batch) -> rows`, compiled ahead of time per batch shape.

    Attributes:
      mesh: where it runs; None: where the params lie, each time.
      rules: the sharding of the params.
      programs: one executable per batch shape, as for `CompiledUpdate`.
    """

    function: Callable[[Any, Any], Any]
    mesh: Mesh | None = None
    rules: Rules = DEFAULT_RULES
    programs: dict[Any, jax.stages.Compiled] = dataclasses.field(default_factory=dict)
    elsewhere: dict[Mesh, "CompiledFunction"] = dataclasses.field(default_factory=dict)

    def __call__(self, params: Any, batch: Any) -> Any:
        if self.mesh is None:
            return self._on(mesh_of(params))(params, batch)
        params = placed(params, self.mesh, self.rules)
        batch = put_batch(batch, self.mesh)
        return self.compiled(params, batch)(params, batch)

    def compiled(self, params: Any, batch: Any) -> jax.stages.Compiled:
        """The executable for these shapes; arrays or shapes will do."""
        return _compiled(self, self._rows, (), params, batch)

    def traced(self, params: Any, batch: Any) -> jax.stages.Traced:
        """The program before it is compiled; see `CompiledUpdate.traced`."""
        return _traced(self, self._rows, (), params, batch)

    def _on(self, mesh: Mesh) -> "CompiledFunction":
        if mesh not in self.elsewhere:
            self.elsewhere[mesh] = CompiledFunction(self.function, mesh, self.rules)
        return self.elsewhere[mesh]

    def _rows(self, params: Any, batch: Any) -> Any:
        return jax.tree.map(kept_rows, self.function(params, batch))


@dataclasses.dataclass
class CompiledUpdate:
    """`(state, batch, frozen) -> (state, metrics)`, compiled per batch shape.

    The state that goes in is donated: its buffers hold the state that comes out, so
    the caller must not use the old one again. A batch of numpy arrays is put on the
    mesh first (the whole global batch in every process, see `put_batch`).

    Attributes:
      mesh: where it runs.
      rules: the sharding of the state, and of frozen params.
      programs: one executable per batch shape; its length is the number of
        compilations, and its `memory_analysis()` the plan of a run's memory.
    """

    update: Update
    mesh: Mesh
    rules: Rules
    donate: bool = True
    programs: dict[Any, jax.stages.Compiled] = dataclasses.field(default_factory=dict)

    def __call__(self, state: Any, batch: Any, frozen: Any = None) -> tuple[Any, Any]:
        if not self.programs:  # later states are our own results, placed already
            state = self.place(state)
        args = (state, put_batch(batch, self.mesh))
        if frozen is not None:
            args = (*args, self.place(frozen))
        return self.compiled(*args)(*args)

    def place(self, tree: Any) -> Any:
        """A state or params laid out by the rules (the same arrays where they are)."""
        return placed(tree, self.mesh, self.rules)

    def compiled(
        self, state: Any, batch: Any, frozen: Any = None
    ) -> jax.stages.Compiled:
        """The executable for this shape of batch; arrays or shapes will do."""
        args = (state, batch) if frozen is None else (state, batch, frozen)
        return _compiled(self, self._step, (0,) if self.donate else (), *args)

    def traced(self, state: Any, batch: Any, frozen: Any = None) -> jax.stages.Traced:
        """The program for these shapes before it is compiled, to be counted."""
        args = (state, batch) if frozen is None else (state, batch, frozen)
        return _traced(self, self._step, (0,) if self.donate else (), *args)

    @property
    def compilations(self) -> int:
        """How many programs were compiled: one per bucket of batch lengths."""
        return len(self.programs)

    def _step(self, state: Any, batch: Any, *frozen: Any) -> tuple[Any, Any]:
        state, metrics = self.update(state, batch, *frozen)
        places = shardings(state, self.mesh, self.rules)
        return jax.lax.with_sharding_constraint(state, places), metrics


def compile_update(
    update: Update, mesh: Mesh, rules: Rules = DEFAULT_RULES, *, donate: bool = True
) -> CompiledUpdate:
    """Compiles a pure update for a mesh.

    Args:
      update: `(state, batch) -> (state, metrics)`, or `(state, batch, frozen)`, such
        as `make_update` gives.
      mesh: the mesh, `make_mesh(...)`.
      rules: where each leaf of the state, and of the frozen params, lives.
      donate: reuse the buffers of the state that goes in.

    Returns:
      A callable like `update`. It raises InputError for a batch whose rows cannot be
      cut over the mesh: each device would have to compute all of them.
    """
    return CompiledUpdate(update, mesh, rules, donate)


def compile_function(
    function: Callable[[Any, Any], Any],
    mesh: Mesh | None = None,
    rules: Rules = DEFAULT_RULES,
) -> CompiledFunction:
    """Compiles what models say about a batch: assessment, perplexity, scores.

    Args:
      function: pure `(params, batch) -> tree`; what each row of the batch gets has a
        leading axis of rows. Params are arguments, never part of the function: a
        model in a closure would be a constant of the program.
      mesh: the mesh, `make_mesh(...)`; None: where the params of a call lie.
      rules: where each leaf of the params lives.

    Returns:
      A callable like `function`: params are laid out by the rules (no copy where they
      are; `placed` lays them out once for many calls), a batch of numpy arrays or of
      arrays elsewhere is put on the mesh, and results lie as the batch does. Rows
      that cannot be cut raise InputError.
    """
    return CompiledFunction(function, mesh, rules)


def _compiled(owner: Any, function: Callable, donated: tuple, *args: Any):
    """The owner's program for these arguments: params or a state, a batch, more."""
    # a state is always of one shape; params may be kept in another dtype
    leaves, tree = jax.tree.flatten(args[1:] if donated else args)
    key = (tree, tuple((leaf.shape, leaf.dtype.name) for leaf in leaves))
    if key not in owner.programs:
        traced = _traced(owner, function, donated, *args)
        with in_force(owner.mesh):
            owner.programs[key] = traced.lower().compile()
    return owner.programs[key]


def _traced(owner: Any, function: Callable, donated: tuple, *args: Any):
    check_batch(args[1], owner.mesh)
    with in_force(owner.mesh):
        return jax.jit(function, donate_argnums=donated).trace(*args)
