"""Docker's sentence, and what a beginner may try then."""

from __future__ import annotations

import pytest

from labkit.notebook.magics.advice import ADVICE, advise

NAMES = {
    "containers": ["web", "quotes"],
    "catalog": ["alpine", "busybox"],
    "commands": ["ps", "logs"],
}


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("Error response from daemon: No such container: wbe\n", "did you mean web?"),
        ("Error response from daemon: No such container: zzz\n", "%docker ps -a"),
        (
            "docker: Error response from daemon: pull access denied for apline, repository does\n",
            "did you mean alpine?",
        ),
        (
            'docker: … The container name "/web" is already in use by container "76…".\n',
            "`%docker rm -f web`",
        ),
        ('docker: … exec: "nope": executable file not found in $PATH\n', "no program “nope”"),
        ('docker: … exec: "/etc/passwd": permission denied\n', "/etc/passwd is not executable"),
        ("unknown flag: --nonsense\n\nUsage: …", "before the image’s name"),
        ("docker: invalid hostPort: 99999999\n", "1 to 65535"),
        ('invalid argument "1x" for "-m, --memory" flag: invalid size: \'1x\'\n', "--memory 64m"),
        ("template parsing error: template: :1:2: x\n", "'{{.Names}}'"),
        ("docker: unknown command: docker logz\n", "did you mean logs?"),
        (
            'OCI runtime exec failed: … exec: "bash": executable file not found in $PATH\r\n',
            "no program “bash”",
        ),
    ],
)
def test_advice_fits_the_sentence(said: str, advice: str) -> None:
    found = advise(said, lambda kind: NAMES.get(kind, []))
    assert found is not None
    assert advice in found


def test_what_a_container_prints_itself_is_not_advised_on() -> None:
    assert advise("ls: No such container: x\n") is None
    assert advise("") is None
    assert advise("something quite different\n") is None


def test_every_piece_of_advice_can_be_filled() -> None:
    import re

    for pattern, advice, kind in ADVICE:
        groups = re.compile(pattern).groups
        for number in range(groups + 1, 5):
            assert f"{{{number}}}" not in advice
        assert ("{near}" in advice) == bool(kind)
