"""`docker cp` against a container that cheats: links out, folders swapped for links meanwhile.

The classes are those of CVE-2018-15664 (a path resolved, then opened, while the container swaps
it), CVE-2019-14271 (a helper inside the container's root loads the container's libraries) and
CVE-2026-42306 (the destination of a mount redirected during a copy). Each test lets a real
container fight a real engine and looks at the machine afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import sys
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "system" / "engine"))

from engine_lab import Lab, open_lab

from labkit.base.errors import LabkitError
from labkit.base.paths import LabPaths
from labkit.host.image.pull import pull
from labkit.host.image.store import ImageStore

pytestmark = pytest.mark.mounted_root

ROUNDS = 60
BUSYBOX = os.path.exists("/bin/busybox")
HOSTNAME = os.uname().nodename
SWAP = (
    "mkdir -p /swap/real; echo inside > /swap/real/secret; cd /swap; "
    "while :; do mv real gone; ln -s {target} real; rm real; mv gone real; "
    "/bin/true; /bin/true; /bin/true; done"
)


@pytest.fixture
async def lab(lab_paths: LabPaths, tmp_path: Path) -> AsyncIterator[Lab]:
    if not BUSYBOX:
        pytest.skip("busybox is missing (Debian package busybox-static)")
    store = ImageStore(tmp_path / "images")
    async for _ in pull(store, "busybox"):
        pass
    store.close()
    found = await open_lab(lab_paths, tmp_path / "images")
    yield found
    await found.remove_all()
    await found.close()


@pytest.fixture
def treasure(tmp_path: Path) -> Path:
    """A folder of the machine that no container may read or write."""
    folder = tmp_path / "treasure"
    folder.mkdir()
    (folder / "secret").write_text("the machine's\n")
    return folder


def assert_untouched(treasure: Path) -> None:
    assert sorted(path.name for path in treasure.iterdir()) == ["secret"]
    assert (treasure / "secret").read_text() == "the machine's\n"


async def until_true(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110 - nothing tells when a file appears
            await asyncio.sleep(0.01)


def archive(name: str, text: str) -> io.BytesIO:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text.encode()))
    data.seek(0)
    return data


async def texts(lab: Lab, name: str, path: str) -> list[str]:
    """What a GET of `path` gives out, all files of it."""
    pieces: list[bytes] = []
    async with lab.engine.container_archive_read(name, path) as found:
        await asyncio.to_thread(found.write, pieces.append)
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
        files = [tar.extractfile(member) for member in tar if member.isfile()]
        return [file.read().decode() for file in files if file is not None]


async def test_reading_while_the_container_swaps_the_folder_for_a_link_out(
    lab: Lab, treasure: Path
) -> None:
    """CVE-2018-15664, reading."""
    await lab.start("sh", "-c", SWAP.format(target=treasure), name="cheat")
    seen: set[str] = set()
    for number in range(20 * ROUNDS):
        if seen and number >= ROUNDS:
            break
        try:
            seen.update(await texts(lab, "cheat", "/swap/real/secret"))
            seen.update(await texts(lab, "cheat", "/swap/real/"))
        except (LabkitError, OSError):
            continue  # the name was not there at that moment
    assert seen <= {"inside\n"}
    assert seen, "the race was never won by an honest read: the test shows nothing"


async def test_writing_while_the_container_swaps_the_folder_for_a_link_out(
    lab: Lab, treasure: Path
) -> None:
    """CVE-2018-15664, writing."""
    await lab.start("sh", "-c", SWAP.format(target=treasure), name="cheat")
    written = 0
    for number in range(20 * ROUNDS):
        if written and number >= ROUNDS:
            break
        try:
            data = archive(f"new-{number}/file", "x")
            await lab.engine.container_archive_write("cheat", "/swap/real", data)
            written += 1
        except (LabkitError, OSError):
            continue
    assert_untouched(treasure)
    assert written


async def is_link(lab: Lab, name: str, path: str) -> bool:
    return (await lab.exec(name, "readlink", path))[0] == 0


async def test_a_link_to_the_machines_root_leads_to_the_containers_own(
    lab: Lab, treasure: Path
) -> None:
    for name in ("running", "stopped"):
        await lab.start("sh", "-c", f"ln -s / out; ln -s {treasure} far; sleep 1d", name=name)
        await until_true(partial(is_link, lab, name, "/far"))
    await lab.engine.container_stop("stopped", timeout=0)
    for name in ("running", "stopped"):
        assert await texts(lab, name, "/out/etc/hostname") != [f"{HOSTNAME}\n"]
        with pytest.raises(LabkitError, match="Could not find the file"):
            await texts(lab, name, "/far/secret")
        with pytest.raises(LabkitError, match="Could not find the file"):
            await lab.engine.container_archive_write(name, "/far", archive("secret", "mine"))
    assert_untouched(treasure)


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/../../out"])
async def test_a_member_that_climbs_out_is_refused(lab: Lab, name: str) -> None:
    await lab.start("sleep", "1d", name="c1")
    with pytest.raises(LabkitError, match="is outside of"):
        await lab.engine.container_archive_write("c1", "/tmp", archive(name, "x"))


async def test_a_link_inside_the_archive_leads_nowhere_else(lab: Lab, treasure: Path) -> None:
    """A link first, then a member through it: it ends up in the container's tree."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        link = tarfile.TarInfo("door")
        link.type, link.linkname = tarfile.SYMTYPE, str(treasure)
        tar.addfile(link)
        member = tarfile.TarInfo("door/secret")
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    await lab.start("sleep", "1d", name="c1")
    data.seek(0)
    with contextlib.suppress(LabkitError):
        await lab.engine.container_archive_write("c1", "/tmp", data)
    assert_untouched(treasure)


