"""Builds and logins against the fake engine, told as data: for the real client and for ours."""

from __future__ import annotations

import io
import json
import re
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from commands_fake import Answer, FakeEngine, Request

FILES = {
    "Dockerfile": "FROM x\n",
    "a.txt": "hello",
    "d/b.txt": "x" * 3000,
    "d/e/f.txt": "deep",
    ".dockerignore": "d\n",
}
LINES: list[dict[str, Any]] = [
    {"stream": "Step 1/1 : FROM x\n"},
    {"status": "Pulling from library/x", "id": "latest"},
    {"status": "Downloading", "progressDetail": {"current": 5, "total": 9}, "id": "abc"},
    {"status": "Pull complete", "progressDetail": {}, "id": "abc"},
    {"stream": " ---> abc\n"},
    {"aux": {"ID": "sha256:" + "a" * 64}},
    {"stream": "Successfully built abc\n"},
]
FAILED = [{"stream": "Step\n"}, {"errorDetail": {"code": 7, "message": "bad"}, "error": "bad"}]
TAR = io.BytesIO()
with tarfile.open(fileobj=TAR, mode="w", format=tarfile.USTAR_FORMAT) as _archive:
    _member = tarfile.TarInfo("Dockerfile")
    _member.size = 7
    _archive.addfile(_member, io.BytesIO(b"FROM x\n"))
REFUSED = Answer(401, {"message": 'Get "https://r/v2/": unauthorized: incorrect username'})
TOKEN = Answer(body={"Status": "Login Succeeded", "IdentityToken": "TOK"})
ALL_FLAGS = (
    "build -t x -t y:1 --build-arg A=b --build-arg SET --build-arg NOPE --label l=1 --label m"
    " --add-host h:1.2.3.4 --add-host g=1::2 --ulimit nofile=10:20 -m 64m --memory-swap 128m"
    " --shm-size 32m -c 3 --cpuset-cpus 0 --cpuset-mems 1 --cpu-period 1 --cpu-quota 2"
    " --network none --no-cache --pull --force-rm --rm=false --target T --cache-from a,b"
    " --cgroup-parent cg --platform linux/amd64 --security-opt a=b --isolation x"
    " --iidfile iid.txt ."
)
AUTHS = {"auths": {"r": {"auth": "bWU6cHc="}}}
HUB = {"auths": {"https://index.docker.io/v1/": {"auth": "bWU6cHc="}}}

# Words, and what is special about the case.
CASES: list[tuple[str, dict[str, Any]]] = [
    ("build .", {}),
    (ALL_FLAGS, {}),
    ("build -q .", {"lines": [{"stream": "sha256:abcd\n"}]}),
    ("build -q . # fails", {"lines": FAILED}),
    ("build . # fails", {"lines": FAILED}),
    (
        "build . # fails without a code",
        {"lines": [{"error": "bad", "errorDetail": {"message": "bad"}}]},
    ),
    ("build -q . # refused", {"build": Answer(500, {"message": "no"})}),
    ("build . # refused", {"build": Answer(500, {"message": "no"})}),
    ("build -", {"given": b"FROM x\nRUN y\n"}),
    ("build - # nothing", {"given": b""}),
    ("build - # tar", {"given": TAR.getvalue()}),
    ("build -f Other - # tar", {"given": TAR.getvalue()}),
    ("build -f Other -", {"given": b"FROM x\n"}),
    ("build -f ../other/Df .", {"files": {**FILES, "../other/Df": "FROM z\n"}}),
    ("build -f - .", {"given": b"FROM x\n"}),
    ("build -f - -", {"given": b"FROM x\n"}),
    ("build -f d/b.txt .", {}),
    ("build -f Nope .", {}),
    ("build nodir", {}),
    ("build . # no Dockerfile", {"files": {"x": "1"}}),
    ("build . # small letters", {"files": {"dockerfile": "FROM x\n"}}),
    ("build a.txt", {}),
    ("build", {}),
    ("build --iidfile iid -q .", {"lines": [{"stream": "sha256:abcd\n"}]}),
    ("build --iidfile nodir/iid .", {}),
    ("build . # bad ignore", {"files": {**FILES, ".dockerignore": "!\n"}}),
    ("build . # ignore all", {"files": {**FILES, ".dockerignore": "**\n!a.txt\n"}}),
    ("build . # ignore and take back", {"files": {**FILES, ".dockerignore": "d\n!d/e\n"}}),
    (
        "build . # ignore and take back deep",
        {"files": {**FILES, ".dockerignore": "d\n!**/f.txt\n"}},
    ),
    ("build . # ignore stars", {"files": {**FILES, ".dockerignore": "*\n!d/*/f.txt\n"}}),
    ("build . # links", {"links": {"l": "a.txt", "m": "/nowhere"}}),
    ("build -t UP .", {}),
    ("build --add-host bad .", {}),
    ("build --memory-swap -1 .", {}),
    ("build --progress plain .", {}),
    ("build --squash .", {}),
    ("build . # with auths", {"conf": AUTHS}),
    (
        "build . # proxies",
        {"conf": {"proxies": {"default": {"httpProxy": "http://p:1", "noProxy": "a"}}}},
    ),
    ("builder prune -f", {}),
    ("builder prune", {"given": b"y\n"}),
    ("builder prune -a", {"given": b"n\n"}),
    ("builder prune -f -a --filter until=24h --keep-storage 1g", {}),
    ("login -u me -p pw", {}),
    ("login -u me -p pw r.example:5000", {}),
    ("login -u me --password-stdin https://r.example:5000/v2/", {"given": b"pw\n"}),
    ("login --password-stdin", {"given": b"pw\n"}),
    ("login -u me -p x --password-stdin", {"given": b"pw\n"}),
    ("login -u me -p  r # empty", {"words": ["login", "-u", "me", "-p", "", "r"]}),
    ("login", {}),
    ("login -u me r", {}),
    ("login -p x r", {}),
    ("login -u me -p pw r # refused", {"auth": REFUSED}),
    ("login -u me -p pw r # token", {"auth": TOKEN}),
    ("login r # known", {"conf": AUTHS}),
    ("login r # known and bad", {"conf": AUTHS, "auth": REFUSED}),
    ("login -u me -p pw q # others are kept", {"conf": {**AUTHS, "psFormat": "x"}}),
    ("login -u me -p pw r # no helper", {"conf": {"credsStore": "nothere"}}),
    ("login -u me -p pw r # helper", {"conf": {"credsStore": "kept"}}),
    ("logout", {}),
    ("logout r", {"conf": AUTHS}),
    ("logout # hub", {"conf": HUB}),
    ("logout r # helper", {"conf": {"credsStore": "kept"}}),
    ("pull r/x # known", {"conf": AUTHS}),
    ("push x # known", {"conf": HUB}),
]
HELPER = """#!/bin/sh
echo "$1" >> "$HELPER_LOG"
cat >> "$HELPER_LOG"; echo >> "$HELPER_LOG"
"""

