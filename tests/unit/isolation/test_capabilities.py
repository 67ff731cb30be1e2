"""Capability flags behave as Docker's do."""

from __future__ import annotations

import pytest

from labkit.base.errors import InvalidParameter
from labkit.host.isolation.capabilities import (
    ALL_CAPABILITIES,
    CAPABILITY_NUMBERS,
    DEFAULT_CAPABILITIES,
    capability_mask,
    capability_sets,
    choose_capabilities,
    names_from_mask,
    normalize_capability,
)


def test_the_table_has_the_kernels_numbers() -> None:
    assert len(ALL_CAPABILITIES) == 41
    known = {"CAP_CHOWN": 0, "CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21, "CAP_SETFCAP": 31}
    known |= {"CAP_SYSLOG": 34, "CAP_CHECKPOINT_RESTORE": 40, "CAP_MKNOD": 27}
    assert {name: CAPABILITY_NUMBERS[name] for name in known} == known


def test_the_default_set_has_dockers_mask() -> None:
    assert len(DEFAULT_CAPABILITIES) == 14
    # The value that `grep Cap /proc/1/status` shows in every default container.
    assert capability_mask(DEFAULT_CAPABILITIES) == 0x00000000A80425FB
    assert names_from_mask(0xA80425FB) == frozenset(DEFAULT_CAPABILITIES)


@pytest.mark.parametrize("text", ["net_admin", "NET_ADMIN", "cap_net_admin", " CAP_Net_Admin "])
def test_names_are_tolerant_of_case_and_prefix(text: str) -> None:
    assert normalize_capability(text) == "CAP_NET_ADMIN"


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(InvalidParameter, match='unknown capability: "FLY"'):
        choose_capabilities(["FLY"])


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        ([], ["ALL"], set()),
        (["CHOWN"], ["ALL"], {"CAP_CHOWN"}),
        (["ALL"], [], set(ALL_CAPABILITIES)),
        (["ALL"], ["SYS_ADMIN"], set(ALL_CAPABILITIES) - {"CAP_SYS_ADMIN"}),
        (["NET_ADMIN"], [], {*DEFAULT_CAPABILITIES, "CAP_NET_ADMIN"}),
        ([], ["chown"], set(DEFAULT_CAPABILITIES) - {"CAP_CHOWN"}),
        (["CHOWN"], ["CHOWN"], set(DEFAULT_CAPABILITIES) - {"CAP_CHOWN"}),
    ],
)
def test_add_and_drop_combine_as_docker_combines_them(
    add: list[str], drop: list[str], expected: set[str]
) -> None:
    assert choose_capabilities(add, drop) == expected


def test_privileged_has_everything_whatever_is_dropped() -> None:
    assert choose_capabilities([], ["ALL"], privileged=True) == frozenset(ALL_CAPABILITIES)


def test_the_inheritable_set_stays_empty() -> None:
    for sets in (capability_sets(), capability_sets(["ALL"]), capability_sets(privileged=True)):
        assert sets.inheritable == frozenset()
        assert sets.ambient == frozenset()


def test_an_ordinary_user_holds_nothing_but_keeps_the_bound() -> None:
    sets = capability_sets(uid=1000)
    assert sets.effective == sets.permitted == frozenset()
    assert sets.bounding == frozenset(DEFAULT_CAPABILITIES)


def test_what_the_machine_lacks_is_left_out() -> None:
    available = frozenset(ALL_CAPABILITIES) - {"CAP_SYS_RESOURCE"}
    assert "CAP_SYS_RESOURCE" not in capability_sets(privileged=True, available=available).bounding
