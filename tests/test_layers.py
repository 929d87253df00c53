"""The house of docs/design.md: imports point one way, rooms are named."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parent.parent / "rlhf_jax"
ROOMS = [
    "losses",
    "storage",
    "data",
    "simulation",
    "models",
    "parallel",
    "checkpoints",
    "registry",
    "sampling",
    "tracking",
    "training",
    "experience",
    "feedback",
    "evaluation",
    "stages",
    "pipeline",
    "reports",
    "labelling",
    "cli",
]
ROOT_MODULES = {
    "errors",
    "faults",
    "literal",
    "schema",
}  # importable by every room but losses
FILES = sorted(PACKAGE.rglob("*.py"))


def imported_names(path: pathlib.Path) -> list[tuple[int, str]]:
    """(line, dotted name) of every import in a file, relative ones made absolute."""
    package = ("rlhf_jax", *path.relative_to(PACKAGE).parts[:-1])
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parent = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*parent, *([node.module] if node.module else [])])
            found.append((node.lineno, module))
            if module == "rlhf_jax":
                found += [(node.lineno, f"{module}.{a.name}") for a in node.names]
    return found


def room_of(path: pathlib.Path) -> str | None:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else None


def test_the_rooms_of_the_package_are_the_rooms_of_the_design():
    folders = {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").exists()}
    assert folders == set(ROOMS)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_upwards_only(path):
    room = room_of(path)
    for line, name in imported_names(path):
        parts = name.split(".")
        if parts[0] != "rlhf_jax" or len(parts) < 2:
            continue
        if parts[1] in ROOMS and room is not None:
            assert ROOMS.index(parts[1]) <= ROOMS.index(room), f"{path}:{line}: {name}"
        if parts[1] in ROOT_MODULES:
            assert room != "losses", f"{path}:{line}: losses are pure: {name}"


@pytest.mark.parametrize(
    ("library", "rooms"),
    [
        ("flax", {"models"}),
        ("torch", set()),
        ("orbax", {"checkpoints"}),
        ("pickle", set()),
    ],
)
def test_a_library_is_imported_only_in_its_room(library, rooms):
    for path in FILES:
        if room_of(path) in rooms:
            continue
        for line, name in imported_names(path):
            assert name.split(".")[0] != library, f"{path}:{line}: {name}"


@pytest.mark.parametrize("room", ["losses", "data", "simulation"])
def test_pure_rooms_stay_pure(room):
    allowed_jax = room == "losses"
    for path in (PACKAGE / room).rglob("*.py"):
        for line, name in imported_names(path):
            top = name.split(".")[0]
            if not allowed_jax:
                assert top not in {"jax", "optax"}, f"{path}:{line}: {name}"


def test_no_room_without_a_name():
    nameless = {"utils", "common", "helpers", "base", "misc"}
    assert not [str(p) for p in PACKAGE.rglob("*") if p.stem in nameless]


HEAVY = (
    "transformers",
    "datasets",
    "orbax",
    "tensorboard",
    "matplotlib",
    "sklearn",
    "pandas",
    "wandb",
    "fastapi",
    "sqlalchemy",
    "uvicorn",
)


def test_importing_the_package_is_light():
    """`import rlhf_jax` and its losses load none of the heavy libraries."""
    import subprocess
    import sys

    code = (
        "import sys, rlhf_jax, rlhf_jax.losses, rlhf_jax.data, rlhf_jax.models\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"
