"""Adapters in PEFT's layout: PEFT loads ours and says the same, and we read its own."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from test_adapters import GPT2, LLAMA, LORA, draw

from rlhf_jax.errors import InputError
from rlhf_jax.models import LanguageModel, LoRA, adapted, leaf_paths, save_pretrained
from rlhf_jax.models.peft import load_peft, save_peft
from rlhf_jax.models.weights import open_file, write_file

CONFIGS = {"gpt2": GPT2, "llama": LLAMA}


def logits_of(model, base, adapter, lora):
    tokens = np.random.default_rng(0).integers(0, model.config.vocab_size, (2, 9))
    params = adapted(base, adapter, lora)
    out = model.apply({"params": params}, jnp.asarray(tokens, jnp.int32))
    return tokens, np.asarray(out)


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_written_is_read_again_as_the_same_function(name, tmp_path):
    model = LanguageModel(CONFIGS[name])
    base, adapter = draw(model)
    save_peft(tmp_path, model.config, LORA, adapter, "base", family=name)
    lora, again = load_peft(tmp_path, model.config, family=name)
    assert lora.rank == LORA.rank and lora.scale == pytest.approx(LORA.scale)
    found, expected = leaf_paths(again), leaf_paths(adapter)
    assert found.keys() == expected.keys()
    for path, leaf in expected.items():
        np.testing.assert_allclose(found[path], leaf, atol=1e-6, err_msg=path)
    _, plain = logits_of(model, base, adapter, LORA)
    _, read = logits_of(model, base, again, lora)
    np.testing.assert_allclose(read, plain, atol=1e-4)


def test_fused_projections_become_one_module_in_blocks(tmp_path):
    _, adapter = draw(LanguageModel(GPT2))
    save_peft(tmp_path, GPT2, LORA, adapter, "base", family="gpt2")
    raw = json.loads((tmp_path / "adapter_config.json").read_text())
    assert raw["fan_in_fan_out"] and raw["rank_pattern"] == {"attn.c_attn": 9}
    assert raw["alpha_pattern"]["attn.c_attn"] / 9 == pytest.approx(LORA.scale)
    file = open_file(tmp_path / "adapter_model.safetensors")
    b = file.read("base_model.model.transformer.h.0.attn.c_attn.lora_B.weight")
    assert b.shape == (48, 9)
    assert not b[:16, 3:].any() and not b[16:32, :3].any() and b[32:, 6:].all()


def test_modules_of_several_ranks_and_scales_are_one_function(tmp_path):
    """PEFT's own: a fused matrix of one rank, another rank elsewhere."""
    rng = np.random.default_rng(3)
    root = "base_model.model.transformer.h"
    shapes = {"attn.c_attn": (16, 48, 4), "mlp.c_fc": (16, 64, 2)}
    tensors = {}
    for layer in range(3):
        for module, (rows, columns, rank) in shapes.items():
            for part, shape in (("A", (rank, rows)), ("B", (columns, rank))):
                name = f"{root}.{layer}.{module}.lora_{part}.weight"
                tensors[name] = rng.standard_normal(shape).astype(np.float32)
    write_file(tmp_path / "adapter_model.safetensors", tensors)
    raw = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "rank_pattern": {"c_fc": 2}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(raw))
    lora, adapter = load_peft(tmp_path, GPT2, family="gpt2")
    leaves = leaf_paths(adapter)
    for path, module, columns in (
        ("attention/key", "attn.c_attn", slice(16, 32)),
        ("mlp/up", "mlp.c_fc", slice(None)),
    ):
        names = [f"{root}.1.{module}.lora_{part}.weight" for part in "AB"]
        a, b = (tensors[name] for name in names)
        expected = 8 / len(a) * (b @ a)[columns].T
        pair = [leaves[f"trunk/layers/{path}/kernel/lora_{x}"][1] for x in "ab"]
        np.testing.assert_allclose(lora.scale * pair[0] @ pair[1], expected, atol=1e-4)


@pytest.mark.parametrize(
    "change, told",
    [
        ({"use_dora": True}, "use_dora is True"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
        ({"bias": "all"}, "bias is 'all'"),
    ],
)
def test_what_we_cannot_compute_is_refused(change, told, tmp_path):
    _, adapter = draw(LanguageModel(LLAMA))
    save_peft(tmp_path, LLAMA, LORA, adapter, "base", family="llama")
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(InputError, match=told):
        load_peft(tmp_path, LLAMA, family="llama")


def test_a_tensor_without_a_place_is_refused(tmp_path):
    _, adapter = draw(LanguageModel(LLAMA))
    save_peft(tmp_path, LLAMA, LORA, adapter, "base", family="llama")
    file = open_file(tmp_path / "adapter_model.safetensors")
    tensors = {name: file.read(name) for name in file.files}
    tensors["base_model.model.model.embed_tokens.lora_A.weight"] = np.ones((2, 2))
    write_file(tmp_path / "adapter_model.safetensors", tensors)
    with pytest.raises(InputError, match="embed_tokens.*changes nothing"):
        load_peft(tmp_path, LLAMA, family="llama")


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_peft_loads_ours_and_gives_the_same_logits(name, rslora, tmp_path):
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    model = LanguageModel(CONFIGS[name])
    lora = LoRA(rank=3, alpha=7.0, rslora=rslora, base_dtype="float32")
    base, adapter = draw(model, lora)
    save_pretrained(tmp_path / "base", model.config, base, family=name)
    save_peft(tmp_path / "lora", model.config, lora, adapter, "base", family=name)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    plain = theirs.eval()
    tokens, expected = logits_of(model, base, adapter, lora)
    with torch.no_grad():
        without = plain(torch.tensor(tokens)).logits.numpy().copy()
    theirs = peft.PeftModel.from_pretrained(theirs, tmp_path / "lora").eval()
    with torch.no_grad():
        found = theirs(torch.tensor(tokens)).logits.numpy()
    assert np.abs(found - without).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=2e-4)
    # and back: what PEFT writes is what we wrote
    theirs.save_pretrained(tmp_path / "again")
    read, tree = load_peft(tmp_path / "again", model.config, family=name)
    np.testing.assert_allclose(
        logits_of(model, base, tree, read)[1], expected, atol=2e-4
    )
