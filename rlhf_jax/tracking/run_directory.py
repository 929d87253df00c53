"""Where a run came from: config, overrides, versions, git revision, data hashes."""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
from collections.abc import Collection, Mapping
from typing import Any

import jax

from rlhf_jax.checkpoints.hashes import tree_hash
from rlhf_jax.checkpoints.preflight import check_identity
from rlhf_jax.errors import InputError
from rlhf_jax.storage import write_json

PACKAGES = (
    "rlhf_jax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "transformers",
    "tokenizers",
    "safetensors",
)


class RunDirectory:
    """A run's directory and the two files that say what it is.

    config.json      the resolved config
    provenance.json  hashes of the data and of the checkpoints it starts from; and for
                     each start: time, command, overrides, versions, revision, devices
    """

    def __init__(self, path: str | os.PathLike):
        """Args:
        path: the directory; made by `begin`.
        """
        self.path = pathlib.Path(path)

    def begin(
        self,
        config: Mapping[str, Any],
        *,
        overrides: Collection[str] = (),
        data: Mapping[str, str | os.PathLike] | None = None,
        contents: Mapping[str, str] | None = None,
        parents: Mapping[str, str] | None = None,
        override: Collection[str] = (),
    ) -> dict[str, Any]:
        """Writes down a start of the run; a second start must be the same run.

        Args:
          config: the resolved config, JSON types.
          overrides: what was changed on the command line, "ppo.kl_coef=0.05".
          data: files or directories by name; their contents are hashed.
          contents: hashes of other data by name.
          parents: hashes of the checkpoints it starts from, by name.
          override: dotted keys ("config.steps", "data.train") that may differ from
            the start before.

        Returns:
          The contents of provenance.json.

        Raises:
          InputError: config, data or parents differ from the start before; lists them.
        """
        identity = {
            "config": json.loads(json.dumps(config)),
            "data": {name: tree_hash(path) for name, path in (data or {}).items()}
            | dict(contents or {}),
            "parents": dict(parents or {}),
        }
        before = self.provenance()
        if before:
            kept = {"data": before["data"], "parents": before["parents"]}
            saved = {"config": self._read("config.json")} | kept
            check_identity(self.path, saved, identity, override)
        provenance = {
            "data": identity["data"],
            "parents": identity["parents"],
            "starts": [*before.get("starts", ()), _this_start(overrides)],
        }
        self._write("config.json", identity["config"])
        self._write("provenance.json", provenance)
        return provenance

    def provenance(self) -> dict[str, Any]:
        """The contents of provenance.json; empty before the first start."""
        return self._read("provenance.json")

    def _read(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            return json.loads(path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: not readable: {error}") from error

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.path / name}: {error.strerror}") from error
        write_json(self.path / name, content, sort_keys=True)


def _this_start(overrides: Collection[str]) -> dict[str, Any]:
    devices = jax.devices()
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "overrides": list(overrides),
        "revision": revision(pathlib.Path(__file__).parent),
        "versions": versions(),
        "devices": f"{len(devices)} x {devices[0].device_kind}",
        "processes": jax.process_count(),
    }


def versions() -> dict[str, str]:
    """Versions of Python, of the system and of the libraries that numbers depend on."""
    found = {"python": platform.python_version(), "system": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def revision(directory: pathlib.Path) -> str | None:
    """The git commit of a directory, "+changes" where files differ from it.

    None where there is no git or no repository.
    """

    def git(*command: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(directory), *command],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
        return done.stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no", ".")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}+changes" if changed else commit
