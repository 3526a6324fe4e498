"""IPSECKEY and TXT records, good, odd and hostile."""

from ipaddress import ip_address

import dns.rdata
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oe.dnskeys.records import Unusable, decode_ipseckey, decode_txt
from oe.model import Delegation, RecordKind
from oe.reasons import Reason
from tests.dnskeys.replies import ED_KEY, RSA_KEY, encoded

GATEWAY = ip_address("192.0.2.1")
NAME = b"\x04Gate\x07example\x00"


def record(precedence: int, gateway_type: int, algorithm: int, gateway: bytes, key: bytes) -> bytes:
    return bytes([precedence, gateway_type, algorithm]) + gateway + key


def txt(*strings: bytes) -> bytes:
    return b"".join(bytes([len(string)]) + string for string in strings)


@pytest.mark.parametrize(
    ("rdata", "delegation"),
    [
        (record(10, 0, 2, b"", RSA_KEY.data), Delegation(RecordKind.IPSECKEY, 10, None, None, RSA_KEY)),
        (record(255, 1, 4, GATEWAY.packed, ED_KEY.data), Delegation(RecordKind.IPSECKEY, 255, GATEWAY, None, ED_KEY)),
        (
            record(0, 2, 4, ip_address("2001:db8::9").packed, ED_KEY.data),
            Delegation(RecordKind.IPSECKEY, 0, ip_address("2001:db8::9"), None, ED_KEY),
        ),
        (record(1, 3, 4, NAME, ED_KEY.data), Delegation(RecordKind.IPSECKEY, 1, None, "gate.example", ED_KEY)),
        (record(1, 1, 0, GATEWAY.packed, b""), Delegation(RecordKind.IPSECKEY, 1, GATEWAY, None, None)),
        (record(1, 3, 0, NAME, b""), Delegation(RecordKind.IPSECKEY, 1, None, "gate.example", None)),
    ],
)
def test_usable_ipseckey(rdata: bytes, delegation: Delegation) -> None:
    assert decode_ipseckey(rdata) == delegation


@pytest.mark.parametrize(
    ("rdata", "reason"),
    [
        (b"", Reason.MALFORMED_RECORD),
        (b"\x0a\x00", Reason.MALFORMED_RECORD),
        (record(1, 4, 2, b"", RSA_KEY.data), Reason.MALFORMED_RECORD),
        (record(1, 1, 2, b"\x01\x02", b""), Reason.MALFORMED_RECORD),
        (record(1, 2, 2, bytes(4), b""), Reason.MALFORMED_RECORD),
        (record(1, 1, 4, bytes(4), ED_KEY.data), Reason.MALFORMED_RECORD),
        (record(1, 1, 4, b"\xe0\x00\x00\x01", ED_KEY.data), Reason.MALFORMED_RECORD),
        (record(1, 1, 4, b"\xff\xff\xff\xff", ED_KEY.data), Reason.MALFORMED_RECORD),
        (record(1, 2, 4, bytes(16), ED_KEY.data), Reason.MALFORMED_RECORD),
        (record(1, 2, 4, ip_address("::ffff:192.0.2.1").packed, ED_KEY.data), Reason.MALFORMED_RECORD),
        (record(1, 3, 4, b"\x00", ED_KEY.data), Reason.MALFORMED_RECORD),
        (record(1, 3, 4, b"\xc0\x0c", ED_KEY.data), Reason.MALFORMED_RECORD),
        (record(1, 3, 4, b"\x03a\x00b\x00", ED_KEY.data), Reason.MALFORMED_RECORD),
        (record(1, 0, 2, b"", b""), Reason.MALFORMED_RECORD),
        (record(1, 0, 2, b"", b"\x03\x01\x00\x01"), Reason.MALFORMED_RECORD),
        (record(1, 0, 3, b"", bytes(64)), Reason.MALFORMED_RECORD),
        (record(1, 1, 0, GATEWAY.packed, b"key"), Reason.MALFORMED_RECORD),
        (record(1, 0, 0, b"", b""), Reason.NO_USABLE_KEY),
        (record(1, 0, 1, b"", b"dsa"), Reason.NO_USABLE_KEY),
        (record(1, 0, 5, b"", b"pkix"), Reason.NO_USABLE_KEY),
        (record(1, 0, 2, b"", b"\x03\x01\x00\x01" + b"\xc5" * 128), Reason.NO_USABLE_KEY),
        (record(1, 0, 3, b"", bytes(96)), Reason.MALFORMED_RECORD),
    ],
)
def test_unusable_ipseckey(rdata: bytes, reason: Reason) -> None:
    decoded = decode_ipseckey(rdata)
    assert isinstance(decoded, Unusable)
    assert decoded.reason is reason
    assert decoded.detail


