"""`docker cp` both ways with the real client: files, folders, links, volumes, refusals."""

from __future__ import annotations

import io
import json
import os
import tarfile
from base64 import b64decode
from pathlib import Path

import pytest

from tests.wire.conftest import Lab, _Connection

RUNNING, STOPPED = "running", "stopped"


@pytest.fixture(params=[RUNNING, STOPPED])
def box(clean_lab: Lab, request: pytest.FixtureRequest) -> str:
    """A container with a volume at /data and a tmpfs-free root, running or stopped."""
    name = f"box-{request.param}"
    clean_lab.ok("run", "-d", "--name", name, "-v", "/data", "busybox", "sleep", "1d")
    if request.param == STOPPED:
        clean_lab.ok("stop", "-t", "0", name)
    return name


def read(lab: Lab, name: str, path: str) -> str:
    """The file's text, wherever it is mounted."""
    done = lab.docker("cp", f"{name}:{path}", "-")
    assert done.returncode == 0, done.stderr
    with tarfile.open(fileobj=io.BytesIO(done.stdout.encode("latin-1"))) as tar:
        member = tar.next()
        assert member is not None
        file = tar.extractfile(member)
        assert file is not None
        return file.read().decode()


def head(lab: Lab, name: str, path: str) -> tuple[int, dict[str, object]]:
    connection = _Connection(lab.paths.docker_socket)
    connection.request("HEAD", f"/containers/{name}/archive?path={path}")
    answer = connection.getresponse()
    answer.read()
    connection.close()
    value = answer.headers.get("X-Docker-Container-Path-Stat")
    return answer.status, json.loads(b64decode(value)) if value else {}


def test_a_file_goes_in_and_comes_out_again(clean_lab: Lab, box: str, tmp_path: Path) -> None:
    source = tmp_path / "greeting"
    source.write_text("hello\n")
    source.chmod(0o640)
    clean_lab.ok("cp", str(source), f"{box}:/etc/greeting")
    target = tmp_path / "back"
    clean_lab.ok("cp", f"{box}:/etc/greeting", str(target))
    assert target.read_text() == "hello\n"
    assert target.stat().st_mode & 0o777 == 0o640


def test_a_folder_goes_in_with_what_it_holds(clean_lab: Lab, box: str, tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "deep" / "er").mkdir(parents=True)
    (site / "deep" / "er" / "page").write_text("page")
    (site / "link").symlink_to("deep/er/page")
    clean_lab.ok("cp", str(site), f"{box}:/srv-new")  # a new name: the folder's content
    clean_lab.ok("cp", str(site), f"{box}:/tmp")  # a folder: below it
    clean_lab.ok("cp", f"{box}:/srv-new", str(tmp_path / "one"))
    clean_lab.ok("cp", f"{box}:/tmp/site", str(tmp_path / "two"))
    for name in ("one", "two"):
        assert (tmp_path / name / "deep" / "er" / "page").read_text() == "page"
        assert os.readlink(tmp_path / name / "link") == "deep/er/page"


def test_a_volume_is_seen_where_the_container_sees_it(
    clean_lab: Lab, box: str, tmp_path: Path
) -> None:
    (tmp_path / "row").write_text("42")
    clean_lab.ok("cp", str(tmp_path / "row"), f"{box}:/data/row")
    mounts = json.loads(clean_lab.ok("inspect", "-f", "{{json .Mounts}}", box))
    folder = clean_lab.paths.host_data() / "volumes" / mounts[0]["Name"] / "_data"
    assert (folder / "row").read_text() == "42"
    assert read(clean_lab, box, "/data/row") == "42"
    assert "/data/row" not in clean_lab.ok("diff", box)


def test_the_stat_header_says_what_a_path_is(clean_lab: Lab, box: str) -> None:
    status, found = head(clean_lab, box, "/etc")
    assert (status, found["name"], found["mode"]) == (200, "etc", 0x80000000 | 0o755)
    status, found = head(clean_lab, box, "/etc/mtab")
    assert found["name"] == "mtab"
    assert found["linkTarget"] in ("/proc/mounts", "/proc/self/mounts")
    assert int(str(found["mode"])) & 1 << 27
    assert head(clean_lab, box, "/nowhere")[0] == 404
    assert head(clean_lab, "nobody", "/etc")[0] == 404


