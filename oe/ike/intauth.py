"""IntAuth: how AUTH covers the messages of IKE_INTERMEDIATE (RFC 9242 3.3.2).

    IntAuth_i1 = prf(SK_pi, A | P) of the request, IntAuth_r1 = prf(SK_pr, A | P) of the response
    IntAuth    = IntAuth_i1 | IntAuth_r1 | Message ID of IKE_AUTH

A | P is the message as it would be without encryption and in one piece: header, Encrypted payload's generic header,
payloads. Both length fields count just that, and so it is the same however the message was cut into fragments.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from oe.ike.crypto import prf
from oe.ike.keymat import IkeKeys
from oe.ike.message import HEADER_OCTETS, Header, Message, encode_chain
from oe.ike.payloads import Payload
from oe.ike.registry import PayloadType

_GENERIC_HEADER = 4
_FRAGMENT_FIELDS = 4


@dataclass(frozen=True, slots=True)
class IntAuth:
    """The messages of the IKE_INTERMEDIATE exchanges so far; without any, AUTH is that of RFC 7296."""

    exchanges: int = 0
    initiator: bytes = b""
    responder: bytes = b""

    def extended(self, keys: IkeKeys, request: bytes, response: bytes) -> "IntAuth":
        """After one more exchange. `keys`: those that protected it; both messages as A | P."""
        return IntAuth(
            self.exchanges + 1,
            prf(keys.prf, keys.sk_pi.octets, self.initiator + request),
            prf(keys.prf, keys.sk_pr.octets, self.responder + response),
        )

    @property
    def octets(self) -> bytes:
        """What follows in the octets that both AUTH payloads cover. IKE_AUTH has the next Message ID."""
        if not self.exchanges:
            return b""
        return self.initiator + self.responder + (self.exchanges + 1).to_bytes(4, "big")


def sent(header: Header, payloads: Iterable[Payload]) -> bytes:
    """A | P of a message of ours."""
    first, chain = encode_chain(payloads)
    length = _GENERIC_HEADER + len(chain)
    start = header.encode(PayloadType.SK, HEADER_OCTETS + length)
    return start + bytes((first, 0)) + length.to_bytes(2, "big") + chain


def received(message: Message, plain: bytes) -> bytes:
    """A | P of a message of the peer: whole, or its first fragment. `plain`: the payloads that all of it holds.

    What the peer wrote into reserved fields stays. Clear payloads before fragments are not provided for: AUTH fails.
    """
    sealed = message.sealed
    if sealed is None:
        raise RuntimeError("an IKE_INTERMEDIATE message without an Encrypted payload was heard")
    start = sealed.body - _GENERIC_HEADER - (0 if sealed.place is None else _FRAGMENT_FIELDS)
    octets, length = message.octets, _GENERIC_HEADER + len(plain)
    first = PayloadType.SK if start == HEADER_OCTETS else octets[16]
    head = octets[:16] + bytes((first,)) + octets[17:24] + (start + length).to_bytes(4, "big")
    generic = bytes((sealed.first, octets[start + 1])) + length.to_bytes(2, "big")
    return head + octets[HEADER_OCTETS:start] + generic + plain