@pytest.mark.parametrize(
    "text",
    [
        f"X-IPsec-Server(10)=192.0.2.1 {encoded(RSA_KEY)}",
        f"  x-ipsec-server ( 10 ) =  192.0.2.1   {encoded(RSA_KEY)} ",
        f"X-IPSEC-SERVER(10)=192.0.2.1\t{encoded(RSA_KEY)[:50]} {encoded(RSA_KEY)[50:]}",
        f"X-IPsec-Server(00010)=192.0.2.1 {encoded(RSA_KEY).rstrip('=')}",
    ],
)
def test_usable_txt(text: str) -> None:
    octets = text.encode()
    strings = [octets[at : at + 255] for at in range(0, len(octets), 255)]
    assert decode_txt(txt(*strings)) == Delegation(RecordKind.TXT, 10, GATEWAY, None, RSA_KEY)


def test_txt_gateways() -> None:
    key = encoded(RSA_KEY).encode()
    v6 = decode_txt(txt(b"X-IPsec-Server(65535)=2001:db8::1 ", key[:200], key[200:]))
    assert v6 == Delegation(RecordKind.TXT, 65535, ip_address("2001:db8::1"), None, RSA_KEY)
    named = decode_txt(txt(b"X-IPsec-Server(1)=@Gate.Example."))
    assert named == Delegation(RecordKind.TXT, 1, None, "gate.example", None)


@pytest.mark.parametrize(
    "text", [b"", b"v=spf1 -all", b"X-IPsec-Serverless(1)=x", b"X-IPsec", b"a X-IPsec-Server(1)=x"]
)
def test_txt_about_something_else(text: bytes) -> None:
    assert decode_txt(txt(text)) is None


@pytest.mark.parametrize(
    "text",
    [
        b"X-IPsec-Server",
        b"X-IPsec-Server=192.0.2.1",
        b"X-IPsec-Server(1)",
        b"X-IPsec-Server(1)=",
        b"X-IPsec-Server()=192.0.2.1",
        b"X-IPsec-Server(-1)=192.0.2.1",
        b"X-IPsec-Server(65536)=192.0.2.1",
        b"X-IPsec-Server(" + b"9" * 100 + b")=192.0.2.1",
        b"X-IPsec-Server(1)=0.0.0.0",
        b"X-IPsec-Server(1)=::",
        b"X-IPsec-Server(1)=fe80::1%eth0",
        b"X-IPsec-Server(1)=gate.example",
        b"X-IPsec-Server(1)=@",
        b"X-IPsec-Server(1)=@a b",
        b"X-IPsec-Server(1)=\xff\xfe",
        b"X-IPsec-Server(1)=192.0.2.1 !!!!",
        b"X-IPsec-Server(1)=192.0.2.1 AQ",
    ],
)
def test_malformed_txt(text: bytes) -> None:
    decoded = decode_txt(txt(text))
    assert isinstance(decoded, Unusable)
    assert decoded.reason is Reason.MALFORMED_RECORD


def test_txt_with_a_cut_string_is_malformed() -> None:
    assert decode_txt(b"\xffX-IPsec-Server") == Unusable(
        Reason.MALFORMED_RECORD, "TXT rdata: string: need 255 octets, have 14"
    )


@given(st.binary(max_size=400))
def test_any_ipseckey_octets_give_a_value(rdata: bytes) -> None:
    assert isinstance(decode_ipseckey(rdata), Delegation | Unusable)


@given(st.binary(max_size=200), st.integers(0, 3), st.integers(0, 5))
def test_any_octets_behind_a_good_start_give_a_value(tail: bytes, gateway_type: int, algorithm: int) -> None:
    decoded = decode_ipseckey(bytes([1, gateway_type, algorithm]) + tail)
    assert isinstance(decoded, Delegation | Unusable)


@given(st.binary(max_size=200))
def test_any_txt_octets_give_a_value(tail: bytes) -> None:
    decoded = decode_txt(txt(b"X-IPsec-Server(1)=", tail))
    assert isinstance(decoded, Delegation | Unusable)
    assert decode_txt(tail) is None or isinstance(decode_txt(tail), Delegation | Unusable)


@given(st.integers(0, 255), st.sampled_from(["0 4 .", "1 4 192.0.2.1", "2 4 2001:db8::1", "3 4 gate.example."]))
def test_what_dnspython_writes_is_read(precedence: int, form: str) -> None:
    theirs = dns.rdata.from_text("IN", "IPSECKEY", f"{precedence} {form} {encoded(ED_KEY)}")
    decoded = decode_ipseckey(theirs.to_wire() or b"")
    assert isinstance(decoded, Delegation)
    assert (decoded.precedence, decoded.key) == (precedence, ED_KEY)
    assert str(decoded.gateway or decoded.gateway_name or "") == form.split()[2].rstrip(".")
