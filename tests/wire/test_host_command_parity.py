"""Every command on one host, through the real client and through ours, prints the same bytes.

The lines are in host_command_lines.txt. Each client works in a folder of its own with the same
files.
"""

from __future__ import annotations

import io
import re
import shlex
import shutil
from pathlib import Path

import pytest

from labkit.notebook.client import Client
from labkit.notebook.commands.docker import main
from labkit.notebook.commands.surface import BufferSurface

from .conftest import Lab
from .test_command_parity import _normal, _real

pytestmark = pytest.mark.skipif(shutil.which("docker") is None, reason="no docker client here")

_LINES = Path(__file__).with_name("host_command_lines.txt").read_text()
SECTIONS = {
    title.strip(): [line for line in body.strip().splitlines() if line]
    for title, _, body in (part.partition("\n") for part in _LINES.split("\n== ")[1:])
}
NEED_NETWORKS = frozenset(
    {"networks", "networks that do not go together", "published ports", "run and its flags"}
)
# What the real client logs when the engine refuses an archive before it has read all of it.
_CLOSED_PIPE = re.compile(r'time="<moment>" level=error msg="Can\'t .*\n')


def _folder(lab: Lab, name: str) -> Path:
    """A working folder with the same files for each client."""
    folder = lab.folder / "work" / name
    if not folder.exists():
        (folder / "folder" / "deep").mkdir(parents=True)
        (folder / "env").write_text("# a comment\nFROM_FILE=yes\n\nC\n")
        (folder / "here").write_text("here\n")
        (folder / "folder" / "deep" / "file").write_text("deep\n")
    return folder


def _ours(words: list[str], given: str) -> tuple[int, str, str]:
    """Our command line in this process, which stands in the folder that the caller chose."""
    surface = BufferSurface(stdin=io.BytesIO(given.encode()), answers=[given] if given else None)
    client = Client.from_environment()
    try:
        code = main(words, client=client, surface=surface, cwd=Path.cwd())
    finally:
        client.close()
    return code, surface.stdout, surface.stderr


def _plain(answer: tuple[int, str, str], folder: Path) -> tuple[int, str, str]:
    code, *texts = answer
    out, err = (
        _CLOSED_PIPE.sub("", _normal(text).replace(str(folder), "<folder>")) for text in texts
    )
    return code, out, err


def _has_networks(lab: Lab) -> bool:
    code, out, _ = _real(lab, ["network", "ls", "-q", "--filter", "name=bridge"], "")
    return code == 0 and bool(out)


@pytest.mark.parametrize("section", SECTIONS)
def test_both_clients_say_the_same(lab: Lab, section: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if section in NEED_NETWORKS and not _has_networks(lab):
        pytest.skip("this lab has no networks")
    for name, value in lab.env.items():
        if name.startswith(("DOCKER_", "LABKIT_")):
            monkeypatch.setenv(name, value)
    assert _real(lab, ["pull", "-q", "alpine"], "")[0] == 0
    real, ours = _folder(lab, "real"), _folder(lab, "ours")
    differences = []
    for line in SECTIONS[section]:
        command, _, before = line.partition(" ## ")
        command, _, given = command.removeprefix("!").partition(" <<< ")
        words = shlex.split(command)
        preparations = [shlex.split(one) for one in before.split(";") if one]
        for one in preparations:
            _real(lab, one, "")
        monkeypatch.chdir(real)
        expected = _real(lab, words, given)
        if line.startswith("!"):
            assert expected[0] == 0, (line, expected[2])
            continue
        for one in preparations:
            _real(lab, one, "")
        monkeypatch.chdir(ours)
        found = _ours(words, given)
        wanted, got = _plain(expected, real), _plain(found, ours)
        if wanted != got:
            differences.append((line, wanted, got))
    assert not differences
