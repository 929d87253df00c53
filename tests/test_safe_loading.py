"""No file that we open can run code: no pickle, no eval, no remote code."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parent.parent / "rlhf_jax"
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
CALLS = {"eval", "exec", "compile", "__import__"}
METHODS = {
    ("torch", "load"),
    ("yaml", "load"),
    ("yaml", "unsafe_load"),
    ("os", "system"),
}
KEYWORDS = {"allow_pickle", "trust_remote_code", "shell"}


def dangers(source):
    """(line, what) of each way to run code out of data."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] in MODULES:
                    yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").split(".")[0] in MODULES:
                yield node.lineno, node.module
        elif isinstance(node, ast.Call):
            yield from _called(node)


def _called(node):
    function = node.func
    if isinstance(function, ast.Name) and function.id in CALLS:
        yield node.lineno, function.id
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        if (function.value.id, function.attr) in METHODS:
            yield node.lineno, f"{function.value.id}.{function.attr}"
    for keyword in node.keywords:
        value = getattr(keyword.value, "value", True)
        if keyword.arg in KEYWORDS and value is not False:
            yield node.lineno, keyword.arg


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_nothing_that_we_load_can_run_code(path):
    assert list(dangers(path.read_text())) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "eval(text)",
        "torch.load(path, weights_only=True)",
        "yaml.load(file)",
        "np.load(path, allow_pickle=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=flag)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_each_way_is_noticed(line):
    assert list(dangers(line))


def test_the_harmless_is_left_alone():
    assert not list(dangers("np.load(path, allow_pickle=False); json.load(file)"))
