"""A peer that a test plays by hand, message by message, and that may say anything. It has no state machine."""

import math
from collections.abc import Sequence
from ipaddress import ip_address

from oe.ike.auth import null_auth, offer_hashes, signed_octets, wrap
from oe.ike.child import selectors
from oe.ike.crypto import SkCipher
from oe.ike.intauth import IntAuth
from oe.ike.kex import KeyExchange
from oe.ike.keymat import IkeKeys, derive_additional, derive_ike
from oe.ike.message import Header, Message, decode_message, encode_message, seal
from oe.ike.payloads import IdPayload, KePayload, NoncePayload, NotifyPayload, Payload, SaPayload, find
from oe.ike.proposals import accept_ike, choose_ike, offer_esp, offer_ike
from oe.ike.registry import ExchangeType, KeyExchangeId, NotifyType, PayloadType
from oe.ike.settings import IkeSettings
from oe.messages import DatagramReceived
from oe.model import ID_NULL, HostPair, Identity, Secret, SignatureScheme, SocketAddress
from oe.negotiation import JudgePeer, PeerJudged
from oe.reasons import Reason
from tests.ike.opening import open_sealed
from tests.ike.world import Host, World, private_key, public_key, sign

INIT, AUTH = ExchangeType.IKE_SA_INIT, ExchangeType.IKE_AUTH
SPI = 0xAAAA000000000001
GROUP = KeyExchangeId.CURVE25519


