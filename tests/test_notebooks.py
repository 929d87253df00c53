"""The notebooks run from top to bottom, and lie in the repository without outputs."""

import json
import os
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ALL = [pytest.param(path, id=path.stem) for path in NOTEBOOKS]


def test_there_are_four_notebooks():
    names = [path.stem for path in NOTEBOOKS]
    assert names == [
        "1_losses",
        "2_three_stages",
        "3_rollouts",
        "4_your_own_algorithm",
    ]


@pytest.mark.parametrize("path", ALL)
def test_a_notebook_holds_no_output(path):
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None


@pytest.mark.slow
@pytest.mark.parametrize("path", ALL)
def test_a_notebook_runs(path, tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(path, as_version=4)
    environment = {**os.environ, "XLA_FLAGS": "", "PYTHONPATH": str(ROOT)}
    client = nbclient.NotebookClient(
        notebook,
        timeout=900,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute(env=environment)
