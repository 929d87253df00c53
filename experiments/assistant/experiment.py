"""The InstructGPT recipe on human demonstrations and human rankings.

Source: Ouyang et al. 2022, all three steps, on data that people wrote and ranked, with
GPT-2's architecture and its true tokenizer.

    rlhf-jax run experiments/assistant/experiment.py:DIR              # gpt2 of the hub
    rlhf-jax run experiments/assistant/experiment.py:DIR,small        # no network
    rlhf-jax run experiments/assistant/experiment.py:DIR,124M --dry-run

The words behind the colon: the folder of data (else RLHF_JAX_DATA, else "data"), and
the size:
  gpt2   "gpt2" from the hub, bfloat16, the paper's batch sizes: one GPU
  124M   the same shape, pretrained on the text first: one GPU
  small  3 layers of width 64 under the same 50,257-token vocabulary, pretrained on the
         text first: two CPU cores

Data, under DIR; what a user with a network would take in brackets:
  demonstrations  dolly_sample [hf:databricks/databricks-dolly-15k], best replies of
                  oasst_trees [hf:OpenAssistant/oasst1], self_instruct's seed tasks
  rankings        siblings of oasst_trees (K = 2..9), hh_rlhf_harmless
                  [hf:Anthropic/hh-rlhf], pplm_human (three annotators each, agreement
                  reported, then one ranking by majority)
  prompts         OpenAssistant's prompt lottery, self_instruct's tasks
  texts           WikiText-2, C4, Wikipedia, four books of Project Gutenberg

`prepare` applies every rule of section 3.2 and A.2 and says in report.html what was
dropped and why; `report` sets the reward model beside chance, length and a bag of
words on rankings that nobody trained on.
Warning: HH-RLHF's harmless set holds abusive and harmful text. It is for reward models;
its replies are not demonstrations.
Cost and results: docs/log.md, "assistant".
"""

import dataclasses
import os

from rlhf_jax.errors import InputError
from rlhf_jax.models import TrunkConfig
from rlhf_jax.pipeline import Experiment, RunSettings
from rlhf_jax.stages import baselines, ppo, prepare, pretrain, reward, sft
from rlhf_jax.training import OptimizerConfig

BOOKS = ("being_ernest", "frankenstein", "grimm", "tom_sawyer")


@dataclasses.dataclass(frozen=True)
class Size:
    """What differs between a laptop and a GPU.

    Attributes:
      model: shape pretrained on the text; None: "gpt2" from the hub.
      lengths: longest prompt and response [tokens].
      window, pretrain_batch, pretrain_steps, pretrain_rate: of pretraining.
      sft_epochs, sft_batch, sft_rate: C.1 has 16 epochs of 32 at 9.65e-6 for 1.3B.
      reward_batch, reward_rate: prompts; C.2 has 64 at 9e-6.
      episodes, batch, minibatch, ppo_rate, value_rate: C.4 has 256k, 512, 64.
      ptx_coef, ptx_per_episode: C.4 has 27.8 and 8.
      microbatches: of the reward model and PPO.
      judged: held-out prompts for which every policy writes.
      dtype: of activations and products.
    """

    model: TrunkConfig | None
    lengths: dict[str, int]
    window: int
    pretrain_batch: int
    pretrain_steps: int
    pretrain_rate: float
    sft_epochs: int
    sft_batch: int
    sft_rate: float
    reward_batch: int
    reward_rate: float
    episodes: int
    batch: int
    minibatch: int
    ppo_rate: float
    value_rate: float
    ptx_coef: float
    ptx_per_episode: int
    microbatches: int
    judged: int
    dtype: str


