"""CREATE_CHILD_SA: further Child SAs and rekeying (RFC 7296 1.3).

An IKE SA carries the one Child SA of its IKE_AUTH. A peer that asks for more is told NO_ADDITIONAL_SAS, which leaves
everything as it is (RFC 7296 1.3): it will set up another IKE SA instead.
"""

from oe.ike.channel import respond
from oe.ike.context import Context
from oe.ike.payloads import NotifyPayload, Payload
from oe.ike.registry import ExchangeType, NotifyType
from oe.ike.sa import IkeSa


def respond_create_child_sa(ctx: Context, sa: IkeSa, payloads: tuple[Payload, ...], now: float) -> None:
    """Answer the peer's CREATE_CHILD_SA request."""
    respond(ctx, sa, ExchangeType.CREATE_CHILD_SA, (NotifyPayload(NotifyType.NO_ADDITIONAL_SAS),))
