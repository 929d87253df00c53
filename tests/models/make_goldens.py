"""Writes tests/models/golden: run once with torch and transformers installed.

    python tests/models/make_goldens.py [CASE ...]

All cases, or those named. Per case and kind a directory as transformers writes it, and
`expected.npz`. Language models are stored in float32, reward models in bfloat16
(computed in float32).
"""

import pathlib
import shutil
import sys

import numpy as np
import tiny_transformers as tiny
import torch
import transformers

GOLDEN = pathlib.Path(__file__).parent / "golden"
LENGTHS = [20, 7, 1]


def write(case: str, kind: str) -> None:
    folder = GOLDEN / f"{case}_{kind}"
    shutil.rmtree(folder, ignore_errors=True)
    model = tiny.model(case, kind)
    if kind == "scalar":  # rounded, but for the rotary buffers: files do not hold them
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(parameter.to(torch.bfloat16).to(torch.float32))
    ids = tiny.tokens(rows=len(LENGTHS) if kind == "scalar" else 2)
    found = {"tokens": ids.numpy().astype(np.int32)}
    if kind == "lm":
        found["logits"] = tiny.logits(model, ids).numpy()
    else:
        found["lengths"] = np.array(LENGTHS, np.int32)
        found["scores"] = tiny.scores(model, ids, LENGTHS).numpy()
        model = model.to(torch.bfloat16)
    model.save_pretrained(folder)
    np.savez_compressed(folder / "expected.npz", **found)


def write_bert() -> None:
    folder = GOLDEN / "bert"
    shutil.rmtree(folder, ignore_errors=True)
    config = transformers.BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=24,
        max_position_embeddings=32,
    )
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    model = transformers.BertModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    ids, lengths = tiny.tokens(rows=3, length=12), torch.tensor([12, 5, 1])
    mask = (torch.arange(12)[None] < lengths[:, None]).long()
    with torch.no_grad():
        out = model(input_ids=ids, attention_mask=mask)
    np.savez_compressed(
        folder / "expected.npz",
        tokens=ids.numpy().astype(np.int32),
        lengths=lengths.numpy().astype(np.int32),
        hidden=out.last_hidden_state.numpy(),
        pooled=out.pooler_output.numpy(),
    )


if __name__ == "__main__":
    for case in sys.argv[1:] or tiny.CASES:
        for kind in ("lm", "scalar"):
            write(case, kind)
    if not sys.argv[1:]:
        write_bert()
    print(f"written with transformers {transformers.__version__} to {GOLDEN}")
