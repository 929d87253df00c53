"""Strict surroundings: 8 CPU devices, typed keys, no silent rank promotion.

Must run before the first use of jax, so it sets the environment at import.
"""

import os
import pathlib

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_FLAG = "--xla_force_host_platform_device_count=8"
if _FLAG not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAG}".strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_ROOT / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import jax  # noqa: E402
import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

# No doctests in them, and two of one name could not be collected together.
collect_ignore_glob = ["conftest.py", "*/conftest.py"]

# Asking also fixes the number, whatever a module does to the environment later.
if jax.default_backend() == "cpu" and jax.device_count() != 8:
    pytest.exit(f"the tests need 8 virtual devices, found {jax.devices()}", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_legacy_prng_key", "error")

settings.register_profile(
    "default",
    deadline=None,
    max_examples=25,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("default")


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """The folder of real data beside the project; the test skips where it is absent."""
    folder = pathlib.Path(os.environ.get("RLHF_JAX_DATA", _ROOT.parent / "shared/data"))
    if not folder.is_dir():
        pytest.skip(
            f"real data is absent: set RLHF_JAX_DATA (looked in {folder.name}/)"
        )
    return folder
