"""A terminal in a cell of a real JupyterLab: it types, fits, and lives as its container does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

FRAME = ".lk-term iframe"


class Terminal:
    """One terminal on the page, by its place among them."""

    def __init__(self, page: Any, number: int = 0) -> None:
        self.page = page.page
        self.outer = self.page.frame_locator(f"{FRAME} >> nth={number}")
        self.inner = self.outer.frame_locator("main iframe")

    def ready(self) -> Terminal:
        """Wait until Jupyter's terminal is drawn and connected."""
        self.inner.locator(".xterm-screen").wait_for(timeout=120_000)
        self.inner.locator(".xterm-helper-textarea").wait_for(state="attached")
        return self

    def type(self, line: str) -> None:
        self.inner.locator(".xterm-helper-textarea").focus()
        self.page.keyboard.type(line)
        self.page.keyboard.press("Enter")

    @property
    def state(self) -> str:
        return str(self.outer.locator("#state").inner_text())

    def wait_state(self, text: str) -> None:
        self.outer.locator("#state", has_text=text).wait_for(timeout=30_000)

    @property
    def words(self) -> str:
        """What is left of a session that is over."""
        return str(self.outer.locator("pre").inner_text())


def _run(page: Any, code: str) -> str:
    """What a line prints in the page's kernel."""
    return str(
        page.page.evaluate(
            "async code => { const kernel = window.jupyterapp.shell.currentWidget.sessionContext"
            ".session.kernel; let text = ''; const future = kernel.requestExecute({code});"
            " future.onIOPub = message => { text += message.content.text ?? ''; };"
            " await future.done; return text; }",
            code,
        )
    )


def _wait(page: Any, container: str, path: str) -> str:
    """The content of a file that is about to appear in a container."""
    return _run(
        page,
        f"%docker exec {container} sh -c "
        f"'n=0; until [ -s {path} ] || [ $n -gt 200 ]; do n=$((n+1)); sleep 0.1; done; cat {path}'",
    )


def test_a_terminal_types_resizes_and_survives_a_reload(notebook: Callable[..., Any]) -> None:
    page = notebook(
        "terminal.ipynb",
        ["%load_ext labkit", "%docker run -it --name typed alpine sh", "%docker ps"],
    )
    page.run_all()
    terminal = Terminal(page).ready()
    # The next cell finds the container: the first one has waited until it ran.
    assert "typed" in page.page.locator("table.lk-table").inner_text()
    terminal.type("stty size > /size; echo from-the-cell > /said")
    assert _wait(page, "typed", "/said").strip() == "from-the-cell"
    before = [int(number) for number in _wait(page, "typed", "/size").split()]
    assert min(before) > 5
    page.shoot(".lk-term", "terminal-light.png")

    # The frame grows, the container hears of it.
    page.page.locator(".lk-term").evaluate("frame => { frame.style.height = '620px'; }")
    terminal.type("while [ $(stty size | cut -d' ' -f1) -le 20 ]; do sleep 0.1; done; echo y > /y")
    assert _wait(page, "typed", "/y").strip() == "y"

    # ctrl-c goes to the program, and the colours come through.
    terminal.type("sleep 1000; echo never > /never")
    terminal.inner.locator(".xterm-helper-textarea").focus()
    page.page.keyboard.press("Control+c")
    terminal.type("echo alive > /alive")
    assert _wait(page, "typed", "/alive").strip() == "alive"
    assert _run(page, "%docker exec typed ls /never").strip().endswith("No such file or directory")

    # It works while a cell runs, after the kernel has been restarted, after the page was reloaded.
    page.page.evaluate(
        "() => { const k = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;"
        " window.busy = k.requestExecute({code: 'import time; time.sleep(3)'}); }"
    )
    terminal.type("echo meanwhile > /meanwhile")
    page.page.evaluate("async () => { await window.busy.done; }")
    assert _wait(page, "typed", "/meanwhile").strip() == "meanwhile"
    page.page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    page.page.evaluate(
        "async () => { await window.jupyterapp.shell.currentWidget.sessionContext"
        ".restartKernel(); }"
    )
    terminal.type("V=kept")
    page.open("terminal.ipynb")
    terminal = Terminal(page).ready()
    terminal.type("echo $V > /again")
    _run(page, "%load_ext labkit")
    assert _wait(page, "typed", "/again").strip() == "kept"
    page.theme("JupyterLab Dark")
    page.shoot(".lk-term", "terminal-dark.png")
    page.theme("JupyterLab Light")

    # Gone with its container, its last words kept.
    terminal.type("echo farewell; exit 3")
    terminal.wait_state("exit code 3")
    assert "farewell" in terminal.words
    _run(page, "%docker rm -f typed")
    assert page.errors() == []


def test_two_terminals_detach_and_say_how_sessions_ended(notebook: Callable[..., Any]) -> None:
    page = notebook(
        "two.ipynb",
        [
            "%load_ext labkit",
            "%docker run -it --name kept alpine sh",
            "%docker exec -it kept sh -c 'echo exec > /exec; cat'",
            "%docker run -it --rm alpine echo at once",
            "%docker run -it --rm alpine nosuch",
            "%%docker run -i --rm alpine cat\ngiven in the cell",
        ],
    )
    page.run_all()
    first, second = Terminal(page, 0).ready(), Terminal(page, 1).ready()
    assert _wait(page, "kept", "/exec").strip() == "exec"
    text = page.page.locator(".jp-Notebook").inner_text()
    assert "at once" in text
    assert "executable file not found" in text
    assert "exit code 127" in text
    assert "given in the cell" in text

    first.type("echo one > /one")
    assert _wait(page, "kept", "/one").strip() == "one"
    first.outer.locator("#leave").click()
    first.wait_state("detached")
    running = "%docker ps --filter name=kept --format '{{.State}}'"
    assert _run(page, running).strip() == "running"
    assert second.state == "running"
    _run(page, "%docker rm -f kept")
    second.wait_state("exit code")
    assert page.errors() == []


def test_jupyter_lists_the_terminal_and_shows_it_in_a_tab(notebook: Callable[..., Any]) -> None:
    page = notebook(
        "tab.ipynb", ["%load_ext labkit", "%docker run -it --rm --name tabbed alpine sh"]
    )
    page.run_all()
    Terminal(page).ready()
    listed = page.page.evaluate("async () => (await fetch('/api/terminals')).json()")
    assert [one["name"][:7] for one in listed] == ["docker_"]
    page.page.locator(".lk-tab").click()
    page.page.locator(".jp-Terminal .xterm-screen").wait_for()
    page.page.locator(".jp-Terminal .xterm-helper-textarea").focus()
    page.page.keyboard.type("exit")
    page.page.keyboard.press("Enter")
    page.page.locator(".jp-Terminal").wait_for(state="detached", timeout=30_000)
    assert page.errors() == []


def test_a_kernel_without_a_server_is_told_the_line_to_paste(
    notebook: Callable[..., Any],
) -> None:
    page = notebook(
        "paste.ipynb",
        [
            "import os\nos.environ.pop('JPY_PARENT_PID')\n%load_ext labkit",
            "%docker run -it alpine sh -c 'echo $HOME'",
        ],
    )
    page.run_all()
    paste = page.page.locator(".lk-paste")
    paste.wait_for()
    assert "labkit docker run -it alpine sh -c 'echo $HOME'" in paste.inner_text()
    assert page.page.locator(FRAME).count() == 0
