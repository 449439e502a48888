"""DNS messages as the resolver reads and writes them; dnspython is the other side."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.network.resolver import message

LABEL = st.from_regex(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,30}[A-Za-z0-9_])?", fullmatch=True)
NAME = st.lists(LABEL, min_size=1, max_size=5).map(".".join)
ADDRESS = st.ip_addresses(v=4).map(str)


@given(NAME, st.sampled_from(["A", "AAAA", "PTR", "MX", "ANY"]))
def test_a_query_is_read_as_dnspython_writes_it(name: str, kind: str) -> None:
    made = dns.message.make_query(name, kind)
    query = message.parse(made.to_wire())
    assert query.id == made.id
    assert query.name == name.lower()
    assert query.type == made.question[0].rdtype
    assert query.recursion_desired


@given(NAME, st.lists(ADDRESS, max_size=20, unique=True))
def test_addresses_are_read_back_in_their_order(name: str, addresses: list[str]) -> None:
    made = dns.message.make_query(name, "A")
    reply = dns.message.from_wire(
        message.addresses_reply(message.parse(made.to_wire()), addresses, limit=message.UDP_SIZE)
    )
    assert made.is_response(reply)
    assert reply.flags & dns.flags.AA
    if not reply.flags & dns.flags.TC:
        assert [str(i) for rrset in reply.answer for i in rrset] == addresses


def test_a_reply_that_does_not_fit_says_so() -> None:
    query = message.parse(dns.message.make_query("web", "A").to_wire())
    many = [f"10.0.0.{n}" for n in range(40)]
    short = dns.message.from_wire(message.addresses_reply(query, many, limit=message.UDP_SIZE))
    assert short.flags & dns.flags.TC
    assert not short.answer
    whole = dns.message.from_wire(message.addresses_reply(query, many, limit=65535))
    assert len(whole.answer[0]) == 40


def test_errors_carry_the_question() -> None:
    made = dns.message.make_query("Nobody.Example", "A")
    reply = dns.message.from_wire(
        message.error_reply(message.parse(made.to_wire()), message.SERVFAIL)
    )
    assert made.is_response(reply)
    assert reply.rcode() == dns.rcode.SERVFAIL


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        reply = message.parse(data).message
    except message.Malformed as error:
        reply = error.reply
    assert reply == data or len(reply) in (0, 12)


@given(NAME, st.data())
def test_any_cut_of_a_query_is_refused(name: str, data: st.DataObject) -> None:
    wire = dns.message.make_query(name, "A", use_edns=False).to_wire()
    cut = data.draw(st.integers(0, len(wire) - 1))
    with pytest.raises(message.Malformed):
        message.parse(wire[:cut])


def test_a_reply_is_never_answered() -> None:
    wire = dns.message.make_response(dns.message.make_query("web", "A")).to_wire()
    with pytest.raises(message.Malformed) as caught:
        message.parse(wire)
    assert caught.value.reply == b""


def test_only_the_reply_to_the_question_counts() -> None:
    query = dns.message.make_query("web.example", "A")
    right = dns.message.make_response(query).to_wire()
    assert message.answers(right, query.to_wire())
    other = dns.message.make_response(dns.message.make_query("evil.example", "A", id=query.id))
    assert not message.answers(other.to_wire(), query.to_wire())
    assert not message.answers(message.with_id(right, query.id ^ 1), query.to_wire())
    assert not message.answers(query.to_wire(), query.to_wire())
