"""InstructGPT as the paper states it, for any of its three policy sizes.

Source: Ouyang et al. 2022; section and appendix beside each value. What the paper does
not state is marked NOT STATED here and in the stage's Config, with the default's
source. Pretraining follows Brown et al. 2020, table 2.1, for readers who have the
text; with a pretrained model at hand, override `--config.sft.init` and its siblings.

    rlhf-jax run experiments/instructgpt/1b3.py --dry-run

Data: JSONL records under `data/` (README, "Data"); the paper's own were never
published. Sizes were 12,725 demonstrations, 33,207 ranked prompts and 31,144 PPO
prompts (table 6).
Cost in the paper: 175B SFT 4.9 and PPO-ptx 60 petaflop/s-days (section 5.1).
"""

import dataclasses

from rlhf_jax.models import gpt3_config
from rlhf_jax.pipeline import Experiment, RunSettings
from rlhf_jax.stages import ppo, pretrain, reward, sft
from rlhf_jax.training import OptimizerConfig

TOKENIZER = "data/gpt2_tokenizer"
TEXTS = ("data/pretraining.jsonl",)
DEMONSTRATIONS = ("data/demonstrations.train.jsonl",)
VALID_DEMONSTRATIONS = ("data/demonstrations.valid.jsonl",)


@dataclasses.dataclass(frozen=True)
class Size:
    """What differs between the three policies.

    Attributes:
      gpt: name of the GPT-3 size.
      tokens_per_update: of pretraining; Brown et al. table 2.1.
      pretraining_rate: Brown et al. table 2.1.
      sft_rate, sft_batch: C.1.
      init_rate, init_batch: of the PPO initialisation, C.3.
      value_rate: C.4.
      ppo_rate: NOT STATED; the highest of the E.9 sweep that was stable without ptx
        for 1.3B and 6B; for 175B the lower of the two that were tried.
    """

    gpt: str
    tokens_per_update: int
    pretraining_rate: float
    sft_rate: float
    sft_batch: int
    init_rate: float
    init_batch: int
    value_rate: float
    ppo_rate: float


SIZES = {
    "1.3B": Size("1.3B", 2**20, 2e-4, 9.65e-6, 32, 5e-6, 32, 9e-6, 8.05e-6),
    "6B": Size("6.7B", 2**21, 1.2e-4, 9.65e-6, 32, 1.04e-5, 32, 9e-6, 8.05e-6),
    "175B": Size("175B", 3_276_800, 6e-5, 5.03e-6, 8, 2.45e-6, 8, 5e-6, 2.55e-6),
}


def adam(learning_rate: float, **changes) -> OptimizerConfig:
    """Adam β 0.9, 0.95 for all models (C); ε and weight decay are NOT STATED."""
    return OptimizerConfig(name="adam", learning_rate=learning_rate, **changes)


def gpt(size: Size) -> pretrain.Config:
    """The GPT-3 baseline: 300 B tokens, context 2048 (Brown et al. 2020, App. B)."""
    batch = size.tokens_per_update // 2048
    return pretrain.Config(
        texts=TEXTS,
        tokenizer=TOKENIZER,
        model=gpt3_config(size.gpt, dtype="bfloat16"),
        window=2048,
        batch_size=batch,
        microbatches=max(1, batch // 64),
        steps=300_000_000_000 // size.tokens_per_update,
        optimizer=OptimizerConfig(
            learning_rate=size.pretraining_rate, warmup_steps=375, weight_decay=0.1
        ),
        clip_norm=1.0,
    )


def baseline(init: str, size: Size) -> sft.Config:
    """The SFT baseline: 16 epochs, residual dropout 0.2, cosine to 10 % (C.1)."""
    return sft.Config(
        init=init,
        demonstrations=DEMONSTRATIONS,
        valid_demonstrations=VALID_DEMONSTRATIONS,
        epochs=16,
        batch_size=size.sft_batch,
        optimizer=adam(size.sft_rate),
        residual_dropout=0.2,
        select_by="loss",  # C.1 selects by RM score; see select_by="reward"
    )


def get_experiment(name: str) -> Experiment:
    """The whole recipe for the policy size `name`: "1.3B", "6B" or "175B"."""
    size, judge = SIZES[name], SIZES["6B"]
    stages = {"gpt": gpt(size)}
    if name != "6B":
        stages["gpt_6b"] = gpt(judge)  # one 6B reward model for all sizes (3.5)
    judge_gpt = "@gpt/model" if name == "6B" else "@gpt_6b/model"
    stages["sft"] = baseline("@gpt/model", size)
    if name != "6B":
        stages["sft_6b"] = baseline(judge_gpt, judge)
    stages["ppo_init"] = sft.ppo_init(
        "@gpt/model",
        DEMONSTRATIONS,
        texts=TEXTS,
        batch_size=size.init_batch,
        optimizer=adam(size.init_rate),
    )
    stages["reward"] = reward.Config(
        init="@sft/model" if name == "6B" else "@sft_6b/model",
        rankings=("data/rankings.train.jsonl",),
        valid_rankings=("data/rankings.valid.jsonl",),
        held_out_rankings=("data/rankings.held_out.jsonl",),
        demonstrations=DEMONSTRATIONS,
        epochs=1,
        batch_size=64,
        microbatches=16,
        optimizer=adam(9e-6),
    )
    for stage, ptx_coef in (("ppo", 0.0), ("ppo_ptx", 27.8)):
        stages[stage] = ppo.Config(
            init="@ppo_init/model",
            reward="@reward/model",
            prompts=("data/prompts.train.jsonl",),
            texts=TEXTS,
            ptx_coef=ptx_coef,
            ptx_per_episode=8,
            ptx_window=2048,  # NOT STATED; the context
            episodes=256_000,
            batch_size=512,
            minibatch_size=64,
            microbatches=16,
            inner_epochs=1,
            temperature=1.0,
            clip_range=0.2,
            kl=ppo.KLControl(kl_coef=0.02),
            optimizer=adam(size.ppo_rate, schedule="constant"),
            warmup_iterations=10,
            value_optimizer=adam(size.value_rate, schedule="constant"),
            ema_decay=0.992,
        )
    return Experiment(f"instructgpt_{name}", stages, RunSettings(mesh="auto"))
