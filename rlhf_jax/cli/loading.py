"""The models that commands are given by name; no command itself."""

import pathlib

from rlhf_jax.errors import InputError


def load_named(name: str, *, dtype: str | None = None):
    """Reads whatever a command line may name as a model.

    Args:
      name: the directory of a stage or of a model of `rlhf-jax run`, of an ensemble of
        reward models, a transformers-compatible directory, or a hub name.
      dtype: compute dtype to use instead of the stored one; not for an ensemble.

    Returns:
      A `LoadedModel`; of an ensemble, its model is an `Ensemble`.

    Raises:
      InputError: nothing there, or not a model.
      CheckpointError: the parameters are damaged.
    """
    from rlhf_jax.registry import ensemble
    from rlhf_jax.registry import model_directory as hand_over

    directory = hand_over.model_directory(name)
    if (pathlib.Path(directory) / hand_over.ENSEMBLE).is_file():
        if dtype is not None:
            raise InputError(f"{name}: --dtype is not for an ensemble")
        return ensemble.load_reward(directory)
    return hand_over.load_model(directory, dtype=dtype)