class Puppet:
    """Talks to one host, as initiator or as responder."""

    def __init__(self, host: Host, address: str = "192.0.2.9", number: int = 9) -> None:
        self.host = host
        self.world = host.world
        self.socket = SocketAddress(ip_address(address), 500)
        self.identity = Identity.of(self.socket.address)
        self.private = private_key("ed25519", number)
        self.key = public_key(self.private)
        self.nonce = bytes([number]) * 32
        self.spi = SPI + number
        self.host_spi = 0
        self.kex = KeyExchange.generate(GROUP, lambda size: bytes([number]) * size)
        self.keys: IkeKeys | None = None
        self.additional: tuple[KeyExchangeId, ...] = ()
        """What it offers, or takes, as additional key exchange."""
        self.int_auth = IntAuth()
        self.is_initiator = True
        self.own_init = b""
        self.host_init = b""
        self.host_nonce = b""
        self.sealing: SkCipher | None = None
        self.opening: SkCipher | None = None
        self._seen = len(host.sent)
        host.judge = self.judge
        self.refusal: Reason | None = None
        host.answers = lambda _: 0.0

    def judge(self, question: JudgePeer) -> PeerJudged:
        known = question.identity == self.identity
        return PeerJudged(question.ticket, (self.key,) if known else (), self.refusal)

    # --- datagrams ---

    def heard(self) -> list[bytes]:
        """What the host has sent us since we last asked."""
        fresh = [datagram.data for datagram in self.host.sent[self._seen :] if datagram.remote == self.socket]
        self._seen = len(self.host.sent)
        return fresh

    def send(self, octets: bytes) -> list[bytes]:
        """Deliver octets to the host; what it sends us within a moment."""
        self.heard()
        self.host.feed(DatagramReceived(self.host.socket, self.socket, octets))
        self.world.run(0.001)
        return self.heard()

    def header(self, exchange: ExchangeType, message_id: int, *, is_response: bool) -> Header:
        spis = (self.spi, self.host_spi) if self.is_initiator else (self.host_spi, self.spi)
        return Header(*spis, exchange, is_response, self.is_initiator, message_id)

    def echo(self, exchange: ExchangeType, message_id: int) -> Header:
        """The header of the host's response to our request."""
        return Header(self.spi, self.host_spi, exchange, True, False, message_id)

    # --- as initiator ---

    def init_request(self, *front: Payload, offer: SaPayload | None = None, ke: KePayload | None = None) -> bytes:
        payloads = (
            *front,
            offer or offer_ike(additional=self.additional),
            ke or KePayload(GROUP, self.kex.public),
            NoncePayload(self.nonce),
            offer_hashes(),
            *self._announced(),
        )
        head = Header(self.spi, 0, INIT, is_response=False, from_initiator=True, message_id=0)
        self.own_init = encode_message(head, payloads)
        return self.own_init

    def _announced(self) -> tuple[Payload, ...]:
        return (NotifyPayload(NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED),) if self.additional else ()

    def begin(self, *front: Payload) -> Message:
        """IKE_SA_INIT, both halves; keys are there afterwards."""
        (octets,) = self.send(self.init_request(*front))
        answer = decode_message(octets)
        self.host_init, self.host_spi = octets, answer.header.responder_spi
        chosen = find(answer.payloads, SaPayload)
        key, nonce = find(answer.payloads, KePayload), find(answer.payloads, NoncePayload)
        assert chosen is not None
        assert key is not None
        assert nonce is not None
        accepted = accept_ike(offer_ike(additional=self.additional), chosen)
        assert accepted is not None
        self.host_nonce = nonce.data
        nonces, spis = (self.nonce, nonce.data), (self.spi, self.host_spi)
        self.secure(derive_ike(accepted.prf, accepted.encryption_bits, self.kex.shared(key.data), nonces, spis))
        return answer

    def secure(self, keys: IkeKeys) -> None:
        """Protect what follows with these keys."""
        self.keys = keys
        self.sealing, self.opening = SkCipher(keys.sk_ei), SkCipher(keys.sk_er)
        if not self.is_initiator:
            self.sealing, self.opening = self.opening, self.sealing

    def strengthen(self, shared: Secret, request: bytes, response: bytes) -> None:
        """An additional key exchange is over; both messages as AUTH covers them."""
        assert self.keys is not None
        self.int_auth = self.int_auth.extended(self.keys, request, response)
        nonces, spis = (self.nonce, self.host_nonce), (self.spi, self.host_spi)
        if not self.is_initiator:
            nonces, spis = nonces[::-1], spis[::-1]
        self.secure(derive_additional(self.keys, shared, nonces, spis))

    def _signed(self, id_payload: IdPayload) -> bytes:
        assert self.keys is not None
        sk_p = self.keys.sk_pi if self.is_initiator else self.keys.sk_pr
        added = self.int_auth.octets
        return signed_octets(self.own_init, self.host_nonce, self.keys.prf, sk_p, id_payload, added)

    def anonymous(self, identity: Identity = ID_NULL) -> tuple[Payload, Payload]:
        """ID and AUTH payloads of somebody who does not say who he is."""
        assert self.keys is not None
        id_payload = IdPayload.of(PayloadType.ID_I if self.is_initiator else PayloadType.ID_R, identity)
        sk_p = self.keys.sk_pi if self.is_initiator else self.keys.sk_pr
        return id_payload, null_auth(self.keys.prf, sk_p, self._signed(id_payload))

    def auth(self, identity: Identity | None = None) -> tuple[Payload, Payload]:
        """ID and AUTH payloads with a good signature."""
        kind = PayloadType.ID_I if self.is_initiator else PayloadType.ID_R
        id_payload = IdPayload.of(kind, identity or self.identity)
        signature = sign(self.private, SignatureScheme.ED25519, self._signed(id_payload))
        return id_payload, wrap(SignatureScheme.ED25519, signature)

    def child(self, spi: int = 0x9999) -> tuple[Payload, ...]:
        """SA, TSi and TSr for the pair of the two addresses, as an initiator."""
        return (offer_esp(spi), *selectors(HostPair(self.socket.address, self.host.address), we_initiate=True))

    def sealed(
        self, exchange: ExchangeType, message_id: int, payloads: Sequence[Payload], *, is_response: bool = False
    ) -> bytes:
        assert self.sealing is not None
        return seal(self.header(exchange, message_id, is_response=is_response), payloads, self.sealing)

    def open(self, octets: bytes) -> tuple[Payload, ...]:
        assert self.opening is not None
        payloads = open_sealed(decode_message(octets), self.opening)
        assert payloads is not None
        return payloads

    def request(self, exchange: ExchangeType, message_id: int, *payloads: Payload) -> tuple[Payload, ...] | None:
        """A request and the payloads of its response; None when there is no response."""
        responses = [
            octets
            for octets in self.send(self.sealed(exchange, message_id, payloads))
            if decode_message(octets).header.is_response
        ]
        return self.open(responses[0]) if responses else None

    def establish(self, *front: Payload) -> tuple[Payload, ...]:
        """The whole of the two exchanges, as initiator."""
        self.begin()
        response = self.request(AUTH, 1, *front, *self.auth(), *self.child())
        assert response is not None
        return response

    # --- as responder ---

    def answer_init(self, request_octets: bytes | None = None, *, hashes: bool = True) -> bytes:
        """Our answer to an IKE_SA_INIT request of the host, or to the one that waits; keys are there afterwards."""
        self.is_initiator = False
        self.host_init = request_octets or self.heard()[-1]
        request = decode_message(self.host_init)
        self.host_spi = request.header.initiator_spi
        offered, key = find(request.payloads, SaPayload), find(request.payloads, KePayload)
        nonce = find(request.payloads, NoncePayload)
        assert offered is not None
        assert key is not None
        assert nonce is not None
        self.host_nonce = nonce.data
        chosen = choose_ike(offered, key.group, self.additional)
        assert chosen is not None
        kex = KeyExchange.generate(key.group, lambda size: b"\x05" * size)
        payloads: list[Payload] = [chosen.answer(), KePayload(kex.group, kex.public), NoncePayload(self.nonce)]
        if hashes:
            payloads.append(offer_hashes())
        payloads += self._announced()
        self.own_init = encode_message(self.header(INIT, 0, is_response=True), payloads)
        keys = derive_ike(
            chosen.prf,
            chosen.encryption_bits,
            kex.shared(key.data),
            (nonce.data, self.nonce),
            (self.host_spi, self.spi),
        )
        self.secure(keys)
        return self.own_init

    def notify_init(self, notify: NotifyType, data: bytes = b"") -> bytes:
        """An unprotected notify in answer to the host's IKE_SA_INIT request, as anybody could forge it."""
        head = Header(self.host_spi, 0, INIT, is_response=True, from_initiator=False, message_id=0)
        return encode_message(head, (NotifyPayload(notify, data),))

    def respond(self, exchange: ExchangeType, message_id: int, *payloads: Payload) -> list[bytes]:
        """A response to the host's request; what it sends then."""
        return self.send(self.sealed(exchange, message_id, payloads, is_response=True))


def played(world: World | None = None) -> tuple[World, Host, Puppet]:
    """A world with one host and a puppet, which does not answer by itself when it is asked whether it lives."""
    world = world or World()
    host = world.host("192.0.2.1", settings=IkeSettings(confirm_after=math.inf))
    return world, host, Puppet(host)
