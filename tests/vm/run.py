"""`make test-vm`: the tests that act on a kernel, on Debian's own one, under QEMU.

Here are systemd, cgroup v2 with every controller, delegation to user sessions, AppArmor: what a
student's laptop has and the machine that runs the other tests may not. The machine is built once
from Debian's packages (as root; a few minutes) into a cache outside the repository, and thrown away
after every run. Without hardware virtualization it is emulated, five to ten times slower.

    run.py                          as root, then as an ordinary user with delegation
    run.py --as user -- PATH …      only that, and only these tests
    run.py --command 'uname -a'     something else altogether

Cache: LABKIT_VM_CACHE, by default labkit-vm in the user's cache folder; about 4 GB.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
FORMAT = "1"
"""Part of the cache's key: changed when what is built changes in a way its inputs do not show."""
DEFAULT_TESTS = ("tests/system", "tests/escape")
USER = "student"
SUITE = "bookworm"


class Refused(Exception):
    """The machine cannot be built or started; the text says why and what to do."""


@dataclass
class Outcome:
    """What came back from one run."""

    title: str
    status: int
    passed: int = 0
    failed: list[str] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    """Reasons, with how often each was given."""
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        return self.status == 0 and not self.failed


def packages(path: Path) -> list[str]:
    """The names in a list of packages, comments aside."""
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def cache_folder() -> Path:
    """Where the machine is kept between runs."""
    named = os.environ.get("LABKIT_VM_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "labkit-vm"


def requirements() -> list[str]:
    """Everything the project's own metadata asks for, its extras spelt out."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    found = [*project["dependencies"], "scikit-build-core>=0.10"]
    for name in ("grading", "dev"):
        found += [word for word in extras[name] if not word.startswith("labkit[")]
    return sorted(set(found))


def key(*parts: str) -> str:
    """Names what was built from these parts."""
    return hashlib.sha256("\n".join([FORMAT, *parts]).encode()).hexdigest()[:12]


def run(words: Sequence[str | Path], *, log: Path, what: str) -> None:
    """Run a command with its output in `log`; raises Refused naming `what`."""
    with log.open("ab") as out:
        done = subprocess.run(words, stdout=out, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        raise Refused(f"{what} failed; the end of {log}:\n" + "".join(tail(log)))


def tail(path: Path, count: int = 15) -> list[str]:
    return path.read_text(errors="replace").splitlines(keepends=True)[-count:]


# Building ---------------------------------------------------------------------------------------


def mirror() -> str:
    """The Debian mirror this machine uses, if it says."""
    for path in Path("/etc/apt").glob("sources.list.d/*.sources"):
        for line in path.read_text(errors="replace").splitlines():
            if line.startswith("URIs:") and "debian" in line:
                return line.split()[1]
    return "http://deb.debian.org/debian"


@contextmanager
def chroot(root: Path) -> Iterator[list[str]]:
    """Words that run what follows them inside `root`, with a /proc for the time being."""
    mount = f'mount -t proc proc "{root}/proc" && exec chroot "{root}" "$@"'
    resolver = root / "etc/resolv.conf"
    resolver.unlink(missing_ok=True)
    shutil.copy("/etc/resolv.conf", resolver)
    environment = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/root"]
    yield ["unshare", "--mount", "sh", "-c", mount, "sh", *environment]


def debian(log: Path) -> Path:
    """Debian with a kernel and the tests' packages: kept by itself, as it changes seldom."""
    names = packages(HERE / "guest-apt.txt")
    folder = cache_folder() / f"debian-{key(*names)}"
    if folder.is_dir():
        return folder
    draft = folder.with_suffix(".new")
    shutil.rmtree(draft, ignore_errors=True)
    include = f"--include={','.join(names)}"
    words = ["debootstrap", "--variant=minbase", include, SUITE, str(draft), mirror()]
    run(words, log=log, what="debootstrap")
    return draft.rename(folder)


def build_tree(root: Path, log: Path) -> None:
    """That Debian with a virtual environment of what we depend on."""
    run(["cp", "-a", "--reflink=auto", debian(log), root], log=log, what="cp")
    # This machine's own way to the package registries, for pip below.
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", root / "etc/ssl/certs/ca-certificates.crt")
    for settings in (Path("/etc/pip.conf"), Path("/etc/xdg/pip/pip.conf")):
        if settings.exists():
            (root / settings.relative_to("/")).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(settings, root / settings.relative_to("/"))
    with chroot(root) as inside:
        run([*inside, "python3", "-m", "venv", "/opt/venv"], log=log, what="venv")
        install = ["/opt/venv/bin/pip", "install", "--quiet", "--no-cache-dir", *requirements()]
        run([*inside, *install], log=log, what="pip install")
        run([*inside, "useradd", "-m", "-s", "/bin/bash", USER], log=log, what="useradd")
    install_unit(root)


def install_unit(root: Path) -> None:
    """The one service of the machine: run what is on the second disk, then switch off."""
    shutil.copy(HERE / "guest.sh", root / "usr/local/sbin/lab-guest")
    (root / "usr/local/sbin/lab-guest").chmod(0o755)
    unit = root / "etc/systemd/system/lab.service"
    unit.write_text(
        "[Unit]\nAfter=multi-user.target systemd-logind.service\n"
        "[Service]\nType=oneshot\nStandardOutput=null\nExecStart=/usr/local/sbin/lab-guest\n"
    )
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    (wants / "lab.service").symlink_to("/etc/systemd/system/lab.service")
    (root / "etc/systemd/system/serial-getty@ttyS0.service").symlink_to("/dev/null")


@dataclass(frozen=True)
class Machine:
    """A built machine: its file system image, kernel and initial RAM disk, and its tree."""

    tree: Path
    image: Path

    @property
    def kernel(self) -> Path:
        return max((self.tree / "boot").glob("vmlinuz-*"))

    @property
    def initrd(self) -> Path:
        return max((self.tree / "boot").glob("initrd.img-*"))


def machine(*, rebuild: bool) -> Machine:
    """The machine from the cache, built first where it is not there. Building needs root."""
    parts = [*packages(HERE / "guest-apt.txt"), *requirements(), (HERE / "guest.sh").read_text()]
    folder = cache_folder() / key(*parts)
    made = Machine(folder / "tree", folder / "disk.img")
    if rebuild:
        shutil.rmtree(folder, ignore_errors=True)
    if made.image.exists():
        return made
    if os.geteuid() != 0:
        raise Refused("the virtual machine has to be built once by root: sudo make test-vm")
    for program in ("debootstrap", "mke2fs"):
        if shutil.which(program) is None:
            raise Refused(f"{program} is missing: apt-get install {' '.join(apt_packages())}")
    print(f"test-vm: building the machine in {folder}, a few minutes, once", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    log = folder / "build.log"
    build_tree(made.tree, log)
    draft = folder / "disk.new"
    with draft.open("wb") as file:
        file.truncate(12 << 30)
    run(["mke2fs", "-q", "-t", "ext4", "-d", made.tree, draft], log=log, what="mke2fs")
    draft.rename(made.image)
    return made


def apt_packages() -> list[str]:
    return packages(HERE / "apt.txt")


# Sources ----------------------------------------------------------------------------------------


def copy_sources(target: Path) -> None:
    """The tracked files and those git does not ignore, as they are in the working tree."""
    words = ["git", "-C", TOP, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout.split(b"\0")
    for name in (os.fsdecode(name) for name in names if name):
        if (TOP / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TOP / name, target / name, follow_symlinks=False)


def compile_core(built: Machine, sources: Path, log: Path) -> None:
    """Build the native core with the guest's compiler, at full speed, into the sources."""
    place = built.tree / "mnt"
    build = (
        f'mount --bind "{sources}" "{place}" && mount -t proc proc "{built.tree}/proc" && '
        f'exec chroot "{built.tree}" /usr/bin/env -i PATH=/opt/venv/bin:/usr/bin:/bin '
        "LANG=C.UTF-8 HOME=/tmp sh -ec '"
        "cd /mnt; pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /mnt/.wheel . ; "
        "python -m zipfile -e .wheel/*.whl .wheel/tree; cp -r .wheel/tree/labkit/. labkit/; "
        "chmod 755 labkit/host/isolation/bin/*; rm -rf .wheel build'"
    )
    run(["unshare", "--mount", "sh", "-c", build], log=log, what="building the native core")


COMMAND = """\
export PATH=/opt/venv/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
export PYTHONPATH=/lab/src PYTHONDONTWRITEBYTECODE=1
exec {words}
"""


def pytest_words(paths: Sequence[str], marks: str) -> list[str]:
    return [
        *("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", marks),
        *("-o", "timeout=1500", "--junitxml=/lab/out/results.xml", *paths),
    ]


# Running ----------------------------------------------------------------------------------------


def accelerator() -> str:
    """kvm where the processor offers it to us; LABKIT_VM_ACCEL overrides."""
    named = os.environ.get("LABKIT_VM_ACCEL")
    if named:
        return named
    flags = Path("/proc/cpuinfo").read_text(errors="replace")
    able = " vmx" in flags or " svm" in flags
    return "kvm" if able and os.access("/dev/kvm", os.R_OK | os.W_OK) else "tcg,thread=multi"


def qemu_words(built: Machine, inbox: Path, outbox: Path, options: argparse.Namespace) -> list[str]:
    accel = accelerator()
    append = "root=/dev/vda rw console=ttyS0 quiet systemd.show_status=0 mitigations=off"

    def drive(path: Path, more: str = "") -> list[str]:
        return ["-drive", f"file={path},if=virtio,format=raw{more}"]

    return [
        *("qemu-system-x86_64", "-accel", accel, "-cpu", "max" if "tcg" in accel else "host"),
        *("-smp", str(options.cpus), "-m", str(options.memory), "-nographic", "-no-reboot"),
        *("-snapshot", "-kernel", str(built.kernel), "-initrd", str(built.initrd)),
        *("-append", append, *drive(built.image), *drive(inbox)),
        *(*drive(outbox, ",snapshot=off"), "-nic", "user,model=virtio-net-pci"),
    ]


def boot(
    built: Machine, user: str, command: str, title: str, options: argparse.Namespace
) -> Outcome:
    """One boot: run `command` as `user`, print what it prints, read what it left."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="labkit-vm") as name:
        work = Path(name)
        (work / "in").mkdir()
        copy_sources(work / "in/src")
        if (work / "in/src/native").is_dir():
            compile_core(built, work / "in/src", work / "core.log")
        (work / "in/command").write_text(command)
        plan = f"LAB_USER={user}\nLAB_DELEGATE={int(not options.stock)}\n"
        (work / "in/plan").write_text(plan)
        with tarfile.open(work / "in.tar", "w") as archive:
            archive.add(work / "in", ".")
        for path, size in ((work / "in.tar", None), (work / "out.tar", 64 << 20)):
            with path.open("ab") as file:
                file.truncate(size or -(-path.stat().st_size // (1 << 20)) << 20)
        status = watch(qemu_words(built, work / "in.tar", work / "out.tar", options), options)
        outcome = Outcome(title, status, seconds=time.monotonic() - began)
        collect(work, outcome)
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
            if (work / "results.xml").exists():
                shutil.copy(work / "results.xml", options.out / f"{user}.xml")
        return outcome


def watch(words: list[str], options: argparse.Namespace) -> int:
    """Print the part of the console that is ours; the command's exit status, 124 without one."""
    status, ours, console = 124, False, []
    deadline = ["timeout", "--kill-after=10", str(options.timeout)]
    with subprocess.Popen(
        [*deadline, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            line = line.rstrip("\r\n")
            if line.startswith("LAB-STATUS="):
                status, ours = int(line.partition("=")[2]), False
            elif line.endswith("LAB-BEGIN"):
                ours = True
            elif ours:
                print(f"  {line}", flush=True)
            else:
                console.append(line)
    if status == 124:
        print(f"test-vm: no result within {options.timeout} s; the console's end:")
        print("\n".join(console[-20:]), flush=True)
    return status


def collect(work: Path, outcome: Outcome) -> None:
    """Read pytest's own account, if it left one."""
    try:
        with tarfile.open(work / "out.tar") as archive:
            member = archive.extractfile("./results.xml")
            if member is None:
                return
            (work / "results.xml").write_bytes(member.read())
    except (KeyError, tarfile.TarError):
        return
    for case in ElementTree.parse(work / "results.xml").iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        skip = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            outcome.failed.append(name)
        elif skip is not None:
            reason = skip.get("message") or "no reason"
            outcome.skipped[reason] = outcome.skipped.get(reason, 0) + 1
        else:
            outcome.passed += 1


def summary(outcomes: Sequence[Outcome]) -> str:
    """What held, what was skipped and why, what failed."""
    lines = ["", "test-vm:"]
    for each in outcomes:
        skipped = sum(each.skipped.values())
        word = "good" if each.is_good else "BAD"
        lines.append(
            f"  {each.title}: {word}: {each.passed} passed, {skipped} skipped, "
            f"{len(each.failed)} failed, status {each.status}, {each.seconds:.0f} s"
        )
        for reason, count in sorted(each.skipped.items(), key=lambda pair: -pair[1]):
            lines.append(f"    skipped {count}: {reason[:140]}")
        lines += [f"    FAILED {name}" for name in each.failed]
    return "\n".join(lines)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("tests", nargs="*", default=list(DEFAULT_TESTS))
    parser.add_argument("--as", dest="who", choices=("root", "user", "both"), default="both")
    parser.add_argument("--stock", action="store_true", help="delegate only what Debian does")
    parser.add_argument("--marks", default="not slow", help="pytest's -m")
    parser.add_argument("--command", help="run this instead of pytest")
    parser.add_argument("--memory", type=int, default=2048, help="MB")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--timeout", type=int, default=5400, help="seconds for one boot")
    parser.add_argument("--out", type=Path, help="a folder for pytest's XML")
    parser.add_argument("--rebuild", action="store_true", help="build the machine anew")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Zero when every run was good, 1 when a test failed, 2 when the machine is not to be had."""
    options = parse(arguments)
    if shutil.which("qemu-system-x86_64") is None:
        print(f"test-vm: no QEMU: apt-get install {' '.join(apt_packages())}", file=sys.stderr)
        return 2
    try:
        built = machine(rebuild=options.rebuild)
        words = shlex.join(pytest_words(options.tests, options.marks))
        command = COMMAND.format(
            words=f"bash -c {shlex.quote(options.command)}" if options.command else words
        )
        runs = [
            (user, title)
            for who, user, title in (
                ("root", "root", "as root"),
                (
                    "user",
                    USER,
                    "as an ordinary user" + ("" if options.stock else " with delegation"),
                ),
            )
            if options.who in (who, "both")
        ]
        outcomes = [boot(built, user, command, title, options) for user, title in runs]
    except Refused as refusal:
        print(f"test-vm: {refusal}", file=sys.stderr)
        return 2
    print(summary(outcomes))
    return 0 if all(each.is_good for each in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