GPT2 = TrunkConfig(
    vocab_size=50_257,
    context_length=1024,
    embed_dim=768,
    num_layers=12,
    num_heads=12,
    dtype="bfloat16",
)
LARGE = Size(
    model=GPT2,
    lengths={"max_prompt": 512, "max_response": 256},
    window=1024,
    pretrain_batch=64,
    pretrain_steps=600,
    pretrain_rate=6e-4,
    sft_epochs=16,
    sft_batch=32,
    sft_rate=2e-5,
    reward_batch=64,
    reward_rate=1e-5,
    episodes=512 * 60,
    batch=512,
    minibatch=64,
    ppo_rate=8.05e-6,
    value_rate=9e-6,
    ptx_coef=27.8,
    ptx_per_episode=8,
    microbatches=8,
    judged=400,
    dtype="bfloat16",
)
SMALL = Size(
    model=TrunkConfig(
        vocab_size=50_257,
        context_length=320,
        embed_dim=64,
        num_layers=3,
        num_heads=4,
    ),
    lengths={"max_prompt": 192, "max_response": 64},
    window=128,
    pretrain_batch=16,
    pretrain_steps=250,
    pretrain_rate=3e-3,
    sft_epochs=2,
    sft_batch=16,
    sft_rate=5e-4,
    reward_batch=16,
    reward_rate=3e-3,
    episodes=32 * 12,
    batch=32,
    minibatch=16,
    ppo_rate=1e-4,
    value_rate=5e-4,
    ptx_coef=1.0,
    ptx_per_episode=1,
    microbatches=1,
    judged=50,
    dtype="float32",
)
SIZES = {
    "gpt2": dataclasses.replace(LARGE, model=None),
    "124M": LARGE,
    "small": SMALL,
}


def adam(learning_rate: float, **changes) -> OptimizerConfig:
    """Adam as in appendix C."""
    return OptimizerConfig(name="adam", learning_rate=learning_rate, **changes)


def prepare_config(data: str, tokenizer: str, max_prompt: int) -> prepare.Config:
    """All data, through all rules."""
    trees = f"{data}/oasst_trees/en_trees-first-50.jsonl.gz"
    seeds = f"{data}/self_instruct/seed_tasks.jsonl"
    return prepare.Config(
        demonstrations=(
            f"{data}/dolly_sample/dolly_151.jsonl.gz",
            f"{trees}#oasst-demonstrations",
            seeds,
        ),
        rankings=(
            trees,
            f"{data}/hh_rlhf_harmless/harmless-base.test-first-1156.jsonl.gz",
            f"{data}/pplm_human/pplm_ab_3annotators.jsonl.gz",
        ),
        prompts=(f"{data}/oasst_trees/prompt_lottery_en_250_text.jsonl", seeds),
        texts=(
            f"{data}/text_wikitext2/valid.txt.gz#wikitext",
            f"{data}/text_c4_wiki_demo/c4_demo.jsonl.gz",
            f"{data}/text_c4_wiki_demo/wiki_demo.txt.gz#lines",
            *(f"{data}/text_gutenberg/pg-{b}.txt.gz#gutenberg" for b in BOOKS),
        ),
        tokenizer=tokenizer,
        max_prompt=max_prompt,
        valid=0.1,
        test=0.2,
    )


def pretrain_config(size: Size, tokenizer: str) -> pretrain.Config:
    """The language model where none is to be had."""
    return pretrain.Config(
        texts=("@prepare/texts.train.jsonl",),
        valid_texts=("@prepare/texts.valid.jsonl",),
        tokenizer=tokenizer,
        model=size.model,
        window=size.window,
        batch_size=size.pretrain_batch,
        steps=size.pretrain_steps,
        evaluate_every=size.pretrain_steps // 2,
        optimizer=OptimizerConfig(
            learning_rate=size.pretrain_rate,
            warmup_steps=size.pretrain_steps // 10,
            weight_decay=0.1,
        ),
    )


