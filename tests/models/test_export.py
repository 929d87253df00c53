"""Exports say one thing in all their files, and score in torch as they do here."""

import json
import os
import stat

import jax
import numpy as np
import pytest

from rlhf_jax.data import ByteTokenizer, load_tokenizer, train_bpe
from rlhf_jax.data.tokenizers import SubwordTokenizer
from rlhf_jax.data.vocabulary import check_vocabulary
from rlhf_jax.errors import InputError
from rlhf_jax.models import (
    LanguageModel,
    ScalarModel,
    TrunkConfig,
    init_params,
    load_pretrained,
    save_pretrained,
)
from rlhf_jax.models.export_check import check_export

TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
GENERATION = {"temperature": 0.6, "top_p": 0.9, "do_sample": True}
IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def tokenizer_with(special=(), generation=None, ends=(), **config):
    """A tokenizer without a pad token, unless the config names one."""
    plain = train_bpe(["hello there what is two plus two"] * 5, 280)
    plain.backend.add_special_tokens(list(special))
    config = {"eos_token": "<|endoftext|>", **config}
    ids = [plain.backend.token_to_id(text) for text in ends]
    return SubwordTokenizer(unpadded(plain.backend), config, ids, generation)


def unpadded(backend):
    """The same ids, in which <|pad|> is an ordinary piece of another name."""
    from tokenizers import Tokenizer as Backend

    return Backend.from_str(backend.to_str().replace("<|pad|>", "<|first|>"))


def exported(path, tokenizer, scalar=False, rows=None):
    config = TrunkConfig(
        vocab_size=rows or tokenizer.vocab_size,
        context_length=64,
        embed_dim=16,
        num_layers=2,
        num_heads=2,
        mlp_dim=32,
        positions="rotary",
        norm="rms",
        gated_mlp=True,
        activation="silu",
        qkv_bias=False,
        out_bias=False,
        mlp_bias=False,
    )
    model = (ScalarModel if scalar else LanguageModel)(config)
    params = jax.tree.map(lambda x: 6 * x, init_params(model, jax.random.key(0)))
    save_pretrained(path, config, params, tokenizer)
    return config, params


def ids_of(path):
    """The ids of the three files, with those of the tokenizer's own texts."""
    from transformers import AutoTokenizer

    read = lambda name: json.loads((path / name).read_text())  # noqa: E731
    config, generation = read("config.json"), read("generation_config.json")
    found = AutoTokenizer.from_pretrained(path)
    theirs = [found.bos_token_id, found.eos_token_id, found.pad_token_id]
    first = lambda ids: ids[0] if isinstance(ids, list) else ids  # noqa: E731
    assert [config[key] for key in IDS] == [generation[key] for key in IDS]
    assert [first(config[key]) for key in IDS] == theirs
    return config, generation


def test_every_id_agrees_and_what_was_read_is_kept(tmp_path):
    tokenizer = tokenizer_with(
        ["<|im_start|>", "<|im_end|>", "<s>"],
        GENERATION,
        ["<|im_end|>"],
        bos_token="<s>",
        unk_token="<|first|>",
        chat_template=TEMPLATE,
    )
    exported(tmp_path, tokenizer)
    config, generation = ids_of(tmp_path)
    ends = [tokenizer.end_token, tokenizer.special_tokens["<|im_end|>"]]
    assert config["eos_token_id"] == ends
    assert {key: generation[key] for key in GENERATION} == GENERATION
    again = load_tokenizer(tmp_path)
    assert again.end_tokens == tuple(ends) and again.chat_template == TEMPLATE
    assert again.generation["temperature"] == 0.6
    assert config["bos_token_id"] == tokenizer.special_tokens["<s>"]
    assert config["pad_token_id"] == tokenizer.special_tokens["<|first|>"]


