"""IPAM: which subnet, which address, and what is refused (Docker's rules)."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.base.errors import Forbidden, InvalidParameter, SystemFailure
from labkit.host.network.ipam import (
    DEFAULT_POOLS,
    Pool,
    choose_subnet,
    choose_subnet_v6,
    first_gateway,
    mac_for,
    parse_pools,
)

NET = ipaddress.IPv4Network("10.9.0.0/24")


def pool(text: str = "10.9.0.0/24", **more: object) -> Pool:
    found = Pool(ipaddress.ip_network(text), None, **more)  # type: ignore[arg-type]
    found.gateway = first_gateway(found)
    return found


def test_the_first_user_network_is_172_18() -> None:
    assert str(choose_subnet([ipaddress.ip_network("172.17.0.0/16")])) == "172.18.0.0/16"


def test_a_pool_that_somebody_overlaps_is_passed_over() -> None:
    used = [ipaddress.ip_network("172.17.0.0/16"), ipaddress.ip_network("172.18.200.0/24")]
    assert str(choose_subnet(used)) == "172.19.0.0/16"


def test_thirty_one_networks_and_then_a_sentence() -> None:
    used: list[ipaddress.IPv4Network] = []
    for _ in DEFAULT_POOLS:
        used.append(choose_subnet(used))
    assert len(used) == 31
    assert str(used[15]) == "192.168.0.0/20"
    with pytest.raises(SystemFailure, match="all predefined address pools have been fully subnet"):
        choose_subnet(used)


def test_the_gateway_is_the_first_address_and_the_next_ones_go_to_containers() -> None:
    found = pool()
    assert str(found.gateway) == "10.9.0.1"
    assert [str(found.take(name)) for name in "abc"] == ["10.9.0.2", "10.9.0.3", "10.9.0.4"]


def test_an_address_given_back_is_given_out_again() -> None:
    found = pool()
    first, _ = found.take("a"), found.take("b")
    found.release(first, "a")
    assert found.take("c") == first


def test_nobody_gives_back_what_is_another_s() -> None:
    found = pool()
    address = found.take("a")
    found.release(address, "b")
    assert found.take("c") != address


def test_a_range_bounds_what_is_given_out_but_not_what_is_asked_for() -> None:
    found = pool(ip_range=ipaddress.ip_network("10.9.0.128/30"))
    # The gateway is the first of the range, as in Docker; three are left.
    assert str(found.gateway) == "10.9.0.128"
    given = [str(found.take(str(number))) for number in range(2)]
    assert given == ["10.9.0.129", "10.9.0.130"]
    assert str(found.take("x", ipaddress.ip_address("10.9.0.9"))) == "10.9.0.9"
    found.take("last")
    with pytest.raises(SystemFailure, match="no available IPv4 addresses"):
        found.take("more")


@pytest.mark.parametrize("wanted", ["10.9.0.1", "10.9.0.0", "10.9.0.255", "10.9.0.7"])
def test_an_address_in_use_is_refused(wanted: str) -> None:
    found = pool(auxiliary={"printer": ipaddress.ip_address("10.9.0.7")})
    with pytest.raises(Forbidden, match="Address already in use"):
        found.take("a", ipaddress.ip_address(wanted))


def test_an_address_of_another_subnet_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="no configured subnet contains IP address"):
        pool().take("a", ipaddress.ip_address("10.10.0.2"))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 12)), max_size=60))
def test_no_two_containers_ever_have_one_address(steps: list[tuple[bool, int]]) -> None:
    found = pool("10.9.0.0/28")
    held: dict[str, ipaddress.IPv4Address] = {}
    for takes, number in steps:
        name = str(number)
        if takes and name not in held:
            try:
                held[name] = found.take(name)  # type: ignore[assignment]
            except SystemFailure:
                assert len(held) == 13
        elif not takes and name in held:
            found.release(held.pop(name), name)
        assert len(set(held.values())) == len(held)
        assert all(
            address in NET and address not in (found.gateway, found.subnet.network_address)
            for address in held.values()
        )


def test_ipv6_pools_are_this_host_s_own_and_never_overlap() -> None:
    seed = bytes.fromhex("0102030405")
    first = choose_subnet_v6([], seed)
    second = choose_subnet_v6([first], seed)
    assert str(first) == "fd01:203:405::/64"
    assert not first.overlaps(second)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"Subnet": "10.0.0.0/99"}, "invalid subnet"),
        ({"Subnet": "10.0.0.1/24"}, "it should be 10.0.0.0/24"),
        ({"Gateway": "10.0.0.1"}, "empty subnet"),
        ({"Subnet": "10.0.0.0/24", "Gateway": "10.1.0.1"}, "invalid gateway 10.1.0.1"),
        ({"Subnet": "10.0.0.0/24", "Gateway": "x"}, "invalid gateway address x"),
        ({"Subnet": "10.0.0.0/24", "IPRange": "10.0.0.0/16"}, "invalid ip-range"),
        (
            {"Subnet": "10.0.0.0/24", "AuxiliaryAddresses": {"a": "10.1.0.9"}},
            "invalid auxiliary address",
        ),
    ],
)
def test_what_makes_no_sense_is_named(config: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidParameter, match=words):
        parse_pools([config])


def test_two_subnets_of_one_request_may_not_overlap() -> None:
    with pytest.raises(InvalidParameter, match="subnets overlap"):
        parse_pools([{"Subnet": "10.0.0.0/8"}, {"Subnet": "10.2.0.0/16"}])


def test_the_mac_address_is_02_42_and_the_address() -> None:
    assert mac_for(ipaddress.ip_address("172.17.0.2")) == "02:42:ac:11:00:02"
