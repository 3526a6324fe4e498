"""Traffic selectors and the payloads that carry them (RFC 7296 3.13)."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Self

from oe.errors import ParseError
from oe.ike.registry import PayloadType, TsType
from oe.model import Address
from oe.wire import Reader

MAX_SELECTORS = 64
"""In one TS payload."""


@dataclass(frozen=True, slots=True)
class TrafficSelector:
    """A range of addresses and ports, both ends included (RFC 7296 3.13.1).

    Protocol 0 is any. Any port: 0 to 65535. OPAQUE ports: first 65535, last 0. ICMP: type and code in a port's octets.
    """

    protocol: int
    first_port: int
    last_port: int
    first: Address
    last: Address

    @classmethod
    def of(cls, address: Address) -> Self:
        """All traffic of one address."""
        return cls(0, 0, 65535, address, address)

    @classmethod
    def decode(cls, reader: Reader) -> Self | None:
        """The next selector; None when its type is unknown (it can then not be accepted, RFC 7296 3.13.1)."""
        # type | protocol | length (16) | first port (16) | last port (16)
        head = reader.u64("traffic selector")
        kind = head >> 56
        body = reader.window((head >> 32 & 0xFFFF) - 8, "Traffic Selector")
        first: Address
        last: Address
        if kind == TsType.IPV4_ADDR_RANGE:
            first, last = IPv4Address(body.take(4, "first address")), IPv4Address(body.take(4, "last address"))
        elif kind == TsType.IPV6_ADDR_RANGE:
            first, last = IPv6Address(body.take(16, "first address")), IPv6Address(body.take(16, "last address"))
        else:
            return None
        body.expect_end()
        return cls(head >> 48 & 0xFF, head >> 16 & 0xFFFF, head & 0xFFFF, first, last)

    def encode(self) -> bytes:
        addresses = self.first.packed + self.last.packed
        kind = TsType.IPV4_ADDR_RANGE if self.first.version == 4 else TsType.IPV6_ADDR_RANGE
        length = 8 + len(addresses)
        ports = self.first_port.to_bytes(2, "big") + self.last_port.to_bytes(2, "big")
        return bytes((kind, self.protocol)) + length.to_bytes(2, "big") + ports + addresses

    def covers(self, address: Address) -> bool:
        """All traffic of `address` is inside: any protocol, any port."""
        return (
            self.first.version == address.version
            and self.protocol == 0
            and (self.first_port, self.last_port) == (0, 65535)
            and self.first.packed <= address.packed <= self.last.packed
        )

    def __str__(self) -> str:
        span = str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
        return f"{span} proto {self.protocol} ports {self.first_port}-{self.last_port}"


@dataclass(frozen=True, slots=True)
class TsPayload:
    """Traffic Selector payload of the initiator (`TS_I`) or responder (`TS_R`) (RFC 7296 3.13)."""

    type: PayloadType
    selectors: tuple[TrafficSelector, ...]
    """Those of known types; may be empty when the peer sent others only."""

    @classmethod
    def decode(cls, reader: Reader, type: PayloadType) -> Self:
        count = reader.u8("number of selectors")
        reader.take(3, "reserved")
        if not 1 <= count <= MAX_SELECTORS:
            raise ParseError("TS payload", f"{count} selectors, must be 1 to {MAX_SELECTORS}")
        selectors = [TrafficSelector.decode(reader) for _ in range(count)]
        reader.expect_end()
        return cls(type, tuple(s for s in selectors if s is not None))

    def body(self) -> bytes:
        return bytes((len(self.selectors), 0, 0, 0)) + b"".join([s.encode() for s in self.selectors])
