"""`rlhf-jax export DIR OUT`: a model as transformers, vLLM and others read it."""

import argparse
import pathlib

from rlhf_jax.errors import InputError

HELP = "write a model in transformers' layout; --check reads it again and compares"

_EPILOG = """\
OUT gets config.json, model.safetensors, the tokenizer with its chat template and
generation_config.json; a reward model becomes a sequence classifier with one label.

  rlhf-jax export runs/ppo ppo_for_transformers --dtype bfloat16 --check
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of the command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    parser.add_argument("model", metavar="DIR", help="of a stage or a model")
    parser.add_argument("out", metavar="OUT", help="a directory, made when absent")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        help="of the numbers; as they are if absent",
    )
    parser.add_argument("--family", help="model_type; the first that fits if absent")
    parser.add_argument(
        "--check",
        action="store_true",
        help="read what was written again and compare logits",
    )


def run(args: argparse.Namespace) -> int:
    """Writes the directory and says what is in it."""
    told = export(
        args.model, args.out, dtype=args.dtype, family=args.family, check=args.check
    )
    for what, gap in told.items():
        print(f"{what}: largest difference {gap:.1e} of the largest number")
    size = sum(file.stat().st_size for file in pathlib.Path(args.out).iterdir())
    print(f"{args.out}: {size / 2**20:,.1f} MiB")
    return 0


def export(
    directory: str,
    out: str,
    *,
    dtype: str | None = None,
    family: str | None = None,
    check: bool = False,
) -> dict[str, float]:
    """Exports a model by its name.

    Args:
      directory: of a stage or a model, a transformers-compatible one, or a hub name.
      out: where to; not the directory itself.
      dtype: of the file; None: that of the parameters.
      family: `model_type`; None: that of a transformers directory, else the first that
        can express the config.
      check: read it again and compare, see `models.export_check`.

    Returns:
      What was compared; {} without `check`.

    Raises:
      InputError: nothing there that can be exported, or the numbers differ.
    """
    from rlhf_jax.models import save_pretrained
    from rlhf_jax.models.export_check import check_export
    from rlhf_jax.registry import load_model, merged_model, model_directory

    source = model_directory(directory)
    if pathlib.Path(out).resolve() == pathlib.Path(source).resolve():
        raise InputError(f"{out}: expected another directory than the model's own")
    loaded = merged_model(load_model(source))
    config = loaded.model.config
    save_pretrained(
        out,
        config,
        loaded.params,
        loaded.tokenizer,
        family=family or _family(source),
        dtype=dtype,
    )
    return check_export(out, config, loaded.params, dtype=dtype) if check else {}


def _family(source: str) -> str | None:
    """The family of a transformers directory."""
    from rlhf_jax.models.weights import read_json

    file = pathlib.Path(source) / "config.json"
    return read_json(file).get("model_type") if file.is_file() else None
