"""The daemon's log in a terminal: its end, what is added, and a rotation in between."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.base.errors import InvalidParameter, NotFound
from labkit.base.paths import LabPaths
from labkit.notebook.daemonlog import added, last_lines, main


@given(st.lists(st.text("ab\t", max_size=5), max_size=30), st.integers(0, 40))
def test_the_last_lines_are_those_of_splitlines(lines: list[str], count: int) -> None:
    import tempfile

    text = "".join(f"{line}\n" for line in lines).encode()
    with tempfile.NamedTemporaryFile() as file:
        file.write(text)
        file.flush()
        found, end = last_lines(Path(file.name), count)
        assert end == len(text)
        every = text.splitlines(keepends=True)
        assert found == b"".join(every[len(every) - min(count, len(every)) :])
        assert last_lines(Path(file.name), None)[0] == text


def test_a_long_log_is_read_from_its_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(b"line %d\n" % n for n in range(50_000)))
    assert last_lines(path, 2)[0] == b"line 49998\nline 49999\n"


def test_a_log_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        last_lines(tmp_path / "none", 5)
    assert "labkit up" in caught.value.hint


def test_following_goes_on_behind_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"old\n")
    pieces = added(path, 4)
    with open(path, "ab") as file:
        file.write(b"more\n")
    assert next(pieces) == b"more\n"
    path.rename(tmp_path / "log.1")
    path.write_bytes(b"fresh\n")
    assert next(pieces) == b"fresh\n"
    pieces.close()


def test_its_arguments(lab_paths: LabPaths, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    lab_paths.daemon_log.write_bytes(b"one\ntwo\nthree\n")
    assert main(["-n", "1"], lab_paths) == 0
    assert main(["--tail=all"], lab_paths) == 0
    assert main(["--help"], lab_paths) == 0
    out = capfdbinary.readouterr().out
    assert out.startswith(b"three\none\ntwo\nthree\nUsage:")
    for wrong in (["-n"], ["-n", "x"], ["--nosuch"], ["extra"]):
        with pytest.raises(InvalidParameter):
            main(wrong, lab_paths)
