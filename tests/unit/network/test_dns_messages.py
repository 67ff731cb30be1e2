"""DNS on the wire: our answers, other people's messages, and noise (RFC 1035)."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from labkit.host.network import dnswire

QUERY = dnswire.query(0x1234, "web.example.com")


def test_a_query_is_read_as_it_was_written() -> None:
    found = dnswire.read_question(QUERY)
    assert (found.id, found.name, found.kind) == (0x1234, "web.example.com", dnswire.A)
    assert found.udp_bytes == 512


def test_an_answer_repeats_the_question_and_points_at_its_name() -> None:
    question = dnswire.read_question(dnswire.query(7, "WEB"))
    record = dnswire.address_record(ipaddress.ip_address("172.18.0.2"))
    found = dnswire.decode(dnswire.answer(question, dnswire.NOERROR, [record]))
    assert (found.id, found.is_response, found.rcode) == (7, True, 0)
    assert found.questions == (("WEB", dnswire.A),)
    assert [(row.name, row.text, row.ttl_s) for row in found.answers] == [
        ("WEB", "172.18.0.2", 600)
    ]


def test_a_name_without_aaaa_is_no_error_and_no_data() -> None:
    question = dnswire.read_question(dnswire.query(7, "web", dnswire.AAAA))
    found = dnswire.decode(dnswire.answer(question, dnswire.NOERROR))
    assert (found.rcode, found.answers) == (dnswire.NOERROR, ())


def test_an_answer_too_long_for_udp_says_so() -> None:
    question = dnswire.read_question(QUERY)
    many = [
        dnswire.address_record(ipaddress.ip_address(f"10.0.{n // 250}.{n % 250 + 1}"))
        for n in range(200)
    ]
    cut = dnswire.answer(question, dnswire.NOERROR, many, limit=512)
    assert len(cut) <= 512
    assert cut[2] & 0x02
    assert 0 < len(dnswire.decode(cut).answers) < 200
    assert len(dnswire.decode(dnswire.answer(question, dnswire.NOERROR, many)).answers) == 200


def test_the_size_an_asker_takes_is_in_his_edns_record() -> None:
    edns = QUERY[:10] + b"\0\1" + QUERY[12:] + b"\0\0\x29\x04\xd0\0\0\0\0\0\0"
    found = dnswire.read_question(edns)
    assert (found.udp_bytes, found.has_edns) == (1232, True)


@pytest.mark.parametrize("text", ["172.18.0.2", "fd00::2"])
def test_reverse_names_lead_back(text: str) -> None:
    address = ipaddress.ip_address(text)
    assert dnswire.reverse_address(dnswire.reverse_name(address)) == address


def test_names_that_are_no_reverse_names() -> None:
    for name in ("web", "1.2.in-addr.arpa", "x.0.18.172.in-addr.arpa", "a.ip6.arpa"):
        assert dnswire.reverse_address(name) is None


LOOP = QUERY[:12] + b"\xc0\x0c\0\1\0\1"


@given(st.binary(max_size=200))
@example(LOOP)
@example(QUERY[:-3])
@example(QUERY[:12] + b"\x3f" + b"a" * 20)
def test_noise_is_refused_and_never_surprises(data: bytes) -> None:
    for read in (dnswire.read_question, dnswire.decode):
        try:
            read(data)
        except dnswire.DnsError:
            continue
    dnswire.refusal(data, dnswire.FORMERR)


@given(
    st.lists(
        st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=63),
        min_size=1,
        max_size=3,
    )
)
def test_dnspython_reads_what_we_write(labels: list[str]) -> None:
    message = pytest.importorskip("dns.message", reason="dnspython is not installed")
    name = ".".join(labels)
    if len(name) > 250:
        return
    parsed = message.from_wire(dnswire.query(9, name))
    assert parsed.question[0].name.to_text() == f"{name}."
    question = dnswire.read_question(dnswire.query(9, name))
    record = dnswire.address_record(ipaddress.ip_address("10.0.0.1"))
    answered = message.from_wire(dnswire.answer(question, dnswire.NOERROR, [record]))
    assert answered.answer[0][0].to_text() == "10.0.0.1"
