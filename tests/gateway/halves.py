"""A responder's Child SA comes in two halves; and what is asked of a pair again and again."""

from oe.messages import ChildInstalled, Command, InstallChild, Note, SendDatagram
from oe.model import Directions, HostPair, SocketAddress
from oe.negotiation import ChildReady, IkeInput, IkeOutput
from oe.reasons import Reason
from tests.gateway.script import OURS, PEER, PEER_KEY, Script, child

PAIR = HostPair(OURS, PEER)
REPLY = SendDatagram(SocketAddress(OURS, 500), SocketAddress(PEER, 500), b"IKE_AUTH response")
BEGIN = 10.0
"""Seconds after which the SA of `with_a_successor` gets one."""
SUCCESSOR = InstallChild(202, child(2, PAIR), Directions.OUTBOUND)


def inbound_half(script: Script, id: int) -> list[Command]:
    """A responder's installation up to its answer and the wish for the outbound half, ticket 200 + `id`."""
    inbound = ChildReady(100 + id, child(id, PAIR), Directions.INBOUND, None, PEER_KEY)
    outbound = ChildReady(200 + id, child(id, PAIR), Directions.OUTBOUND, None, PEER_KEY)

    def reacts(event: IkeInput) -> list[IkeOutput]:
        done = isinstance(event, ChildInstalled) and event.directions is Directions.INBOUND
        return [outbound, REPLY] if done else []

    script.ike.reacts = reacts
    return script.install(inbound)


def outbound_half(script: Script, id: int, reason: Reason | None = None) -> list[Command]:
    return script.feed(ChildInstalled(200 + id, id, Directions.OUTBOUND, reason))


def responder(script: Script, id: int = 1) -> list[Command]:
    """The whole of a responder's installation; every command in order."""
    return [*inbound_half(script, id), *outbound_half(script, id)]


def with_a_successor() -> Script:
    """A pair that SA 1 protects for long, and of SA 2, which the peer brought, the inbound half."""
    script = Script()
    script.trap()
    script.protect(id=1)
    script.run_until(BEGIN)
    assert SUCCESSOR not in inbound_half(script, 2)
    return script


def carrier(script: Script) -> int | None:
    status = script.status()
    return status.child.id if status is not None and status.child is not None else None


def informed(commands: list[Command]) -> list[str]:
    """What people hear."""
    return [command.event for command in commands if isinstance(command, Note) and command.level != "debug"]
