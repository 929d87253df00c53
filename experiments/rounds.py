"""Two rounds of feedback on the embedded world (one loop more than quickstart.py).

Source: Ouyang et al. 2022, section 3.1: steps 2 and 3 may be repeated. The policy of
round 1 writes candidates beside the supervised ones, a reward model is trained on the
rankings of both rounds, and PPO-ptx starts again from the same initialisation.

    rlhf-jax run experiments/rounds.py --workdir runs/rounds
    rlhf-jax run experiments/rounds.py:3                           # three rounds
    rlhf-jax run experiments/rounds.py:2,file:people.jsonl         # people rank round 2

With "file:PATH" the second round stops with what waits for people in PATH.todo.jsonl;
the same command goes on once their rankings are in PATH.

Data: as in quickstart.py, no download. Cost: quickstart's without best-of-n and PPO
without ptx, and for each round more the candidates, a reward model and PPO-ptx again.
Results: none yet at this size; the tests run two rounds at the smallest one.
"""

import dataclasses

import quickstart

from rlhf_jax.errors import InputError
from rlhf_jax.pipeline.experiment import Experiment
from rlhf_jax.pipeline.rounds import rounds

KEPT = ("world", "pretrain", "sft", "ppo_init")


def get_config(words: str | None = None):
    """The experiment as a `ConfigDict`.

    Args:
      words: how many rounds, and who ranks from round 2 on, as "2,file:PATH".

    Raises:
      InputError: the number of rounds is none.
    """
    number, _, labelers = (words or "2").partition(",")
    if not number.isdigit():
        raise InputError(f"rounds: {number!r} is not a number of rounds")
    whole = Experiment.from_config(quickstart.get_config())
    stages = {name: whole.stages[name] for name in KEPT} | _feedback(whole.stages)
    count = int(number)
    stages = rounds(stages, count, ppo=("ppo_ptx",), labelers=labelers or None)
    last = {n: f"@ppo_ptx_{n}" for n in range(2, count + 1)}
    runs = {"PPO-ptx": "@ppo_ptx"}
    runs |= {f"PPO-ptx, round {n}": stage for n, stage in last.items()}
    stages["report"] = dataclasses.replace(
        whole.stages["report"],
        names=("GPT", "SFT", *runs),
        policies=(
            "@pretrain/model",
            "@sft/model",
            *(f"{stage}/model" for stage in runs.values()),
        ),
        reward="@reward/model",
        runs=runs,
        stages={
            **whole.stages["report"].stages,
            **{f"RM, round {n}": f"@reward_{n}" for n in last},
        },
        best_of_n=None,
    )
    return Experiment("rounds", stages, whole.settings).to_config()


def _feedback(stages: dict) -> dict:
    """One stage of candidates by both policies, as each further round has one."""
    both = dataclasses.replace(
        stages["candidates_sft"],
        policies=("@sft/model", "@ppo_init/model"),
        max_prompts=2 * stages["candidates_sft"].max_prompts,
    )
    world = stages["reward"].rankings[-1]
    reward = dataclasses.replace(
        stages["reward"], rankings=("@candidates/rankings.jsonl", world)
    )
    return {"candidates": both, "reward": reward, "ppo_ptx": stages["ppo_ptx"]}
