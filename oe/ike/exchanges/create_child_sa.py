"""CREATE_CHILD_SA as responder: which of its three uses a request is, and whether its time is good (RFC 7296 1.3).

SA, Ni, [KEi,] TSi, TSr                  a further Child SA
N(REKEY_SA), SA, Ni, [KEi,] TSi, TSr     the successor of a Child SA
SA, Ni, KEi                              the successor of the IKE SA
"""

from oe.ike.channel import respond
from oe.ike.child import Child
from oe.ike.collisions import Ask, Situation, refusal
from oe.ike.context import Context
from oe.ike.exchanges.informational import DeleteChild, DeleteSpi
from oe.ike.exchanges.new_child import CreateChild
from oe.ike.exchanges.new_child_responder import respond_new_child
from oe.ike.exchanges.rekey_ike import RekeyIke, finish_rekey_ike, respond_rekey_ike
from oe.ike.payloads import NotifyPayload, Payload, TsPayload, find, find_notify
from oe.ike.registry import ExchangeType, NotifyType, ProtocolId
from oe.ike.sa import IkeSa
from oe.ike.states import ChildState, State
from oe.reasons import Reason


def respond_create_child_sa(ctx: Context, sa: IkeSa, payloads: tuple[Payload, ...], now: float) -> None:
    """Answer the peer's CREATE_CHILD_SA request."""
    rekey = find_notify(payloads, NotifyType.REKEY_SA)
    old = None if rekey is None else _named(sa, rekey)
    ask = Ask.NEW_CHILD if rekey is None else Ask.REKEY_CHILD
    if find(payloads, TsPayload) is None:
        ask = Ask.REKEY_IKE
    told = refusal(ask, _situations(sa, old))
    if told is not None:
        ctx.reject(Reason.UNEXPECTED_MESSAGE, sa.remote.address, f"{ask} in state {sa.state}: {told.name}")
        about = (b"", rekey.protocol, rekey.spi) if told == NotifyType.CHILD_SA_NOT_FOUND and rekey else ()
        respond(ctx, sa, ExchangeType.CREATE_CHILD_SA, (NotifyPayload(told, *about),))
    elif ask is Ask.REKEY_IKE:
        respond_rekey_ike(ctx, sa, payloads, now)
    else:
        respond_new_child(ctx, sa, payloads, old, now)


def respond_followup_ke(ctx: Context, sa: IkeSa, payloads: tuple[Payload, ...], now: float) -> None:
    """Answer the peer's IKE_FOLLOWUP_KE request: its rekey of the IKE SA goes on, if its time is still good."""
    told = refusal(Ask.REKEY_IKE, _situations(sa, None))
    if told is None:
        finish_rekey_ike(ctx, sa, payloads, now)
        return
    sa.halfway = None
    ctx.reject(Reason.UNEXPECTED_MESSAGE, sa.remote.address, f"IKE_FOLLOWUP_KE in state {sa.state}: {told.name}")
    respond(ctx, sa, ExchangeType.IKE_FOLLOWUP_KE, (NotifyPayload(told),))


def _named(sa: IkeSa, rekey: NotifyPayload) -> Child | None:
    """The Child SA that is meant: by the SPI that the peer receives with, ours to send with (RFC 7296 1.3.3)."""
    if rekey.protocol != ProtocolId.ESP:
        return None
    spi = int.from_bytes(rekey.spi, "big")
    return next((child for child in sa.children.values() if child.sa.outbound.spi == spi), None)


def _situations(sa: IkeSa, old: Child | None) -> frozenset[Situation]:
    """How it stands with `sa` and with the Child SA that is to be rekeyed."""
    found = set()
    if sa.state is not State.ESTABLISHED:
        found.add(Situation.IKE_ENDS)
    if isinstance(sa.task, RekeyIke):
        found.add(Situation.IKE_REKEYED)
    if isinstance(sa.task, CreateChild | DeleteChild | DeleteSpi):
        found.add(Situation.CHILD_CHANGES)
    if old is None:
        found.add(Situation.CHILD_UNKNOWN)
    elif old.state in (ChildState.REPLACED, ChildState.CLOSING):
        found.add(Situation.CHILD_ENDS)
    return frozenset(found)