async def test_links_of_proc_open_nothing_of_the_machines(lab: Lab) -> None:
    """/proc/PID/root and /proc/PID/cwd are magic links: they are not followed."""
    await lab.start("sleep", "1d", name="c1", HostConfig={"PidMode": "host"})
    for path in ("/proc/1/root/etc/hostname", "/proc/1/cwd/etc/hostname"):
        with pytest.raises((LabkitError, OSError)):
            await texts(lab, "c1", path)


async def test_nothing_of_the_container_runs_during_a_copy(lab: Lab) -> None:
    """CVE-2019-14271: even with every library and program replaced the copy works."""
    script = "mkdir -p /lib /lib64; echo broken > /lib/libnss_files.so.2; rm -f /bin/tar; sleep 1d"
    await lab.start("sh", "-c", script, name="c1")
    await lab.engine.container_archive_write("c1", "/tmp", archive("f", "x"))
    assert await texts(lab, "c1", "/tmp/f") == ["x"]

    async def is_gone() -> bool:
        return (await lab.exec("c1", "ls", "/bin/tar"))[0] != 0

    await until_true(is_gone)
    top = await lab.engine.container_top("c1")
    assert len(top["Processes"]) == 1


async def test_a_mount_point_swapped_for_a_link_does_not_redirect_the_volume(
    lab: Lab, treasure: Path
) -> None:
    """CVE-2026-42306: the mount of a stopped container's volume lands inside its root."""
    volume = {"HostConfig": {"Binds": ["kept:/data/here"]}}
    await lab.start("sh", "-c", "sleep 1d", name="c1", **volume)
    await lab.engine.container_stop("c1", timeout=0)
    upper = lab.engine.context.ports.snapshots.upper(lab.engine.context.find("c1").id)
    (upper / "data" / "here").rmdir()
    (upper / "data").rmdir()
    (upper / "data").symlink_to(treasure)
    with contextlib.suppress(LabkitError):
        await lab.engine.container_archive_write("c1", "/data/here", archive("secret", "x"))
    assert_untouched(treasure)
