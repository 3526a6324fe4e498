"""The exchanges of IKEv2, a file each; `RESPONDERS` says who answers which protected request."""

from collections.abc import Callable

from oe.ike.context import Context
from oe.ike.exchanges.create_child_sa import respond_create_child_sa, respond_followup_ke
from oe.ike.exchanges.ike_auth_responder import respond_auth
from oe.ike.exchanges.ike_intermediate import respond_intermediate
from oe.ike.exchanges.informational import respond_informational
from oe.ike.payloads import Payload
from oe.ike.registry import ExchangeType
from oe.ike.sa import IkeSa

Responder = Callable[[Context, IkeSa, tuple[Payload, ...], float], None]
"""Takes the genuine, well-formed payloads of a new request that `states.HEARD` lets in; answers now or later."""

RESPONDERS: dict[ExchangeType, Responder] = {
    ExchangeType.IKE_INTERMEDIATE: respond_intermediate,
    ExchangeType.IKE_AUTH: respond_auth,
    ExchangeType.CREATE_CHILD_SA: respond_create_child_sa,
    ExchangeType.IKE_FOLLOWUP_KE: respond_followup_ke,
    ExchangeType.INFORMATIONAL: respond_informational,
}
