"""What a root file system may be: a stack with or without a place to write, or a plain folder."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from isolation_kit import Host

from labkit.host.isolation.runtime import ContainerStartFailure
from labkit.host.isolation.spec import ContainerSpec, Mount, RootSpec


def with_root(spec: ContainerSpec, root: RootSpec) -> ContainerSpec:
    return replace(spec, root=root)


def prepared(rootfs: Path) -> None:
    """Mount points cannot be made in a root nobody may write to."""
    for name in ("proc", "sys", "dev"):
        (rootfs / name).mkdir(exist_ok=True)


async def test_a_plain_folder_can_be_the_root(host: Host) -> None:
    copy = host.folder / "copy"
    shutil.copytree(host.rootfs, copy, symlinks=True)
    spec = with_root(host.spec("sh", "-c", "echo kept > /file; ls /"), RootSpec(path=copy))
    found = await host.finish(await host.start(spec, hold=True))
    assert "etc" in found.stdout.split()
    assert (copy / "file").read_text() == "kept\n"


async def test_one_layer_alone_is_read_only(host: Host) -> None:
    layer = host.folder / "layer"
    shutil.copytree(host.rootfs, layer, symlinks=True)
    prepared(layer)
    spec = with_root(host.spec("sh", "-c", "touch /x || echo refused"), RootSpec(lowers=(layer,)))
    found = await host.finish(await host.start(spec, hold=True))
    assert found.stdout == "refused\n"
    assert not (layer / "x").exists()


@pytest.mark.parametrize("count", [2, 60, 126])
async def test_many_layers_stack_topmost_first(host: Host, count: int) -> None:
    layers = []
    for number in range(count - 1):
        layer = host.folder / ("a folder whose name takes room, with: odd signs" + str(number))
        layer.mkdir()
        (layer / "which").write_text(f"{number}\n")
        (layer / f"own{number}").touch()
        layers.append(layer)
    spec = host.spec("sh", "-c", "cat /which; ls / | grep -c own")
    root = replace(spec.root, lowers=(*layers, host.rootfs))
    found = await host.finish(await host.start(with_root(spec, root), hold=True))
    assert found.stdout == f"0\n{count - 1}\n"


async def test_a_missing_layer_is_named(host: Host) -> None:
    spec = host.spec("true")
    root = replace(spec.root, lowers=(host.folder / "gone",))
    with pytest.raises(ContainerStartFailure, match=r"mount overlay root: .*/gone: no such file"):
        await host.start(with_root(spec, root))


async def test_a_missing_volume_is_named(host: Host) -> None:
    mount = Mount("bind", "/data", source=str(host.folder / "gone"))
    with pytest.raises(ContainerStartFailure, match="gone") as caught:
        await host.run("true", extra_mounts=(mount,))
    assert 'to rootfs at "/data"' in caught.value.message
