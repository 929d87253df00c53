"""All tables of a run: samples in, `results.json` and `samples.jsonl` out."""

import pathlib

from rlhf_jax.data import Text
from rlhf_jax.data.inputs import read_prompts, read_rows
from rlhf_jax.evaluation.statistics.tables import result_table
from rlhf_jax.evaluation.suites.world import (
    world_bias,
    world_hallucination,
    world_skills,
    world_toxicity,
    world_truth,
)
from rlhf_jax.registry.directories import load_model
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
from rlhf_jax.training.session import RunSettings


def run(
    config: Config, workdir: str | pathlib.Path, settings: RunSettings | None = None
) -> pathlib.Path:
    """Writes `results.json` and `samples.jsonl`; returns the first."""
    settings = settings or RunSettings()
    options = {"mesh": settings.make_mesh(), "light": settings.light}
    workdir = pathlib.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    models = {
        name: load_model(path, **options)
        for name, path in zip(config.names, config.policies, strict=True)
    }
    prompts = read_prompts((f"{config.world}/prompts.test.jsonl",))
    held_out = prompts[: config.max_prompts]
    prompts = [p for p in held_out for _ in range(config.samples_per_prompt)]
    policies = {
        name: make_policy(config, name, model) for name, model in models.items()
    }
    samples = {
        name: policy.sample([p.prompt for p in prompts], config.seed)
        for name, policy in policies.items()
    }
    closed = any(prompt.meta.get("closed_domain") for prompt in prompts)
    pretraining = read_rows((f"{config.world}/pretraining.valid.jsonl",), Text)
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
        "frontier": frontier(config, held_out, options),
    }
    if config.reward:
        results["proxy"] = proxy_scores(config, prompts, samples, options)
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
