"""IKE fragmentation (RFC 7383): a large message leaves as several small ones, each encrypted and authenticated.

    HDR, SK {chain}     ──▶     HDR, SKF 1/3 {chain[:n]}   HDR, SKF 2/3 {chain[n:2n]}   HDR, SKF 3/3 {chain[2n:]}

Only a fragment that proved to be the peer's is kept, so that forged ones never spoil a message. The path's MTU is
probed downwards: a message that stays unanswered is cut anew, in smaller and more fragments; they replace those before.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from oe.errors import ParseError
from oe.ike.crypto import SK_IV_OCTETS, SK_TAG_OCTETS, SkCipher
from oe.ike.message import (
    HEADER_OCTETS,
    MAX_MESSAGE_OCTETS,
    Header,
    Message,
    Place,
    Sealed,
    decode_message,
    encode_chain,
    open_octets,
    seal_chain,
)
from oe.ike.payloads import Payload

THRESHOLDS = {4: (1280, 576), 6: (1280,)}
"""Octets of the largest IP packet, by IP version: tried in this order (RFC 7383 2.5.1). IPv6 carries 1280 anywhere."""
_OUTSIDE = {4: 20 + 8, 6: 40 + 8}
"""IP header and UDP header, by IP version."""
_MARKER = 4
"""The non-ESP marker on port 4500."""
_AROUND_SK = HEADER_OCTETS + 4 + SK_IV_OCTETS + 1 + SK_TAG_OCTETS
"""What a message has around the payloads in it."""
_AROUND_SKF = _AROUND_SK + 4


# --- sending ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Fragmentation:
    """How large the datagrams of one IKE SA may be. What came through once is kept for its life."""

    version: int
    """Of IP."""
    room: int | None = None
    """Octets of the largest message; None: fragmentation is not agreed."""
    _rooms: tuple[int, ...] = ()
    _is_marked: bool = False

    def agree(self, *, marked: bool) -> None:
        """Both ends said IKEV2_FRAGMENTATION_SUPPORTED; `marked`: messages bear the non-ESP marker."""
        self._rooms = tuple(size - _OUTSIDE[self.version] for size in THRESHOLDS[self.version])
        self.room = self._rooms[0]
        if marked:
            self.mark()

    def mark(self) -> None:
        """From now on messages bear the non-ESP marker: a peer may go to port 4500 without a NAT, too."""
        if self.room is not None and not self._is_marked:
            self._is_marked = True
            self._rooms = tuple(room - _MARKER for room in self._rooms)
            self.room = max(self._rooms[-1], self.room - _MARKER)

    def follow(self, size: int) -> None:
        """A fragment of `size` octets came from the peer: ours need not be larger than what comes through."""
        if self.room is not None:
            self.room = max(self._rooms[-1], min(self.room, size))

    def shrink(self, datagrams: tuple[bytes, ...]) -> bool:
        """Nobody answers `datagrams`: make room smaller, if their size may be why. Says whether it is smaller."""
        largest = max(map(len, datagrams))
        smaller = next((room for room in self._rooms if room < largest), None)
        if self.room is None or smaller is None:
            return False
        self.room = min(self.room, smaller)
        return True


def seal_message(
    header: Header, payloads: Iterable[Payload], cipher: SkCipher, fragmentation: Fragmentation
) -> tuple[bytes, ...]:
    """The message in one datagram, or in several where it is too large for one. Seal once, send again the same."""
    first, chain = encode_chain(payloads)
    room = fragmentation.room
    if room is None or _AROUND_SK + len(chain) <= room:
        return (seal_chain(header, first, chain, cipher),)
    return _cut(header, first, chain, cipher, room - _AROUND_SKF)


def cut_again(datagrams: tuple[bytes, ...], cipher: SkCipher, fragmentation: Fragmentation) -> tuple[bytes, ...]:
    """A message of ours, sealed with `cipher` before, in datagrams that fit the room that there is now.

    There are more of them than before: by their number the peer tells the sets apart (RFC 7383 2.5.2).
    """
    room = fragmentation.room
    if room is None or max(map(len, datagrams)) <= room:
        return datagrams
    messages = [decode_message(datagram) for datagram in datagrams]
    # Nobody but us made them: what does not open is a mistake of ours.
    chain = b"".join(open_octets(message, cipher) or b"" for message in messages)
    sealed = messages[0].sealed
    first = sealed.first if sealed is not None else 0
    share = min(room - _AROUND_SKF, -(-len(chain) // (len(datagrams) + 1)))
    return _cut(messages[0].header, first, chain, cipher, share)


def _cut(header: Header, first: int, chain: bytes, cipher: SkCipher, share: int) -> tuple[bytes, ...]:
    shares = [chain[at : at + share] for at in range(0, len(chain), share)]
    return tuple(
        seal_chain(header, first if number == 1 else 0, part, cipher, Place(number, len(shares)))
        for number, part in enumerate(shares, 1)
    )


# --- receiving -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plain:
    """What stood in the Encrypted payload of a message, whole again."""

    message: Message
    """The message, or its first fragment."""
    first: int
    """Type of the first payload."""
    octets: bytes


@dataclass(slots=True)
class Reassembly:
    """The fragments of one message that came so far. One at a time: the window is one (RFC 7296 2.3)."""

    message_id: int | None = None
    """None: nothing is kept."""
    total: int = 0
    largest: int = 0
    """Octets of the largest datagram among them."""
    _first: tuple[Message, Sealed] | None = None
    _parts: dict[int, bytes] = field(default_factory=dict)

    def forget(self) -> None:
        self.message_id = self._first = None
        self._parts.clear()

    def wants(self, message_id: int, place: Place) -> bool:
        """Whether a fragment is worth decrypting: not a duplicate, nor of a set that smaller fragments replaced."""
        if message_id != self.message_id:
            return True
        return place.total > self.total or (place.total == self.total and place.number not in self._parts)

    def put(self, message: Message, sealed: Sealed, place: Place, plain: bytes) -> Plain | None:
        """Keep a genuine fragment that is wanted; the whole when nothing is missing any more.

        Raises `ParseError` when all of it is longer than a message may be; nothing is kept then.
        """
        header = message.header
        if header.message_id != self.message_id or place.total != self.total:
            self.forget()
            self.message_id, self.total, self.largest = header.message_id, place.total, 0
        self._parts[place.number] = plain
        self.largest = max(self.largest, len(message.octets))
        if place.number == 1:
            self._first = message, sealed
        if sum(map(len, self._parts.values())) > MAX_MESSAGE_OCTETS:
            self.forget()
            raise ParseError("Encrypted Fragment payload", f"message beyond {MAX_MESSAGE_OCTETS} octets")
        if self._first is None or len(self._parts) < self.total:
            return None
        octets = b"".join(self._parts[number] for number in range(1, self.total + 1))
        whole = Plain(self._first[0], self._first[1].first, octets)
        self.forget()
        return whole
