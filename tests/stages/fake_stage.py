"""A kind of stage that only the tests of the pipeline have."""

import sys
import types

from rlhf_jax import stages
from rlhf_jax.pipeline import experiment as experiments

MODULE = "rlhf_jax.stages.fake"


def install(monkeypatch, config, run):
    """Makes `config` and `run` the stage kind "fake"."""
    module = types.ModuleType(MODULE)
    module.Config, module.run = config, run
    monkeypatch.setattr(config, "__module__", MODULE)
    monkeypatch.setitem(sys.modules, MODULE, module)
    for room in (stages, experiments):
        monkeypatch.setattr(room, "KINDS", (*stages.KINDS, "fake"))