def test_a_missing_path_and_a_file_as_folder_have_dockers_sentences(
    clean_lab: Lab, box: str, tmp_path: Path
) -> None:
    done = clean_lab.docker("cp", f"{box}:/nowhere", str(tmp_path))
    assert done.returncode == 1
    assert f"Could not find the file /nowhere in container {box}" in done.stderr
    status, answer = clean_lab.request("PUT", f"/containers/{box}/archive?path=/etc/passwd")
    assert (status, answer["message"]) == (400, "extraction point is not a directory")


def test_a_link_is_copied_as_a_link_or_followed_when_asked(
    clean_lab: Lab, box: str, tmp_path: Path
) -> None:
    (tmp_path / "real").write_text("content")
    (tmp_path / "alias").symlink_to("real")
    clean_lab.ok("cp", str(tmp_path / "real"), f"{box}:/tmp/real")
    clean_lab.ok("cp", str(tmp_path / "alias"), f"{box}:/tmp/alias")
    clean_lab.ok("cp", f"{box}:/tmp/alias", str(tmp_path / "link"))
    assert os.readlink(tmp_path / "link") == "real"
    clean_lab.ok("cp", "-L", f"{box}:/tmp/alias", str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "content"


def test_a_folder_is_not_replaced_by_a_file_nor_a_file_by_a_folder(
    clean_lab: Lab, box: str
) -> None:
    def put(kind: bytes) -> tuple[int, str]:
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as tar:
            member = tarfile.TarInfo("thing")
            member.type = kind
            tar.addfile(member)
        connection = _Connection(clean_lab.paths.docker_socket)
        path = f"/containers/{box}/archive?path=/tmp&noOverwriteDirNonDir=true"
        connection.request("PUT", path, data.getvalue(), {"Content-Type": "application/x-tar"})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    assert put(tarfile.DIRTYPE)[0] == 200
    status, text = put(tarfile.REGTYPE)
    assert status == 400
    assert "cannot overwrite directory" in text


def test_what_is_read_only_in_the_container_is_read_only_here(
    clean_lab: Lab, tmp_path: Path
) -> None:
    (tmp_path / "f").write_text("x")
    clean_lab.ok("volume", "create", "kept")
    clean_lab.ok("create", "--name", "ro", "--read-only", "-v", "kept:/kept:ro", "busybox", "true")
    done = clean_lab.docker("cp", str(tmp_path / "f"), "ro:/etc/f")
    assert done.returncode == 1
    assert "container rootfs is marked read-only" in done.stderr
    done = clean_lab.docker("cp", str(tmp_path / "f"), "ro:/kept/f")
    assert "mounted volume is marked read-only" in done.stderr
    clean_lab.ok("rm", "ro")
    clean_lab.ok("volume", "rm", "kept")


def test_archive_mode_gives_files_to_the_containers_user(clean_lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    clean_lab.ok("run", "-d", "--name", "user", "-u", "1000:1000", "busybox", "sleep", "1d")
    clean_lab.ok("cp", "-a", str(tmp_path / "f"), "user:/tmp/f")
    assert clean_lab.ok("exec", "user", "stat", "-c", "%u:%g", "/tmp/f") == "1000:1000\n"


def test_copying_to_a_stopped_container_leaves_no_process_behind(
    clean_lab: Lab, tmp_path: Path
) -> None:
    (tmp_path / "f").write_text("x")
    clean_lab.ok("create", "--name", "idle", "busybox", "cat", "/f")
    clean_lab.ok("cp", str(tmp_path / "f"), "idle:/f")
    folder = clean_lab.paths.host_data() / "containers"
    assert not list(folder.glob("*/exec-*"))
    assert clean_lab.ok("start", "-a", "idle") == "x"
