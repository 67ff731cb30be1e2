"""Every trick an archive can try, one test each: nothing outside is touched, one error says why."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from trees import apply, header_bytes, members

from labkit.base.errors import InvalidParameter
from labkit.host.image.entry import Entry
from labkit.host.image.tarread import TarLimits, TarReader


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the root with a file nobody may touch; checked afterwards by the tests."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_text("mine")
    return folder


def untouched(outside: Path) -> bool:
    return os.listdir(outside) == ["secret"] and (outside / "secret").read_text() == "mine"


@pytest.mark.parametrize("name", ["../outside/x", "a/../../outside/x", "/../outside/x", ".."])
def test_a_name_with_dots_does_not_climb_out(tmp_path: Path, outside: Path, name: str) -> None:
    with pytest.raises(InvalidParameter, match="leads out of it"):
        apply(members((Entry(name), b"x")), tmp_path / "root")
    assert untouched(outside)


def test_an_absolute_name_counts_from_the_layers_root(tmp_path: Path, outside: Path) -> None:
    apply(members((Entry(f"{outside}/new"), b"x")), tmp_path / "root")
    assert (tmp_path / "root" / str(outside).lstrip("/") / "new").read_text() == "x"
    assert untouched(outside)


@pytest.mark.parametrize("target", ["../outside", "/", "../../../../../../../.."])
def test_a_file_written_through_a_link_stays_inside(
    tmp_path: Path, outside: Path, target: str
) -> None:
    layer = members(
        Entry("out", "symlink", link=target), (Entry("out/outside/x"), b"1"), (Entry("out/x"), b"1")
    )
    with contextlib.suppress(InvalidParameter):
        apply(layer, tmp_path / "root")
    assert untouched(outside)
    assert not Path("/x").exists()


def test_a_link_to_an_absolute_path_is_followed_inside_the_root(
    tmp_path: Path, outside: Path
) -> None:
    layer = members(
        Entry(str(outside).lstrip("/"), "dir", 0o755),
        Entry("out", "symlink", link=str(outside)),
        (Entry("out/secret"), b"theirs"),
    )
    apply(layer, tmp_path / "root")
    assert untouched(outside)
    assert (tmp_path / "root" / str(outside).lstrip("/") / "secret").read_text() == "theirs"


def test_a_file_that_replaces_a_link_does_not_write_to_its_target(
    tmp_path: Path, outside: Path
) -> None:
    layer = members(
        Entry("f", "symlink", link=str(outside / "secret")), (Entry("f", mode=0o777), b"theirs")
    )
    apply(layer, tmp_path / "root")
    assert untouched(outside)
    assert not (tmp_path / "root/f").is_symlink()


@pytest.mark.parametrize(
    "target", ["../outside/secret", "/../outside/secret", "a/../../outside/secret"]
)
def test_a_hard_link_does_not_reach_a_file_outside(
    tmp_path: Path, outside: Path, target: str
) -> None:
    with pytest.raises(InvalidParameter):
        apply(members(Entry("f", "link", link=target)), tmp_path / "root")
    assert (outside / "secret").stat().st_nlink == 1


def test_a_hard_link_through_a_symbolic_link_stays_inside(tmp_path: Path, outside: Path) -> None:
    layer = members(
        Entry("out", "symlink", link=str(outside)), Entry("f", "link", link="out/secret")
    )
    with pytest.raises(InvalidParameter, match="which the layer does not hold"):
        apply(layer, tmp_path / "root")
    assert (outside / "secret").stat().st_nlink == 1


def test_a_hard_link_to_a_symbolic_link_does_not_follow_it(tmp_path: Path, outside: Path) -> None:
    layer = members(
        Entry("s", "symlink", link=str(outside / "secret")),
        Entry("h", "link", link="s"),
        (Entry("h", mode=0o777), b"theirs"),
    )
    apply(layer, tmp_path / "root")
    assert untouched(outside)


def test_a_folder_that_becomes_a_link_gets_no_time_set_behind_it(
    tmp_path: Path, outside: Path
) -> None:
    before = outside.stat().st_mtime_ns
    layer = members(Entry("d", "dir", 0o777, mtime_ns=1), Entry("d", "symlink", link=str(outside)))
    apply(layer, tmp_path / "root")
    assert outside.stat().st_mtime_ns == before


@pytest.mark.parametrize("name", [".wh...", ".wh..", ".wh."])
def test_a_deletion_of_dots_deletes_nothing(tmp_path: Path, outside: Path, name: str) -> None:
    with pytest.raises(InvalidParameter):
        apply(members(Entry(f"d/{name}")), tmp_path / "root", "overlay")
    assert untouched(outside)


def test_a_deletion_through_a_link_stays_inside(tmp_path: Path, outside: Path) -> None:
    layer = members(Entry("out", "symlink", link=str(outside)), Entry("out/.wh.secret"))
    apply(layer, tmp_path / "root")
    assert untouched(outside)


def test_an_opaque_mark_through_a_link_clears_nothing_outside(
    tmp_path: Path, outside: Path
) -> None:
    layer = members(Entry("out", "symlink", link=str(outside)), Entry("out/.wh..wh..opq"))
    apply(layer, tmp_path / "root")
    assert untouched(outside)


def test_the_root_itself_cannot_become_a_link(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="its root is a symlink"):
        apply(members(Entry("./", "symlink", link="/")), tmp_path / "root")


def test_the_overlays_mark_for_deleted_cannot_be_smuggled_in(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="device 0:0"):
        apply(members(Entry("f", "char")), tmp_path / "root")


def test_the_last_of_duplicate_members_wins(tmp_path: Path) -> None:
    layer = members(
        (Entry("f"), b"1"), Entry("f", "dir", 0o755), (Entry("f/g"), b"2"), (Entry("f"), b"3")
    )
    apply(layer, tmp_path / "root")
    assert (tmp_path / "root/f").read_text() == "3"


def test_a_name_is_not_a_folder_and_a_file_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="Not a directory"):
        apply(members((Entry("f"), b"1"), (Entry("f/g"), b"2")), tmp_path / "root")


def test_a_link_that_points_at_itself_is_an_error_not_a_loop(tmp_path: Path) -> None:
    layer = members(Entry("l", "symlink", link="l"), (Entry("l/x"), b""))
    with pytest.raises(InvalidParameter, match="symbolic links"):
        apply(layer, tmp_path / "root")


def test_very_deep_and_very_long_names_are_refused_or_made(tmp_path: Path) -> None:
    apply(members((Entry("d/" * 400 + "f"), b"x")), tmp_path / "root")
    with pytest.raises(InvalidParameter, match="longer than 4095"):
        apply(members((Entry("dd/" * 2000 + "f"), b"x")), tmp_path / "root")
    with pytest.raises(InvalidParameter, match="a name of 300 characters"):
        apply(members((Entry("n" * 300), b"x")), tmp_path / "root")


def _header(**changes: bytes) -> bytes:
    """A sound header with some fields overwritten and the checksum made right again."""
    places = {"mode": 100, "uid": 108, "size": 124, "mtime": 136, "flag": 156, "magic": 257}
    block = bytearray(header_bytes(Entry("f")))
    for field, value in changes.items():
        block[places[field] : places[field] + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def read_all(data: bytes, limits: TarLimits | None = None) -> list[Entry]:
    return list(TarReader(io.BytesIO(data), limits))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (_header(size=b"\xff" * 12), "a size is -1"),
        (_header(size=b"\x80" + b"\xff" * 11), "a size is"),
        (_header(size=b"99999999999\0"), "a size is not a number"),
        (_header(size=b"77777777777\0"), "ends in the middle of a file"),
        (_header(uid=b"\xff" * 8), "an owner is -1"),
        (_header(flag=b"Z"), "unknown kind of member"),
        (
            _header(flag=b"x", size=b"00000000017\0") + b"9999999999 a=b\n".ljust(512, b"\0"),
            "wrong length",
        ),
        (_header(flag=b"x", size=b"77777777777\0"), "an extended header of"),
        (_header(flag=b"L", size=b"77777777777\0"), "an extended header of"),
        (
            _header(flag=b"x", size=b"00000000010\0") + b"8 path=\n".ljust(512, b"\0"),
            "ends after an extended header",
        ),
        (b"x" * 512, "a checksum is not a number"),
        (_header()[:300], "ends in the middle of a header"),
    ],
)
def test_a_lying_header_is_refused(data: bytes, sentence: str) -> None:
    with pytest.raises(InvalidParameter, match=sentence):
        read_all(data)


def test_a_bomb_of_members_or_bytes_is_stopped() -> None:
    many = b"".join(header_bytes(Entry(f"f{number}")) for number in range(20))
    with pytest.raises(InvalidParameter, match="more than 10 members"):
        read_all(many + bytes(1024), TarLimits(entries=10))
    big = members((Entry("f"), b"x" * 5000))
    with pytest.raises(InvalidParameter, match="more than 1000 bytes"):
        read_all(big, TarLimits(content_bytes=1000))


def test_endless_padding_is_stopped() -> None:
    class Zeros:
        def read(self, size: int, /) -> bytes:
            return bytes(min(size, 1 << 16))

    with pytest.raises(InvalidParameter, match="too much data after its end"):
        list(TarReader(Zeros(), TarLimits(trailing_bytes=1 << 20)))


def test_a_sparse_table_that_lies_is_refused() -> None:
    block = bytearray(_header(flag=b"S", size=b"00000000003\0"))
    block[386:410] = b"00000000000\0" + b"00000001000\0"  # 512 bytes of data, 3 stored
    block[483:495] = b"00000002000\0"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    with pytest.raises(InvalidParameter, match="do not match its data"):
        read_all(bytes(block) + bytes(1024))


def test_an_attribute_whose_name_holds_a_nul_is_refused(tmp_path: Path) -> None:
    layer = members((Entry("f", xattrs={"user.a\0b": b"1"}), b""))
    with pytest.raises(InvalidParameter, match="an attribute's name holds a NUL byte"):
        apply(layer, tmp_path / "root")
