"""The real docker client and ours, one after the other on one lab, print the same bytes."""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from labkit.notebook.client import Client
from labkit.notebook.commands.docker import COMMANDS, main
from labkit.notebook.commands.surface import BufferSurface

from .conftest import Lab

pytestmark = pytest.mark.skipif(shutil.which("docker") is None, reason="no docker client here")

# `!` prepares the ground and is compared by nobody.
SCRIPT = """
!pull alpine
pull alpine
pull nosuchthing/at-all
images
images --format json
image inspect alpine
history alpine
run --rm alpine echo hi
run --rm alpine sh -c 'echo out; echo err >&2; exit 3'
run --rm -i alpine cat <<< hello
run --rm alpine nosuch
run --rm alpine /etc
run --rm -w /tmp -e A=b -e C alpine sh -c 'pwd; echo $A $C'
run --rm -t alpine echo hi
run --rm alpine sh -c 'kill -9 $$'
run --rm --entrypoint echo alpine a b
run --rm --user nobody alpine id
run --rm --user nosuch alpine id
run --rm --read-only alpine touch /x
run --memory 1 alpine true
run --rm -v /nodir:/x alpine ls
!run -d --name aa alpine sleep 1000
run --name aa alpine true
ps -q
ps --format '{{.Names}} {{.Image}} {{.Command}} {{.State}} {{json .Ports}}'
ps --no-trunc --format 'table {{.ID}}\\t{{.Names}}'
exec aa echo hi
exec -i aa cat <<< data
exec aa nosuch
exec aa /etc
exec -w /tmp -e X=y aa sh -c 'pwd; echo $X; exit 5'
exec -d aa true
exec nope x
inspect aa
inspect -f '{{.State.Status}} {{.Name}} {{.Config.Cmd}} {{.HostConfig.Binds}} {{json .Mounts}}' aa
inspect -f '{{.HostConfig.PortBindings}} {{.Config.Env}} {{.State}} {{.NoSuch}}' aa
inspect nope
top aa
top aa -o pid,comm
diff aa
port aa
kill -s USR2 aa
kill -s FOO aa
update -m 64m aa
stop -t 0 aa
start aa
restart -t 0 aa
rm aa
rm nope
pause nope
!run --name ll alpine sh -c 'echo one; echo two >&2'
logs ll
logs --tail 1 ll
logs nope
wait ll
start -a ll
exec ll true
kill ll
attach ll
inspect -f '{{.State.ExitCode}}' ll
ps -a --filter status=exited --format '{{.Names}}'
ps -a --filter foo=bar
container prune -f --filter label=x
network ls
volume ls
rmi nope
info --format '{{.Driver}}'
version --format '{{.Server.Version}}'
run --rm --name ss alpine sh -c 'echo $0 "$@"' 'a b' c
ps -z
run --nosuch alpine
nosuch
!rm -f aa ll
"""


def _normal(text: str) -> str:
    """Without what differs from one run to the next: ids, moments, times in words."""
    text = re.sub(r"\b[0-9a-f]{64}\b", "<id>", text)
    text = re.sub(r"\b[0-9a-f]{12}\b", "<id>", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "<moment>", text)
    text = re.sub(r"(?:\d+|About an?|Less than a) (?:second|minute|hour)s?(?: ago)?", "<age>", text)
    return re.sub(r" {2,}", "  ", text)


def _real(lab: Lab, words: list[str], given: str) -> tuple[int, str, str]:
    # As bytes: text mode would hide the carriage returns of a container's terminal.
    done = subprocess.run(
        ["docker", *words],
        env=lab.env,
        input=given.encode(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def _ours(lab: Lab, words: list[str], given: str) -> tuple[int, str, str]:
    surface = BufferSurface(stdin=io.BytesIO(given.encode()), answers=[given] if given else None)
    client = Client(f"unix://{lab.paths.docker_socket}")
    try:
        code = main(words, client=client, surface=surface, cwd=lab.folder)
    finally:
        client.close()
    return code, surface.stdout, surface.stderr


def test_a_session_prints_the_same_bytes_through_both_clients(lab: Lab) -> None:
    differences = []
    for line in SCRIPT.strip().splitlines():
        command, _, given = line.removeprefix("!").partition(" <<< ")
        words = shlex.split(command)
        code, out, err = _real(lab, words, given)
        if line.startswith("!"):
            assert code == 0, (line, err)
            continue
        expected = (code, _normal(out), _normal(err))
        code, out, err = _ours(lab, words, given)
        found = (code, _normal(out), _normal(err))
        if found != expected:
            differences.append((line, expected, found))
    assert not differences


# Ours takes one manifest and no -v, and its help says so.
@pytest.mark.parametrize("spelling", sorted(set(COMMANDS.index) - {"manifest inspect"}))
def test_help_is_the_real_clients(spelling: str) -> None:
    real = subprocess.run(
        ["docker", *spelling.split(), "--help"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    surface = BufferSurface()
    client: Any = None
    assert main([*spelling.split(), "--help"], client=client, surface=surface, cwd=Path.cwd()) == 0
    assert surface.stdout == real.stdout


def test_the_terminal_command_ends_with_the_containers_code(lab: Lab) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "labkit.cli", "docker", "run", "--rm", "-i", "alpine", "sh"],
        env={**lab.env, "PATH": os.environ["PATH"]},
        input="echo to stdout; echo to stderr >&2; exit 6\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 6
    assert done.stdout == "to stdout\n"
    assert done.stderr.endswith("to stderr\n")