def ppo_config(size: Size, ptx_coef: float) -> ppo.Config:
    """PPO of appendix C.4; ptx_coef 0 is the paper's "PPO"."""
    return ppo.Config(
        init="@ppo_init/model",
        reward="@reward/model",
        prompts=("@prepare/prompts.train.jsonl",),
        texts=("@prepare/texts.train.jsonl",) if ptx_coef else (),
        ptx_coef=ptx_coef,
        ptx_per_episode=size.ptx_per_episode,
        ptx_window=min(size.window, 256),
        episodes=size.episodes,
        batch_size=size.batch,
        minibatch_size=size.minibatch,
        microbatches=size.microbatches,
        optimizer=adam(size.ppo_rate, schedule="constant"),
        value_optimizer=adam(size.value_rate, schedule="constant"),
        warmup_iterations=3,
        ema_decay=0.9 if size is SMALL else 0.992,
        clip_norm=1.0,
        snapshot_every=max(1, size.episodes // size.batch // 3),
        **size.lengths,
    )


def get_config(words: str | None = None):
    """The experiment as a `ConfigDict`.

    Args:
      words: "DIR", "SIZE" or "DIR,SIZE"; see above.

    Raises:
      InputError: an unknown size.
    """
    data, size, name = _parsed(words)
    tokenizer = f"{data}/gpt2_tokenizer" if size.model else "gpt2"
    pretrained = "@pretrain/model" if size.model else "gpt2"
    demonstrations = ("@prepare/demonstrations.train.jsonl",)
    stages = {"prepare": prepare_config(data, tokenizer, size.lengths["max_prompt"])}
    if size.model:
        stages["pretrain"] = pretrain_config(size, tokenizer)
    stages["sft"] = sft.Config(
        init=pretrained,
        dtype=size.dtype,
        demonstrations=demonstrations,
        valid_demonstrations=("@prepare/demonstrations.valid.jsonl",),
        epochs=size.sft_epochs,
        batch_size=size.sft_batch,
        optimizer=adam(size.sft_rate),
        **size.lengths,
    )
    stages["ppo_init"] = sft.ppo_init(
        pretrained,
        demonstrations,
        dtype=size.dtype,
        texts=("@prepare/texts.train.jsonl",),
        batch_size=size.sft_batch,
        optimizer=adam(size.sft_rate),
        **size.lengths,
    )
    stages["reward"] = reward.Config(
        init="@sft/model",
        rankings=("@prepare/rankings.train.jsonl",),
        valid_rankings=("@prepare/rankings.valid.jsonl",),
        demonstrations=demonstrations,
        k_buckets=(2, 4, 6),  # most people compared two; OpenAssistant's go to 9
        batch_size=size.reward_batch,
        microbatches=size.microbatches,
        optimizer=adam(size.reward_rate),
        clip_norm=1.0,
        **size.lengths,
    )
    stages["ppo"] = ppo_config(size, 0.0)
    stages["ppo_ptx"] = ppo_config(size, size.ptx_coef)
    curves = {"SFT": "@sft", "reward model": "@reward"}
    stages["report"] = baselines.Config(
        reward="@reward/model",
        rankings=("@prepare/rankings.train.jsonl",),
        held_out=("@prepare/rankings.test.jsonl",),
        preparation="@prepare/report.json",
        names=("GPT", "SFT", "PPO", "PPO-ptx"),
        policies=(pretrained, "@sft/model", "@ppo/model", "@ppo_ptx/model"),
        prompts=("@prepare/prompts.test.jsonl",),
        texts=("@prepare/texts.test.jsonl",),
        max_prompts=size.judged,
        runs={"PPO": "@ppo", "PPO-ptx": "@ppo_ptx"},
        stages={"pretrain": "@pretrain", **curves} if size.model else curves,
        window=size.window,
        **size.lengths,
    )
    settings = RunSettings(save_every=50 if size is SMALL else 100)
    return Experiment(f"assistant_{name}", stages, settings).to_config()


def _parsed(words: str | None) -> tuple[str, Size, str]:
    """(folder of data, size, its name)."""
    data, name = os.environ.get("RLHF_JAX_DATA", "data"), "gpt2"
    for word in filter(None, (words or "").split(",")):
        if word in SIZES:
            name = word
        elif "/" in word or os.path.isdir(word):
            data = word
        else:
            raise InputError(
                f"assistant: {word!r} is neither a folder nor one of {list(SIZES)}"
            )
    return data, SIZES[name], name
