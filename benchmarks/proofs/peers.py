"""The same work by PyTorch and transformers.

    peers.py step SIZE ROWS LENGTH
    peers.py rollout SIZE ROWS

step     GPT-2 of this size, bfloat16 by autocast over float32 weights, attention by
         `sdpa`, fused AdamW
rollout  `generate` with a static cache, bfloat16, sampling at temperature 1
"""

import importlib.util
import json
import pathlib
import statistics
import subprocess
import sys
import time

PROMPT, NEW = 64, 128


def absent() -> str | None:
    """Why there is no peer here; None: there is."""
    for name in ("torch", "transformers"):
        if importlib.util.find_spec(name) is None:
            return f"{name} is not installed"
    import jax
    import torch

    if jax.default_backend() in ("gpu", "cuda") and not torch.cuda.is_available():
        return "torch sees no GPU"
    return None


def fresh(what: str, size: str, shape: tuple[int, ...]) -> dict:
    """The line of a process of its own."""
    words = [sys.executable, __file__, what, size, *map(str, shape)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{what}: {done.stderr[-500:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _model(size: str, context: int):
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
    from training import SIZES

    spec = SIZES[size]
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=spec["vocab"],
        n_positions=context,
        n_embd=spec["width"],
        n_layer=spec["layers"],
        n_head=spec["heads"],
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=None,
        pad_token_id=0,
    )
    config._attn_implementation = "sdpa"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return GPT2LMHeadModel(config).to(device), device


def _seconds(call, device: str, runs: int) -> float:
    import torch

    times = []
    for _ in range(runs + 2):
        began = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return statistics.median(times[2:])


def step(size: str, rows: int, length: int) -> dict:
    """Tokens per second of a training step."""
    import torch

    model, device = _model(size, length)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    tokens = torch.randint(0, model.config.vocab_size, (rows, length), device=device)

    def once():
        with torch.autocast(device, torch.bfloat16):
            loss = model(input_ids=tokens, labels=tokens, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    value = rows * length / _seconds(once, device, 5)
    return {"value": value, "what": f"torch {torch.__version__}, autocast, sdpa"}


def rollout(size: str, rows: int) -> dict:
    """Tokens per second of generation."""
    import torch

    model, device = _model(size, 512)
    model = model.eval().to(torch.bfloat16)
    tokens = torch.randint(2, model.config.vocab_size, (rows, PROMPT), device=device)

    @torch.no_grad()
    def once():
        model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=NEW,
            do_sample=True,
            top_k=0,
            cache_implementation="static",
        )

    value = rows * NEW / _seconds(once, device, 2)
    return {
        "value": value,
        "what": f"generate of torch {torch.__version__}, static cache",
    }


if __name__ == "__main__":
    found = {"step": step, "rollout": rollout}[sys.argv[1]]
    print(json.dumps(found(sys.argv[2], *map(int, sys.argv[3:]))))
