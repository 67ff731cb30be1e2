"""commit, export and import with the real client, and attach over a websocket."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import time
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest

from tests.wire.conftest import Lab


def config_of(lab: Lab, image: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(lab.ok("inspect", "-f", "{{json .Config}}", image))
    return found


def test_a_commit_keeps_what_the_container_wrote(clean_lab: Lab) -> None:
    clean_lab.ok("run", "--name", "c1", "busybox", "sh", "-c", "echo kept > /note")
    identifier = clean_lab.ok("commit", "-a", "Ada", "-m", "a note", "c1", "mine:1").strip()
    assert identifier.startswith("sha256:")
    assert clean_lab.ok("run", "--rm", "mine:1", "cat", "/note") == "kept\n"
    found = json.loads(clean_lab.ok("inspect", "mine:1"))[0]
    assert (found["Author"], found["Comment"]) == ("Ada", "a note")
    history = clean_lab.ok("history", "--no-trunc", "--format", "{{.CreatedBy}}", "mine:1")
    assert history.splitlines()[0] == "sh -c echo kept > /note"
    clean_lab.ok("rmi", "mine:1")


def test_changes_of_a_commit_are_dockerfile_instructions(clean_lab: Lab) -> None:
    clean_lab.ok("create", "--name", "c1", "-e", "A=1", "busybox", "true")
    changes = [
        'CMD ["echo", "hi"]', "ENV B=$A", "EXPOSE 80", "VOLUME /data", "WORKDIR /srv",
        "USER 7", "LABEL x=y", "ENTRYPOINT /bin/sh -c date", "ONBUILD RUN true",
    ]  # fmt: skip
    words = [word for change in changes for word in ("--change", change)]
    clean_lab.ok("commit", *words, "c1", "changed")
    config = config_of(clean_lab, "changed")
    assert config["Cmd"] == ["echo", "hi"]
    assert "B=1" in config["Env"]  # type: ignore[operator]
    assert config["ExposedPorts"] == {"80/tcp": {}}
    assert config["Volumes"] == {"/data": {}}
    assert (config["WorkingDir"], config["User"]) == ("/srv", "7")
    assert config["Entrypoint"] == ["/bin/sh", "-c", "/bin/sh -c date"]
    assert config["Labels"]["x"] == "y"  # type: ignore[index]
    assert config["OnBuild"] == ["RUN true"]
    done = clean_lab.docker("commit", "--change", "RUN true", "c1")
    assert done.returncode == 1
    assert "RUN is not a valid change command" in done.stderr
    clean_lab.ok("rmi", "changed")


@pytest.mark.parametrize("pause", ["true", "false"])
def test_a_running_container_is_committed_and_runs_on(clean_lab: Lab, pause: str) -> None:
    identifier = clean_lab.ok("run", "-d", "--name", "c1", "busybox", "sleep", "1d").strip()
    clean_lab.ok("exec", "c1", "touch", "/made")
    clean_lab.ok("commit", f"--pause={pause}", "c1", "running")
    assert clean_lab.ok("inspect", "-f", "{{.State.Status}}", "c1") == "running\n"
    assert clean_lab.ok("run", "--rm", "running", "ls", "/made") == "/made\n"
    path = f"/events?since=1&until={time.time():.9f}&filters=" + quote(
        json.dumps({"container": [identifier]})
    )
    _, text = clean_lab.request("GET", path)
    events = [json.loads(line)["Action"] for line in text.splitlines()]
    assert "commit" in events
    assert ("pause" in events) == (pause == "true")
    clean_lab.ok("rmi", "running")


def test_an_export_is_imported_as_one_layer(clean_lab: Lab, tmp_path: Path) -> None:
    clean_lab.ok("run", "--name", "c1", "busybox", "sh", "-c", "echo flat > /note")
    clean_lab.ok("export", "-o", str(tmp_path / "root.tar"), "c1")
    with tarfile.open(tmp_path / "root.tar") as tar:
        names = tar.getnames()
    assert "note" in names
    assert "bin/busybox" in names
    clean_lab.ok(
        "import", "-c", 'CMD ["cat", "/note"]', "-m", "from a tar",
        str(tmp_path / "root.tar"), "flat:1",
    )  # fmt: skip
    assert clean_lab.ok("run", "--rm", "flat:1") == "flat\n"
    found = json.loads(clean_lab.ok("inspect", "flat:1"))[0]
    assert len(found["RootFS"]["Layers"]) == 1
    assert found["Comment"] == "from a tar"
    clean_lab.ok("rmi", "flat:1")


def test_an_import_of_what_is_no_archive_says_so(clean_lab: Lab) -> None:
    data = io.BytesIO(b"this is no tar" * 100)
    done = subprocess.run(
        ["docker", "import", "-", "broken"], env=clean_lab.env, input=data.read(),
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert b"archive" in done.stderr
    assert clean_lab.ok("images", "-q", "broken") == ""


async def test_a_websocket_carries_input_and_output(clean_lab: Lab) -> None:
    clean_lab.ok("run", "-d", "-i", "--name", "c1", "busybox", "cat")
    path = str(clean_lab.paths.docker_socket)
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=path)) as session:
        address = "http://lab/containers/c1/attach/ws?stream=1&stdin=1&stdout=1"
        async with session.ws_connect(address) as socket:
            await socket.send_str("typed\n")
            assert (await socket.receive(timeout=10)).data == b"typed\n"
            clean_lab.ok("rm", "-f", "c1")
            assert (await socket.receive(timeout=10)).type in (
                aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED,
            )  # fmt: skip
