"""Answers as a server would give them, built by dnspython: an opinion on the wire format that is not ours."""

from base64 import b64encode
from collections.abc import Iterable

import dns.flags
import dns.message
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from oe.dnskeys.exchange import Heard
from oe.dnskeys.message import Question, Type, decode_response, encode_query
from oe.dnskeys.names import reverse_labels
from oe.model import Address, Grade, KeyAlgorithm, PublicKey

RSA_KEY = PublicKey(KeyAlgorithm.RSA, b"\x03\x01\x00\x01" + b"\xc5" * 256)
ED_KEY = PublicKey(KeyAlgorithm.EDDSA, bytes(range(32)))

SOA = "0.192.in-addr.arpa. 900 IN SOA ns.example. admin.example. 1 2 3 4 300"
"""A negative answer with it holds for 300 s."""


def ipseckey(
    owner: str, gateway: str = ".", *, key: PublicKey | None = ED_KEY, precedence: int = 10, ttl: int = 600
) -> str:
    """An IPSECKEY line for dnspython to read; `key` None: the record carries none."""
    kind = 0 if gateway == "." else 2 if ":" in gateway else 1 if gateway[0].isdigit() else 3
    if key is None:
        # The text form cannot say "no key" to dnspython, so the generic one of RFC 3597 does.
        address = b"".join(bytes([int(part)]) for part in gateway.split("."))
        rdata = bytes([precedence, kind, 0]) + address
        return f"{owner} {ttl} IN TYPE45 \\# {len(rdata)} {rdata.hex()}"
    return f"{owner} {ttl} IN IPSECKEY {precedence} {kind} {key.algorithm.value} {gateway} {encoded(key)}"


def raw(owner: str, rdata: bytes, ttl: int = 600) -> str:
    """An IPSECKEY line with any octets as rdata."""
    return f"{owner} {ttl} IN TYPE45 \\# {len(rdata)} {rdata.hex()}"


def txt(owner: str, content: str, ttl: int = 600) -> str:
    """A TXT line with the content in as many character-strings as it needs."""
    parts = " ".join(f'"{content[at : at + 200]}"' for at in range(0, len(content), 200))
    return f"{owner} {ttl} IN TXT {parts}"


def encoded(key: PublicKey) -> str:
    return b64encode(key.data).decode()


def reply(
    query: bytes,
    answers: Iterable[str] = (),
    authority: Iterable[str] = (),
    *,
    rcode: str = "NOERROR",
    ad: bool = False,
    tc: bool = False,
) -> bytes:
    """A response to `query`, as octets."""
    response = dns.message.make_response(dns.message.from_wire(query), recursion_available=True)
    response.set_rcode(dns.rcode.from_text(rcode))
    response.flags |= (dns.flags.AD if ad else 0) | (dns.flags.TC if tc else 0)
    for section, lines in ((response.answer, answers), (response.authority, authority)):
        for line in lines:
            owner, ttl, class_, kind, *rdata = line.split(" ", 4)
            section.append(dns.rrset.from_rdata(owner, int(ttl), _rdata(class_, kind, *rdata)))
    return response.to_wire(max_size=0xFFFF)


def _rdata(class_: str, kind: str, text: str) -> dns.rdata.Rdata:
    """The generic form of RFC 3597 is taken as it is: dnspython would refuse what it cannot read."""
    if not text.startswith("\\#"):
        return dns.rdata.from_text(class_, kind, text)
    return dns.rdata.GenericRdata(
        dns.rdataclass.IN, dns.rdatatype.from_text(kind), bytes.fromhex(text.rsplit(maxsplit=1)[-1])
    )


def question(owner: Address, kind: int = Type.IPSECKEY) -> Question:
    return Question(reverse_labels(owner), kind)


def heard(
    asked: Question,
    answers: Iterable[str] = (),
    authority: Iterable[str] = (),
    *,
    rcode: str = "NOERROR",
    grade: Grade = Grade.SECURE,
) -> Heard:
    """What an exchange about `asked` would come to."""
    octets = reply(encode_query(1, asked, checking_disabled=False), answers, authority, rcode=rcode)
    return Heard(decode_response(octets), grade, None, "")
