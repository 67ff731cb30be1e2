"""Our registry as the process it is, beside the tools that others use."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from labkit.host.image.catalog import Catalog
from labkit.host.image.reference import parse
from labkit.host.image.store import ImageStore

ROOT = Path(__file__).resolve().parents[3]


@dataclass
class RegistryProcess:
    """`python -m labkit.daemon.registry_api`: started, killed, started again on the same folder."""

    root: Path
    arguments: tuple[str, ...] = ()
    address: str = "127.0.0.1:0"
    process: subprocess.Popen[str] = field(init=False)

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "labkit.daemon.registry_api", "--listen", self.address,
             "--root", str(self.root), *self.arguments],
            env={**_clean_environment(), "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("listening on "), line
        self.address = line.split()[-1]

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        status = self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status


def _clean_environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("REGISTRY_")}


@pytest.fixture
def our_registry(tmp_path: Path) -> Iterator[RegistryProcess]:
    registry = RegistryProcess(tmp_path / "registry")
    registry.start()
    yield registry
    if registry.process.poll() is None:
        assert registry.stop() == 0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    opened = ImageStore(tmp_path / "docker")
    yield opened
    opened.close()


@pytest.fixture
def busybox(store: ImageStore) -> str:
    """The busybox stand-in, tagged; its id."""
    catalog = Catalog()
    entry = catalog.resolve(parse("busybox"))
    assert entry is not None
    image_id = catalog.build(entry, store).image_id
    store.set_tag(parse("busybox"), image_id)
    return image_id


def tool(name: str, *arguments: str, check: bool = True) -> str:
    """Run one of the others' programs; skip where it is not installed."""
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"{name} is not installed")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout if done.returncode == 0 else done.stderr


@pytest.fixture(name="tool")
def tool_fixture() -> object:
    return tool