@pytest.mark.parametrize(
    ("special", "names", "spare", "expected"),
    [
        (["<|reserved_pad|>"], {}, 0, "<|reserved_pad|>"),
        (["<unk>"], {"unk_token": "<unk>"}, 0, "<unk>"),
        ([], {"pad_token": "<|endoftext|>"}, 0, "<|endoftext|>"),
        ([], {}, 8, "<|pad|>"),
        ([], {}, 0, None),
    ],
)
def test_the_pad_token_of_a_policy(special, names, spare, expected, tmp_path):
    tokenizer = tokenizer_with(special, **names)
    exported(tmp_path, tokenizer, rows=tokenizer.vocab_size + spare)
    config, _ = ids_of(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.named_tokens.get("pad_token") == expected
    assert config["pad_token_id"] == again.special_tokens.get(expected)
    assert config["vocab_size"] == tokenizer.vocab_size + spare
    texts = ["hello there", "!", "<|pad|>"]
    assert [again.encode(t) for t in texts] == [tokenizer.encode(t) for t in texts]


@pytest.mark.parametrize("names", [{}, {"pad_token": "<|endoftext|>"}])
def test_a_reward_model_scores_a_padded_batch_in_torch_as_one_row(names, tmp_path):
    """Its pad token ends nothing, though the tokenizer had none (issue 19, case 28)."""
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = tokenizer_with(**names)
    config, params = exported(tmp_path, tokenizer, scalar=True)
    about, _ = ids_of(tmp_path)
    assert about["pad_token_id"] != about["eos_token_id"]
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    padding = AutoTokenizer.from_pretrained(tmp_path)
    texts = ["hello", "what is two plus two", "two plus"]
    rows = [[*tokenizer.encode(text), tokenizer.end_token] for text in texts]
    batch = padding.pad({"input_ids": rows}, return_tensors="pt")
    with torch.no_grad():
        together = theirs(**batch).logits[:, 0].numpy()
    apply = jax.jit(ScalarModel(config).apply)
    alone = [float(apply({"params": params}, np.array([row]))[0, -1]) for row in rows]
    np.testing.assert_allclose(together, alone, rtol=2e-4, atol=1e-5)


def test_files_have_the_mode_that_the_umask_says(tmp_path):
    old = os.umask(0o027)
    try:
        exported(tmp_path / "out", tokenizer_with(), scalar=True)
    finally:
        os.umask(old)
    modes = {
        f.name: stat.S_IMODE(f.stat().st_mode) for f in (tmp_path / "out").iterdir()
    }
    assert set(modes.values()) == {0o640}, modes


def test_a_policy_has_its_logits_in_torch(tmp_path):
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    config, params = exported(tmp_path, tokenizer_with())
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    ids = np.arange(48, dtype=np.int32).reshape(2, 24)
    with torch.no_grad():
        expected = theirs(input_ids=torch.from_numpy(ids).long()).logits.numpy()
    found = jax.jit(LanguageModel(config).apply)({"params": params}, ids)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("scalar", [False, True])
@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_the_check_compares_what_is_read_again(dtype, scalar, tmp_path):
    tokenizer = ByteTokenizer()
    config, params = exported(tmp_path, tokenizer, scalar=scalar)
    save_pretrained(tmp_path, config, params, tokenizer, dtype=dtype)
    told = check_export(tmp_path, config, params, dtype=dtype)
    assert told["read again"] == 0.0
    assert (told["rounded"] > 1e-4) == (dtype is not None)
    wrong = jax.tree.map(lambda leaf: 1.01 * leaf, params)
    with pytest.raises(InputError, match="read again, its numbers differ by"):
        check_export(tmp_path, config, wrong, dtype=dtype)


def test_a_vocabulary_larger_than_the_embedding_is_refused_by_its_token(tmp_path):
    tokenizer = tokenizer_with(["<|extra|>", "<|more|>"])
    rows = tokenizer.vocab_size - 1
    with pytest.raises(InputError, match=rf"m: .*no row for '<\|more\|>' \({rows}\)"):
        check_vocabulary(tokenizer, rows, "m")
    check_vocabulary(tokenizer, rows + 9, "m")
    beyond = tokenizer.with_end_tokens([rows + 40])
    with pytest.raises(InputError, match=f"end token {rows + 40} is in no vocabulary"):
        check_vocabulary(beyond, rows + 99, "m")
    with pytest.raises(InputError, match="no row for"):
        exported(tmp_path, tokenizer, rows=rows)


@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
@pytest.mark.parametrize("ids", [300, [1, 300], "x"])
def test_an_id_outside_the_embedding_is_refused_on_load(file, ids, tmp_path):
    exported(tmp_path, ByteTokenizer())
    about = json.loads((tmp_path / file).read_text())
    (tmp_path / file).write_text(json.dumps({**about, "eos_token_id": ids}))
    with pytest.raises(InputError, match=rf"{file}: eos_token_id .*below 258"):
        load_pretrained(tmp_path)
    (tmp_path / file).write_text(json.dumps({**about, "pad_token_id": -1}))
    load_pretrained(tmp_path)


LORA = {"peft_type": "LORA", "base_model_name_or_path": "org/base"}
GPTQ = {"quant_method": "gptq", "bits": 4}
FOREIGN = {
    "an adapter": ({"adapter_config.json": LORA}, r"adapter \(LORA\).*'org/base'"),
    "gptq": ({"config.json": {"quantization_config": GPTQ}}, "gptq, 4 bits"),
    "bitsandbytes": (
        {"config.json": {"quantization_config": {"load_in_8bit": True}}},
        "an unnamed method, 8 bits",
    ),
    "gguf": ({"model-q4.gguf": {}}, "a GGUF file of llama.cpp"),
    "meta's": ({"consolidated.00.pth": {}}, "their maker's own layout"),
    "pickles": (
        {"config.json": {"model_type": "gpt2"}, "pytorch_model.bin": {}},
        "only pytorch_model.bin, which may run code",
    ),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_directory_of_something_else_is_named(what, tmp_path):
    files, why = FOREIGN[what]
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(InputError, match=why):
        load_pretrained(tmp_path)
