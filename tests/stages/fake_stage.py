"""A kind of stage that only the tests of the pipeline have."""

import sys
import types

from rlhf_jax.pipeline import experiment as experiments


def install(monkeypatch, config, run):
    """Makes `config` (by its `__module__`) and `run` the stage kind "fake"."""
    module = types.ModuleType(config.__module__)
    module.Config, module.run = config, run
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(experiments.KINDS, "fake", module.__name__)
