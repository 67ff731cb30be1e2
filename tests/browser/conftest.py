"""JupyterLab on a lab of its own, in headless Chromium."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ARTIFACTS = ROOT / "artifacts"
TOKEN = "browser-test"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]


@dataclass
class Lab:
    """A JupyterLab server, its folder of notebooks, and the lab its kernels talk to."""

    url: str
    folder: Path
    home: Path
    run: Path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _settings(folder: Path) -> None:
    """Ask no question on the first start (news)."""
    target = folder / "lab" / "user-settings" / "@jupyterlab" / "apputils-extension"
    target.mkdir(parents=True)
    (target / "notification.jupyterlab-settings").write_text('{"fetchNews":"false"}')


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """JupyterLab with private folders; everything it started is gone afterwards."""
    pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")
    # Short: socket paths must fit a socket address.
    base = Path(tempfile.mkdtemp(prefix="lkb-"))
    paths = {name: base / name for name in ("home", "run", "config", "data", "ipython", "work")}
    for path in paths.values():
        path.mkdir(mode=0o700)
    _settings(paths["config"])
    port = _free_port()
    environment = {
        **os.environ,
        "LABKIT_HOME": str(paths["home"]),
        "LABKIT_RUN": str(paths["run"]),
        "JUPYTER_CONFIG_DIR": str(paths["config"]),
        "JUPYTERLAB_SETTINGS_DIR": str(paths["config"] / "lab" / "user-settings"),
        "JUPYTER_DATA_DIR": str(paths["data"]),
        "IPYTHONDIR": str(paths["ipython"]),
        "PYTHONPATH": str(ROOT),
    }
    environment.pop("LABKIT_START", None)
    log = open(base / "jupyter.log", "wb")  # noqa: SIM115 - closed below
    server = subprocess.Popen(
        [
            sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1",
            f"--port={port}", f"--IdentityProvider.token={TOKEN}", "--expose-app-in-browser",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
            f"--ServerApp.root_dir={paths['work']}",
        ],
        env=environment, stdout=log, stderr=log, cwd=paths["work"], start_new_session=True,
    )  # fmt: skip
    try:
        _wait_for(f"http://127.0.0.1:{port}/api/status?token={TOKEN}", server, base / "jupyter.log")
        yield Lab(f"http://127.0.0.1:{port}", paths["work"], paths["home"], paths["run"])
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGINT)
            os.killpg(server.pid, signal.SIGINT)
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
        log.close()
        down = subprocess.run(
            [sys.executable, "-m", "labkit.cli", "down"],
            env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert down.returncode == 0, down.stderr
        shutil.rmtree(base, ignore_errors=True)


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text(errors="replace")[-2000:]
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"JupyterLab did not answer: {log.read_text(errors='replace')[-2000:]}")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium, driven by playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    binary = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if binary is None:
        pytest.skip("no chromium on PATH")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=binary, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


class Page:
    """One notebook in JupyterLab. `outside` lists requests that left the machine."""

    def __init__(self, page: Any, lab: Lab) -> None:
        self.page = page
        self.lab = lab
        self.outside: list[str] = []
        self.problems: list[str] = []
        page.on("request", self._note)
        page.on("pageerror", lambda error: self.problems.append(str(error)))

    def _note(self, request: Any) -> None:
        url = request.url
        local = (self.lab.url, self.lab.url.replace("http", "ws"), "data:", "blob:", "about:")
        if not url.startswith(local):
            self.outside.append(url)

    def open(self, name: str) -> None:
        """Open a notebook of the lab's folder and wait for its kernel."""
        url = f"{self.lab.url}/lab/workspaces/{name.partition('.')[0]}/tree/{name}?token={TOKEN}"
        self.page.goto(url)
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=120_000)
        self.page.wait_for_function(
            "() => { const p = window.jupyterapp?.shell.currentWidget;"
            " return p?.sessionContext?.session?.kernel?.status === 'idle'; }",
            timeout=120_000,
        )
        self.page.evaluate("window.jupyterapp.commands.execute('application:toggle-left-area')")

    def run_all(self, *, timeout_s: float = 120) -> None:
        """Run every cell and wait until the kernel has done so."""
        self.page.set_default_timeout(timeout_s * 1000)
        self.page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        self.page.set_default_timeout(30_000)

    def execute(self, code: str) -> None:
        """Run code in the page's kernel and wait for its reply, beside the notebook's cells."""
        self.page.evaluate(
            "async code => { const kernel = window.jupyterapp.shell.currentWidget.sessionContext"
            ".session.kernel; await kernel.requestExecute({code, stop_on_error: false}).done; }",
            code,
        )

    def theme(self, name: str) -> None:
        """Change JupyterLab's theme: `JupyterLab Dark` or `JupyterLab Light`."""
        self.page.evaluate(
            "name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})",
            name,
        )
        self.page.wait_for_timeout(600)

    def errors(self) -> list[str]:
        """Tracebacks on the page."""
        found: list[str] = self.page.eval_on_selector_all(
            ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr'], "
            ".jp-RenderedText[data-mime-type='application/vnd.jupyter.error']",
            "nodes => nodes.map(node => node.textContent)",
        )
        return [text for text in found if "Traceback" in text]

    def shoot(self, selector: str, name: str) -> Path:
        """Keep a picture of one element."""
        ARTIFACTS.mkdir(exist_ok=True)
        target = ARTIFACTS / name
        element = self.page.locator(selector).first
        element.scroll_into_view_if_needed()
        self.page.wait_for_timeout(300)
        element.screenshot(path=str(target))
        return target


@pytest.fixture
def notebook(lab: Lab, browser: Any) -> Iterator[Callable[..., Page]]:
    """Make (from sources of cells) or copy (from a path) a notebook and open it in a page."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    pages: list[Page] = []

    def open_notebook(name: str, cells: list[str] | Path) -> Page:
        if isinstance(cells, Path):
            document = json.loads(cells.read_text())
        else:
            document = {
                "nbformat": 4,
                "nbformat_minor": 5,
                "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
                "cells": [
                    {
                        "cell_type": "code",
                        "id": f"c{number}",
                        "source": source,
                        "metadata": {},
                        "outputs": [],
                        "execution_count": None,
                    }
                    for number, source in enumerate(cells)
                ],
            }
        (lab.folder / name).write_text(json.dumps(document))
        page = Page(context.new_page(), lab)
        pages.append(page)
        page.open(name)
        return page

    yield open_notebook
    for page in pages:
        with contextlib.suppress(Exception):
            page.page.evaluate("window.jupyterapp.commands.execute('kernelmenu:shutdown')")
    context.close()
    for page in pages:
        assert page.outside == []
