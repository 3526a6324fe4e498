"""What travels between machines. Contents that only a machine with the right key may see are plain values here."""

from dataclasses import dataclass

from oe.ike.message import Header, decode_header
from oe.model import HostPair, SocketAddress

KEEPALIVE = b"\xff"
"""RFC 3948 2.3."""


@dataclass(frozen=True, slots=True)
class Packet:
    """A datagram of an application. `pair` is as its sender names it; `answers` the packet that it echoes."""

    id: int
    pair: HostPair
    answers: int | None = None

    def __str__(self) -> str:
        return f"echo of #{self.answers}" if self.answers is not None else f"#{self.id}"


@dataclass(frozen=True, slots=True)
class Esp:
    """A packet in a tunnel. Only who has `key` under `spi` can open it."""

    spi: int
    key: bytes
    sequence: int
    packet: Packet


@dataclass(frozen=True, slots=True)
class Frame:
    """Between two machines. Ports are 0 where there is no UDP: ESP without encapsulation, packets in clear."""

    source: SocketAddress
    destination: SocketAddress
    load: bytes | Esp | Packet

    def __str__(self) -> str:
        match self.load:
            case Packet() as packet:
                return f"CLEAR {packet.pair} {packet}"
            case Esp(spi=spi, packet=packet):
                return f"ESP {spi:08x} {packet.pair} {packet}"
            case octets if octets == KEEPALIVE:
                return f"keepalive of {self.source}"
            case octets:
                return f"{_title(decode_header(octets))} {len(octets)} octets"


def _title(header: Header) -> str:
    kind = "response" if header.is_response else "request"
    who = "i" if header.from_initiator else "r"
    spis = f"{header.initiator_spi:016x}"[:4] + "/" + f"{header.responder_spi:016x}"[:4]
    return f"{header.exchange.name} {kind} {header.message_id}{who} {spis}"
