"""Every experiment that ships can be planned, on a laptop, without its data."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import pytest

from rlhf_jax.pipeline.experiment import load_experiment
from rlhf_jax.pipeline.plan import describe, plans
from rlhf_jax.simulation import make_world
from rlhf_jax.simulation.candidates import write_response
from rlhf_jax.simulation.dataset import prompt_set
from rlhf_jax.simulation.dice import Dice

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "experiments"
FILES = [
    path
    for path in sorted(FOLDER.rglob("*.py"))
    if "def get_config(" in path.read_text()
]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(FOLDER)))
def test_an_experiment_loads_and_plans(path):
    experiment, overrides = load_experiment(str(path), [])
    assert overrides == {}
    text = describe(experiment)
    assert all(name in text for name in experiment.stages)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(FOLDER)))
def test_an_experiment_says_its_source_and_its_command(path):
    header = path.read_text().split('"""')[1]
    assert "rlhf-jax run" in header


def test_the_largest_plan_has_the_paper_s_numbers():
    path = FOLDER / "instructgpt/175b.py"
    experiment, _ = load_experiment(str(path), [])
    found = {plan.name: plan for plan in plans(experiment)}
    assert 174e9 < found["gpt"].params < 176e9
    assert found["ppo_ptx"].steps == 500
    assert "4000 updates" in found["ppo_ptx"].note
    config = experiment.stages["ppo_ptx"]
    assert (config.ptx_coef, config.kl.kl_coef, config.clip_range) == (27.8, 0.02, 0.2)
    assert (config.batch_size, config.minibatch_size) == (512, 64)
    assert experiment.stages["sft"].optimizer.learning_rate == 5.03e-6
    assert experiment.stages["ppo_init"].optimizer.learning_rate == 2.45e-6
    assert experiment.stages["ppo_ptx"].value_optimizer.learning_rate == 5e-6


def test_the_dry_run_is_a_command_that_allocates_nothing():
    command = [sys.executable, "-m", "rlhf_jax.cli", "run"]
    words = [str(FOLDER / "instructgpt/175b.py"), "--dry-run"]
    done = subprocess.run(
        [*command, *words, "--config.ppo.kl.kl_coef=0.05"],
        capture_output=True,
        text=True,
        cwd=FOLDER.parent,
    )
    assert "ppo_ptx" in done.stdout
    # the paper's data were never published: the plan is told, and what is missing
    assert done.returncode == 2
    first, *lines = done.stderr.strip().splitlines()
    assert first.startswith("rlhf-jax run: the experiment has ")
    assert lines and all("data/" in line and "no such" in line for line in lines)


def test_a_wrong_override_is_one_message_and_exit_code_2():
    command = [sys.executable, "-m", "rlhf_jax.cli", "run"]
    words = [str(FOLDER / "quickstart.py"), "--dry-run", "--config.ppo.kl_coeff=1"]
    done = subprocess.run(
        [*command, *words], capture_output=True, text=True, cwd=FOLDER.parent
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "kl_coeff" in done.stderr


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """What the table over seeds reads of two finished runs of the demo."""
    root = tmp_path_factory.mktemp("seeds")
    config = {"baseline": "SFT", "labelers": "simulated:held_out", "world_seed": 0}
    prompts = prompt_set(make_world(0), "prompts", 8, set())
    for run in ("quickstart-0", "quickstart-1"):
        for folder in ("world", "report"):
            (root / run / folder).mkdir(parents=True)
        lines = [prompt.model_dump_json() for prompt in prompts]
        (root / run / "world" / "prompts.test.jsonl").write_text("\n".join(lines))
        (root / run / "report" / "config.json").write_text(json.dumps(config))
        rows = []
        for number, prompt in enumerate(prompts):
            ideal = write_response(prompt, "ideal", Dice(run, number))
            # the second run's PPO writes nothing at all
            best = ideal if run.endswith("0") else ""
            said = {"SFT": "", "PPO init": "", "PPO": best}
            rows.append(json.dumps({"id": prompt.id, "responses": said}))
        (root / run / "report" / "samples.jsonl").write_text("\n".join(rows))
    return sorted(root.iterdir())


def test_seeds_are_judged_together(two_runs):
    spec = importlib.util.spec_from_file_location(
        "quickstart_seeds", FOLDER / "quickstart_seeds.py"
    )
    seeds = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(seeds)
    row = "PPO against SFT, gold utility"
    assert seeds.pooled(two_runs[:1])[row][0] == 1.0
    assert seeds.pooled(two_runs[1:])[row][0] == 0.5  # all are ties
    together = seeds.pooled(two_runs)
    assert together[row][0] == 0.75
    assert together["PPO against PPO init, gold utility"][0] == 0.75
    # an ideal answer is worth 1, an empty one -0.6
    gained, low, high = together["gold utility of PPO over PPO init"]
    assert gained == pytest.approx(0.8) and low <= gained <= high
