"""What every test may ask for. Fixtures that start a lab live beside the tests that need one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from labkit.base.paths import LabPaths

# What decides whether a change lands is the same on every run; chance looks for new failures in
# `make test-all`, whose finds become examples here.
hypothesis.settings.register_profile("lands", derandomize=True, deadline=None)
hypothesis.settings.register_profile("explores", deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "lands"))

# A shell without job control starts `make test &` with SIGINT ignored, for all its descendants
# too; the tests of the stop button would then wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """A folder whose name leaves room for socket addresses (108 bytes); pytest's own does not."""
    folder = Path(tempfile.mkdtemp(prefix="lk", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def lab_paths(short_tmp: Path) -> LabPaths:
    """The folders of a lab that belongs to one test."""
    paths = LabPaths(short_tmp / "home", short_tmp / "run")
    paths.prepare()
    return paths


def no_namespaces() -> str:
    """Why there can be no containers here, or an empty text."""
    from labkit.host.isolation.probe import probe

    found = probe()
    if found.mode != "hollow":
        return ""
    return f"no containers here: {found.reasons[0].name}: {found.reasons[0].found}"


def no_mounted_root() -> str:
    """Why `/` is not the root of its mount namespace, or an empty text.

    In a chroot, entering a container's mount namespace from outside it (setns(2)) leads to the
    machine's root; a lab's anchor makes its own tree a true root, a bare runtime cannot.
    """
    question = "import sys; from labkit.base.syscalls import in_chroot; sys.exit(in_chroot())"
    done = subprocess.run([sys.executable, "-c", question], capture_output=True, check=False)
    return "needs a root of its own: this is a chroot" if done.returncode else ""


def no_user_namespaces() -> str:
    """Why no user namespace can be made here, or an empty text (user_namespaces(7))."""
    attempt = "from labkit.base.syscalls import *; unshare(CLONE_NEWUSER)"
    done = subprocess.run([sys.executable, "-c", attempt], capture_output=True, check=False)
    refused = "needs user namespaces: the kernel refuses to make one here"
    return "" if done.returncode == 0 else refused


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs root or namespaces, saying so, where there are none."""
    missing = {"root": "" if os.geteuid() == 0 else "needs root"}
    for name, reason_of in (
        ("namespaces", no_namespaces),
        ("mounted_root", no_mounted_root),
        ("user_namespaces", no_user_namespaces),
    ):
        if any(item.get_closest_marker(name) for item in items):
            missing[name] = reason_of()
    for name, reason in missing.items():
        if reason:
            skip = pytest.mark.skip(reason=reason)
            for item in items:
                if item.get_closest_marker(name):
                    item.add_marker(skip)
