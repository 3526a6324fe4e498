"""The model of a NAT is as strict as the strictest."""

from ipaddress import ip_address
from random import Random

from oe.model import SocketAddress
from tests.simulation.clock import Clock
from tests.simulation.frames import Frame
from tests.simulation.nat import MAPPING_LIFETIME, NatBox

INSIDE, OUTSIDE, PEER, OTHER = (ip_address(f"192.0.2.{number}") for number in (1, 2, 3, 4))
HERE, THERE = SocketAddress(INSIDE, 4500), SocketAddress(PEER, 4500)
OUT = Frame(HERE, THERE, b"")


def box() -> NatBox:
    return NatBox(Clock(), Random(0), INSIDE, OUTSIDE)


def seen(nat: NatBox, frame: Frame = OUT) -> SocketAddress:
    out = nat.leave(frame)
    assert out is not None
    assert out.source.address == OUTSIDE
    return out.source


def test_an_answer_comes_in_through_the_mapping_of_its_question() -> None:
    nat = box()
    mapped = seen(nat)
    assert seen(nat) == mapped
    assert nat.enter(Frame(THERE, mapped, b"")) == Frame(THERE, HERE, b"")


def test_nobody_else_comes_in() -> None:
    nat = box()
    mapped = seen(nat)
    assert nat.enter(Frame(SocketAddress(OTHER, 4500), mapped, b"")) is None
    assert nat.enter(Frame(SocketAddress(PEER, 500), mapped, b"")) is None
    assert nat.enter(Frame(THERE, SocketAddress(OUTSIDE, mapped.port ^ 1), b"")) is None


def test_what_has_no_port_does_not_get_out() -> None:
    assert box().leave(Frame(SocketAddress(INSIDE, 0), SocketAddress(PEER, 0), b"")) is None


def test_a_mapping_dies_of_silence_or_of_a_power_cut() -> None:
    nat = box()
    mapped = seen(nat)
    nat.clock.run(nat.clock.now + MAPPING_LIFETIME)
    assert nat.enter(Frame(THERE, mapped, b"")) is None
    again = seen(nat)
    assert again != mapped
    nat.rebind()
    assert nat.enter(Frame(THERE, again, b"")) is None
    assert seen(nat) != again
