"""Stricter than elsewhere: no silent dtype promotion, and shapes checked at run time.

The checker wraps the public names of `rlhf_jax.losses` for the tests of this folder
only, whoever imported the module first. Tests reach a loss as `losses.name`; what a
person without the checker sees is tested through the fixture `unchecked`.
"""

import inspect
import types

import beartype
import jax
import jaxtyping
import pytest

from rlhf_jax import losses

_PUBLIC = {
    name: getattr(losses, name)
    for name in losses.__all__
    if inspect.isfunction(getattr(losses, name))
}


@pytest.fixture(scope="module", autouse=True)
def strict_dtypes():
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture(scope="module", autouse=True)
def checked_shapes():
    with pytest.MonkeyPatch.context() as patch:
        for name, function in _PUBLIC.items():
            checked = jaxtyping.jaxtyped(function, typechecker=beartype.beartype)
            patch.setattr(losses, name, checked)
        yield


@pytest.fixture(scope="session")
def unchecked() -> types.SimpleNamespace:
    """The losses as a person calls them, without the run-time checker."""
    return types.SimpleNamespace(**_PUBLIC)
