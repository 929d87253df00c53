"""Twenty steps of each stage that learns, as they were when last looked at.

A change of the numbers is a change of the algorithm, or of a library: look before you
accept it with `REWRITE_GOLDEN=1 pytest tests/stages/test_golden_metrics.py`.

On one machine and one version the numbers repeat exactly. Other processors add in
another order: metrics may differ by 1 % or 2e-3, whatever is larger. A PPO run draws
2,000 tokens; where rounding moves a draw (about 1e-6 per token) the lines after it
differ more, and the file must be written again there.
"""

import json
import os
import pathlib

import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).parent / "golden"
STEPS, RELATIVE, ABSOLUTE = 20, 0.01, 2e-3
WATCHED = {
    "sft": ("loss", "grad_norm", "learning_rate", "valid/nats_per_token"),
    "reward": ("loss", "grad_norm", "learning_rate", "accuracy"),
    "ppo_ptx": (
        "clip_fraction",
        "entropy",
        "grad_cosine/surrogate_ptx",
        "grad_norm/ptx",
        "grad_norm/surrogate",
        "grad_norm/value",
        "kl",
        "kl_exact",
        "kl_k3",
        "learning_rate/policy",
        "length",
        "loss/ptx",
        "loss/surrogate",
        "loss/value_error",
        "ratio",
        "reward",
        "score",
        "truncated",
        "value_explained_variance",
    ),
}


@pytest.mark.parametrize("name", WATCHED)
def test_the_first_steps_are_as_they_were(tiny, name):
    rows = [
        {key: row[key] for key in WATCHED[name] if key in row}
        for row in tiny.metrics(name)[:STEPS]
    ]
    assert len(rows) == STEPS
    file = FOLDER / f"{name}.json"
    if os.environ.get("REWRITE_GOLDEN"):
        FOLDER.mkdir(exist_ok=True)
        text = ",\n".join(json.dumps(_rounded(row), sort_keys=True) for row in rows)
        file.write_text(f"[\n{text}\n]\n")
    if not file.is_file():
        pytest.skip(f"{file.name} is not written yet; see the top of this file")
    wanted = json.loads(file.read_text())
    for step, (row, golden) in enumerate(zip(rows, wanted, strict=True), 1):
        assert row.keys() == golden.keys()
        for key, value in golden.items():
            np.testing.assert_allclose(
                row[key], value, RELATIVE, ABSOLUTE, err_msg=f"step {step}: {key}"
            )


def _rounded(row):
    return {key: float(f"{value:.6g}") for key, value in row.items()}
