"""The floors of the house as a test: which part of labkit may import which.

The arrows point downwards only (README, "The floors"). A new edge is a decision about the design:
make it here first, with a reason.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "labkit"

# Longest prefix wins. The value lists what a part may import besides itself and labkit.base.
ALLOWED: dict[str, tuple[str, ...]] = {
    "labkit": ("labkit.notebook",),
    "labkit.base": (),
    "labkit.world": (),
    "labkit.host": ("labkit.world",),
    "labkit.host.isolation": (),
    # The snapshotter describes a root in the words of the container spec.
    "labkit.host.image": ("labkit.host.isolation.spec",),
    "labkit.host.network": (),
    "labkit.host.engine": (
        "labkit.world",
        "labkit.host.isolation",
        "labkit.host.image",
        "labkit.host.network",
    ),
    "labkit.cluster": ("labkit.world",),
    "labkit.daemon": ("labkit.host", "labkit.cluster", "labkit.world"),
    "labkit.isolation": ("labkit.host.isolation",),
    "labkit.notebook": (),
    "labkit.cli": ("labkit.notebook",),
}

# The package itself only holds the version and lazy doors; anybody may read the version.
ANYBODY = ("labkit", "labkit.base")

IMPURE = frozenset({"time", "random", "socket", "asyncio", "threading", "uuid", "secrets"})


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def part_of(module: str) -> str:
    found = [part for part in ALLOWED if module == part or module.startswith(part + ".")]
    return max(found, key=len)


def imports(module: str, path: Path) -> Iterator[tuple[int, str]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                stem = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*stem, base] if base else stem)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                target = PACKAGE.parent / Path(*full.split("."))
                is_module = target.with_suffix(".py").exists() or target.is_dir()
                yield node.lineno, full if is_module else base


def is_within(module: str, part: str) -> bool:
    return module == part or module.startswith(part + ".")


@pytest.mark.parametrize(("module", "path"), [pytest.param(*m, id=m[0]) for m in modules()])
def test_imports_go_downwards_only(module: str, path: Path) -> None:
    part = part_of(module)
    allowed = (part, *ALLOWED[part])
    for line, name in imports(module, path):
        if not is_within(name, "labkit") or name in ANYBODY or is_within(name, "labkit.base"):
            continue
        target = part_of(name)
        ok = any(is_within(name, a) for a in allowed if a != "labkit")
        ok = ok or (part == "labkit" and is_within(target, "labkit.notebook"))
        assert ok, f"{module}:{line} imports {name}: {part} may import only {allowed}"


def test_cluster_code_reads_no_clock_and_rolls_no_dice() -> None:
    for module, path in modules():
        if is_within(module, "labkit.cluster"):
            for line, name in imports(module, path):
                assert name.split(".")[0] not in IMPURE, f"{module}:{line} imports {name}"


def test_every_public_module_lists_what_it_exports() -> None:
    missing = [
        module
        for module, path in modules()
        if not module.rpartition(".")[2].startswith("_")
        and path.name not in ("__init__.py", "__main__.py")
        and "__all__" not in path.read_text(encoding="utf-8")
    ]
    assert not missing, f"modules without __all__: {missing}"


def test_the_top_level_is_the_house() -> None:
    """Nothing lies beside the folders that design and README name."""
    import subprocess

    root = PACKAGE.parent
    if not (root / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True
    ).stdout.decode()
    top = {name.split("/")[0] for name in listed.split("\0") if name}
    house = {
        "pyproject.toml",
        "README.md",
        "labkit",
        "native",
        "notebooks",
        "exercises",
        "tests",
        "binder",
        "Makefile",
        "LICENSE",
        "CHANGELOG.md",
    }
    assert {name for name in top if not name.startswith(".")} <= house


def test_every_test_module_has_a_name_of_its_own() -> None:
    """Pytest imports test modules by their bare names; two of one name cannot be collected."""
    seen: dict[str, Path] = {}
    for path in sorted((PACKAGE.parent / "tests").rglob("test_*.py")):
        if (path.parent / "__init__.py").exists():
            continue
        assert path.name not in seen, f"{path} and {seen[path.name]}"
        seen[path.name] = path
