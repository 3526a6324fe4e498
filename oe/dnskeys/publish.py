"""The zone lines that publish a key, ready to paste into a master file (RFC 1035 5.1, RFC 4025 3)."""

from base64 import b64encode
from collections.abc import Iterable

from oe.dnskeys.names import reverse_name
from oe.model import Address, PublicKey

PRECEDENCE = 10
TTL = 3600

_GATEWAY_TYPES = {4: 1, 6: 2}


def zone_lines(owner: Address, keys: Iterable[PublicKey], gateway: Address | None = None) -> tuple[str, ...]:
    """IPSECKEY lines under the reverse name of `owner`, for each key in the order given.

    Without `gateway` the owner answers for itself: gateway type 0, the only form that Libreswan reads. With one,
    the line delegates to it; a gateway equal to the owner gets both forms, for readers of either.
    """
    gateways = (None, gateway) if gateway == owner else (gateway,)
    return tuple(f"{reverse_name(owner)} {TTL} IN IPSECKEY {_rdata(key, form)}" for key in keys for form in gateways)


def _rdata(key: PublicKey, gateway: Address | None) -> str:
    gateway_type = _GATEWAY_TYPES[gateway.version] if gateway is not None else 0
    shown = "." if gateway is None else str(gateway)
    return f"{PRECEDENCE} {gateway_type} {key.algorithm.value} {shown} {b64encode(key.data).decode()}"
