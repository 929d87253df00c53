"""The stages: Config, make_loss, run. Wiring, no arithmetic.

A stage is a loss and a stream of batches; a checkpoint joins one stage to the next.

simulate    the embedded world as files
prepare     data files -> record files, with the paper's rules and a report
labelled    labelled sentences -> rankings
tokenizer   a BPE trained on the experiment's text
pretrain    the GPT baseline
sft         supervised fine-tuning, and the initialisation of PPO
candidates  K responses per prompt, ranked by labelers
reward      the reward model from K-wise rankings
ppo         PPO and PPO-ptx
dpo         rankings without a reward model: DPO, IPO, KTO, SimPO, ORPO
best_of_n   the sampling baseline
evaluate    the tables and the report of a run
judge       policies by a classifier that shares nothing with the reward model
baselines   a reward model beside chance, length and a bag of words

likelihood  -log p(text), shared by pretraining, SFT and ptx
"""

import importlib
import types

# Every kind of stage: the module of this room with its Config and run. A new stage is
# registered here and nowhere else.
KINDS = (
    "simulate",
    "tokenizer",
    "prepare",
    "labelled",
    "pretrain",
    "sft",
    "candidates",
    "reward",
    "ppo",
    "dpo",
    "best_of_n",
    "evaluate",
    "judge",
    "baselines",
)

__all__ = ["KINDS", "module_of", *KINDS]  # noqa: PLE0604


def module_of(kind: str) -> types.ModuleType:
    """The module of a kind of stage; it loads when asked for."""
    return importlib.import_module(f"{__name__}.{kind}")


def __getattr__(name: str):
    if name in KINDS:
        return module_of(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
