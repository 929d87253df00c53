"""The manifest: what a checkpoint is and the hash of each of its files.

Orbax restores a flipped bit as if nothing had happened, and takes any directory with a
number for a name as a checkpoint. So a step counts only if it has a `MANIFEST.json`,
written last, that vouches for every file beside it and for itself:

    {"format": 1, "step": 300, "meta": {...}, "identity": {...},
     "leaves": {"params/w": "float32[3,4]", ...},
     "files": {"d/0a4b...": [bytes, checksum], ...}, "versions": {...},
     "checksum": of all the above}
"""

import concurrent.futures
import dataclasses
import importlib.metadata
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from rlhf_jax import __version__
from rlhf_jax.checkpoints.hashes import checksum, regular_files
from rlhf_jax.errors import CheckpointError, InputError

NAME = "MANIFEST.json"
FORMAT = 1
_LARGEST = 1 << 28  # bytes; a manifest has about 150 per leaf and file


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The contents of `MANIFEST.json`.

    Attributes:
      step: steps completed.
      meta: what the caller stored.
      identity: what a run must agree with to go on from here.
      leaves: spec of each leaf by path.
      files: (bytes, checksum) of each file by its relative path.
      versions: of the libraries that wrote it.
    """

    step: int
    meta: dict[str, Any]
    identity: dict[str, Any]
    leaves: dict[str, str]
    files: dict[str, tuple[int, str]]
    versions: dict[str, str] = dataclasses.field(default_factory=dict)


def write_manifest(
    directory: pathlib.Path,
    *,
    step: int,
    meta: dict[str, Any],
    identity: dict[str, Any],
    leaves: dict[str, str],
) -> Manifest:
    """Hashes every file of `directory` and writes the manifest, all synced to disk.

    Returns:
      The manifest.
    """
    names = sorted(regular_files(directory))
    paths = [directory / name for name in names]
    sizes = [path.stat().st_size for path in paths]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:  # hashing frees the GIL
        sums = list(pool.map(lambda path: checksum(path, sync=True), paths))
    files = dict(zip(names, zip(sizes, sums, strict=True), strict=True))
    manifest = Manifest(step, meta, identity, leaves, files, _versions())
    for folder in {path.parent for path in paths}:
        sync_directory(folder)
    partial = directory / f".{NAME}.partial"
    with open(partial, "wb") as file:
        file.write(_encoded(manifest))
        file.flush()
        os.fsync(file.fileno())
    os.rename(partial, directory / NAME)
    sync_directory(directory)
    return manifest


def read_manifest(directory: pathlib.Path) -> Manifest:
    """Reads and checks the manifest alone.

    Raises:
      CheckpointError: it is absent or not exactly as it was written.
    """
    path = directory / NAME
    if directory.is_symlink() or path.is_symlink():
        raise CheckpointError(f"{path}: a symbolic link")
    try:
        if path.stat().st_size > _LARGEST:
            raise CheckpointError(f"{path}: larger than any manifest")
        data = path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"{path}: absent") from None
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None
    try:
        fields = json.loads(data)
        fields.pop("checksum")
        if fields.pop("format") != FORMAT:
            raise CheckpointError(f"{path}: of a format that this version cannot read")
        files = {name: (size, sums) for name, (size, sums) in fields["files"].items()}
        manifest = Manifest(**{**fields, "files": files})
        intact = _encoded(manifest) == data
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        intact = False
    if not intact:
        raise CheckpointError(f"{path}: damaged")
    return manifest


def damage(
    directory: pathlib.Path, manifest: Manifest, *, hashes: bool = True
) -> str | None:
    """What is wrong with the files of a checkpoint, naming the first bad one.

    Only files found by walking `directory` are opened, never a path out of the
    manifest; links are refused.

    Args:
      directory: the checkpoint.
      manifest: its manifest.
      hashes: read all bytes; else only names and sizes are compared.

    Returns:
      One sentence, or None when all is well.
    """
    try:
        found = set(regular_files(directory)) - {NAME}
        if missing := sorted(set(manifest.files) - found):
            return f"{directory / missing[0]}: absent"
        if foreign := sorted(found - set(manifest.files)):
            return f"{directory / foreign[0]}: not in the manifest"
        for name in sorted(found):
            size, expected = (directory / name).stat().st_size, manifest.files[name][0]
            if size != expected:
                return f"{directory / name}: {size} bytes instead of {expected}"
        return _changed(directory, manifest) if hashes else None
    except InputError as error:
        return str(error)
    except OSError as error:
        return f"{error.filename or directory}: {error.strerror}"


def _changed(directory: pathlib.Path, manifest: Manifest) -> str | None:
    names = sorted(manifest.files)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        sums = pool.map(lambda name: checksum(directory / name), names)
        for name, found in zip(names, sums, strict=True):
            if found != manifest.files[name][1]:
                return f"{directory / name}: its bytes have changed"
    return None


def as_json(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What JSON gives back for `settings`; InputError where it cannot hold them."""
    try:
        return json.loads(json.dumps(settings, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} of a checkpoint must be JSON: {error}") from error


def sync_directory(directory: pathlib.Path) -> None:
    """Forces the names in a directory to the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _encoded(manifest: Manifest) -> bytes:
    import xxhash

    fields = {"format": FORMAT} | dataclasses.asdict(manifest)
    body = json.dumps(fields, sort_keys=True, allow_nan=False)
    fields["checksum"] = xxhash.xxh3_128_hexdigest(body.encode())
    return json.dumps(fields, sort_keys=True, indent=1, allow_nan=False).encode()


def _versions() -> dict[str, str]:
    names = ("jax", "orbax-checkpoint", "numpy")
    found = {name: importlib.metadata.version(name) for name in names}
    return {"rlhf_jax": __version__} | found  # a checkout is not installed
