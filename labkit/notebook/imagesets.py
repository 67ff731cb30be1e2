"""`labkit images …`: what the catalog has, whether blobs are sound, images for another room."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from labkit.base.errors import CommandError, LabkitError
from labkit.base.paths import LabPaths

__all__ = ["catalog_page", "main"]

_CHUNK = 1 << 20
_PAGE = """# Images without a network

Made by `labkit images catalog --markdown`. With a network every name is the real image of Docker
Hub; without one, a *stand-in* is built on the spot from this machine's packages and says so in its
label `org.labkit.stand-in`, in `docker history` and when it is pulled. All tags of a name give the
same stand-in. `labkit images bundle` writes images into one file, and `labkit images load-bundle`
reads it in a room without network; what came so is used before any stand-in.

| image | without a network | what it is |
|---|---|---|
"""


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="labkit images", description="The course's images.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    one = commands.add_parser("catalog", help="what each image of the course is here")
    one.add_argument("--markdown", action="store_true", help="as the page in docs/")
    one = commands.add_parser("verify", help="read every blob again and compare its digest")
    one.add_argument("images", nargs="*", metavar="IMAGE", help="all images when none is named")
    one = commands.add_parser("bundle", help="write images into one OCI layout file")
    one.add_argument("images", nargs="*", metavar="IMAGE", help="the course's when none is named")
    one.add_argument("-o", "--output", default="labkit-images.tar", metavar="FILE")
    one = commands.add_parser("load-bundle", help="read images from such a file")
    one.add_argument("file", metavar="FILE")
    return parser


def main(argv: Sequence[str], paths: LabPaths) -> int:
    """Run one command; the exit status is returned. Raises LabkitError."""
    from labkit.notebook.client import LabClient, ensure_daemon

    options = _parser().parse_args(argv)
    client = LabClient(f"unix://{ensure_daemon(paths).lab_socket}", timeout_s=None)
    return _COMMANDS[options.command](options, client, paths)


def catalog_page(table: Mapping[str, Any]) -> str:
    """The page of docs/ from the answer of GET /v1/images/catalog."""
    rows = (f"| {one['name']} | {one['kind']} | {one['what']} |" for one in table["images"])
    return _PAGE + "\n".join(rows) + "\n"


def _catalog(options: Namespace, client: Any, _: LabPaths) -> int:
    table = client.json("GET", "/v1/images/catalog")
    if options.markdown:
        print(catalog_page(table), end="")
        return 0
    width = max(len(one["name"]) for one in table["images"])
    kept = set(table["kept"])
    for one in table["images"]:
        kind = "bundle" if one["name"].removesuffix(":latest") in kept else one["kind"]
        print(f"{one['name']:<{width}}  {kind:<8}  {one['what']}")
    return 0


def _verify(options: Namespace, client: Any, _: LabPaths) -> int:
    damaged = looked_at = 0
    for line in _lines(client.stream("POST", "/v1/images/verify", json={"images": options.images})):
        looked_at += 1
        name = ", ".join(line["tags"]) or line["id"][:19]
        for sentence in line["wrong"]:
            print(f"{name}: {sentence}")
        damaged += bool(line["wrong"])
    print(f"{looked_at} images, {damaged} damaged.")
    if damaged:
        print("  next: docker rmi IMAGE, then pull it again")
    return 1 if damaged else 0


def _bundle(options: Namespace, client: Any, paths: LabPaths) -> int:
    from labkit.notebook.client import Client

    names = options.images or client.json("GET", "/v1/images/catalog")["bundle"]
    docker = Client(f"unix://{paths.docker_socket}")
    there = [name for name in names if _ensure(docker, name)]
    if not there:
        raise CommandError("none of these images could be had; nothing was written")
    target = Path(options.output)
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with (
            client.open("GET", "/v1/images/bundle", query={"names": there}) as answer,
            open(beside, "xb") as file,
        ):
            file.writelines(answer.chunks())
        beside.replace(target)
    except OSError as error:
        raise CommandError(f"cannot write {target}: {error.strerror}") from error
    finally:
        beside.unlink(missing_ok=True)
    print(f"{target}: {len(there)} images, {target.stat().st_size / 1e6:.0f} MB")
    return 0 if len(there) == len(names) else 1


def _ensure(docker: Any, name: str) -> bool:
    """Pull an image that is not here; what cannot be had is said and left out."""
    if docker.request("GET", f"/images/{name}/json", check=False).status == 200:
        return True
    repository, _, tag = name.rpartition(":")
    if not repository or "/" in tag:
        repository, tag = name, "latest"
    query = {"fromImage": repository, "tag": tag}
    try:
        for _ in _lines(docker.stream("POST", "/images/create", query=query)):
            pass
    except LabkitError as error:
        print(f"left out: {name}: {error}", file=sys.stderr)
        return False
    print(f"pulled {name}", file=sys.stderr)
    return True


def _load_bundle(options: Namespace, client: Any, _: LabPaths) -> int:
    try:
        file = open(options.file, "rb")  # noqa: SIM115 - closed by the with below
    except OSError as error:
        raise CommandError(f"cannot read {options.file}: {error.strerror}") from error
    with file:
        loaded = 0
        answer = client.stream(
            "POST",
            "/v1/images/load-bundle",
            body=iter(lambda: file.read(_CHUNK), b""),
            headers={"Content-Type": "application/x-tar"},
        )
        for line in _lines(answer):
            if "image" in line:
                loaded += 1
                print(f"{line['image']}  {line['digest']}")
    print(f"{loaded} images loaded; they stay known to the catalog when they are pruned.")
    return 0


def _lines(answer: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The lines of a stream; an error in it is raised."""
    for line in answer:
        if "error" in line:
            raise CommandError(str(line["error"]))
        yield line


_COMMANDS: dict[str, Callable[[Namespace, Any, LabPaths], int]] = {
    "catalog": _catalog,
    "verify": _verify,
    "bundle": _bundle,
    "load-bundle": _load_bundle,
}