Client = Callable[[list[str], bytes, Path, dict[str, str]], tuple[int, bytes, bytes]]


def told(case: str, options: dict[str, Any], client: Client) -> dict[str, Any]:
    """Carry one case out; everything that can be seen of it afterwards."""
    words = options.get("words") or case.partition(" #")[0].split()
    engine = _engine(options)
    with tempfile.TemporaryDirectory(prefix="lkc", dir="/tmp") as name:
        folder = Path(name)
        environment = _fill(folder, options)
        with engine.serving(folder / "s") as address:
            environment["DOCKER_HOST"] = address
            code, out, err = client(words, options.get("given", b""), folder / "ctx", environment)
        return {
            "code": code,
            "out": _settled(out.decode(), name),
            "err": _settled(err.decode(), name),
            "asked": [_asked(request) for request in engine.requests if request.path != "/_ping"],
            "config": _read(folder / "conf" / "config.json"),
            "helper": _read(folder / "helper.log"),
            "written": {path.name: path.read_text() for path in (folder / "ctx").glob("iid*")},
        }


def _engine(options: dict[str, Any]) -> FakeEngine:
    engine = FakeEngine()
    engine.on("POST", "/build", options.get("build") or Answer(lines=options.get("lines", LINES)))
    engine.on("POST", "/build/prune", {"CachesDeleted": ["aaa", "bbb"], "SpaceReclaimed": 12345})
    accepted = Answer(body={"Status": "Login Succeeded", "IdentityToken": ""})
    engine.on("POST", "/auth", options.get("auth") or accepted)
    engine.on("GET", "/info", {"IndexServerAddress": "https://index.docker.io/v1/"})
    return engine


def _fill(folder: Path, options: dict[str, Any]) -> dict[str, str]:
    for path, text in options.get("files", FILES).items():
        where = folder / "ctx" / path
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_text(text)
    for path, target in options.get("links", {}).items():
        (folder / "ctx" / path).symlink_to(target)
    (folder / "conf").mkdir()
    if "conf" in options:
        (folder / "conf" / "config.json").write_text(json.dumps(options["conf"]))
    (folder / "bin").mkdir()
    helper = folder / "bin" / "docker-credential-kept"
    helper.write_text(HELPER)
    helper.chmod(0o755)
    return {
        "PATH": f"{folder / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(folder),
        "DOCKER_CONFIG": str(folder / "conf"),
        "HELPER_LOG": str(folder / "helper.log"),
        "SET": "from the environment",
    }


def _read(path: Path) -> Any:
    if not path.exists():
        return None
    return json.loads(path.read_text()) if path.suffix == ".json" else path.read_text()


def _settled(text: str, folder: str) -> str:
    """Without what differs from one run to the next, and without advice about another builder."""
    text = re.sub(r"DEPRECATED: The legacy builder.*?buildx/\n\n", "", text, flags=re.DOTALL)
    return text.replace(folder, "FOLDER")


def _asked(request: Request) -> list[Any]:
    query = {key: sorted(values) for key, values in request.query.items()}
    secret = {key: value for key, value in request.headers.items() if key.startswith("X-Registry")}
    text = json.dumps(
        [
            query,
            _members(request.body) if request.path == "/build" else request.body.decode().strip(),
        ]
    )
    text = re.sub(r"dockerfile\.[0-9a-f]{20}", "dockerfile.RANDOM", text)
    return [request.method, request.path, json.loads(text), secret]


def _members(body: bytes) -> list[Any]:
    """What an archive holds. The real client cuts one kind of archive off: zeros end it."""
    found = []
    with tarfile.open(fileobj=io.BytesIO(body + bytes(2048))) as archive:
        for member in archive:
            kind = member.type.decode()
            fields = [member.name, kind, oct(member.mode), member.uid, member.gid, member.linkname]
            file = archive.extractfile(member) if member.isreg() else None
            found.append([*fields, file.read().decode() if file else ""])
    return found
