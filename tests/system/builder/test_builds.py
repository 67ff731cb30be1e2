"""Builds with real containers: layers, caches, stages at once, and what is left when they end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from builder_site import Site, archive

from labkit.base.errors import NotFound
from labkit.host.image.builder.building import build
from labkit.host.image.builder.ports import BuildOptions, Fetched


async def test_two_empty_steps_are_one_layer_stacked_twice(site: Site) -> None:
    image = site.lab.images.get(await site.build("FROM busybox\nRUN true\nRUN :\n", tags=["twice"]))
    assert image.diff_ids[-1] == image.diff_ids[-2]
    assert (await site.lab.run("echo", "runs", Image="twice"))[:2] == (0, "runs\n")


async def test_independent_stages_run_at_the_same_time(site: Site) -> None:
    # Each waits for the other through a shared cache mount: one after the other would hang.
    meet = "RUN --mount=type=cache,target=/m touch /m/{0}; until [ -e /m/{1} ]; do sleep 0.05; done"
    text = (
        f"FROM busybox AS a\n{meet.format('a', 'b')}; echo a > /a\n"
        f"FROM busybox AS b\n{meet.format('b', 'a')}; echo b > /b\n"
        "FROM busybox\nCOPY --from=a /a /\nCOPY --from=b /b /\n"
    )
    async with asyncio.timeout(60):
        await site.build(text, tags=["both"])
    assert (await site.lab.run("cat", "/a", "/b", Image="both"))[1] == "a\nb\n"
    order = [line for line in site.text.splitlines() if line.startswith("Step")]
    assert [int(line.split()[1].split("/")[0]) for line in order] == list(range(1, 8))


async def test_a_build_that_is_broken_off_leaves_nothing(site: Site) -> None:
    context = archive({"Dockerfile": "FROM busybox\nRUN echo begun; sleep 1000\n"})
    lines = build(site.ports, BuildOptions(), context)
    async for line in lines:
        if line.get("stream") == "begun\n":
            break
    assert site.lab.runtime.cgroups.names()
    await lines.aclose()
    site.lab.images.layers.drain()
    assert not site.leftovers()


async def test_a_failing_stage_ends_the_others(site: Site) -> None:
    async with asyncio.timeout(60):
        await site.stream(
            "FROM busybox AS a\nRUN sleep 0.2; exit 3\nFROM busybox AS b\nRUN sleep 1000\n"
            "FROM busybox\nCOPY --from=a /x /\nCOPY --from=b /x /\n"
        )
    assert site.lines[-1]["errorDetail"]["code"] == 3


async def test_the_same_sources_and_epoch_give_the_same_image(site: Site) -> None:
    text = "FROM busybox\nRUN echo x > /x; mkdir /d\nCOPY f /e/f\nWORKDIR /new\nENV A=1\n"
    options = {"epoch_s": 1_700_000_000, "no_cache": True}
    first = await site.build(text, {"f": "1"}, **options)
    await asyncio.sleep(1.1)
    assert await site.build(text, {"f": "1"}, **options) == first


async def test_cache_from_takes_the_steps_of_an_image(site: Site) -> None:
    text = "FROM busybox\nRUN echo first\nCOPY f /f\nENV A=1\n"
    source = await site.build(text, {"f": "1"}, tags=["source"])
    await site.build(text, {"f": "1"}, cache_from=["source"])
    assert site.text.count("Using cache") == 3
    other = await site.build(text, {"f": "2"}, cache_from=["source", "nosuch"])
    assert site.text.count("Using cache") == 1
    assert other != source


async def test_hashes_of_copies_from_a_stage_decide(site: Site) -> None:
    text = "FROM busybox AS a\nCOPY f /f\nFROM busybox\nCOPY --from=a /f /g\nRUN cat /g\n"
    await site.build(text, {"f": "1"})
    await site.build(text, {"f": "1"})
    assert site.text.count("Using cache") == 3
    await site.build(text, {"f": "2"})
    assert site.text.count("Using cache") == 0


async def test_secrets_are_lent_and_leave_no_trace(site: Site) -> None:
    text = (
        "FROM busybox\nRUN --mount=type=secret,id=key wc -c < /run/secrets/key; "
        "stat -c %a /run/secrets/key\nRUN ls /run/secrets 2>&1; true\n"
    )
    await site.build(text, secrets={"key": b"12345"}, tags=["secret"])
    assert "5\n400\n" in site.text
    assert "ls: /run/secrets: No such file" in site.text
    await site.stream("FROM busybox\nRUN --mount=type=secret,id=no,required=true true\n")
    assert site.lines[-1]["error"] == "secret no: not found"


async def test_users_folders_and_environment_reach_run(site: Site) -> None:
    await site.build(
        "FROM busybox\nENV A=env\nARG B=arg\nARG A=hidden\nWORKDIR /deep/er\nUSER 12:34\n"
        'RUN echo "$A $B $(pwd) $(id -u):$(id -g)"\n',
        arguments={"HTTP_PROXY": "http://p"},
    )
    assert "env arg /deep/er 12:34\n" in site.text


async def test_a_file_does_not_replace_a_folder(site: Site) -> None:
    await site.stream("FROM busybox\nCOPY d /\n", {"d/tmp": "file"})
    assert site.lines[-1]["error"] == "cannot replace to directory /tmp with file"


async def test_copies_through_links_of_the_image_stay_inside(site: Site) -> None:
    await site.build(
        "FROM busybox\nRUN ln -s /usr/data /link; ln -s ../../../../etc /out; mkdir /usr/data\n"
        "COPY f /link/f\nCOPY f /out/escaped\n",
        {"f": "x"},
        tags=["links"],
    )
    shown = await site.lab.run("sh", "-c", "cat /usr/data/f /etc/escaped; ls -l /", Image="links")
    assert shown[1].startswith("xx")
    assert "link -> /usr/data" in shown[1]


class _Files(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = self.path == "/file.tar"
        self.send_response(200 if found else 404)
        self.send_header("Last-Modified", "Tue, 14 Nov 2023 22:13:20 GMT")
        self.end_headers()
        self.wfile.write(b"not unpacked" if found else b"")

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Files) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()
        thread.join()


async def test_add_downloads_a_url_and_does_not_unpack_it(site: Site, server: str) -> None:
    await site.build(f"FROM busybox\nADD {server}/file.tar /d/\n", tags=["remote"])
    shown = await site.lab.run("stat", "-c", "%n %a %Y", "/d/file.tar", Image="remote")
    assert shown[1] == "/d/file.tar 600 1700000000\n"
    await site.stream(f"FROM busybox\nADD {server}/none /d/\n")
    assert "with status 404" in site.lines[-1]["error"]


async def test_the_cpu_and_memory_limits_of_a_build_hold(site: Site) -> None:
    limits = {"Memory": 16 << 20, "MemorySwap": 16 << 20}
    text = "FROM busybox\nRUN head -c 64m /dev/zero | tail\n"
    if not {"memory"} & set(site.lab.engine.context.ports.probe.controllers):
        pytest.skip("no memory controller here")
    await site.stream(text, host_config=limits)
    assert "returned a non-zero code" in site.lines[-1]["error"]


async def test_a_download_must_have_the_checksum_it_is_said_to_have(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(url: str, folder: Path) -> Fetched:
        (folder / "file").write_bytes(b"content")
        return Fetched(folder / "file")

    site.ports = replace(site.ports, fetch=fetch)
    right = hashlib.sha256(b"content").hexdigest()
    await site.build(f"FROM scratch\nADD --checksum=sha256:{right} http://x/f /f\n")
    lines = await site.stream(f"FROM scratch\nADD --checksum=sha256:{'0' * 64} http://x/f /f\n")
    assert lines[-1]["error"] == f"digest mismatch sha256:{right}: sha256:{'0' * 64}"


async def test_a_linked_copy_is_the_same_layer_over_any_image(site: Site) -> None:
    files = {"f": "x"}
    layers = []
    for base in ("FROM scratch", "FROM busybox", "FROM busybox\nRUN mkdir -m 700 /d"):
        found = await site.build(f"{base}\nCOPY --link f /d/e/f\n", files, epoch_s=1)
        layers.append(site.ports.store.get(found).diff_ids[-1])
    assert len(set(layers)) == 1


class _QuietFiles(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A folder over HTTP: host and port."""
    handler = functools.partial(_QuietFiles, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def _bare_repository(folder: Path) -> Path:
    """One commit with sub/f, for a file server."""
    (folder / "work" / "sub").mkdir(parents=True)
    (folder / "work" / "sub" / "f").write_text("from git")
    for words in (
        ["init", "-q", "-b", "main"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "x"],
        ["clone", "-q", "--bare", ".", str(folder / "repository.git")],
    ):
        subprocess.run(["git", *words], cwd=folder / "work", check=True)
    subprocess.run(["git", "update-server-info"], cwd=folder / "repository.git", check=True)
    return folder / "repository.git"


async def test_add_takes_the_files_of_a_git_repository(site: Site, tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    bare = _bare_repository(tmp_path)
    with serving(bare.parent) as address:
        url = f"http://{address}/repository.git"
        text = f"FROM busybox\nADD {url}#main:sub /a/\nADD {url} /b/\n"
        await site.build(f"{text}RUN cat /a/f && find /b && test ! -e /b/.git\n")
    assert "from git" in site.text
    assert "/b/sub/f" in site.text


async def test_the_context_may_come_from_a_url_or_a_repository(site: Site, tmp_path: Path) -> None:
    plain, packed = tmp_path / "Dockerfile", tmp_path / "context.tar"
    plain.write_text("FROM scratch\nLABEL a=plain\n")
    packed.write_bytes(archive({"Dockerfile": "FROM scratch\nCOPY f /\n", "f": "x"}).getvalue())
    with serving(tmp_path) as address:
        for name in ("Dockerfile", "context.tar"):
            await site.build("", remote=f"http://{address}/{name}")
        options = BuildOptions(dockerfile="nope", remote=f"http://{address}/context.tar")
        with pytest.raises(NotFound, match="Cannot locate specified Dockerfile: nope"):
            await anext(build(site.ports, options, archive({})))


async def test_a_step_without_a_network_has_none(site: Site) -> None:
    text = "FROM busybox\nRUN --network=none ls /sys/class/net | tr '\\n' ' '\n"
    await site.build(text)
    assert "eth0" not in site.text


async def test_an_image_from_scratch_is_for_the_platform_it_was_built_for(site: Site) -> None:
    def platform(image: str) -> tuple[object, object]:
        config = site.lab.images.get(image).config
        return config["architecture"], config.get("variant")

    text, files = "FROM scratch\nCOPY f /f\n", {"f": "data"}
    arm = await site.build(text, files, platform="linux/arm/v7")
    here = await site.build(text, files)
    again = await site.build(text, files, platform="linux/arm/v7")
    assert platform(arm) == ("arm", "v7")
    assert platform(here) != platform(arm)
    assert again == arm


async def test_builds_racing_on_one_cache_all_stand_and_leave_it_whole(site: Site) -> None:
    start = "FROM busybox\nCOPY f /f\nRUN cat /f > /g\nRUN echo more >> /g\n"
    files = {"Dockerfile": "", "f": "shared"}

    async def one(number: int) -> str:
        text = f"{start}RUN echo {number} > /mine\n"
        context = archive({**files, "Dockerfile": text})
        lines = [line async for line in build(site.ports, BuildOptions(), context)]
        assert "errorDetail" not in lines[-1], lines
        return next(line["aux"]["ID"] for line in reversed(lines) if "aux" in line)

    async with asyncio.timeout(120):
        images = await asyncio.gather(*(one(number % 3) for number in range(6)))
    store = site.lab.images
    for number, image in enumerate(images):
        shown = await site.lab.run("sh", "-c", "cat /g /mine", Image=image)
        assert shown[:2] == (0, f"sharedmore\n{number % 3}\n")
        assert store.verify(image) == []
    # Builds at once may each have made a step. Docker's rule takes the newest result of each, which
    # need not have a child yet; what is missing is made once, and from then on all is found.
    await site.build(f"{start}RUN echo 0 > /mine\n", {"f": "shared"})
    assert " ---> Using cache\n" in site.text
    await site.build(f"{start}RUN echo 0 > /mine\n", {"f": "shared"})
    assert site.text.count("Using cache") == 4


async def test_127_layers_can_be_stacked_and_the_next_is_refused_by_that_number(
    site: Site,
) -> None:
    text = "FROM busybox\n" + "".join(f"COPY f{n} /f{n}\n" for n in range(126))
    files = {f"f{n}": f"{n}\n" for n in range(127)}
    async with asyncio.timeout(150):
        image = site.lab.images.get(await site.build(text, files, tags=["deep"]))
        assert len(image.diff_ids) == 127
        shown = await site.lab.run("sh", "-c", "cat /f0 /f125; ls / | grep -c f", Image="deep")
        assert shown[0] == 0
        assert shown[1].startswith("0\n125\n")
        lines = await site.stream("FROM deep\nCOPY f126 /f126\n", {"f126": "x"})
    assert "max depth exceeded" in lines[-1]["errorDetail"]["message"]
