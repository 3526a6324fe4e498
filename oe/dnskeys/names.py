"""Domain names as the key lookup uses them: tuples of lower-case labels, root excluded."""

from oe.errors import ParseError
from oe.model import Address

Name = tuple[bytes, ...]

MAX_LABEL = 63
MAX_NAME = 255
"""Octets of a name on the wire: labels, their length octets and the root's (RFC 1035 2.3.4)."""

_HOST_OCTETS = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_")


def reverse_name(address: Address) -> str:
    """Name under which records about an address stand: in-addr.arpa, or ip6.arpa by nibbles; with trailing dot."""
    return address.reverse_pointer + "."


def reverse_labels(address: Address) -> Name:
    """`reverse_name` as labels."""
    return tuple(label.encode() for label in address.reverse_pointer.split("."))


def host_labels(text: str) -> Name:
    """Labels of a host name in text form, with or without trailing dot.

    Raises ParseError unless it is one to ask for: letters, digits, hyphens and underscores, not only the root.
    """
    if not text.isascii():
        raise ParseError("host name", "octets outside ASCII")
    return checked_host(tuple(text.removesuffix(".").lower().encode().split(b".")))


def checked_host(name: Name) -> Name:
    """`name` itself, if it is fit to be a host's; else ParseError."""
    if not name or any(not 0 < len(label) <= MAX_LABEL for label in name):
        raise ParseError("host name", f"labels must have 1 to {MAX_LABEL} octets")
    if sum(len(label) + 1 for label in name) + 1 > MAX_NAME:
        raise ParseError("host name", f"longer than {MAX_NAME} octets")
    if not _HOST_OCTETS.issuperset(b"".join(name)):
        raise ParseError("host name", "only letters, digits, '-' and '_' may stand in it")
    return name


def shown(name: Name) -> str:
    """The name for people, without trailing dot; octets that could garble a terminal become \\DDD (RFC 1035 5.1)."""
    return ".".join("".join(chr(o) if o in _HOST_OCTETS else f"\\{o:03d}" for o in label) for label in name) or "."
