"""Taking a lab down, removing it, running on its host, opening its course in JupyterLab."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from labkit.base.errors import CommandError, LabkitError, SystemFailure
from labkit.base.paths import LabPaths

__all__ = ["course_folder", "open_lab", "reset", "run_on_host", "take_down"]

# Containers get their own grace (10 s by default) before they are killed; many stop in parallel.
SHUTDOWN_WAIT_S = 90.0


def take_down(paths: LabPaths, *, remove_data: bool = False) -> bool:
    """Stop every container, the lab host and the daemon. Returns whether anything was running.

    A daemon that was killed may have left containers behind; they can only be stopped properly by
    a daemon, so one is started for it. Raises SystemFailure when the daemon does not end.
    """
    from labkit.notebook.client import LabClient, ensure_daemon, is_daemon_running

    running = is_daemon_running(paths)
    if not running:
        if not _has_survivors(paths):
            return False
        ensure_daemon(paths)
    pid = _daemon_pid(paths)
    client = LabClient(f"unix://{paths.lab_socket}")
    try:
        client.json(
            "POST", "/v1/shutdown", body={"stop_containers": True, "remove_data": remove_data}
        )
    finally:
        client.close()
    deadline = time.monotonic() + SHUTDOWN_WAIT_S
    while pid is not None and _is_alive(pid):
        if time.monotonic() > deadline:
            raise SystemFailure(
                f"the daemon (pid {pid}) has not ended after {SHUTDOWN_WAIT_S:.0f} s",
                hint=f"look at {paths.daemon_log}",
            )
        time.sleep(0.02)
    return True


def _has_survivors(paths: LabPaths) -> bool:
    """Whether a lab was left without being taken down.

    The anchor's record goes last, so it is there although the anchor itself may have been killed
    too: containers live on without it.
    """
    hosts = paths.home / "hosts"
    return hosts.is_dir() and any(hosts.glob("*/anchor.json"))


def _daemon_pid(paths: LabPaths) -> int | None:
    try:
        return int(json.loads(paths.pid_file.read_text())["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        # A zombie whose parent has not looked yet does nothing any more.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return False


def reset(paths: LabPaths) -> None:
    """Remove LABKIT_HOME and LABKIT_RUN. The lab must be down.

    Raises SystemFailure naming the first thing that could not be removed.
    """
    for folder in (paths.home, paths.run):
        if folder.is_symlink() or not folder.exists():
            continue
        # rmtree walks by descriptor and never follows a link out of the tree.
        shutil.rmtree(folder, onerror=_remove_stubborn)


def _remove_stubborn(function: Callable[..., Any], path: str, info: Any) -> None:
    """Overlay leaves work folders of mode 000 behind; their owner may open them first."""
    try:
        parent = os.path.dirname(path)
        os.chmod(parent, 0o700)
        if function in (os.open, os.scandir, os.rmdir):
            os.chmod(path, 0o700, follow_symlinks=True)
            shutil.rmtree(path)
        else:
            function(path)
    except OSError as error:
        raise SystemFailure(
            f"cannot remove {path}: {error.strerror}",
            hint="is a process still using it? `labkit status` and `labkit down` say so",
        ) from info[1]


def run_on_host(paths: LabPaths, argv: Sequence[str]) -> int:
    """Run a command on the lab host with this process's stdin and stdout; its exit code."""
    from labkit.notebook.client import LabClient
    from labkit.notebook.commands.host import run_in_terminal

    return run_in_terminal(LabClient(f"unix://{paths.lab_socket}"), argv)


def course_folder() -> Path:
    """The folder that holds `notebooks/`: the checkout, or what LABKIT_COURSE names."""
    named = os.environ.get("LABKIT_COURSE")
    for folder in (Path(named) if named else None, Path.cwd(), Path(__file__).parents[2]):
        if folder is not None and (folder / "notebooks").is_dir():
            return folder
    raise CommandError(
        "cannot find the course: no folder 'notebooks' here",
        hint="run it from the checkout, or set LABKIT_COURSE",
    )


def _first_page(folder: Path) -> str:
    """The first chapter, which is where somebody who has just typed `make lab` wants to be."""
    first = min((folder / "notebooks").glob("[0-9]*.ipynb"), default=folder / "notebooks")
    return first.relative_to(folder).as_posix()


def open_lab(paths: LabPaths, argv: Sequence[str]) -> int:
    """Start the daemon, then become JupyterLab on the course. Returns only on failure."""
    folder = course_folder()
    jupyter = shutil.which("jupyter-lab", path=os.path.dirname(sys.executable)) or shutil.which(
        "jupyter-lab"
    )
    if jupyter is None:
        raise CommandError(
            "JupyterLab is not installed beside labkit", hint="pip install 'labkit[lab]'"
        )
    try:
        from labkit.notebook.client import ensure_daemon

        ensure_daemon(paths)
    except LabkitError as error:
        # The course can still be read; its first cell repeats what is wrong.
        print(f"labkit: {error}", file=sys.stderr)
    command = [
        jupyter,
        f"--ServerApp.root_dir={folder}",
        f"--LabApp.default_url=/lab/tree/{_first_page(folder)}",
        # A classroom may have no network, and a beginner no opinion on Jupyter's newsletter.
        f"--LabApp.app_settings_dir={Path(__file__).parent / 'course' / 'jupyterlab'}",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        # The address to open is printed at any level; at INFO it drowns in thirty other lines.
        "--log-level=WARN",
    ]
    if os.geteuid() == 0:
        # Jupyter refuses root unless told; here root is what makes the containers real.
        command.append("--allow-root")
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.execv(jupyter, [*command, *argv])
