"""Images that go out to other people's tools and come back, and images that those tools built."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from .conftest import Lab


def tool(*words: str, cwd: Path | None = None) -> str:
    program = shutil.which(words[0])
    if program is None:
        pytest.skip(f"{words[0]} is not installed")
    done = subprocess.run(
        [program, *words[1:]], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout


def skopeo(*words: str) -> str:
    return tool("skopeo", "--insecure-policy", *words)


def test_an_image_saved_and_carried_by_skopeo_comes_back_as_itself(
    lab: Lab, tmp_path: Path
) -> None:
    text = (
        "FROM busybox\nRUN mkdir /d && ln -s x /d/l && touch -d '1999-12-31 23:59:59' /d/f "
        '&& chmod 4755 /d/f && rm /bin/vi\nLABEL a=b\nENTRYPOINT ["cat"]\n'
    )
    lab.ok("build", "-q", "-t", "carried:1", "-", given=text)
    before = json.loads(lab.ok("image", "inspect", "carried:1"))[0]
    lab.ok("save", "-o", str(tmp_path / "saved.tar"), "carried:1")
    config = json.loads(
        skopeo("inspect", "--config", f"docker-archive:{tmp_path}/saved.tar:carried:1")
    )
    assert config["rootfs"]["diff_ids"] == before["RootFS"]["Layers"]
    # What is saved is an OCI layout as well; carried as that, every digest stays.
    skopeo("copy", f"oci-archive:{tmp_path}/saved.tar", f"oci:{tmp_path}/oci:1")
    skopeo("copy", f"oci:{tmp_path}/oci:1", f"oci-archive:{tmp_path}/back.tar:carried:2")
    lab.ok("rmi", "-f", "carried:1")
    lab.ok("load", "-i", str(tmp_path / "back.tar"))
    after = json.loads(lab.ok("image", "inspect", "carried:2"))[0]
    assert (after["Id"], after["RootFS"]) == (before["Id"], before["RootFS"])
    shown = lab.ok("run", "--rm", "--entrypoint", "ls", "carried:2", "-l", "/d/f")
    assert shown.startswith("-rwsr-xr-x")
    assert "Dec 31  1999" in shown


def test_a_conversion_by_skopeo_keeps_every_layer(lab: Lab, tmp_path: Path) -> None:
    lab.ok("save", "-o", str(tmp_path / "saved.tar"), "busybox")
    before = json.loads(lab.ok("image", "inspect", "busybox"))[0]
    # Docker's own fields of the configuration are dropped on the way, so the id is another one.
    skopeo(
        "copy", f"docker-archive:{tmp_path}/saved.tar", f"oci-archive:{tmp_path}/oci.tar:laid:out"
    )
    assert lab.ok("load", "-i", str(tmp_path / "oci.tar")) == "Loaded image: laid:out\n"
    after = json.loads(lab.ok("image", "inspect", "laid:out"))[0]
    assert after["RootFS"] == before["RootFS"]
    assert after["Config"]["Cmd"] == before["Config"]["Cmd"]


def test_an_image_built_by_buildah_runs_here(lab: Lab, tmp_path: Path) -> None:
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("busybox is not installed")
    shutil.copy(busybox, tmp_path / "busybox")
    (tmp_path / "Dockerfile").write_text(
        "FROM scratch\nCOPY --chmod=755 busybox /bin/busybox\nENV A=b\n"
        'ENTRYPOINT ["/bin/busybox", "sh", "-c", "echo built elsewhere $A"]\n'
    )
    storage = ["--root", str(tmp_path / "root"), "--runroot", str(tmp_path / "runroot")]
    storage += ["--storage-driver", "vfs"]
    try:
        tool("buildah", *storage, "bud", "-t", "elsewhere:1", ".", cwd=tmp_path)
        target = f"docker-archive:{tmp_path}/built.tar:elsewhere:1"
        tool("buildah", *storage, "push", "localhost/elsewhere:1", target)
        lab.ok("load", "-i", str(tmp_path / "built.tar"))
        assert lab.ok("run", "--rm", "elsewhere:1") == "built elsewhere b\n"
    finally:
        tool("buildah", *storage, "rmi", "-a", "-f")


def test_an_image_that_podman_loaded_and_saved_keeps_every_layer(lab: Lab, tmp_path: Path) -> None:
    lab.ok(
        "build", "-q", "-t", "visit:1", "-", given="FROM busybox\nRUN echo hi > /x; rm /bin/vi\n"
    )
    before = json.loads(lab.ok("image", "inspect", "visit:1"))[0]
    lab.ok("save", "-o", str(tmp_path / "out.tar"), "visit:1")
    # podman wants a short path for its state, so that its sockets have room.
    short = Path(tempfile.mkdtemp(prefix="lkp", dir="/tmp"))
    folders = [f"--{name}={short / name}" for name in ("root", "runroot", "tmpdir")]
    podman = ["podman", *folders, "--storage-driver=vfs", "--events-backend=file"]
    try:
        tool(*podman, "load", "-q", "-i", str(tmp_path / "out.tar"))
        back = ["save", "-q", "--format", "oci-archive", "-o", str(tmp_path / "back.tar")]
        tool(*podman, *back, "visit:1")
    finally:
        if shutil.which("podman"):
            tool(*podman, "rmi", "-a", "-f")
        shutil.rmtree(short)
    lab.ok("rmi", "-f", "visit:1")
    lab.ok("load", "-i", str(tmp_path / "back.tar"))
    names = lab.ok("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    name = next(name for name in names if name.endswith("visit:1"))
    after = json.loads(lab.ok("image", "inspect", name))[0]
    assert after["RootFS"] == before["RootFS"]
    assert lab.ok("run", "--rm", name, "cat", "/x") == "hi\n"
