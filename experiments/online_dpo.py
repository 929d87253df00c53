"""Online DPO and its kin on the embedded world, against quickstart.py's reward model.

Source: Guo et al. 2024 (online AI feedback); the losses are those of
`rlhf_jax/stages/dpo`. In each round the policy answers 2,000 prompts four times, the
reward model ranks its answers, and it is trained on the best against the worst; the
reference stays the model of supervised fine-tuning.

    rlhf-jax run experiments/online_dpo.py --workdir runs/online_dpo
    rlhf-jax run experiments/online_dpo.py:2,ipo                   # two rounds of IPO

Data: as in quickstart.py, no download. Cost: quickstart's up to the reward model, and
for each round 8,000 responses and 31 updates. Results: none yet at this size; the tests
run two rounds at the smallest one.
"""

import dataclasses

import quickstart

from rlhf_jax.errors import InputError
from rlhf_jax.pipeline.experiment import Experiment
from rlhf_jax.pipeline.rounds import online_rounds
from rlhf_jax.stages import dpo


def get_config(words: str | None = None):
    """The experiment as a `ConfigDict`.

    Args:
      words: how many rounds, and of which loss, as "3,dpo".

    Raises:
      InputError: the number of rounds is none.
    """
    number, _, loss = (words or "3,dpo").partition(",")
    if not number.isdigit():
        raise InputError(f"rounds: {number!r} is not a number of rounds")
    whole = Experiment.from_config(quickstart.get_config())
    names = list(whole.stages)
    stages = {n: whole.stages[n] for n in names[: names.index("reward") + 1]}
    stages["answers"] = dataclasses.replace(
        whole.stages["candidates_sft"],
        policies=("@sft/model",),
        prompts=(f"{quickstart.WORLD}/prompts.train.jsonl",),
        reward="@reward/model",
        best_and_worst=True,
        round=1,
        max_prompts=2000,
        min_k=4,
        max_k=4,
    )
    stages["dpo"] = dpo.Config(
        init="@sft/model",
        rankings=("@answers/rankings.jsonl",),
        loss=loss or "dpo",
        max_k=2,
        optimizer=quickstart.adam(1e-4, schedule="constant", warmup_steps=5),
        **quickstart.LENGTHS,
    )
    stages = online_rounds(stages, int(number), candidates="answers")
    policies = [name for name in stages if name.startswith("dpo")]
    stages["report"] = dataclasses.replace(
        whole.stages["report"],
        names=("GPT", "SFT", *policies),
        policies=(
            "@pretrain/model",
            "@sft/model",
            *(f"@{name}/model" for name in policies),
        ),
        runs={},
        best_of_n=None,
    )
    return Experiment("online_dpo", stages, whole.settings).to_config()
