"""Does a reward model need to read the prompt? A decoder beside BERT ⊕ BERT.

    score = w · (BERT(prompt) ⊕ BERT(response)) + b

Question: InstructGPT's reward model is a decoder that reads the response with the
prompt before it. Expositions of reward modelling often draw an encoder that reads both
apart and a linear map on top. There the prompt's share of the score is the same for
all responses to a prompt, so it cancels in every comparison and in every advantage of
PPO: what is left is how good a response is whatever was asked. How much accuracy is
that worth, and what does PPO make of it?

Source: Ouyang et al. 2022, section 3.5 (decoder); Devlin et al. 2019 (encoder, here
fresh, of two layers); `linear` is its linear variant: the head alone is trained, on
the features of an encoder that stays as it was drawn.
Data: the world of quickstart.py, no download; its first six stages, its reward model
and its PPO are the same ones.

    rlhf-jax run experiments/encoder_reward.py --workdir runs/encoder_reward
    rlhf-jax run experiments/encoder_reward.py:tiny              # a minute, no numbers

`report/report.html` has the three reward models' accuracies on held-out prompts, by
the labelers of training ("valid") and by others ("held_out"), and the policies of PPO
against the decoder and against the encoder, judged by held-out labelers and by the gold
utility that no model has seen.

Cost: quickstart.py's without PPO-ptx and best-of-n, and one PPO more; the encoder costs
about what the decoder does, the linear variant half of it.
Results: 2026-11-27, seed 0 (docs/log.md), accuracy in % with its 95 % interval, 25,587
and 6,310 pairs, and the gold utility of PPO, which starts at 0.252:

    labelers          decoder            encoder            linear
    of training       70.3 [69.4, 71.1]  65.3 [64.4, 66.2]  60.1 [59.2, 61.0]
    held out          66.9 [64.9, 68.8]  61.7 [59.9, 63.6]  57.7 [55.7, 59.7]
    PPO               0.310              0.272
"""

import dataclasses

import quickstart

from rlhf_jax.errors import InputError
from rlhf_jax.models import EncoderConfig, TrunkConfig
from rlhf_jax.pipeline import Experiment

KEPT = ("world", "pretrain", "sft", "ppo_init", "candidates_sft", "candidates_init")
# no wider than the decoder; "mean", because these tokens have no [CLS] before them
ENCODER = EncoderConfig(
    vocab_size=1536,
    context_length=quickstart.LENGTHS["max_prompt"] + 1,  # its end token
    embed_dim=128,
    num_layers=2,
    num_heads=4,
    mlp_dim=512,
    pooling="mean",
)


def get_config(size: str = "full"):
    """The experiment as a `ConfigDict`.

    Args:
      size: "full", or "tiny": every line at the smallest size.

    Raises:
      InputError: there is no such size.
    """
    if size not in ("full", "tiny"):
        raise InputError(f"size: {size!r} is not full or tiny")
    whole = Experiment.from_config(quickstart.get_config())
    stages = {name: whole.stages[name] for name in (*KEPT, "reward")}
    stages["encoder"] = dataclasses.replace(
        stages["reward"],
        init="",
        encoder=ENCODER,
        tokenizer=f"{quickstart.WORLD}/tokenizer",
        packed=None,
        k_buckets=(5, 7),
        max_prompt=ENCODER.context_length,
        optimizer=quickstart.adam(1e-3, warmup_steps=50),
    )
    stages["linear"] = dataclasses.replace(
        stages["encoder"],
        frozen=True,
        optimizer=quickstart.adam(1e-2, warmup_steps=50),
    )
    stages["ppo"] = whole.stages["ppo"]
    stages["ppo_encoder"] = dataclasses.replace(
        whole.stages["ppo"], reward="@encoder/model"
    )
    stages["report"] = dataclasses.replace(
        whole.stages["report"],
        names=("SFT", "PPO init", "PPO, decoder", "PPO, encoder"),
        policies=(
            "@sft/model",
            "@ppo_init/model",
            "@ppo/model",
            "@ppo_encoder/model",
        ),
        runs={"PPO, decoder": "@ppo", "PPO, encoder": "@ppo_encoder"},
        stages={
            "RM, decoder": "@reward",
            "RM, encoder": "@encoder",
            "RM, encoder, linear": "@linear",
        },
        best_of_n=None,
    )
    if size == "tiny":
        stages = _tiny(stages)
    return Experiment("encoder_reward", stages, whole.settings).to_config()


def _tiny(stages: dict) -> dict:
    small = {"embed_dim": 32, "num_layers": 1, "num_heads": 2, "mlp_dim": 48}
    rows = {"pretraining": 200, "demonstrations": 60, "rankings": 40, "skills": 5}
    rows |= {"held_out_rankings": 10, "prompts": 120}
    changes = {
        "world": {"sizes": rows},
        "pretrain": {
            "steps": 6,
            "evaluate_every": 3,
            "model": TrunkConfig(1536, quickstart.WINDOW, **small),
        },
        "sft": {"epochs": 1},
        "ppo_init": {"epochs": 1},
        "candidates_sft": {"max_prompts": 8},
        "candidates_init": {"max_prompts": 8},
        "encoder": {"encoder": dataclasses.replace(ENCODER, **small)},
        "linear": {"encoder": dataclasses.replace(ENCODER, **small)},
    }
    for name in ("ppo", "ppo_encoder"):
        changes[name] = {"episodes": 16, "batch_size": 8, "minibatch_size": 8}
        changes[name] |= {"snapshot_every": None, "value_warmup_iterations": 0}
        changes[name] |= {"prompt_buckets": ()}
    changes["report"] = {"max_prompts": 8, "samples_per_prompt": 1, "max_windows": 8}
    changes["report"] |= {"frontier_prompts": 8, "skill_examples": 4}
    return {
        name: dataclasses.replace(config, **changes.get(name, {}))
        for name, config in stages.items()
    }
