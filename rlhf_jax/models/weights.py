"""safetensors files of one directory: names, shapes and slices; every error named."""

import dataclasses
import json
import pathlib
from collections.abc import Iterable

import ml_dtypes
import numpy as np

from rlhf_jax.errors import InputError
from rlhf_jax.storage import read_json

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
DTYPES = {"F64", "F32", "F16", "BF16"}
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.msgpack", "*.h5")


@dataclasses.dataclass(frozen=True)
class Weights:
    """Where each tensor is, and its shape; no tensor is read before it is asked for.

    Attributes:
      directory: of the checkpoint.
      files: tensor name -> file name.
      shapes: tensor name -> shape.
      handles: file name -> open safetensors file.
    """

    directory: pathlib.Path
    files: dict[str, str]
    shapes: dict[str, tuple[int, ...]]
    handles: dict[str, object]

    def where(self, name: str) -> str:
        """The tensor and its file, for errors."""
        return f"{self.directory / self.files[name]}: tensor {name!r}"

    def read(self, name: str, index: tuple[slice, ...] | None = None) -> np.ndarray:
        """A tensor, or only the part of it that `index` names.

        Raises:
          InputError: it holds NaN or infinity.
        """
        handle = self.handles[self.files[name]]
        try:
            if index is None or not self.shapes[name]:
                array = handle.get_tensor(name)
            else:
                array = handle.get_slice(name)[index]
        except Exception as error:  # the library's own class is not public
            raise InputError(f"{self.where(name)}: cannot be read: {error}") from None
        array = np.asarray(array)
        if not np.isfinite(array.astype(np.float32, copy=False)).all():
            raise InputError(f"{self.where(name)}: holds NaN or infinity")
        return array


def open_weights(directory: pathlib.Path) -> Weights:
    """Opens the safetensors file or shards of a directory and reads their headers.

    Raises:
      InputError: no safetensors (pickles are never read), a shard missing, a header
        that is damaged or larger than its file, a tensor of another dtype than
        float, or one that is not where the index says.
    """
    directory = pathlib.Path(directory)
    index = directory / INDEX
    if index.is_file():
        wanted = _index_map(index)
    elif (directory / SINGLE).is_file():
        wanted = None
    else:
        raise InputError(nothing_to_read(directory))
    names = sorted(set(wanted.values())) if wanted else [SINGLE]
    files, shapes, handles = {}, {}, {}
    for name in names:
        handles[name], found = _open(directory / name)
        for tensor, shape in found.items():
            if tensor in files:
                raise InputError(
                    f"{directory / name}: tensor {tensor!r} is in {files[tensor]} too"
                )
            files[tensor], shapes[tensor] = name, shape
    for tensor, name in (wanted or {}).items():
        if files.get(tensor) != name:
            raise InputError(
                f"{directory / name}: no tensor {tensor!r}, which {INDEX} places there"
            )
    return Weights(directory, files, shapes, handles)


def open_file(path: pathlib.Path) -> Weights:
    """Opens one safetensors file by its own name; errors as of `open_weights`."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    handle, shapes = _open(path)
    files = dict.fromkeys(shapes, path.name)
    return Weights(path.parent, files, shapes, {path.name: handle})


def write_file(path: pathlib.Path, tensors: dict[str, np.ndarray]) -> None:
    """Writes one safetensors file, in place of what is there."""
    from safetensors.numpy import save_file

    path.unlink(missing_ok=True)
    path.touch()  # with the mode that the umask says; the library's own is 0600
    mode = path.stat().st_mode
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(mode)


def _open(path: pathlib.Path):
    """(handle, {tensor: shape}) of one file."""
    from safetensors import safe_open

    if not path.is_file():
        raise InputError(f"{path}: shard is missing, {INDEX} names it")
    _check_header(path)
    try:
        handle = safe_open(path, framework="np")
        shapes = {}
        for name in handle.keys():  # noqa: SIM118 (not a mapping)
            part = handle.get_slice(name)
            if part.get_dtype() not in DTYPES:
                raise InputError(
                    f"{path}: tensor {name!r} is {part.get_dtype()}, expected one of "
                    f"{', '.join(sorted(DTYPES))}"
                )
            shapes[name] = tuple(part.get_shape())
    except InputError:
        raise
    except Exception as error:  # the library's own class is not public
        raise InputError(f"{path}: damaged safetensors file: {error}") from None
    return handle, shapes


def _check_header(path: pathlib.Path) -> None:
    """The first 8 bytes are the header's length, which must fit in the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
    length = int.from_bytes(head, "little")
    if len(head) < 8 or length > size - 8:
        raise InputError(
            f"{path}: damaged safetensors file: its header claims {length} bytes, the "
            f"file has {size}"
        )


def _index_map(path: pathlib.Path) -> dict[str, str]:
    raw = read_json(path)
    wanted = raw.get("weight_map")
    if not isinstance(wanted, dict) or not wanted:
        raise InputError(f"{path}: no 'weight_map' of tensor names to files")
    for tensor, name in wanted.items():
        if not isinstance(name, str) or pathlib.PurePath(name).name != name:
            raise InputError(f"{path}: tensor {tensor!r} is in {name!r}, no file name")
    return wanted


def nothing_to_read(directory: pathlib.Path) -> str:
    """Why a directory without safetensors is refused."""
    pickles = sorted(p.name for g in _PICKLES for p in directory.glob(g))
    if pickles:
        return (
            f"{directory}: only {', '.join(pickles[:3])}, which may run code when "
            f"read; expected {SINGLE} (convert with safetensors)"
        )
    return f"{directory}: neither {SINGLE} nor {INDEX}"


def save_weights(
    directory: pathlib.Path, tensors: Iterable[tuple[str, np.ndarray]], shard_bytes: int
) -> None:
    """Writes tensors as one file, or as shards with an index above `shard_bytes`.

    Shards are written as they fill: one of them is in memory at a time. Each file gets
    its name only when it is whole.

    Args:
      directory: must exist.
      tensors: (name, array), in order.
      shard_bytes: most bytes per file.
    """
    drafts: list[tuple[pathlib.Path, list[str]]] = []
    total = 0

    def write(shard):
        draft = directory / f".draft-{len(drafts) + 1}.safetensors"
        write_file(draft, shard)
        drafts.append((draft, list(shard)))

    shard: dict[str, np.ndarray] = {}
    for name, array in tensors:
        array = np.ascontiguousarray(array)
        if shard and sum(a.nbytes for a in shard.values()) + array.nbytes > shard_bytes:
            write(shard)
            shard = {}
        shard[name] = array
        total += array.nbytes
    write(shard)
    for old in [*directory.glob("model*.safetensors"), directory / INDEX]:
        old.unlink(missing_ok=True)
    if len(drafts) == 1:
        drafts[0][0].replace(directory / SINGLE)
        return
    weight_map = {}
    for i, (draft, names) in enumerate(drafts, 1):
        file = f"model-{i:05d}-of-{len(drafts):05d}.safetensors"
        draft.replace(directory / file)
        weight_map |= dict.fromkeys(names, file)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (directory / INDEX).write_text(json.dumps(index, indent=2) + "\n")


def numpy_dtype(name: str) -> np.dtype:
    """ "float32", "float16" or "bfloat16" as numpy's dtype."""
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)
