"""Where the peer of an IKE SA is reached, and how ESP gets there: port 4500, mappings that move (RFC 7296 2.23).

    IKE_SA_INIT   500 ─▶ 500     both ends learn of the NAT
    IKE_AUTH ...  4500 ─▶ 4500   with the NAT's port for one of them; ESP in UDP goes the same way

An end that is not behind a NAT follows one that is, to wherever its last fresh and authenticated message came from. The
other way round it would be an attacker's invitation: who can bend one packet's source could bend all that we send.
"""

from collections.abc import Iterable
from dataclasses import replace

from oe.ike.context import Context
from oe.ike.nat import Nat, detect
from oe.ike.payloads import Payload
from oe.ike.sa import IkeSa, Role, Timer
from oe.messages import KeepMapping
from oe.model import Encapsulation, SocketAddress
from oe.negotiation import ChildMoved


def look_for_nat(sa: IkeSa, payloads: Iterable[Payload], spis: tuple[int, int]) -> None:
    """Read the notifies of the peer's half of IKE_SA_INIT; `spis` as in its header."""
    found = detect(payloads, spis, sa.local, sa.remote)
    sa.nat = Nat.NOBODY if found is None else found


def float_ports(ctx: Context, sa: IkeSa) -> None:
    """As initiator, keys agreed: with a NAT on the way go on between ports 4500."""
    if sa.nat is not Nat.NOBODY:
        port = ctx.settings.nat_port
        sa.local, sa.remote = replace(sa.local, port=port), replace(sa.remote, port=port)


def keep_mapping(ctx: Context, sa: IkeSa, now: float) -> None:
    """Behind a NAT: have the mapping kept alive, once now and then every `nat_keepalive` seconds."""
    sa.timers.pop(Timer.KEEPALIVE, None)
    if Nat.WE in sa.nat and sa.local.port == ctx.settings.nat_port:
        ctx.emit(KeepMapping(sa.local, sa.remote))
        sa.timers[Timer.KEEPALIVE] = now + ctx.settings.nat_keepalive


def encapsulation(ctx: Context, sa: IkeSa) -> Encapsulation | None:
    """How ESP of this IKE SA is carried: in UDP when there is a NAT on the way."""
    if sa.nat is Nat.NOBODY or sa.local.port != ctx.settings.nat_port:
        return None
    return Encapsulation(sa.local.port, sa.remote.port)


def follow(ctx: Context, sa: IkeSa, local: SocketAddress, remote: SocketAddress) -> None:
    """A fresh, authenticated message of the peer came this way: if it may have moved, so do we, with all Child SAs.

    While an IKE SA is set up an initiator goes to port 4500, with or without a NAT. There is no way back from there.
    To another address we follow only who has proved its identity: all that we know of an anonymous peer is that it
    receives at the address where it began, and its next message may bear that of somebody else (RFC 7619 2.5).
    """
    is_way_back = local.port != sa.local.port == ctx.settings.nat_port
    if (local, remote) == (sa.local, sa.remote) or local.address != sa.local.address or is_way_back:
        return
    if remote.address != sa.remote.address and not sa.is_proved:
        return
    may_float = sa.established is None and sa.role is Role.RESPONDER
    if may_float or (Nat.PEER in sa.nat and Nat.WE not in sa.nat):
        sa.local, sa.remote = local, remote
        if local.port == ctx.settings.nat_port:
            sa.fragmentation.mark()
        _move_children(ctx, sa)


def follow_esp(ctx: Context, sa: IkeSa, remote: SocketAddress) -> None:
    """Fresh, authenticated ESP in UDP came from `remote`: its NAT may have a new mapping before IKE says anything."""
    follow(ctx, sa, replace(sa.local, port=ctx.settings.nat_port), remote)


def _move_children(ctx: Context, sa: IkeSa) -> None:
    for child in sa.children.values():
        if child.sa.encapsulation is None:
            continue
        child.sa = replace(child.sa, remote=sa.remote.address, encapsulation=encapsulation(ctx, sa))
        if not child.is_closing:
            ctx.emit(ChildMoved(child.sa.id, child.sa.remote, child.sa.encapsulation))
