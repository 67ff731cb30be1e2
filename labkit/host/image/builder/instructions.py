"""Instructions of a Dockerfile as data, and the stages they form. Fields hold text not yet
expanded: what `$x` means is known only when the step before has run."""

from __future__ import annotations

from dataclasses import dataclass, field

from labkit.host.image.builder.lexer import Heredoc

__all__ = [
    "Add",
    "Arg",
    "Cmd",
    "CommandLine",
    "Copy",
    "CopyFlags",
    "Dockerfile",
    "Entrypoint",
    "Env",
    "Expose",
    "From",
    "Healthcheck",
    "Instruction",
    "Label",
    "Maintainer",
    "OnBuild",
    "Run",
    "RunMount",
    "Shell",
    "Stage",
    "StopSignal",
    "User",
    "Volume",
    "Workdir",
]


@dataclass(frozen=True, slots=True)
class Instruction:
    """`line` is where it starts; `source` is its text as `Step 1/3 : …` shows it."""

    line: int
    source: str


@dataclass(frozen=True, slots=True)
class CommandLine:
    """`words` is one text for the shell form and an argument vector for the exec form."""

    words: tuple[str, ...]
    is_shell: bool


@dataclass(frozen=True, slots=True)
class From(Instruction):
    image: str
    name: str = ""
    platform: str = ""


@dataclass(frozen=True, slots=True)
class RunMount:
    """One `--mount=` of RUN."""

    kind: str
    target: str = ""
    source: str = ""
    origin: str = ""
    """`from=`: a stage or an image; empty is the context (bind) or an empty folder (cache)."""
    id: str = ""
    readonly: bool = False
    required: bool = False
    sharing: str = "shared"
    mode: int | None = None
    uid: int = 0
    gid: int = 0
    size_bytes: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True)
class Run(Instruction):
    command: CommandLine
    mounts: tuple[RunMount, ...] = ()
    network: str = ""
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True, slots=True)
class CopyFlags:
    """What stands between COPY or ADD and the sources."""

    origin: str = ""
    """`--from=`: a stage or an image."""
    chown: str = ""
    chmod: str = ""
    checksum: str = ""
    exclude: tuple[str, ...] = ()
    """Patterns as in .dockerignore, relative to each source."""
    parents: bool = False
    link: bool = False
    keep_git: bool = False


@dataclass(frozen=True, slots=True)
class Copy(Instruction):
    """COPY, and ADD by way of Add."""

    sources: tuple[str, ...]
    destination: str
    heredocs: tuple[Heredoc, ...] = ()
    """In the order of the sources that name them (`<<NAME`)."""
    flags: CopyFlags = CopyFlags()

    @property
    def word(self) -> str:
        return "COPY"


@dataclass(frozen=True, slots=True)
class Add(Copy):
    @property
    def word(self) -> str:
        return "ADD"


@dataclass(frozen=True, slots=True)
class Cmd(Instruction):
    command: CommandLine


@dataclass(frozen=True, slots=True)
class Entrypoint(Instruction):
    command: CommandLine


@dataclass(frozen=True, slots=True)
class Shell(Instruction):
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Env(Instruction):
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Label(Instruction):
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Arg(Instruction):
    """Names with their defaults; None where there is none."""

    pairs: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class Expose(Instruction):
    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Volume(Instruction):
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class User(Instruction):
    user: str


@dataclass(frozen=True, slots=True)
class Workdir(Instruction):
    path: str


@dataclass(frozen=True, slots=True)
class StopSignal(Instruction):
    signal: str


@dataclass(frozen=True, slots=True)
class Maintainer(Instruction):
    name: str


@dataclass(frozen=True, slots=True)
class OnBuild(Instruction):
    trigger: str


@dataclass(frozen=True, slots=True)
class Healthcheck(Instruction):
    """`test` as Docker's API has it: ["NONE"], ["CMD", …] or ["CMD-SHELL", text]; times in ns."""

    test: tuple[str, ...]
    interval_ns: int = 0
    timeout_ns: int = 0
    start_period_ns: int = 0
    start_interval_ns: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Stage:
    """One FROM and what follows it. `name` is in lower case, or the stage's number."""

    number: int
    base: From
    steps: tuple[Instruction, ...]

    @property
    def name(self) -> str:
        return self.base.name or str(self.number)


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """A parsed file: ARGs above the first FROM, then stages."""

    stages: tuple[Stage, ...]
    arguments: tuple[Arg, ...] = ()
    escape: str = "\\"
    warnings: tuple[str, ...] = field(default=())
