"""Directories that hold something else than a model's weights, told by their files."""

import pathlib

from rlhf_jax.errors import InputError
from rlhf_jax.models.weights import INDEX, SINGLE, nothing_to_read, read_json

ADAPTER = "adapter_config.json"
# (files, what they are, what to do); the first that is there is named
_KINDS = (
    ("*.gguf", "a GGUF file of llama.cpp", "expected the checkpoint it was made from"),
    (
        "consolidated*",
        "weights in their maker's own layout",
        "convert with transformers",
    ),
    ("*.nemo", "a NeMo checkpoint", "convert with transformers"),
    ("model_index.json", "a diffusers pipeline", "expected a language model"),
)


def refuse_foreign(path: pathlib.Path) -> None:
    """Refuses a directory without a model's own weights, and says what it is.

    Args:
      path: of the directory.

    Raises:
      InputError: an adapter, quantised weights, or another program's format.
    """
    whole = any((path / name).is_file() for name in (INDEX, SINGLE))
    if (path / ADAPTER).is_file() and not whole:
        about = read_json(path / ADAPTER)
        kind, base = (
            about.get("peft_type", "PEFT"),
            about.get("base_model_name_or_path"),
        )
        raise InputError(
            f"{path}: an adapter ({kind}) of the model {base!r}, not a model: merge it "
            "into that one (merge_and_unload of peft) and save the result"
        )
    if (path / "config.json").is_file():
        _refuse_quantised(path)
    if whole:
        return
    for pattern, what, instead in _KINDS:
        found = sorted(file.name for file in path.glob(pattern))
        if found:
            raise InputError(f"{path}: {found[0]} is {what}: {instead}")
    if (path / "config.json").is_file():
        raise InputError(nothing_to_read(path))


def _refuse_quantised(path: pathlib.Path) -> None:
    about = read_json(path / "config.json").get("quantization_config")
    if about is None:
        return
    about = about if isinstance(about, dict) else {}
    method = about.get("quant_method", "an unnamed method")
    bits = about.get("bits") or next(
        (n for n in (4, 8) if about.get(f"load_in_{n}bit")), None
    )
    size = f", {bits} bits" if bits else ""
    raise InputError(
        f"{path / 'config.json'}: quantization_config: weights quantised with "
        f"{method}{size}: expected "
        "float32, float16 or bfloat16, as in the checkpoint it was made from"
    )
