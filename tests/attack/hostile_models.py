"""Model directories with something wrong in them, each read as `chat` reads it."""

import json
import os
import pathlib
import shutil
from collections.abc import Callable

import mutations
import numpy as np

from rlhf_jax.errors import RunError

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SAID = [{"role": "user", "content": "Hi </s><|im_end|>"}]


def make(folder: str, *, warm: bool = True) -> Callable:
    """`work(number, seed)` over mutations of the directories of `bases`.

    Args:
      folder: for them.
      warm: everything is compiled and imported before, so that a limit of time tells
        of the directory alone.
    """
    whole, broken = pathlib.Path(folder) / "bases", pathlib.Path(folder) / "broken"
    bases(whole)
    names = sorted(path.name for path in whole.iterdir())
    for name in names if warm else ():
        read(whole / name)  # and right
    if warm:
        _load_transformers(whole / "gpt2", broken)

    def work(number: int, seed: int):
        rng = np.random.default_rng([seed, number])
        name = names[int(rng.integers(len(names)))]
        shutil.rmtree(broken, ignore_errors=True)
        shutil.copytree(whole / name, broken)
        about = f"{name}/{mutate(broken, rng)} (seed {seed}, number {number})"
        return about, lambda: outcome(broken)

    return work


def _load_transformers(whole: pathlib.Path, broken: pathlib.Path) -> None:
    """What it imports takes half a minute, and is no fault of a directory."""
    shutil.rmtree(broken, ignore_errors=True)
    shutil.copytree(whole, broken)
    (broken / "added_tokens.json").write_text("{}")
    outcome(broken)


def outcome(folder: pathlib.Path) -> tuple[str, str]:
    """What becomes of a directory."""
    try:
        read(folder)
    except RunError as error:
        return ("refused", "") if str(error).strip() else ("SILENT", "no message")
    except BaseException as error:
        return "TRACEBACK", repr(error)[:300]
    return "read", ""


def read(folder: pathlib.Path) -> None:
    """Loads a model, and makes ids of what is said to it."""
    import jax

    from rlhf_jax.models import load_encoder
    from rlhf_jax.registry import load_model

    if "bert" in (folder / "KIND").read_text():
        load_encoder(folder, jax.random.key(0))
        return
    found = load_model(folder)
    talks = bool(found.tokenizer.chat_template)
    form = found.in_form((), "template" if talks else None, "form").form
    ids = form.prompt_ids(SAID if talks else SAID[0]["content"])
    found.tokenizer.decode(ids)
    form.end_tokens  # noqa: B018 (renders a conversation)


def mutate(folder: pathlib.Path, rng: np.random.Generator) -> str:
    """Breaks one file of a directory; what was done."""
    files = sorted(
        path for path in folder.rglob("*") if path.is_file() and path.name != "KIND"
    )
    weights = np.array([20.0 if "config" in path.name else 4.0 for path in files])
    path = files[int(rng.choice(len(files), p=weights / weights.sum()))]
    about = path.relative_to(folder).as_posix()
    action = rng.random()
    if action < 0.02:
        return f"{about}: {_replaced(path, rng)}"
    if path.suffix == ".jinja" and action < 0.9:
        template = mutations.TEMPLATES[int(rng.integers(len(mutations.TEMPLATES)))]
        path.write_text(template if rng.random() < 0.7 else CHATML[:40] + template)
        return f"{about}: template {template[:40]!r}"
    if path.suffix == ".json" and action < 0.85:
        value = json.loads(path.read_text())
        for _ in range(int(rng.integers(1, 3))):
            value = mutations.changed_json(value, rng)
            if not isinstance(value, dict | list):
                break
        path.write_bytes(mutations.written(value))
        return f"{about}: value"
    if path.suffix == ".safetensors":
        path.write_bytes(mutations.changed_tensors(path.read_bytes(), rng))
        return f"{about}: tensors"
    path.write_bytes(mutations.changed_bytes(path.read_bytes(), rng))
    return f"{about}: bytes"


def _replaced(path: pathlib.Path, rng: np.random.Generator) -> str:
    kinds = ("pipe", "device", "folder", "nothing", "loop")
    kind = kinds[int(rng.integers(len(kinds)))]
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)
    return kind


def bases(folder: pathlib.Path) -> None:
    """Directories that can be read: transformers' layouts, ours, and a BERT."""
    import jax

    from rlhf_jax.data.tokenizers import train_bpe
    from rlhf_jax.models import LanguageModel, TrunkConfig, init_params, save_pretrained
    from rlhf_jax.registry import save_model

    if folder.exists():
        return
    folder.mkdir(parents=True)
    texts = ["a quick brown fox jumps over the lazy dog </s> <|im_end|>"]
    tokenizer = train_bpe(texts, 280).with_pad("<|im_end|>")
    tokenizer.config["chat_template"] = CHATML
    size = tokenizer.vocab_size
    rotary = {"positions": "rotary", "norm": "rms", "gated_mlp": True}
    rotary |= dict.fromkeys(("qkv_bias", "out_bias", "mlp_bias"), False)
    rotary |= {"activation": "silu", "tied_unembedding": False}
    configs = {
        "gpt2": TrunkConfig(size, 64, 16, 2, 2),
        "llama": TrunkConfig(size, 64, 16, 2, 2, num_kv_heads=1, **rotary),
    }
    for name, config in configs.items():
        model = LanguageModel(config)
        params = init_params(model, jax.random.key(0))
        shards = {} if name == "gpt2" else {"shard_bytes": 8_000}
        save_pretrained(folder / name, config, params, tokenizer, family=name, **shards)
        (folder / name / "chat_template.jinja").write_text(CHATML)
        (folder / name / "generation_config.json").write_text(
            json.dumps({"eos_token_id": [1], "temperature": 0.7, "top_p": 0.9})
        )
    _ours(folder / "ours", save_model, configs["gpt2"], tokenizer)
    bert = pathlib.Path(__file__).parent.parent / "models/golden/bert"
    shutil.copytree(bert, folder / "bert", ignore=shutil.ignore_patterns("*.npz"))
    for name in ("gpt2", "llama", "ours", "bert"):
        (folder / name / "KIND").write_text(name)


def _ours(folder: pathlib.Path, save_model: Callable, config, tokenizer) -> None:
    """A model directory of ours without its seal, so that its fields are looked at."""
    import jax

    from rlhf_jax.models import LanguageModel, init_params

    model = LanguageModel(config)
    save_model(folder, model, init_params(model, jax.random.key(0)), tokenizer, {})
    text = json.loads((folder / "model.json").read_text())
    text = {key: text[key] for key in ("kind", "config", "meta")}
    (folder / "model.json").write_text(json.dumps(text))
