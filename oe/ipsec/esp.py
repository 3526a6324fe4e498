"""ESP in tunnel mode with AES-GCM (RFC 4303, RFC 4106), one packet at a time.

 0                   1                   2                   3
+---------------------------------------------------------------+
| Security Parameters Index                                     |   authenticated (with ESN, the upper 32 bits
| Sequence number, low 32 bits                                  |   of the number stand between these two)
+---------------------------------------------------------------+
| IV (8 octets)                                                 |   with the SA's salt: the nonce
+---------------------------------------------------------------+
| inner packet | TFC padding | padding 1 2 3… | length | next h.|   encrypted and authenticated
+---------------------------------------------------------------+
| ICV (16 octets)                                               |
+---------------------------------------------------------------+
"""

from struct import Struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from oe.ipsec.model import REPLAY_WINDOW
from oe.ipsec.replay import ReplayWindow
from oe.model import Address, EspSa, HostPair
from oe.reasons import Reason

_HEADER_IV = Struct("!IIQ")
_AAD_ESN = Struct("!IQ")
_IV = Struct("!Q")

_ICV = 16
_SALT = 4
_SHORTEST = 16 + 4 + _ICV
"""Header and IV, one word that holds the trailer, ICV."""

_IPV4 = 4
_IPV6 = 41
_DUMMY = 59
"""No next header: a packet sent only to disturb traffic analysis (RFC 4303 2.6)."""

_PADDING = bytes(range(1, 256))
"""RFC 4303 2.4: padding counts 1, 2, 3… and receivers should check it."""

_LAST_32 = (1 << 32) - 1
_LAST_64 = (1 << 64) - 1


def _trailers(next_header: int) -> tuple[bytes, ...]:
    """Padding, its length and the next header, by the length of what goes before modulo 4."""
    return tuple(_PADDING[:count] + bytes([count, next_header]) for count in (-(length + 2) % 4 for length in range(4)))


_TRAILERS = {4: _trailers(_IPV4), 6: _trailers(_IPV6)}


def _aead(sa: EspSa) -> tuple[AESGCM, bytes]:
    """Cipher and salt out of the key octets of RFC 4106 8.1."""
    octets = sa.key.octets
    return AESGCM(octets[:-_SALT]), octets[-_SALT:]


class OutboundEsp:
    """Seals inner packets of one host pair. The pair is the caller's affair: it chose this SA by addresses."""

    __slots__ = ("_cipher", "_last", "_salt", "_spi", "esn", "octets", "packets")

    def __init__(self, sa: EspSa, esn: bool) -> None:
        self._cipher, self._salt = _aead(sa)
        self._spi = sa.spi
        self._last = _LAST_64 if esn else _LAST_32
        self.esn = esn
        self.packets = 0
        """Packets sealed; also the last sequence number used."""
        self.octets = 0
        """Octets of inner packets sealed."""

    def seal(self, packet: bytes) -> bytes | Reason:
        """ESP octets for an IPv4 or IPv6 packet; ESP_SEQUENCE_EXHAUSTED once all numbers are used: they never wrap.

        The IV is the sequence number itself, so it cannot repeat under one key (RFC 4106 3.1).
        """
        sequence = self.packets + 1
        if sequence > self._last:
            return Reason.ESP_SEQUENCE_EXHAUSTED
        self.packets = sequence
        length = len(packet)
        self.octets += length
        header = _HEADER_IV.pack(self._spi, sequence & _LAST_32, sequence)
        aad = _AAD_ESN.pack(self._spi, sequence) if self.esn else header[:8]
        trailer = _TRAILERS[packet[0] >> 4][length & 3]
        return header + self._cipher.encrypt(self._salt + header[8:], packet + trailer, aad)


class InboundEsp:
    """Opens ESP packets of one SA and lets through only inner packets of its pair, peer's side to ours."""

    __slots__ = ("_addresses", "_cipher", "_salt", "_spi", "_version", "_window", "esn", "octets", "packets")

    def __init__(self, sa: EspSa, esn: bool, pair: HostPair, window: int = REPLAY_WINDOW) -> None:
        self._cipher, self._salt = _aead(sa)
        self._spi = sa.spi
        self._window = ReplayWindow(esn, window)
        self._version = pair.source.version
        self._addresses = addresses_octets(pair.destination, pair.source)
        self.esn = esn
        self.packets = 0
        """Inner packets let through."""
        self.octets = 0
        """Their octets."""

    def open(self, esp: bytes) -> bytes | Reason:
        """The inner packet of ESP octets (from SPI to ICV); empty for a dummy packet; or why it is to be dropped.

        The replay window is asked before the cipher, which costs more, and told only after it (RFC 4303 3.4.3).
        Never raises, whatever the octets are.
        """
        if len(esp) < _SHORTEST or len(esp) % 4:
            return Reason.ESP_MALFORMED
        window = self._window
        low = int.from_bytes(esp[4:8], "big")
        sequence = window.infer(low)
        if not window.may_accept(sequence):
            return Reason.ESP_REPLAYED
        if sequence > _LAST_64:
            return Reason.ESP_SEQUENCE_EXHAUSTED
        aad = _AAD_ESN.pack(self._spi, sequence) if self.esn else esp[:8]
        try:
            plain = self._cipher.decrypt(self._salt + esp[8:16], esp[16:], aad)
        except InvalidTag:
            return Reason.ESP_INTEGRITY_FAILED
        window.accept(sequence)
        packet = self._decapsulate(plain)
        if isinstance(packet, bytes) and packet:
            self.packets += 1
            self.octets += len(packet)
        return packet

    def _decapsulate(self, plain: bytes) -> bytes | Reason:
        """Strip trailer and TFC padding, and hold the inner packet against the pair (RFC 4301 5.2 step 4)."""
        next_header = plain[-1]
        if next_header == _DUMMY:
            return b""
        padding = plain[-2]
        end = len(plain) - 2 - padding
        if end < 0 or plain[end:-2] != _PADDING[:padding]:
            return Reason.ESP_MALFORMED
        if next_header == _IPV4:
            return self._ipv4(plain, end)
        if next_header == _IPV6:
            return self._ipv6(plain, end)
        return Reason.ESP_SELECTOR_MISMATCH

    def _ipv4(self, plain: bytes, end: int) -> bytes | Reason:
        if end < 20 or plain[0] >> 4 != 4:
            return Reason.ESP_MALFORMED
        length = plain[2] << 8 | plain[3]
        if not 20 <= (plain[0] & 15) * 4 <= length <= end:
            return Reason.ESP_MALFORMED
        if self._version != 4 or plain[12:20] != self._addresses:
            return Reason.ESP_SELECTOR_MISMATCH
        return plain[:length]

    def _ipv6(self, plain: bytes, end: int) -> bytes | Reason:
        if end < 40 or plain[0] >> 4 != 6:
            return Reason.ESP_MALFORMED
        length = 40 + (plain[4] << 8 | plain[5])
        if length > end:
            return Reason.ESP_MALFORMED
        if self._version != 6 or plain[8:40] != self._addresses:
            return Reason.ESP_SELECTOR_MISMATCH
        return plain[:length]


def addresses_octets(source: Address, destination: Address) -> bytes:
    """The two addresses as they stand side by side in an IPv4 or IPv6 header."""
    return source.packed + destination.packed


def addresses_of(packet: bytes) -> bytes:
    """Those octets of a packet; empty when it is too short or neither IPv4 nor IPv6."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20:
        return packet[12:20]
    if version == 6 and len(packet) >= 40:
        return packet[8:40]
    return b""
