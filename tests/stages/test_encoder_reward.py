"""The encoder as a reward model: trained, scored, saved, and trained against."""

import dataclasses
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_experiment
from stage_worker import on_one_device
from tiny_experiment import LENGTHS, adam
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, processors

from rlhf_jax import data
from rlhf_jax.cli import main
from rlhf_jax.data import ByteTokenizer, Ranking, SubwordTokenizer
from rlhf_jax.data.inputs import numeric
from rlhf_jax.errors import InputError
from rlhf_jax.losses import normalize
from rlhf_jax.models import (
    EncoderConfig,
    EncoderRewardModel,
    TrunkConfig,
    abstract_params,
)
from rlhf_jax.pipeline import Experiment, RunSettings
from rlhf_jax.pipeline.checks import problems_of
from rlhf_jax.pipeline.plan import plans
from rlhf_jax.registry import (
    EncoderReward,
    as_reward,
    fresh_encoder,
    load_bert,
    load_model,
    load_reward,
    save_model,
)
from rlhf_jax.registry.directories import kind_of_model
from rlhf_jax.registry.ensemble import ensemble_of
from rlhf_jax.stages import ppo, reward
from rlhf_jax.stages.pretrain import fresh_model
from rlhf_jax.stages.reward import ranking_scores
from rlhf_jax.stages.reward.run import starting_point
from rlhf_jax.tracking import read_metrics
from rlhf_jax.training import OptimizerConfig

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "models/golden"
SHAPE = EncoderConfig(
    context_length=24, embed_dim=16, num_layers=1, num_heads=2, mlp_dim=32
)
SETTINGS = reward.Config(
    max_prompt=16,
    max_response=10,
    max_k=3,
    batch_size=8,
    epochs=6,
    optimizer=adam(1e-2),
)
# the better answer has more stars; long ones lose their end
RANKINGS = [
    Ranking(
        id=str(i),
        prompt="ask " + "abcd"[i % 4] * (1 + i % 5),
        responses=["*" * (1 + i % 4) + "..", "." * (2 + i % 3), "*." + "." * (i % 9)],
        ranks=[1, 3, 2],
    )
    for i in range(40)
]


