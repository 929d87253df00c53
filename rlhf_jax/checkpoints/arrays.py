"""Arrays on disk: the only file that knows Orbax.

`AsyncCheckpointer` writes and reads the arrays. `CheckpointManager` on top of it is
not used: it takes any directory with a number for a name as a checkpoint, drops a save
of a step that failed before without a word, and deletes old steps before our manifest
of the new one exists. Steps, retention and verification are in store.py.
"""

import logging
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from rlhf_jax.checkpoints.leaves import is_key, nested

_TIMEOUT = 3600  # seconds for one save; Orbax gives up after 600


class ArrayFiles:
    """Writes a flat table of arrays to a directory, one save in flight at a time."""

    def __init__(self) -> None:
        self._orbax: Any = None

    def write(self, path: pathlib.Path, leaves: Mapping[str, Any]) -> None:
        """Copies the leaves to the host and writes them in the background.

        When it returns, the caller may change or donate the leaves. `path` appears
        once all is written.
        """
        import orbax.checkpoint as ocp

        stored = {name: _storable(leaf) for name, leaf in leaves.items()}
        tree = nested({name: leaf for name, leaf in stored.items() if leaf.size})
        self._checkpointer().save(path, args=ocp.args.PyTreeSave(tree))

    def wait(self) -> None:
        """Waits for the save in flight; raises what it raised."""
        if self._orbax is not None:
            self._orbax.wait_until_finished()

    def check(self, path: pathlib.Path, leaves: Mapping[str, Any]) -> None:
        """Raises OSError where the leaves are not all on disk in their shapes."""
        tree = self._checkpointer().metadata(path).item_metadata.tree
        pairs, _ = jax.tree_util.tree_flatten_with_path(tree)
        found = {
            jax.tree_util.keystr(keys, simple=True, separator="/"): leaf.shape
            for keys, leaf in pairs
        }
        forms = {name: _stored_form(leaf) for name, leaf in leaves.items()}
        for name, form in forms.items():
            if form.size and found.get(name) != form.shape:
                raise OSError(None, f"leaf {name} did not reach the disk")

    def read(self, path: pathlib.Path, like: Mapping[str, Any]) -> dict[str, Any]:
        """Reads leaves by path, each with the dtype and sharding of `like`.

        Args:
          path: a directory written by `write`.
          like: by path, arrays or `jax.ShapeDtypeStruct`s (placed as their sharding
            says, on the first local device without one), or numpy arrays and numbers
            (kept on the host). Leaves on disk that it lacks are not read.

        Raises:
          ValueError: a leaf is not there, or has another shape.
        """
        import orbax.checkpoint as ocp

        forms = {name: _stored_form(leaf) for name, leaf in like.items()}
        stored = {name: form for name, form in forms.items() if form.size}
        args = {name: _restore_args(form) for name, form in stored.items()}
        tree = self._checkpointer().restore(
            path,
            args=ocp.args.PyTreeRestore(
                item=nested(stored), restore_args=nested(args), partial_restore=True
            ),
        )
        for name, form in stored.items():  # Orbax passes over what is not there
            found = _at(tree, name)
            if isinstance(found, jax.ShapeDtypeStruct) or found.shape != form.shape:
                raise ValueError(f"leaf {name} is not on disk as its manifest says")
        return {
            name: _as(_at(tree, name) if name in stored else _empty(forms[name]), leaf)
            for name, leaf in like.items()
        }

    def close(self) -> None:
        """Waits and lets go of threads."""
        if self._orbax is not None:
            self._orbax.close()
            self._orbax = None

    def _checkpointer(self) -> Any:
        if self._orbax is None:
            import orbax.checkpoint as ocp

            _silence_echoes()
            # made here and now: threads that wait for a directory which cannot be made
            # would hold the process for minutes after the error
            now = ocp.options.AsyncOptions(create_directories_asynchronously=False)
            self._orbax = ocp.AsyncCheckpointer(
                ocp.PyTreeCheckpointHandler(), timeout_secs=_TIMEOUT, async_options=now
            )
        return self._orbax


def _storable(leaf: Any) -> Any:
    """What Orbax gets: key data for keys, own copies of what numpy holds."""
    if is_key(leaf):
        return jax.random.key_data(leaf)
    return leaf if isinstance(leaf, jax.Array) else np.array(leaf)


def _stored_form(leaf: Any) -> Any:
    """Shape, dtype and sharding on disk of what `leaf` describes."""
    if not isinstance(leaf, (jax.Array, jax.ShapeDtypeStruct)):
        return np.asarray(leaf)
    shape, dtype = leaf.shape, leaf.dtype
    if is_key(leaf):
        data = jax.eval_shape(jax.random.key_data, jax.ShapeDtypeStruct(shape, dtype))
        shape, dtype = data.shape, data.dtype
    sharding = getattr(leaf, "sharding", None)
    if sharding is None:
        sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def _restore_args(leaf: Any) -> Any:
    import orbax.checkpoint as ocp

    if isinstance(leaf, np.ndarray):
        return ocp.RestoreArgs(restore_type=np.ndarray, dtype=leaf.dtype)
    return ocp.ArrayRestoreArgs(
        sharding=leaf.sharding, global_shape=leaf.shape, dtype=leaf.dtype
    )


def _empty(form: Any) -> Any:
    """An array without elements; Orbax stores none."""
    if isinstance(form, np.ndarray):
        return form
    return jax.device_put(np.zeros(form.shape, form.dtype), form.sharding)


def _at(tree: Any, name: str) -> Any:
    for part in name.split("/"):
        tree = tree[part]
    return tree


def _as(value: Any, like: Any) -> Any:
    """`value` in the Python type of `like`."""
    if is_key(like):
        return jax.random.wrap_key_data(value, impl=_implementation(like))
    if isinstance(like, (jax.Array, jax.ShapeDtypeStruct)):
        return value
    value = np.asarray(value)
    if isinstance(like, np.generic):  # before float: np.float64 is one
        return value[()]
    return value if isinstance(like, np.ndarray) else type(like)(value.item())


def _implementation(like: Any) -> Any:
    """The PRNG of a key, also of one that is only described."""
    found = []
    described = jax.ShapeDtypeStruct(like.shape, like.dtype)
    jax.eval_shape(lambda key: found.append(jax.random.key_impl(key)), described)
    return found[0]


def _silence_echoes() -> None:
    """Keeps what Orbax prints about an error that it also raises off the screen.

    A failed write is logged with its traceback by each thread it passes, and callbacks
    that come after the end of their event loop print one each. The error itself
    reaches the caller, who gets one message.
    """
    log = logging.getLogger("absl")
    if _is_no_echo not in log.filters:
        log.addFilter(_is_no_echo)
    if not getattr(sys.unraisablehook, "drops_echoes", False):
        before = sys.unraisablehook

        def hook(unraisable: Any) -> None:
            if str(unraisable.exc_value) != "Event loop is closed":
                before(unraisable)

        hook.drops_echoes = True
        sys.unraisablehook = hook


def _is_no_echo(record: logging.LogRecord) -> bool:
    return not (record.exc_info and "orbax" in record.pathname)
