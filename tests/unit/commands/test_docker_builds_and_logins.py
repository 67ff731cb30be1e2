"""`build`, `builder prune`, `login` and `logout` do what the real client was recorded doing, and
never read what .dockerignore leaves out."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from build_kit import CASES, told

from labkit.notebook.client import Client
from labkit.notebook.commands.docker import build_context, main
from labkit.notebook.commands.surface import BufferSurface

RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).with_name("build_transcripts.json")).read_text(encoding="utf-8")
)


@pytest.mark.parametrize(("case", "options"), CASES, ids=[case for case, _ in CASES])
def test_the_build_or_login_does_what_the_real_client_did(
    case: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ours(
        words: list[str], given: bytes, cwd: Path, environment: dict[str, str]
    ) -> tuple[int, bytes, bytes]:
        for name in ("DOCKER_CONTEXT", "DOCKER_API_VERSION", "NOPE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        answers = [given.decode().strip()] if len(given) == 2 else None
        surface = BufferSurface(stdin=io.BytesIO(given), answers=answers)
        client = Client(environment["DOCKER_HOST"])
        try:
            code = main(words, client=client, surface=surface, cwd=cwd)
        finally:
            client.close()
        return code, surface.stdout_bytes, surface.stderr.encode()

    assert told(case, options, ours) == RECORDED[case]


def test_what_dockerignore_excludes_is_never_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY a /\n")
    (tmp_path / "a").write_bytes(b"x" * 5000)
    (tmp_path / ".dockerignore").write_text("big*\nmany/**\n")
    with open(tmp_path / "big.bin", "wb") as file:
        file.truncate(1 << 30)
    (tmp_path / "many" / "below").mkdir(parents=True)
    (tmp_path / "many" / "below" / "f").write_bytes(b"y" * 9999)
    opened: list[str] = []
    real_open = os.open

    def noted(path: Any, *rest: Any, **more: Any) -> int:
        opened.append(os.path.basename(os.fsdecode(path)))
        return real_open(path, *rest, **more)

    monkeypatch.setattr(os, "open", noted)
    context = build_context.local_context(tmp_path, tmp_path)
    sent = sum(len(piece) for piece in build_context.archive(context, lambda _size: None))
    assert set(opened) == {"Dockerfile", "a", ".dockerignore"}
    assert sent < 12_000


def test_a_file_that_changes_while_it_is_sent_leaves_a_sound_archive(tmp_path: Path) -> None:
    import tarfile

    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "grows").write_bytes(b"a" * 10)
    (tmp_path / "shrinks").write_bytes(b"b" * 300_000)
    context = build_context.local_context(tmp_path, tmp_path)
    data = bytearray()
    for piece in build_context.archive(context, lambda _size: None):
        data += piece
        if b"grows" in piece:
            (tmp_path / "grows").write_bytes(b"a" * 1000)
        if b"shrinks" in piece:
            (tmp_path / "shrinks").write_bytes(b"b" * 100)
    with tarfile.open(fileobj=io.BytesIO(bytes(data))) as archive:
        sizes = {member.name: member.size for member in archive}
    assert sizes == {"Dockerfile": 13, "grows": 10, "shrinks": 300_000}


def test_the_password_is_in_no_argument_of_a_helper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from labkit.notebook.commands.docker import config_file

    log = tmp_path / "log"
    helper = tmp_path / "docker-credential-spy"
    helper.write_text(f'#!/bin/sh\necho "$@" > {log}\ncat > /dev/null\n')
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text('{"credsStore": "spy"}')
    config_file.store(config_file.Credentials("r", "me", "very-secret"))
    assert log.read_text() == "store\n"
    assert "very-secret" not in (tmp_path / "config.json").read_text()
