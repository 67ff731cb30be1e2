"""Builds and images through the real docker client and through ours: the same bytes."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from .conftest import Lab
from .test_command_parity import _normal, _ours, _real

pytestmark = pytest.mark.skipif(shutil.which("docker") is None, reason="no docker client here")

FILES = {
    "Dockerfile": 'FROM busybox\nCOPY f /f\nRUN cat /f\nLABEL x=y\nCMD ["a"]\n',
    "f": "hello\n",
    "Bad": "FROM busybox\nRNU x\n",
    "Fail": "FROM busybox\nRUN echo out; exit 7\n",
}
# `!` prepares the ground and is compared by nobody; what is removed is made again by the next `!`.
SCRIPT = r"""
!build -t px ctx
build -t px ctx
build -q ctx
build -f ctx/Bad ctx
build -f ctx/Fail ctx
build -q -f ctx/Fail --no-cache ctx
build --target nope ctx
build --build-arg UNUSED=1 ctx
build -t x@sha256:0 ctx
!build - <<< FROM busybox\nLABEL q=1\n
build - <<< FROM busybox\nLABEL q=1\n
build - <<< RUN x\n
build --platform linux/s390x - <<< FROM busybox\n
image build -t px ctx
images
images -a
images -q
images --digests
images --no-trunc
images px
images --filter dangling=true
images --filter reference=p*
images --filter label=x=y -q
images --filter nope=1
images --format '{{.Repository}}:{{.Tag}} {{.Size}}'
images --format json
history px
history --no-trunc px
history -q px
history -H=false px
image inspect px
image inspect nope
tag px pz:1
tag nope x
tag px UP
rmi nope
rmi -f nope
!run --name cc busybox sh -c 'echo hi > /x'
commit cc cm:1
commit -a me -m msg -c 'CMD ["z"]' -c 'ENV A=b c=d' -c 'EXPOSE 80' cc cm:2
commit -c 'RUN x' cc cm:3
commit -c 'NOPE x' cc cm:4
commit nope cm:5
history cm:2
diff cc
save -o s.tar px cm:1
save nope
load -i s.tar
load -q -i s.tar
load -i nofile
load <<< garbage
export -o e.tar cc
export nope
import e.tar im:1
import -c 'CMD x' -c 'ENV a=b' -m msg e.tar im:2
import nofile
import - im:3 <<< garbage
!image prune -f
image prune -f
image prune -f --filter label=zz
builder prune -f
system df
push px
push localhost:1/px
pull -q busybox
pull --platform linux/s390x busybox
pull UP
search --no-trunc --format '{{.Name}}' nginx
login -u a -p b localhost:1
logout localhost:1
!rm cc
"""


def _settled(text: str) -> str:
    text = re.sub(r"DEPRECATED: The legacy builder.*?buildx/\n\n", "", text, flags=re.DOTALL)
    return _normal(text)


@pytest.fixture
def _in_the_labs_folder(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in FILES.items():
        path = Path(lab.folder) / "ctx" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (lab.folder / "docker-config").mkdir(exist_ok=True)
    monkeypatch.chdir(lab.folder)
    monkeypatch.setenv("DOCKER_CONFIG", str(lab.folder / "docker-config"))


@pytest.mark.usefixtures("_in_the_labs_folder")
def test_building_and_handling_images_prints_the_same_bytes_through_both_clients(lab: Lab) -> None:
    differences = []
    for line in SCRIPT.strip().splitlines():
        command, _, given = line.removeprefix("!").partition(" <<< ")
        given = given.replace("\\n", "\n")
        words = shlex.split(command)
        code, out, err = _real(lab, words, given)
        if line.startswith("!"):
            assert code == 0, (line, err)
            continue
        expected = (code, _settled(out), _settled(err))
        code, out, err = _ours(lab, words, given)
        found = (code, _settled(out), _settled(err))
        if found != expected:
            differences.append((line, expected, found))
    assert not differences
