"""A sealed message opened in one step, as none of the engine's is: it puts fragments together in between."""

from oe.errors import ParseError
from oe.ike.crypto import SkCipher
from oe.ike.message import Message, decode_plain, open_octets
from oe.ike.payloads import Payload


def open_sealed(message: Message, cipher: SkCipher) -> tuple[Payload, ...] | None:
    """The payloads inside the Encrypted payload of a whole message; None: the integrity check failed."""
    if message.sealed is None or message.sealed.place is not None:
        raise ParseError("IKE message", "no Encrypted payload")
    plain = open_octets(message, cipher)
    return None if plain is None else decode_plain(message.sealed.first, plain)
