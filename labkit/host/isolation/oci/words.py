"""The command line's grammar: runc's commands and flags as one table, and its parser.

argparse would cost a third of the program's running time.
"""

from __future__ import annotations

from collections.abc import Sequence

from labkit.base.errors import InvalidParameter

__all__ = ["COMMANDS", "GLOBAL_FLAGS", "Words", "parse", "usage"]

# A flag is its long name, its one-letter name, what its value is called ("" for a switch, a
# trailing "…" if it may be repeated) and a line of help.
Flag = tuple[str, str, str, str]

GLOBAL_FLAGS: tuple[Flag, ...] = (
    ("debug", "", "", "keep the measured steps of a start in the log"),
    ("log", "", "FILE", "write errors to FILE as well"),
    ("log-format", "", "FORMAT", "text or json"),
    ("root", "", "DIR", "where the state of containers is kept"),
    ("criu", "", "PATH", "ignored: there is no checkpointing"),
    ("systemd-cgroup", "", "", "refused: groups are made as folders"),
    ("rootless", "", "VALUE", "ignored: the user namespace says it"),
    ("help", "h", "", "show this"),
    ("version", "v", "", "print the version"),
)

_BUNDLE: Flag = ("bundle", "b", "DIR", "the bundle, by default this folder")
_CONSOLE: Flag = ("console-socket", "", "PATH", "a unix socket that takes the terminal's master")
_PID_FILE: Flag = ("pid-file", "", "FILE", "write the process's id there")
_KEEP: Flag = ("preserve-fds", "", "N", "pass N further descriptors, from 3 on")
_CREATE: tuple[Flag, ...] = (
    _BUNDLE,
    _CONSOLE,
    _PID_FILE,
    _KEEP,
    ("no-pivot", "", "", "refused: without pivot_root the old root stays within reach"),
    ("no-new-keyring", "", "", "keep the caller's session keyring"),
)
_FORMAT: Flag = ("format", "f", "FORMAT", "table or json")

COMMANDS: dict[str, tuple[str, str, tuple[Flag, ...]]] = {
    "create": ("ID", "create a container; its process waits for `start`", _CREATE),
    "start": ("ID", "let a created container's process run", ()),
    "run": (
        "ID",
        "create, start and wait for a container",
        (
            *_CREATE,
            ("detach", "d", "", "do not wait"),
            ("keep", "", "", "do not delete the container once it has ended"),
            ("no-subreaper", "", "", "refused: the container's process would be lost"),
        ),
    ),
    "state": ("ID", "print a container's state as JSON", ()),
    "kill": (
        "ID [SIGNAL]",
        "send a signal (SIGTERM) to a container's process",
        (("all", "a", "", "to all of its processes"),),
    ),
    "delete": (
        "ID",
        "remove what a stopped container leaves",
        (("force", "f", "", "kill it first; no error if there is none"),),
    ),
    "exec": (
        "ID COMMAND [ARG…]",
        "run a further process in a container",
        (
            _CONSOLE,
            _PID_FILE,
            _KEEP,
            ("cwd", "", "DIR", "working folder"),
            ("env", "e", "NAME=VALUE…", "an environment variable"),
            ("tty", "t", "", "with a terminal"),
            ("user", "u", "UID[:GID]", "who to be"),
            ("additional-gids", "g", "GID…", "a further group"),
            ("process", "p", "FILE", "the process as JSON (config.md, process)"),
            ("detach", "d", "", "do not wait"),
            ("process-label", "", "LABEL", "refused: there is no SELinux here"),
            ("apparmor", "", "PROFILE", "refused where the kernel has no AppArmor"),
            ("no-new-privs", "", "", "setuid files lose their effect"),
            ("cap", "c", "CAP…", "a further capability"),
            ("cgroup", "", "PATH…", "refused: it joins the container's own group"),
            ("ignore-paused", "", "", "also in a paused container"),
        ),
    ),
    "ps": ("ID [PS OPTIONS]", "list a container's processes", (_FORMAT,)),
    "update": (
        "ID",
        "change a container's limits",
        (
            ("resources", "r", "FILE", "limits as JSON (config-linux.md, resources); - is stdin"),
            ("blkio-weight", "", "N", "block I/O weight, 10 to 1000"),
            ("cpu-period", "", "US", "length of a period"),
            ("cpu-quota", "", "US", "CPU time in a period"),
            ("cpu-share", "", "N", "CPU shares against others"),
            ("cpuset-cpus", "", "LIST", "CPUs to use"),
            ("cpuset-mems", "", "LIST", "memory nodes to use"),
            ("memory", "", "BYTES", "memory limit"),
            ("memory-reservation", "", "BYTES", "soft memory limit"),
            ("memory-swap", "", "BYTES", "memory and swap together; -1 is no limit"),
            ("pids-limit", "", "N", "how many processes"),
        ),
    ),
    "events": (
        "ID",
        "print a container's counters and out-of-memory kills as JSON lines",
        (
            ("interval", "", "DURATION", "how often, by default 5s"),
            ("stats", "", "", "once"),
        ),
    ),
    "pause": ("ID", "freeze a container's processes", ()),
    "resume": ("ID", "thaw them", ()),
    "list": (
        "",
        "list containers",
        (_FORMAT, ("quiet", "q", "", "names only")),
    ),
    "spec": (
        "",
        "write a config.json to start from",
        (_BUNDLE, ("rootless", "", "", "for an ordinary user")),
    ),
    "features": ("", "print what this runtime can do as JSON", ()),
}


