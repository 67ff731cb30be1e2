"""A real IPython shell without a kernel, and a docker command line that notes its words."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from labkit.notebook import magics
from labkit.notebook.magics.session import Session

# Two noisy cores: how long an example takes says nothing.
settings.register_profile("labkit", deadline=None)
settings.load_profile("labkit")

Script = Callable[[Sequence[str], Any, Any], int]


class FakeDocker:
    """Stands for `commands.docker.main`; `script(words, client, surface)` is up to a test."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.script: Script = lambda words, client, surface: 0

    def main(self, argv: Sequence[str], *, client: Any, surface: Any, cwd: Path) -> int:
        assert cwd == Path.cwd()
        self.calls.append(list(argv))
        return self.script(argv, client, surface)


@pytest.fixture(autouse=True)
def folders(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A lab of the test's own, with short paths, and an engine that nobody starts."""
    with tempfile.TemporaryDirectory(prefix="lk-") as folder:
        monkeypatch.setenv("LABKIT_HOME", f"{folder}/home")
        monkeypatch.setenv("LABKIT_RUN", f"{folder}/run")
        monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
        yield Path(folder)


@pytest.fixture
def docker(monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    fake = FakeDocker()
    monkeypatch.setattr("labkit.notebook.commands.docker.main", fake.main)
    monkeypatch.setattr(Session, "docker", lambda self: "client")
    monkeypatch.setattr(Session, "ensure", lambda self: None)
    return fake


class Browser:
    """Stands for a kernel that a browser talks to."""

    _allow_stdin = True


@pytest.fixture
def with_browser(shell: InteractiveShell) -> InteractiveShell:
    shell.kernel = Browser()
    return shell


@pytest.fixture
def shell(
    docker: FakeDocker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[InteractiveShell]:
    monkeypatch.setenv("LABKIT_START", "on-demand")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.chdir(tmp_path)
    InteractiveShell.clear_instance()
    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell.instance(config=config)
    shell.run_line_magic("load_ext", "labkit")
    yield shell
    magics.unload_ipython_extension(shell)
    InteractiveShell.clear_instance()
