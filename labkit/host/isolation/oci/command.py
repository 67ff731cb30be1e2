"""`labkit-oci`: the words of an OCI runtime's command line, each a function here.

What a word needs is imported by it. Exit codes are runc's: 1 for an error, the process's own for
`run` and `exec`.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence

from labkit.base.errors import InvalidParameter, LabkitError, Unsupported
from labkit.host.isolation.oci.records import Record, default_root, open_record
from labkit.host.isolation.oci.words import Words, parse, usage

__all__ = ["main"]

_EXEC_FAILED = 255
_NO_PIVOT = "without pivot_root the old root stays within reach"


class _Log:
    """Where errors and warnings go: stderr, and the file that --log names."""

    def __init__(self, words: Words) -> None:
        self._path = words.get("log")
        self._json = words.get("log-format", "text") == "json"

    def write(self, level: str, message: str) -> None:
        if self._path:
            line = {"level": level, "msg": message, "time": _rfc3339()}
            if self._json:
                text = json.dumps(line)
            else:
                text = " ".join(f"{k}={json.dumps(line[k])}" for k in ("time", "level", "msg"))
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(text + "\n")
        if level == "error" or not self._path:
            # Told on stderr as well: whoever started us may not read the log.
            sys.stderr.write(f"{message}\n" if level == "error" else f"{level}: {message}\n")

    def warn(self, message: str) -> None:
        self.write("warning", message)


class _Session:
    """One word of the command line at work."""

    def __init__(self, words: Words, log: _Log) -> None:
        self.words = words
        self.log = log


def _rfc3339() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _root(words: Words) -> str:
    return os.path.abspath(words.get("root") or default_root())


def _record(words: Words) -> Record:
    return open_record(_root(words), words.arguments[0])


def _number(words: Words, name: str) -> int:
    text = words.get(name, "0")
    if not text.isdecimal():
        raise InvalidParameter(f'invalid value "{text}" for flag -{name}: parse error')
    return int(text)


def _refuse(words: Words, **flags: str) -> None:
    for name, reason in flags.items():
        flag = name.replace("_", "-")
        if words.has(flag):
            raise Unsupported(f"--{flag} is refused: {reason}")


# Life ------------------------------------------------------------------------------------------


def _create(session: _Session) -> tuple[Record, int]:
    from labkit.host.isolation.oci import filters
    from labkit.host.isolation.oci.lifecycle import CreateOptions, create

    _refuse(session.words, no_pivot=_NO_PIVOT)
    root = _root(session.words)
    os.makedirs(f"{root}/.filters", mode=0o700, exist_ok=True)
    filters.keep_in(f"{root}/.filters")
    options = CreateOptions(
        console_socket=session.words.get("console-socket"),
        pid_file=session.words.get("pid-file"),
        keep=_number(session.words, "preserve-fds") + _listen_fds(),
        warn=session.log.warn,
    )
    return create(root, session.words.arguments[0], session.words.get("bundle", "."), options)


def _listen_fds() -> int:
    count = os.environ.get("LISTEN_FDS", "")
    return int(count) if count.isdecimal() else 0


def _do_create(session: _Session) -> int:
    from labkit.host.isolation.oci.bundle import read_config

    _refuse(session.words, no_pivot=_NO_PIVOT)
    wants = read_config(session.words.get("bundle", ".")).wants_terminal
    if wants and not session.words.get("console-socket"):
        raise InvalidParameter(
            "cannot allocate tty if runc will detach without setting console socket"
        )
    _create(session)
    return 0


def _do_start(session: _Session) -> int:
    from labkit.host.isolation.oci.lifecycle import start

    record = _record(session.words)
    with record.locked():
        start(record)
    return 0


def _do_run(session: _Session) -> int:
    _refuse(session.words, no_subreaper="the container's process would be lost")
    from labkit.host.isolation.oci.lifecycle import delete

    if session.words.has("detach"):
        record, _ = _create(session)
        _start_or_delete(record)
        return 0
    from labkit.host.isolation.oci.foreground import Waiter, become_subreaper

    become_subreaper()
    waiter = Waiter()
    record, master = _create(session)
    pid = record.pid
    _start_or_delete(record)
    if master >= 0:
        from labkit.host.isolation.oci.console import Terminal

        with Terminal(master) as terminal:
            code = waiter.wait(pid, terminal)
    else:
        code = waiter.wait(pid)
    if not session.words.has("keep"):
        delete(record, force=True)
    return code


def _start_or_delete(record: Record) -> None:
    from labkit.host.isolation.oci.lifecycle import delete, start

    try:
        start(record)
    except BaseException:
        with contextlib.suppress(LabkitError):
            delete(record, force=True)
        raise


def _do_delete(session: _Session) -> int:
    from labkit.base.errors import NotFound
    from labkit.host.isolation.oci.lifecycle import delete

    force = session.words.has("force")
    try:
        record = _record(session.words)
    except NotFound:
        if force:
            return 0
        raise
    with record.locked():
        delete(record, force=force)
    return 0


def _do_kill(session: _Session) -> int:
    from labkit.base.errors import Conflict
    from labkit.host.isolation.oci.groups import members
    from labkit.host.isolation.oci.lifecycle import signal_process
    from labkit.host.isolation.oci.signals import signal_number

    record = _record(session.words)
    number = signal_number(
        session.words.arguments[1] if len(session.words.arguments) > 1 else "SIGTERM"
    )
    if not session.words.has("all"):
        signal_process(record, number)
        return 0
    reached = False
    for pid in members(record.data.get("groups") or {}):
        try:
            os.kill(pid, number)
            reached = True
        except ProcessLookupError:
            continue
    if not reached and not record.pid:
        raise Conflict("container not running")
    return 0


def _do_pause(session: _Session, *, frozen: bool = True) -> int:
    from labkit.base.errors import Conflict
    from labkit.host.isolation.oci.groups import freeze
    from labkit.host.isolation.oci.records import CREATED, PAUSED, RUNNING

    record = _record(session.words)
    with record.locked():
        status = record.status()
        if frozen and status not in (RUNNING, CREATED):
            raise Conflict(f"container not running or created: {status}")
        if not frozen and status != PAUSED:
            raise Conflict("container not paused")
        freeze(record.data.get("groups") or {}, frozen=frozen)
    return 0


def _do_resume(session: _Session) -> int:
    return _do_pause(session, frozen=False)


# Further processes -----------------------------------------------------------------------------


def _do_exec(session: _Session) -> int:
    from labkit.host.isolation.oci import filters
    from labkit.host.isolation.oci.executing import execute

    filters.keep_in(f"{_root(session.words)}/.filters")
    try:
        return execute(_record(session.words), session.words, session.log.warn)
    except LabkitError as error:
        error.exit_code = _EXEC_FAILED
        error.message = f"exec failed: {error.message}"
        raise


# Looking ---------------------------------------------------------------------------------------


def _do_state(session: _Session) -> int:
    from labkit.host.isolation.oci.reports import state_text

    sys.stdout.write(state_text(_record(session.words)))
    return 0


def _do_list(session: _Session) -> int:
    from labkit.host.isolation.oci.reports import list_text

    sys.stdout.write(
        list_text(
            _root(session.words), session.words.get("format"), quiet=session.words.has("quiet")
        )
    )
    return 0


def _do_ps(session: _Session) -> int:
    from labkit.host.isolation.oci.reports import ps_text

    sys.stdout.write(
        ps_text(_record(session.words), session.words.get("format"), session.words.arguments[1:])
    )
    return 0


def _do_events(session: _Session) -> int:
    from labkit.host.isolation.oci.events import follow

    return follow(
        _record(session.words),
        interval=session.words.get("interval", "5s"),
        once=session.words.has("stats"),
    )


def _do_update(session: _Session) -> int:
    from labkit.host.isolation.oci.updating import update

    record = _record(session.words)
    with record.locked():
        for sentence in update(record, session.words):
            session.log.warn(sentence)
    return 0


def _do_spec(session: _Session) -> int:
    from labkit.host.isolation.oci.template import write_template

    write_template(session.words.get("bundle", "."), rootless=session.words.has("rootless"))
    return 0


def _do_features(session: _Session) -> int:
    del session
    from labkit.host.isolation.oci.features import features

    sys.stdout.write(json.dumps(features(), indent=2) + "\n")
    return 0


_WORDS: dict[str, Callable[[_Session], int]] = {
    "create": _do_create,
    "start": _do_start,
    "run": _do_run,
    "state": _do_state,
    "kill": _do_kill,
    "delete": _do_delete,
    "exec": _do_exec,
    "ps": _do_ps,
    "update": _do_update,
    "events": _do_events,
    "pause": _do_pause,
    "resume": _do_resume,
    "list": _do_list,
    "spec": _do_spec,
    "features": _do_features,
}


def _version() -> str:
    from labkit import __version__
    from labkit.host.isolation.oci.bundle import OCI_VERSION

    return f"labkit-oci version {__version__}\nspec: {OCI_VERSION}\n"


def _run(arguments: Sequence[str]) -> int:
    log = _Log(Words())
    try:
        words = parse(arguments)
        log = _Log(words)
        if words.has("version"):
            sys.stdout.write(_version())
            return 0
        if not words.command or words.has("help"):
            sys.stdout.write(usage(words.command) + "\n")
            return 0
        _refuse(
            words, systemd_cgroup="groups are made as folders; podman --cgroup-manager=cgroupfs"
        )
        return _WORDS[words.command](_Session(words, log))
    except LabkitError as error:
        hint = f" ({error.hint})" if error.hint else ""
        prefix = {"create": "labkit-oci create failed: ", "run": "labkit-oci run failed: "}
        where = prefix.get(arguments[0], "") if arguments else ""
        log.write("error", f"{where}{error.message}{hint}")
        return error.exit_code if error.exit_code == _EXEC_FAILED else 1
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.write("error", f"{type(error).__name__}: {error}")
        return 1


def main() -> int:
    """Entry point of the console script."""
    try:
        code = _run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        os._exit(1)
    except KeyboardInterrupt:
        return 130
    return code
