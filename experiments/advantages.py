"""Whom is a response compared with? PPO's value model, RLOO and GRPO side by side.

Question: what does a value model buy where several responses to a prompt are there?
Source: GAE with a value model as in Ouyang et al. 2022; leave-one-out, Ahmadian et al.
2024 (RLOO); groups, Shao et al. 2024 (GRPO, with its KL in the loss by k3) and, without
the division by the group's deviation, Liu et al. 2025 (Dr. GRPO).

Data: a finished run of experiments/quickstart.py (`make demo`): its world, its start of
PPO and its reward model. All four have the same episodes, learning rate and β.

    rlhf-jax run experiments/advantages.py:runs/quickstart --workdir runs/advantages
    rlhf-jax run experiments/advantages.py --config.seed=1 --workdir runs/advantages-1
    python experiments/advantages.py runs/advantages*        one table of several seeds

Cost: about twice that of the demo's two PPO stages. Results: docs/log.md, "advantages".
"""

import json
import pathlib
import statistics
import sys

from rlhf_jax.pipeline import Experiment, RunSettings
from rlhf_jax.stages import evaluate, ppo
from rlhf_jax.tracking import read_metrics
from rlhf_jax.training import OptimizerConfig

LENGTHS = {"max_prompt": 96, "max_response": 32}
KL_COEF = 0.15
# name -> what differs
KINDS = {
    "gae": {"value_warmup_iterations": 3},
    "rloo": {"advantages": "leave_one_out", "samples_per_prompt": 4},
    "grpo": {
        "advantages": "group_normalized",
        "samples_per_prompt": 4,
        "kl": ppo.KLControl(kl_coef=KL_COEF, place="loss"),
    },
    "dr_grpo": {
        "advantages": "group_normalized",
        "samples_per_prompt": 4,
        "kl": ppo.KLControl(kl_coef=KL_COEF, place="loss"),
        "shaping": ppo.RewardShaping(scale_by_deviation=False),
    },
}


def ppo_config(base: str, **changes) -> ppo.Config:
    """The demo's PPO without the pretraining mix."""

    def adam(learning_rate: float) -> OptimizerConfig:
        return OptimizerConfig(
            name="adam", learning_rate=learning_rate, schedule="constant"
        )

    fields = {
        "init": f"{base}/ppo_init/model",
        "reward": f"{base}/reward/model",
        "prompts": (f"{base}/world/prompts.train.jsonl",),
        "ptx_coef": 0.0,
        "episodes": 128 * 50,
        "batch_size": 128,
        "minibatch_size": 64,
        "prompt_buckets": (32,),
        "optimizer": adam(1e-4),
        "value_optimizer": adam(5e-4),
        "clip_norm": 1.0,
        "kl": ppo.KLControl(kl_coef=KL_COEF),
        "warmup_iterations": 5,
        "ema_decay": 0.9,
        **LENGTHS,
    }
    return ppo.Config(**{**fields, **changes})


def get_config(base: str = "runs/quickstart"):
    """The experiment as a `ConfigDict`; `base` is a finished run of the demo."""
    stages = {name: ppo_config(base, **changes) for name, changes in KINDS.items()}
    stages["report"] = evaluate.Config(
        names=("GPT", "start", *KINDS),
        policies=(
            f"{base}/pretrain/model",
            f"{base}/ppo_init/model",
            *(f"@{name}/model" for name in KINDS),
        ),
        baseline="start",
        reward=f"{base}/reward/model",
        world=f"{base}/world",
        runs={name: f"@{name}" for name in KINDS},
        max_prompts=478,
        samples_per_prompt=3,
        window=128,
        **LENGTHS,
    )
    return Experiment("advantages", stages, RunSettings(save_every=500)).to_config()


def table(folders: list[pathlib.Path]) -> str:
    """Mean over runs (and each run): reward, gold utility, KL, seconds an iteration."""
    lines = ["kind | reward | gold utility | win rate (gold) | KL, nats | s/iteration"]
    for name in KINDS:
        rows = []
        for folder in folders:
            results = json.loads((folder / "report/results.json").read_text())
            metrics = read_metrics(folder / name)
            last = metrics[-5:]
            rows.append(
                [
                    results["proxy"][name]["estimate"],
                    results["gold"][name]["utility"]["estimate"],
                    results["preference"]["gold utility"][name]["win_rate"]["estimate"],
                    statistics.mean(row["kl_exact"] for row in last),
                    statistics.median(row["seconds"] for row in metrics[2:]),
                ]
            )
        cells = [
            f"{statistics.mean(column):.3f} ({', '.join(f'{v:.3f}' for v in column)})"
            for column in zip(*rows, strict=True)
        ]
        lines.append(" | ".join([name, *cells]))
    return "\n".join(lines)


if __name__ == "__main__":
    print(table([pathlib.Path(folder) for folder in sys.argv[1:]]))
