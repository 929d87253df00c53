"""All tables of a run: samples in, `results.json` and `samples.jsonl` out."""

import pathlib

from rlhf_jax.data import Text
from rlhf_jax.data.account import Account
from rlhf_jax.data.encoding import said_before
from rlhf_jax.data.inputs import read_prompts, read_told
from rlhf_jax.evaluation.statistics.tables import result_table
from rlhf_jax.evaluation.suites.world import (
    world_bias,
    world_hallucination,
    world_skills,
    world_toxicity,
    world_truth,
)
from rlhf_jax.registry import load_model, reward_account, reward_of
from rlhf_jax.stages.evaluate.config import Config
from rlhf_jax.stages.evaluate.tables import (
    frontier,
    gold_table,
    make_policy,
    preference,
    proxy_scores,
)
from rlhf_jax.stages.likelihood import held_out_score
from rlhf_jax.storage import beside, write_json, write_lines
from rlhf_jax.training.session import RunSettings, tell_rows


def run(
    config: Config, workdir: str | pathlib.Path, settings: RunSettings | None = None
) -> pathlib.Path:
    """Writes `results.json` and `samples.jsonl`; returns the first."""
    settings = settings or RunSettings()
    options = {"mesh": settings.make_mesh(), "light": settings.light}
    workdir = pathlib.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    asked, read = Account("prompts"), Account("held-out texts")
    prompts = read_prompts((f"{config.world}/prompts.test.jsonl",), asked)
    held_out = asked.first(prompts, "max_prompts", config.max_prompts)
    models = {
        name: load_model(path, **options).in_form(held_out, where="evaluate.policies")
        for name, path in zip(config.names, config.policies, strict=True)
    }
    prompts = [p for p in held_out for _ in range(config.samples_per_prompt)]
    policies = {
        name: make_policy(config, name, model) for name, model in models.items()
    }
    samples = {
        name: policy.sample(list(map(said_before, prompts)), config.seed)
        for name, policy in policies.items()
    }
    for policy in policies.values():
        asked.cut_by_any("at the beginning to the context", policy.truncated)
    closed = any(prompt.meta.get("closed_domain") for prompt in prompts)
    pretraining = read_told((f"{config.world}/pretraining.valid.jsonl",), Text, read)
    tax = result_table(
        "Alignment tax",
        {
            name: [
                held_out_score(
                    models[name],
                    pretraining,
                    config.window,
                    batch_size=32,
                    most=config.max_windows,
                ),
                *world_skills(
                    policy, seed=config.world_seed, count=config.skill_examples
                ),
                *world_truth(policy, seed=config.world_seed),
                *world_toxicity(policy, seed=config.world_seed),
                *world_bias(policy),
                *(world_hallucination(policy, held_out) if closed else ()),
            ]
            for name, policy in policies.items()
        },
        baseline=config.names[0],
    )
    results = {
        "names": list(config.names),
        "baseline": config.baseline,
        "stages": beside(config.stages, workdir),
        "runs": beside(config.runs, workdir),
        "preference": preference(
            prompts,
            samples,
            baseline=config.baseline,
            labelers=config.labelers,
            world_seed=config.world_seed,
        ),
        "gold": gold_table(prompts, samples),
        "alignment_tax": tax.document(),
    }
    told, reward = [asked, read], None
    if config.reward:
        reward = reward_of(config, **options)
    results["frontier"] = frontier(config, held_out, reward, options)
    if reward is not None:
        results["proxy"] = proxy_scores(reward, prompts, samples)
        told.append(reward_account(reward))
    tell_rows(told, workdir)
    lines = (
        {
            "id": prompt.id,
            "use_case": prompt.use_case,
            "prompt": prompt.prompt,
            "responses": {name: rows[i] for name, rows in samples.items()},
        }
        for i, prompt in enumerate(prompts)
    )
    write_lines(workdir / "samples.jsonl", lines)
    target = workdir / "results.json"
    write_json(target, results)
    return target
