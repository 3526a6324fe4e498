"""Somebody on the way who reads all headers and sends what he likes, but cannot hold anything back.

He repeats messages long after they were sent, changes a bit of a copy, and answers in the name of others with whatever
error can be had without a key. None of it may decide anything.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from oe.ike.message import Header, decode_header, encode_message
from oe.ike.payloads import NotifyPayload
from oe.ike.registry import ExchangeType, NotifyType
from tests.simulation.clock import Clock
from tests.simulation.frames import KEEPALIVE, Frame

ERRORS = (
    NotifyType.INVALID_IKE_SPI,
    NotifyType.INVALID_SYNTAX,
    NotifyType.NO_PROPOSAL_CHOSEN,
    NotifyType.AUTHENTICATION_FAILED,
    NotifyType.INVALID_KE_PAYLOAD,
    NotifyType.TS_UNACCEPTABLE,
    NotifyType.TEMPORARY_FAILURE,
    NotifyType.CHILD_SA_NOT_FOUND,
    NotifyType.NO_ADDITIONAL_SAS,
)
SOON, LATER = 0.0005, 0.3
"""Seconds: before, and after, the frame itself arrives."""


@dataclass(slots=True)
class Adversary:
    """`inject(frame)` brings a frame to whom it is addressed."""

    clock: Clock
    random: Random
    inject: Callable[[Frame], None]
    is_fast: bool
    """He may spoil a set-up; without that he cannot do any harm at all."""

    def sees(self, frame: Frame) -> None:
        octets = frame.load
        if not isinstance(octets, bytes) or octets == KEEPALIVE:
            return
        chance = self.random.random
        if chance() < 0.3:
            self.clock.after(10.0 * chance() ** 3, lambda: self.inject(frame))
        if chance() < 0.3:
            # A bent IKE_SA_INIT that wins the race spoils the signatures, which cover it: nothing helps against that
            # but to try again.
            spoils = octets[18] == ExchangeType.IKE_SA_INIT
            soon = LATER if spoils and not self.is_fast else SOON
            self.clock.after(soon, lambda: self.inject(replace(frame, load=self._bent(octets))))
        if chance() < 0.3:
            forged = replace(frame, load=self._refusal(octets))
            swapped = replace(forged, source=frame.destination, destination=frame.source)
            self.clock.after(SOON, lambda: self.inject(swapped))

    def _bent(self, octets: bytes) -> bytes:
        at, bit = self.random.randrange(len(octets)), 1 << self.random.randrange(8)
        return octets[:at] + bytes((octets[at] ^ bit,)) + octets[at + 1 :]

    def _refusal(self, octets: bytes) -> bytes:
        """What looks like an answer to it of the other end; or, to an answer, like its next request."""
        seen = decode_header(octets)
        exchange = ExchangeType.INFORMATIONAL if seen.is_response else seen.exchange
        responder_spi = seen.responder_spi or self.random.choice((0, self.random.getrandbits(64)))
        header = Header(
            seen.initiator_spi,
            responder_spi,
            exchange,
            is_response=not seen.is_response,
            from_initiator=not seen.from_initiator,
            message_id=seen.message_id,
        )
        return encode_message(header, (NotifyPayload(self.random.choice(ERRORS)),))