def bert_tokenizer() -> SubwordTokenizer:
    """Letters between [CLS] and [SEP], in the form in which BERT's are published."""
    letters = "abcdefghijklmnopqrstuvwxyz ."
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters]
    vocab = {text: i for i, text in enumerate(names)}
    backend = Backend(models.WordLevel(vocab, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.add_special_tokens(names[:4])
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    keys = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    keys |= {"cls_token": "[CLS]", "sep_token": "[SEP]"}
    return SubwordTokenizer(backend, keys)


@pytest.fixture(scope="module", autouse=True)
def one_device():
    on_one_device()


@pytest.fixture(scope="module")
def loud():
    """A fresh encoder whose scores differ visibly."""
    made = fresh_encoder(SHAPE, bert_tokenizer(), jax.random.key(0))
    params = jax.tree.map(lambda leaf: 3.0 * leaf, made.params)
    meta = {"max_prompt": 16, "max_response": 10}
    return dataclasses.replace(made, params=params, meta=meta)


@pytest.fixture(scope="module")
def trained():
    start = fresh_encoder(SHAPE, ByteTokenizer(), jax.random.key(0))
    run = reward.train(start, RANKINGS, config=SETTINGS)
    return list(run), run.model


def test_an_encoder_learns_its_rankings(trained):
    rows, model = trained
    first, last = (np.mean([r["loss"] for r in part]) for part in (rows[:4], rows[-4:]))
    assert last < 0.5 * first
    found = reward.ranking_report(as_reward(model).score, RANKINGS)
    assert found["accuracy"] > 0.9


def test_training_and_scoring_read_the_same_ids_and_give_the_same_numbers(loud):
    stream = data.ranking_stream(
        RANKINGS, loud.tokenizer, apart=True, batch_size=8, max_prompt=16,
        max_response=10, max_k=4,
    )  # fmt: skip
    batch = stream.batch(0)
    scores = np.asarray(ranking_scores(loud.model, loud.params, numeric(batch)))
    judge = as_reward(loud)
    pairs = [(r.prompt, said) for r in RANKINGS for said in r.responses]
    alone = judge.score(*zip(*pairs, strict=True)).reshape(-1, 3)
    begin, end = loud.tokenizer.begin_token, loud.tokenizer.end_token
    assert (begin, end) == (2, 3)
    for i, row in enumerate(batch["row"]):
        ranking = RANKINGS[row]
        read = batch["prompts"][i][batch["prompt_valid"][i]].tolist()
        assert read == [begin, *loud.tokenizer.encode(ranking.prompt), end]
        for k, response in enumerate(ranking.responses):
            read = batch["responses"][i, k][batch["response_valid"][i, k]].tolist()
            assert read == [begin, *loud.tokenizer.encode(response), end][:10]
        np.testing.assert_allclose(scores[i, :3], alone[row], atol=1e-4)
    cut = sum(stream.account.cut.values())  # responses of 9 letters or more
    assert cut == judge.counts["responses cut"] > 0 and np.std(alone) > 0.05


def test_a_prompt_too_long_is_no_ranking_to_learn_from_and_is_counted():
    long = RANKINGS[0].model_copy(update={"prompt": "p" * 16})  # and its end
    stream = data.ranking_stream(
        [long, RANKINGS[1]], ByteTokenizer(), apart=True, batch_size=1, max_prompt=16
    )
    assert len(stream) == 1 and stream.account.dropped.total() == 1


def test_absent_rows_and_responses_change_neither_loss_nor_gradient(loud):
    def of(batch_size, max_k):
        stream = data.ranking_stream(
            RANKINGS[:3], loud.tokenizer, apart=True, batch_size=batch_size,
            max_prompt=16, max_response=10, max_k=max_k,
        )  # fmt: skip
        batch = numeric(stream.batch(0))
        batch["weights"] = normalize(jnp.asarray(batch["mask"]))
        loss = reward.make_loss(loud.model)
        gradient = jax.value_and_grad(lambda p: loss(p, batch, jax.random.key(0))[0])
        return jax.jit(gradient)(loud.params)

    (one, a), (two, b) = of(3, 3), of(4, 5)
    np.testing.assert_allclose(one, two, rtol=1e-5)
    for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5, rtol=1e-4)


def test_batch_mates_and_their_padding_change_no_score(loud):
    prompts = [ranking.prompt for ranking in RANKINGS[:5]]
    responses = [ranking.responses[0] for ranking in RANKINGS[:5]]
    together = as_reward(loud).score(prompts, responses)
    one_by_one = as_reward(loud, batch_size=1)
    alone = [
        one_by_one.score([p], [r])[0] for p, r in zip(prompts, responses, strict=True)
    ]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_the_policy_s_lengths_are_not_the_encoder_s(loud):
    judge = as_reward(loud, max_prompt=3, max_response=3, batch_size=4)
    assert isinstance(judge, EncoderReward)
    np.testing.assert_allclose(
        judge.score(["abcdef"], ["fedcba"]),
        as_reward(loud).score(["abcdef"], ["fedcba"]),
        atol=1e-6,
    )
    assert not judge.counts["prompts cut"]


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_of_the_linear_variant_only_the_head_moves(name):
    start = fresh_encoder(SHAPE, ByteTokenizer(), jax.random.key(0))
    optimizer = OptimizerConfig(name=name, learning_rate=0.1, weight_decay=0.1)
    if name == "adam":
        optimizer = dataclasses.replace(optimizer, weight_decay=0.0)
    config = dataclasses.replace(SETTINGS, frozen=True, optimizer=optimizer)
    run = reward.train(start, RANKINGS, config=config)
    rows, model = list(run), run.model
    for x, y in zip(
        *(jax.tree.leaves(m.params["encoder"]) for m in (start, model)), strict=True
    ):
        np.testing.assert_array_equal(x, y)
    assert not np.allclose(
        model.params["head"]["kernel"], start.params["head"]["kernel"]
    )
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_the_head_of_a_decoder_can_be_trained_alone(tiny):
    config = tiny.config("reward", epochs=1, frozen=True)
    start = load_model(config.init)
    rankings = data.read(config.rankings[0])
    model = reward.train(start, rankings, config=config).model
    for x, y in zip(
        *(jax.tree.leaves(m.params["trunk"]) for m in (start, model)), strict=True
    ):
        np.testing.assert_array_equal(x, y)


@pytest.fixture(scope="module")
def stage(tiny, tmp_path_factory):
    """The directory of a reward stage with a fresh encoder."""
    lengths = {"max_prompt": 50, "max_response": 14}
    config = dataclasses.replace(
        tiny.config("reward", epochs=1),
        init="",
        encoder=dataclasses.replace(SHAPE, context_length=50),
        tokenizer=str(tiny.done("world") / "tokenizer"),
        **lengths,
    )
    workdir = tmp_path_factory.mktemp("encoder")
    reward.run(config, workdir, tiny.settings)
    return workdir


def test_a_stage_makes_an_encoder_that_is_read_by_its_name(tiny, stage):
    loaded = load_model(stage)
    assert loaded.model.config.vocab_size == loaded.tokenizer.vocab_size
    assert (loaded.meta["max_prompt"], loaded.meta["max_response"]) == (50, 14)
    judge = load_reward(stage, **LENGTHS)
    rows = list(data.read(tiny.config("reward").demonstrations[0]))
    said = judge.score([row.prompt for row in rows], [row.response for row in rows])
    assert abs(said.mean()) < 1e-5 and said.std() > 1e-4
    report = json.loads((stage / "report.json").read_text())
    assert 0 <= report["valid"]["accuracy"] <= 1
    assert report["bias"] == loaded.meta["bias"] != 0


def test_training_goes_on_from_an_encoder_s_directory(tiny, stage):
    config = tiny.config("reward", init=str(stage), max_prompt=50)
    start = starting_point(config)
    assert kind_of_model(start.model) == "encoder"
    with pytest.raises(InputError, match="pooling: .* is no BERT"):
        starting_point(dataclasses.replace(config, pooling="mean"))


def test_what_is_saved_scores_the_same(loud, tmp_path):
    save_model(tmp_path, loud.model, loud.params, loud.tokenizer, loud.meta)
    prompts, responses = ["ask me"] * 2, ["fine", "..."]
    np.testing.assert_array_equal(
        load_reward(tmp_path).score(prompts, responses),
        as_reward(loud).score(prompts, responses),
    )


def test_ppo_raises_the_score_of_an_encoder_with_a_tokenizer_of_its_own():
    policy = fresh_model(TrunkConfig(32, 32, 32, 1, 2), bert_tokenizer())
    shape = dataclasses.replace(SHAPE, pooling="mean")
    judge = fresh_encoder(shape, ByteTokenizer(), jax.random.key(0))
    params = jax.tree.map(lambda leaf: 3.0 * leaf, judge.params)
    config = ppo.Config(
        ptx_coef=0.0,
        advantages="leave_one_out",
        samples_per_prompt=4,
        batch_size=16,
        minibatch_size=16,
        episodes=16 * 14,
        inner_epochs=2,
        warmup_iterations=0,
        kl=ppo.KLControl(kl_coef=0.0),
        optimizer=OptimizerConfig(name="adam", learning_rate=1e-2, schedule="constant"),
        max_prompt=8,
        max_response=8,
    )
    run = ppo.train(
        policy,
        ["ask a", "say b", "tell c", "be d"],
        reward=dataclasses.replace(judge, params=params),
        config=config,
        settings=RunSettings(mesh="1,1,1"),
    )
    scores = [row["score"] for row in run]
    assert np.mean(scores[-3:]) > np.mean(scores[:3]) + 1.0


def test_a_stage_of_ppo_starts_its_value_from_the_policy(tiny, stage, tmp_path):
    tiny.run("ppo", tmp_path, reward=str(stage), episodes=8)
    (row,) = read_metrics(tmp_path)
    assert np.isfinite(row["score"]) and "value_explained_variance" in row


@pytest.fixture
def bert(tmp_path):
    """A BERT in transformers' layout, of 40 tokens, with a tokenizer."""
    folder = shutil.copytree(GOLDEN / "bert", tmp_path / "bert")
    bert_tokenizer().save(folder)
    return folder


def test_a_stage_starts_from_a_bert_under_a_fresh_head(bert, tmp_path, capsys):
    rankings, workdir = tmp_path / "rankings.jsonl", tmp_path / "reward"
    data.write_jsonl(rankings, RANKINGS)
    config = dataclasses.replace(
        SETTINGS, init=str(bert), rankings=(str(rankings),), pooling="mean", epochs=1
    )
    reward.run(config, workdir, RunSettings(mesh="1,1,1", tensorboard=False))
    loaded, read = load_model(workdir), load_bert(bert, jax.random.key(0))
    assert loaded.model.config.pooling == "mean"
    assert loaded.tokenizer.encode("a b") == bert_tokenizer().encode("a b")
    moved = abs(loaded.params["encoder"]["embed_norm"]["scale"] - 1.0)
    assert moved.max() > 0
    table = read.params["encoder"]["token_embed"]["embedding"]
    trained = loaded.params["encoder"]["token_embed"]["embedding"]
    np.testing.assert_array_equal(table[35:], trained[35:])  # no letter
    assert not np.array_equal(table[:10], trained[:10])
    for folder, told in ((workdir, "reward, encoder, "), (bert, "bert, encoder, ")):
        assert main(["inspect", str(folder), "--read"]) == 0
        assert told + "EncoderConfig(" in capsys.readouterr().out


def test_a_tokenizer_of_more_tokens_than_the_encoder_is_refused(bert):
    ByteTokenizer().save(bert)
    with pytest.raises(InputError, match="258 tokens, expected at most 40"):
        load_bert(bert, jax.random.key(0))


def test_a_bert_is_no_reward_before_it_is_trained(bert):
    with pytest.raises(InputError, match="model_type 'bert'"):
        load_reward(bert)


def test_settings_that_an_encoder_cannot_have_are_all_named():
    config = reward.Config(
        init="x",
        encoder=SHAPE,
        pooling="cls",
        rankings=("r.jsonl",),
        packed=(8,),
        seeds=(0, 1),
        residual_dropout=0.1,
    )
    found = "\n".join(config.problems())
    for key in ("init", "tokenizer", "pooling", "max_prompt", "max_response"):
        assert f"{key}: " in found
    for key in ("packed", "seeds", "residual_dropout"):
        assert f"{key}: " in found
    lacking = "\n".join(reward.Config(tokenizer="byte", pooling="max").problems())
    assert "init: the model to start from is needed, or a fresh encoder" in lacking
    assert "tokenizer: only for a fresh encoder" in lacking
    assert "pooling: 'max' is not 'cls', 'mean' or 'pooler'" in lacking
    start = fresh_encoder(SHAPE, ByteTokenizer(), jax.random.key(0))
    with pytest.raises(InputError, match="max_prompt: 1000 is over 24"):
        reward.train(start, RANKINGS, config=reward.Config())


def test_an_ensemble_is_of_decoders(loud, bert, tmp_path):
    rankings = tmp_path / "rankings.jsonl"
    data.write_jsonl(rankings, RANKINGS)
    config = dataclasses.replace(
        SETTINGS, init=str(bert), rankings=(str(rankings),), seeds=(0, 1)
    )
    with pytest.raises(InputError, match="seeds: an ensemble is of decoders"):
        reward.run(config, tmp_path / "run")  # before a member is trained
    with pytest.raises(InputError, match="expected decoders"):
        ensemble_of([loud, loud])


def planned(stages):
    return {plan.name: plan for plan in plans(Experiment("tiny", stages))}


def test_the_plan_counts_the_encoder_and_what_ppo_holds_of_it():
    stages = tiny_experiment.stages()
    stages = {name: stages[name] for name in ("pretrain", "ppo_init", "reward", "ppo")}
    stages["reward"] = dataclasses.replace(
        stages["reward"], init="", encoder=SHAPE, tokenizer="@world/tokenizer"
    )
    found = planned(stages)
    policy, model = found["pretrain"].params, EncoderRewardModel(SHAPE)
    size = sum(leaf.size for leaf in jax.tree.leaves(abstract_params(model)))
    assert found["reward"].params == size
    assert found["ppo"].params == 2 * policy  # the value is the policy's trunk
    assert found["ppo"].state_bytes == 4 * (policy * (5 + 4 + 1) + size)
    linear = dataclasses.replace(stages["reward"], frozen=True)
    frozen = planned({"reward": linear})["reward"]
    assert frozen.params == 2 * SHAPE.embed_dim + 1
    assert frozen.state_bytes == 4 * (size + 4 * frozen.params)


def test_the_checks_know_an_encoder_s_rooms(bert, tmp_path):
    stages = tiny_experiment.stages()
    stages["reward"] = dataclasses.replace(stages["reward"], init=str(bert), packed=())
    # as a policy it is none; as a reward its lengths are its own
    stages["dpo"] = dataclasses.replace(stages["dpo"], init=str(bert))
    found = list(problems_of(Experiment("tiny", stages)))
    assert [line.split(":")[0] for line in found] == [
        "config.reward.max_prompt",
        "config.reward.packed",
        "config.dpo.init",
    ]
