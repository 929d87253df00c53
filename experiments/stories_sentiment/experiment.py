"""RLHF of a real pretrained language model: stories that turn out well.

Source: Ziegler et al. 2019 ("Fine-Tuning Language Models from Human Preferences", the
sentiment task), with InstructGPT's PPO-ptx. The policy is a pretrained model that
nobody here trained (stories260K: Llama's architecture, 260,032 parameters); what is
preferred is the sentiment that people saw in SST-2's sentences.

    RLHF_JAX_DATA=DIR rlhf-jax run experiments/stories_sentiment/experiment.py
    rlhf-jax run experiments/stories_sentiment/experiment.py:DIR --config.ppo_ptx...

Data, under DIR (an argument behind a colon, or RLHF_JAX_DATA, or "data"):
  models/stories260k          transformers' layout; hub: any causal model, such as
                              "roneneldan/TinyStories-1M"
  text_tinystories/*.jsonl.gz {"text": ...}; hub: "hf:roneneldan/TinyStories"
  sst2/sst2_{train,dev}.tsv.gz  sentence, label; hub: "stanfordnlp/sst2"

Reward model: the language model's trunk, trained on rankings made of SST-2's train
split, each response several sentences of one label written out as a story would be,
after a real opening, because that is where it will be used.
Judge: logistic regression on words and pairs of words, trained on another split (dev).
The phrases of both splits come from the same films' reviews, so labels are not
independent of each other; the model is of another kind.

Prompts: openings of 300 of 500 stories; judged on openings of 100 others.
Cost and results: docs/log.md, "stories_sentiment".
"""

import os

from rlhf_jax.pipeline import Experiment, RunSettings
from rlhf_jax.stages import best_of_n, judge, labelled, ppo, prepare, reward
from rlhf_jax.training import OptimizerConfig

LENGTHS = {"max_prompt": 56, "max_response": 40}
# name of a run -> (β in nats of reward per nat, γ of the pretraining mix)
RUNS = {
    "ppo_ptx": (0.3, 0.2),
    "ppo_ptx_low": (0.1, 0.2),
    "ppo_ptx_high": (0.6, 0.2),
    "ppo": (0.3, 0.0),
}


def adam(learning_rate: float, **changes) -> OptimizerConfig:
    """Adam as in InstructGPT's appendix C, at the rate that this size needs."""
    return OptimizerConfig(name="adam", learning_rate=learning_rate, **changes)


def ppo_config(policy: str, kl_coef: float, ptx_coef: float) -> ppo.Config:
    """PPO of appendix C.4 at this size: rollouts of 128, updates of 32.

    β is set by the spread of the reward: a policy that trades a normal reward of
    standard deviation σ against β·KL settles near KL = σ²/2β² nats, and σ is 1.7 here.
    """
    return ppo.Config(
        init=policy,
        reward="@reward/model",
        prompts=("@prepare/prompts.train.jsonl",),
        texts=("@prepare/texts.train.jsonl",) if ptx_coef else (),
        ptx_coef=ptx_coef,
        ptx_per_episode=1,
        ptx_window=96,
        episodes=128 * 30,
        batch_size=128,
        minibatch_size=32,
        optimizer=adam(5e-4, schedule="constant"),
        value_optimizer=adam(1e-3, schedule="constant"),
        clip_norm=1.0,
        ema_decay=0.95,
        value_warmup_iterations=2,
        warmup_iterations=4,
        kl=ppo.KLControl(kl_coef=kl_coef),
        snapshot_every=6,
        **LENGTHS,
    )


def get_config(data: str | None = None):
    """The experiment as a `ConfigDict`.

    Args:
      data: the folder of data and model; None: RLHF_JAX_DATA, or "data".
    """
    data = data or os.environ.get("RLHF_JAX_DATA", "data")
    policy = f"{data}/models/stories260k"
    stages = {
        "prepare": prepare.Config(
            texts=(f"{data}/text_tinystories/tinystories-first-500.jsonl.gz",),
            tokenizer=policy,
            openings=4,
            opening_words=(6, 16),
            valid=0.2,
            test=0.2,
        ),
        "comparisons": labelled.Config(
            labelled=(f"{data}/sst2/sst2_train.tsv.gz",),
            prompts=("@prepare/prompts.train.jsonl",),
            count=6000,
            response_words=(4, 28),
        ),
        "reward": reward.Config(
            init=policy,
            rankings=("@comparisons/rankings.train.jsonl",),
            valid_rankings=("@comparisons/rankings.valid.jsonl",),
            max_k=4,
            batch_size=32,
            optimizer=adam(2e-3, warmup_steps=20),
            clip_norm=1.0,
            **LENGTHS,
        ),
    }
    for name, (kl_coef, ptx_coef) in RUNS.items():
        stages[name] = ppo_config(policy, kl_coef, ptx_coef)
    stages["best_of_n"] = best_of_n.Config(
        policy=policy,
        reward="@reward/model",
        prompts=("@prepare/prompts.test.jsonl",),
        samples=32,
        max_prompts=64,
        **LENGTHS,
    )
    stages["report"] = judge.Config(
        names=("before", *RUNS),
        policies=(policy, *[f"@{name}/model" for name in RUNS]),
        labelled=f"{data}/sst2/sst2_dev.tsv.gz",
        reward="@reward/model",
        prompts=("@prepare/prompts.test.jsonl",),
        texts=("@prepare/texts.test.jsonl",),
        runs={name: f"@{name}" for name in RUNS},
        stages={"reward model": "@reward"},
        best_of_n="@best_of_n/samples.jsonl",
        **LENGTHS,
    )
    settings = RunSettings(save_every=500, fetch_every=4)
    return Experiment("stories_sentiment", stages, settings).to_config()