class Words:
    """A parsed command line. `get` answers a flag's value, `has` whether it was given."""

    def __init__(self) -> None:
        self.command = ""
        self.arguments: list[str] = []
        self._values: dict[str, list[str]] = {}

    def add(self, name: str, value: str) -> None:
        self._values.setdefault(name, []).append(value)

    def has(self, name: str) -> bool:
        return self.get(name) not in ("", "false")

    def get(self, name: str, default: str = "") -> str:
        return self._values.get(name, [default])[-1]

    def all(self, name: str) -> list[str]:
        return self._values.get(name, [])


def _take_flags(
    words: Sequence[str], position: int, flags: Sequence[Flag], into: Words, *, mixed: bool
) -> int:
    """Read flags from `position` on; `mixed` allows them behind the first argument, as runc does
    for everything but `exec` and `ps`, whose remaining words are somebody else's."""
    by_name = {f"--{name}": flag for flag in flags for name in (flag[0],)}
    by_name |= {f"-{flag[0]}": flag for flag in flags}
    by_name |= {f"-{flag[1]}": flag for flag in flags if flag[1]}
    while position < len(words):
        word = words[position]
        if word == "--":
            into.arguments += words[position + 1 :]
            return len(words)
        if not word.startswith("-") or word == "-":
            if not mixed:
                return position
            into.arguments.append(word)
            position += 1
            continue
        name, equals, value = word.partition("=")
        flag = by_name.get(name)
        if flag is None:
            raise InvalidParameter(f"flag provided but not defined: {name}")
        if not flag[2]:
            value = value if equals else "true"
        elif not equals:
            position += 1
            if position >= len(words):
                raise InvalidParameter(f"flag needs an argument: {name}")
            value = words[position]
        into.add(flag[0], value)
        position += 1
    return position


def parse(words: Sequence[str]) -> Words:
    """Split a command line. Raises InvalidParameter for what the table does not know."""
    found = Words()
    position = _take_flags(words, 0, GLOBAL_FLAGS, found, mixed=False)
    if position >= len(words):
        return found
    found.command = words[position]
    if found.command not in COMMANDS:
        if found.command == "help":
            return found
        raise InvalidParameter(f"unknown command: {found.command}")
    flags = (*COMMANDS[found.command][2], ("help", "h", "", "show this"))
    mixed = found.command not in ("exec", "ps")
    position = _take_flags(words, position + 1, flags, found, mixed=mixed)
    found.arguments += words[position:]
    _check_count(found)
    return found


def _check_count(words: Words) -> None:
    if words.has("help"):
        return
    count, most = len(words.arguments), 0
    least = 1 if COMMANDS[words.command][0] else 0
    most = {"kill": 2, "exec": 1 << 20, "ps": 1 << 20}.get(words.command, least)
    if least <= count <= most:
        return
    expected = f"exactly {least}" if least == most else f"a minimum of {least}"
    if count > most > least:
        expected = f"a maximum of {most}"
    raise InvalidParameter(
        f'labkit-oci: "{words.command}" requires {expected} argument{"s" if most > 1 else ""}'
        if least
        else f'labkit-oci: "{words.command}" requires no arguments'
    )


def _flag_lines(flags: Sequence[Flag]) -> list[str]:
    lines = []
    for name, short, value, text in flags:
        names = f"--{name}" + (f", -{short}" if short else "") + (f" {value}" if value else "")
        lines.append(f"   {names:<34} {text}")
    return lines


def usage(command: str = "") -> str:
    """The text of --help."""
    if command in COMMANDS:
        arguments, text, flags = COMMANDS[command]
        head = [f"labkit-oci {command} - {text}", "", "usage:"]
        head.append(f"   labkit-oci {command} [flags] {arguments}".rstrip())
        return "\n".join([*head, "", "flags:", *_flag_lines(flags)] if flags else head)
    lines = ["labkit-oci - an OCI runtime on labkit's isolation core", "", "usage:"]
    lines += ["   labkit-oci [flags] COMMAND [flags] [arguments]", "", "commands:"]
    lines += [f"   {name:<10} {text}" for name, (_, text, _) in COMMANDS.items()]
    return "\n".join([*lines, "", "flags:", *_flag_lines(GLOBAL_FLAGS)])
