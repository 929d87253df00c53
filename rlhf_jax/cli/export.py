"""`rlhf-jax export DIR OUT`: a model as transformers, vLLM and others read it."""

import argparse
import pathlib

from rlhf_jax.errors import InputError

HELP = "write a model in transformers' layout; --check reads it again and compares"

_EPILOG = """\
OUT gets config.json, model.safetensors, the tokenizer with its chat template and
generation_config.json; a reward model becomes a sequence classifier with one label.
A model that is an adapter of a base is added to it; with --adapter OUT gets the adapter
alone, in the layout of PEFT, which loads it onto the base.

  rlhf-jax export runs/ppo ppo_for_transformers --dtype bfloat16 --check
  rlhf-jax export runs/ppo ppo_for_peft --adapter
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
        "--adapter",
        action="store_true",
        help="write the adapter alone, for PEFT",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="read what was written again and compare logits",
    )


def run(args: argparse.Namespace) -> int:
    """Writes the directory and says what is in it."""
    if args.adapter:
        if args.check or args.dtype:
            raise InputError("--adapter: has neither --check nor --dtype")
        export_adapter(args.model, args.out, family=args.family)
        told = {}
    else:
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
    from rlhf_jax.registry import load_model, merged_model

    source = _source(directory, out)
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


def export_adapter(directory: str, out: str, *, family: str | None = None) -> None:
    """Exports what a model changes of its base, for PEFT.

    Args:
      directory: of a stage or a model that is an adapter.
      out: where to; not the directory itself.
      family: `model_type` of the base; None: that of a transformers directory, else
        the first that can express the config.

    Raises:
      InputError: the model is no adapter, or nothing is there.
    """
    from rlhf_jax.models import adapter_of
    from rlhf_jax.models.peft import save_peft
    from rlhf_jax.registry import load_model

    loaded = load_model(_source(directory, out))
    if loaded.adapter is None:
        raise InputError(f"{directory}: a whole model, not an adapter of another")
    lora, base = loaded.adapter.config, loaded.adapter.base
    save_peft(
        out,
        loaded.model.config,
        lora,
        adapter_of(loaded.params),
        base.source or "",
        family=family or _family(base.source or ""),
    )


def _source(directory: str, out: str) -> str:
    """The model's directory; refuses to write into it."""
    from rlhf_jax.registry import model_directory

    source = model_directory(directory)
    if pathlib.Path(out).resolve() == pathlib.Path(source).resolve():
        raise InputError(f"{out}: expected another directory than the model's own")
    return source


def _family(source: str) -> str | None:
    """The family of a transformers directory."""
    from rlhf_jax.models.weights import read_json

    file = pathlib.Path(source) / "config.json"
    return read_json(file).get("model_type") if file.is_file() else None
