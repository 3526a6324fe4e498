"""What is fuzzed: each target takes any octets. Only `ParseError` may come of them, and the target swallows that.

A target asserts what must hold beyond "nothing else is raised": what was read can be written and read again, a peer's
nonsense ends its own IKE SA at most.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import ip_address

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from oe.dnskeys import records
from oe.dnskeys.exchange import Heard
from oe.dnskeys.keys import weakness
from oe.dnskeys.lookup import Lookup
from oe.dnskeys.message import decode_response
from oe.errors import ParseError
from oe.ike.auth import verify
from oe.ike.fragments import Reassembly
from oe.ike.message import (
    Header,
    Place,
    Sealed,
    decode_header,
    decode_message,
    decode_plain,
    encode_message,
    seal_chain,
)
from oe.ike.payloads import AuthPayload, decode_payload
from oe.ike.publickeys import load
from oe.ike.registry import AuthMethod, ExchangeType
from oe.ike.rules import check
from oe.ipsec import netlink_wire, route_wire, xfrm_wire
from oe.ipsec.esp import InboundEsp
from oe.messages import DatagramReceived
from oe.model import Delegation, EspCipher, EspSa, Grade, HostPair, KeyAlgorithm, PublicKey, Secret
from oe.reasons import Reason
from oe.trap import nfnetlink
from oe.trap.packet import peek
from oe.wire import Reader
from tests.ike.puppet import played
from tests.ike.world import private_key, public_key

Target = Callable[[bytes], None]


def pieces(data: bytes) -> Iterator[bytes]:
    """`data` cut in pieces, each after two octets with its length: several messages from one input."""
    while len(data) > 2:
        length = int.from_bytes(data[:2], "big")
        yield data[2 : 2 + length]
        data = data[2 + length :]


# --- IKE -------------------------------------------------------------------------------------------------------


def message(data: bytes) -> None:
    """A whole IKE message; what is read of it can be written, and that is read and written the same."""
    with suppress(ParseError):
        header = decode_header(data)
        read = decode_message(data, header)
        check(header.exchange, header.is_response, False, read.payloads)
        if read.sealed is None:
            octets = encode_message(header, read.payloads)
            assert encode_message(header, decode_message(octets).payloads) == octets


def payload(data: bytes) -> None:
    """One payload; the first octet is its type."""
    if data:
        with suppress(ParseError):
            read = decode_payload(data[0], False, Reader(data[1:], "payload"))
            assert decode_payload(data[0], False, Reader(read.body(), "payload")).body() == read.body()


def plain(data: bytes) -> None:
    """What stood in an Encrypted payload; two octets before it say what kind of message it was."""
    if len(data) >= 2:
        with suppress(ParseError):
            payloads = decode_plain(data[1], data[2:])
            check(ExchangeType(34 + (data[0] >> 1) % 12), bool(data[0] & 1), True, payloads)


def reassembly(data: bytes) -> None:
    """Genuine fragments in any order: Message ID, number and total in an octet each before the content."""
    kept = Reassembly()
    for piece in pieces(data):
        if len(piece) < 3 or not 1 <= piece[1] <= piece[2]:
            continue
        head = Header(1, 2, ExchangeType.IKE_AUTH, False, True, piece[0])
        place, content = Place(piece[1], piece[2]), piece[3:] * (1 + piece[0])
        sealed = Sealed(33, 36, place)
        if not kept.wants(piece[0], place):
            continue
        with suppress(ParseError):
            whole = kept.put(decode_message(encode_message(head, ())), sealed, place, content)
            assert whole is None or content in whole.octets


def endpoint(data: bytes) -> None:
    """Datagrams of a stranger to an engine with an IKE SA that stands: it goes on standing."""
    world, host, puppet = played()
    puppet.establish()
    for piece in pieces(data):
        host.feed(DatagramReceived(host.socket, puppet.socket, piece))
    world.run(1.0)
    assert not host.notes
    assert puppet.request(ExchangeType.INFORMATIONAL, 2) == ()


def peer(data: bytes) -> None:
    """Protected messages of an authenticated peer: exchange and flags, first payload, content. No mistake of ours."""
    world, host, puppet = played()
    puppet.establish()
    (sa,) = host.endpoint._ctx.sas.values()
    for piece in pieces(data):
        if len(piece) < 2 or puppet.sealing is None:
            continue
        exchange, is_response = ExchangeType(34 + (piece[0] >> 1) % 12), bool(piece[0] & 1)
        number = max(0, sa.requests.next_id - 1) if is_response else sa.responses.expected
        head = puppet.header(exchange, number, is_response=is_response)
        puppet.send(seal_chain(head, piece[1], piece[2:], puppet.sealing))
    host.check_all()
    world.run(30.0)
    assert not host.notes


# --- keys and signatures ---------------------------------------------------------------------------------------

_ALGORITHMS = tuple(KeyAlgorithm)


def public_keys(data: bytes) -> None:
    """A key as DNS has it: if it is not weak, it loads, and verifies nothing it did not sign."""
    if data:
        key = PublicKey(_ALGORITHMS[data[0] % len(_ALGORITHMS)], data[1:])
        with suppress(ParseError):
            if weakness(key) is None:
                load(key)


def signature(data: bytes) -> None:
    """An AUTH payload: it is never good."""
    if data:
        keys = tuple(public_key(private_key(kind, 1)) for kind in ("rsa", "ecdsa", "ed25519"))
        assert verify(AuthPayload(AuthMethod(data[0]), data[1:]), keys, b"octets") is None


# --- DNS -------------------------------------------------------------------------------------------------------

OWNER = ip_address("192.0.2.1")


def dns(data: bytes) -> None:
    """Responses to all that a lookup asks, one after another: in the end there is an answer, or a question is open."""
    lookup = Lookup(OWNER)
    open_questions = list(lookup.questions())
    for piece in pieces(data):
        with suppress(ParseError):
            response = decode_response(piece)
            if open_questions:
                question = open_questions.pop(0)
                open_questions += lookup.feed(question, Heard(response, Grade.INSECURE, None, ""), 0.0)
    assert open_questions or lookup.answer is not None


def dns_records(data: bytes) -> None:
    """Rdata of IPSECKEY and TXT: nothing is raised at all."""
    for decode in (records.decode_ipseckey, records.decode_txt):
        read = decode(data)
        if isinstance(read, Delegation) and read.key is not None:
            assert weakness(read.key) is None


# --- packets ---------------------------------------------------------------------------------------------------


def packet(data: bytes) -> None:
    """The first octets of a trapped packet."""
    with suppress(ParseError):
        held = peek(data, id=1, mark=0, forwarded=False)
        assert held.pair.source.version == held.pair.destination.version


_ESP_SA = EspSa(0x1000, EspCipher.AES_GCM_16_128, Secret(bytes(20)))


def esp(data: bytes) -> None:
    """What an authenticated peer puts into ESP: a packet of the pair comes out, or a reason."""
    pair = HostPair(OWNER, ip_address("192.0.2.2"))
    header = _ESP_SA.spi.to_bytes(4, "big") + (1).to_bytes(4, "big")
    plain = data + bytes(-len(data) % 4)
    sealed = header + bytes(8) + AESGCM(bytes(16)).encrypt(bytes(12), plain, header)
    opened = InboundEsp(_ESP_SA, False, pair).open(sealed)
    assert isinstance(opened, Reason) or plain.startswith(opened)
    assert isinstance(InboundEsp(_ESP_SA, False, pair).open(data), Reason)


# --- netlink ---------------------------------------------------------------------------------------------------

_XFRM = (
    xfrm_wire.decode_sa,
    xfrm_wire.decode_expire,
    xfrm_wire.decode_removed_sa,
    xfrm_wire.decode_farewell,
    xfrm_wire.decode_mapping,
    xfrm_wire.decode_policy,
    xfrm_wire.decode_removed_policy,
    route_wire.decode_rule,
    route_wire.decode_address,
)


def netlink(data: bytes) -> None:
    """A datagram of the kernel about SAs, policies, rules and addresses."""
    with suppress(ParseError):
        for read in netlink_wire.decode_messages(data):
            with suppress(ParseError):
                netlink_wire.decode_acknowledgement(read)
            for decode in _XFRM:
                with suppress(ParseError):
                    decode(read.body)


def nftables(data: bytes) -> None:
    """A datagram of the kernel about the trap."""
    for read in (nfnetlink.errors, nfnetlink.touches, nfnetlink.author, nfnetlink.counters):
        with suppress(ParseError):
            read(data)


TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (
        message,
        payload,
        plain,
        reassembly,
        endpoint,
        peer,
        public_keys,
        signature,
        dns,
        dns_records,
        packet,
        esp,
        netlink,
        nftables,
    )
}
