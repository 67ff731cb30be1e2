"""A bundle with a busybox root, and a way to call OCI runtimes on it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[3]
APPLETS = "sh ls cat echo true false sleep id mount ps env hostname grep kill touch stat tty stty"
WORDS = [sys.executable, "-m", "labkit.host.isolation.oci"]


class Runtime:
    """labkit-oci with a state folder and a bundle of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.bundle = folder / "bundle"
        make_rootfs(self.bundle / "rootfs")
        self("spec", "--bundle", str(self.bundle))
        self.change(lambda config: config["process"].update(terminal=False))

    def words(self, *words: str) -> list[str]:
        return [*WORDS, "--root", str(self.root), *words]

    def __call__(
        self, *words: str, check: bool = True, stdin: str = "", **more: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a command with its output in files: a container's process may outlive it, and would
        keep a pipe open."""
        if words[0] in ("create", "run") and (self.bundle / "config.json").exists():
            # Groups are told apart by more than the container's name: other tests run beside us.
            place = f"/labkit-oci/{self.folder.name}-{words[-1].replace('/', '')}"
            self.change(lambda config: config["linux"].update(cgroupsPath=place))
        with open(self.folder / "out", "w+") as out, open(self.folder / "err", "w+") as err:
            done = subprocess.run(
                self.words(*words),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                check=False,
                env={**os.environ, "PYTHONPATH": str(TOP)},
                timeout=120,
                **more,
            )
            out.seek(0)
            err.seek(0)
            result = subprocess.CompletedProcess(words, done.returncode, out.read(), err.read())
        assert not check or result.returncode == 0, (words, result.returncode, result.stderr)
        return result

    @property
    def config(self) -> dict[str, Any]:
        return json.loads((self.bundle / "config.json").read_text())

    def change(self, how: Any) -> None:
        """Edit config.json."""
        config = self.config
        how(config)
        (self.bundle / "config.json").write_text(json.dumps(config))

    def command(self, *args: str) -> None:
        """What the container's process is to be."""
        self.change(lambda config: config["process"].update(args=list(args)))

    def shell(self, script: str, name: str = "one") -> subprocess.CompletedProcess[str]:
        """`run` a script in the bundle."""
        self.command("sh", "-c", script)
        return self("run", "--bundle", str(self.bundle), name, check=False)

    def create(self, name: str = "one", *flags: str) -> None:
        self("create", "--bundle", str(self.bundle), *flags, name)

    def state(self, name: str = "one") -> dict[str, Any]:
        return json.loads(self("state", name).stdout)

    def wait_status(self, wanted: str, name: str = "one") -> dict[str, Any]:
        """Until the container is in this state."""
        deadline = time.monotonic() + 60
        while (found := self.state(name))["status"] != wanted:
            assert time.monotonic() < deadline, found
            time.sleep(0.02)
        return found

    def close(self) -> None:
        for name in self("list", "-q").stdout.split():
            self("delete", "--force", name)


def make_rootfs(rootfs: Path) -> None:
    busybox = shutil.which("busybox")
    assert busybox is not None
    for name in ("bin", "proc", "dev", "sys", "tmp", "etc"):
        (rootfs / name).mkdir(parents=True)
    shutil.copy(busybox, rootfs / "bin/busybox")
    for name in APPLETS.split():
        (rootfs / "bin" / name).symlink_to("busybox")
    (rootfs / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")


def groups_named(text: str) -> list[str]:
    """Control groups with `text` in their name."""
    found = subprocess.run(
        ["find", "/sys/fs/cgroup", "-maxdepth", "3", "-name", f"*{text}*", "-type", "d"],
        capture_output=True,
        text=True,
        check=False,
    )
    return sorted(found.stdout.split())


@contextmanager
def runtime(folder: Path) -> Iterator[Runtime]:
    """A runtime that leaves no container, group or mount behind."""
    made = Runtime(folder)
    yield made
    made.close()
    assert json.loads(made("list", "--format", "json").stdout) == []
    assert str(folder) not in Path("/proc/self/mountinfo").read_text()
    assert groups_named(folder.name) == []


def hook(path: Path, script: str) -> Mapping[str, Any]:
    """A hook that is a shell script."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {"path": str(path)}
