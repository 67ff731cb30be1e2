"""What a box is told and what it answers survive the wire, and refusals are explained."""

from __future__ import annotations

import errno
import struct

import pytest

from labkit.base.errors import InvalidParameter, SystemFailure
from labkit.host.isolation.box_ops import encode_arguments, explain, mount_flags
from labkit.host.isolation.box_wire import decode_reply, encode_request


def _reply(*fields: bytes) -> bytes:
    return b"".join(struct.pack("=I", len(field)) + field for field in fields)


def test_a_request_is_a_length_and_fields() -> None:
    frame = encode_request("mkdir", ["/a", b"\0\xff"])
    assert frame[:4] == struct.pack("=I", len(frame) - 4)
    assert frame[4:] == _reply(b"mkdir", b"/a", b"\0\xff")


def test_a_request_that_is_too_long_is_refused() -> None:
    with pytest.raises(SystemFailure, match="too many"):
        encode_request("write_file", ["/a", b"x" * (1 << 20)])


def test_a_reply_gives_steps_and_typed_results() -> None:
    step = (b"make a folder", b"mkdir", b"/a 755", b"10", b"30", b"17")
    reply = decode_reply(
        _reply(b"error", b"17", b"mkdir", b"1", *step, b"exit_code", b"3", b"stdout", b"\xff")
    )
    assert not reply.ok
    assert (reply.errno, reply.call) == (17, "mkdir")
    assert reply.steps[0].call == "mkdir"
    assert reply.steps[0].end_ns - reply.steps[0].start_ns == 20
    assert reply.result == {"exit_code": 3, "stdout": b"\xff"}


@pytest.mark.parametrize(
    "data",
    [b"\1", struct.pack("=I", 99) + b"x", _reply(b"ok"), _reply(b"ok", b"0", b"", b"5", b"x")],
)
def test_a_broken_reply_is_told(data: bytes) -> None:
    with pytest.raises((SystemFailure, struct.error)):
        decode_reply(data)


def test_mount_flags_are_those_of_mount8() -> None:
    assert mount_flags("ro,nosuid") == 3
    assert mount_flags(["bind", "rec"]) == mount_flags("rbind") == 4096 | 16384
    assert mount_flags(5) == 5
    with pytest.raises(InvalidParameter, match="unknown mount flag"):
        mount_flags("shiny")


def test_a_command_line_is_split_as_a_shell_would() -> None:
    words = encode_arguments("run", {"argv": "echo 'a b' c"})
    assert words[3:7] == ["3", "echo", "a b", "c"]


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [("fly", {}), ("chroot", {}), ("chroot", {"nowhere": 1}), ("run", {"argv": ""})],
)
def test_a_request_that_means_nothing_is_refused(
    operation: str, arguments: dict[str, object]
) -> None:
    with pytest.raises(InvalidParameter):
        encode_arguments(operation, arguments)


def test_a_refusal_names_call_object_reason_and_the_next_thing_to_try() -> None:
    message, hint = explain("pivot_root", "pivot_root", errno.EINVAL, "/x")
    assert message == "pivot_root(/x): Invalid argument"
    assert "mount point" in hint
    message, _ = explain("unshare", "unshare", errno.ENOSPC, "CLONE_NEWUSER")
    assert "No space left" not in message
