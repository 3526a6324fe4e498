"""Plans of installation and removal, carried out by a fake kernel that can fail at every step."""

from dataclasses import replace
from ipaddress import ip_address
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oe.ipsec.model import PACKETS
from oe.ipsec.operations import (
    PRIORITY,
    Action,
    AddSa,
    KernelSa,
    Operation,
    Policy,
    PutPolicy,
    RemovePolicy,
    RemoveSa,
    ReplaceSa,
    SaKey,
    Selector,
    Template,
    UpdateSa,
    Way,
    own_reqid,
    undo,
)
from oe.ipsec.plan import Book
from oe.model import ChildSa, Directions, Encapsulation, Mode
from tests.ipsec.children import CLIENT, FAR_CLIENT, OURS, THEIRS, child

GATEWAY = ip_address("2001:db8::1")
PEER = ip_address("2001:db8::2")


class Refused(Exception):
    """The fake kernel's KernelError."""


class FakeKernel:
    """Holds SAs and policies; insists that operations make sense, and refuses the n-th on demand."""

    def __init__(self) -> None:
        self.sas: dict[SaKey, KernelSa] = {}
        self.policies: dict[tuple[Selector, Way], Policy] = {}
        self.refuse_at: int | None = None

    def execute(self, operation: Operation) -> None:
        if self.refuse_at is not None:
            self.refuse_at -= 1
            if self.refuse_at < 0:
                self.refuse_at = None
                raise Refused
        match operation:
            case AddSa(sa):
                assert sa.key not in self.sas
                self.sas[sa.key] = sa
            case UpdateSa(sa):
                assert self.sas[sa.key] == replace(sa, encapsulation=self.sas[sa.key].encapsulation)
                self.sas[sa.key] = sa
            case ReplaceSa(old, sa):
                self.insist_on_a_closed_way(self.sas.pop(old))
                assert sa.key not in self.sas
                self.sas[sa.key] = sa
            case RemoveSa(key):
                del self.sas[key]
            case PutPolicy(policy, replaced):
                key_of = (policy.selector, policy.way)
                assert self.policies.get(key_of) == replaced
                self.policies[key_of] = policy
            case RemovePolicy(policy):
                assert self.policies.pop((policy.selector, policy.way)) == policy

    def insist_on_a_closed_way(self, sa: KernelSa) -> None:
        """No policy leads to an SA that is being replaced: the kernel would acquire one of its own."""
        policy = self.policies.get((sa.selector, Way.OUT))
        leads_here = policy is not None and policy.template is not None and policy.template.spi == sa.esp.spi
        assert policy is None or not leads_here or policy.action is Action.BLOCK

    def move(self, book: Book, moved: ChildSa) -> None:
        for operation in book.plan_move(moved):
            self.execute(operation)
        book.record_move(moved)

    def install(self, book: Book, one: ChildSa, directions: Directions = Directions.BOTH) -> None:
        done: list[AddSa | PutPolicy] = []
        operations = book.plan_install(one, directions)
        try:
            for operation in operations:
                self.execute(operation)
                done.append(operation)
        except Refused:
            for operation in reversed(done):
                self.execute(undo(operation))
            raise
        book.record(one, operations)

    def remove(self, book: Book, number: int) -> None:
        for operation in book.plan_removal(number):
            self.execute(operation)
        book.forget(number)

    def outbound_spi(self, one: ChildSa) -> int | None:
        policy = self.policies.get((Selector.hosts(one.pair.source, one.pair.destination), Way.OUT))
        return policy.template.spi if policy is not None and policy.template is not None else None


def generations(count: int) -> list[ChildSa]:
    """Child SAs of one pair, each rekeying the one before."""
    return [child(number, spis=(0x1000 + number, 0x2000 + number)) for number in range(1, count + 1)]


def test_the_order_leaks_nothing() -> None:
    one = child(7, pair=(CLIENT, FAR_CLIENT))
    operations = Book().plan_install(one, Directions.BOTH)
    shape = [
        (operation.sa.source, operation.sa.destination, operation.sa.esp.spi)
        if isinstance(operation, AddSa)
        else operation.policy.way
        for operation in operations
    ]
    assert shape == [(THEIRS, OURS, 0x1001), Way.IN, Way.FORWARD, (OURS, THEIRS, 0x2002), Way.OUT]


def test_tunnel_policies_and_sas_in_full() -> None:
    one = child(7, pair=(CLIENT, FAR_CLIENT), gateways=(GATEWAY, PEER))
    inbound, put_in, put_forward, outbound, put_out = Book().plan_install(one, Directions.BOTH)
    inward, outward = Selector.hosts(FAR_CLIENT, CLIENT), Selector.hosts(CLIENT, FAR_CLIENT)
    assert isinstance(inbound, AddSa)
    assert isinstance(outbound, AddSa)
    reqid = inbound.sa.reqid
    assert own_reqid(reqid)
    assert inbound.sa == KernelSa(
        PEER, GATEWAY, one.inbound, inward, reqid, Mode.TUNNEL, True, None, 3600.0, None, None, reserved=True
    )
    assert outbound.sa == KernelSa(
        GATEWAY, PEER, one.outbound, outward, reqid, Mode.TUNNEL, True, None, 3600.0, None, None, reserved=False
    )
    any_of_pair = Template(PEER, GATEWAY, 0, reqid, Mode.TUNNEL)
    assert put_in == PutPolicy(Policy(inward, Way.IN, any_of_pair, PRIORITY), None)
    assert put_forward == PutPolicy(Policy(inward, Way.FORWARD, any_of_pair, PRIORITY), None)
    exactly_this = Template(GATEWAY, PEER, 0x2002, reqid, Mode.TUNNEL)
    assert put_out == PutPolicy(Policy(outward, Way.OUT, exactly_this, PRIORITY), None)


def test_transport_mode_forwards_nothing() -> None:
    operations = Book().plan_install(child(mode=Mode.TRANSPORT), Directions.BOTH)
    ways = [operation.policy.way for operation in operations if isinstance(operation, PutPolicy)]
    assert ways == [Way.IN, Way.OUT]
    assert all(operation.sa.mode is Mode.TRANSPORT for operation in operations if isinstance(operation, AddSa))


def test_udp_ports_are_those_of_the_packets() -> None:
    one = replace(child(), encapsulation=Encapsulation(local_port=4500, remote_port=61000))
    ports = [step.sa.encapsulation for step in Book().plan_install(one, Directions.BOTH) if isinstance(step, AddSa)]
    assert ports == [(61000, 4500), (4500, 61000)]


def test_only_an_outbound_sa_without_esn_runs_short_of_numbers() -> None:
    limits = [
        [step.sa.packets for step in Book().plan_install(child(esn=esn), Directions.BOTH) if isinstance(step, AddSa)]
        for esn in (True, False)
    ]
    assert limits == [[None, None], [None, PACKETS]]


def test_octets_are_limited_both_ways() -> None:
    operations = Book().plan_install(child(octets=1 << 30), Directions.BOTH)
    assert [step.sa.octets for step in operations if isinstance(step, AddSa)] == [1 << 30, 1 << 30]


# --- the peer moves --------------------------------------------------------------------------------------------

BEHIND_NAT = replace(child(), encapsulation=Encapsulation(4500, 61000))


def test_another_port_changes_the_sas_in_place() -> None:
    book, kernel = Book(), FakeKernel()
    kernel.install(book, BEHIND_NAT)
    policies = dict(kernel.policies)
    moved = replace(BEHIND_NAT, encapsulation=Encapsulation(4500, 62000))
    assert [type(step) for step in book.plan_move(moved)] == [UpdateSa, UpdateSa]
    kernel.move(book, moved)
    assert sorted(sa.encapsulation or () for sa in kernel.sas.values()) == [(4500, 62000), (62000, 4500)]
    assert kernel.policies == policies
    kernel.remove(book, moved.id)
    assert (kernel.sas, kernel.policies) == ({}, {})


@pytest.mark.parametrize(
    "moved",
    [replace(child(), remote=PEER), BEHIND_NAT, replace(BEHIND_NAT, remote=PEER)],
    ids=["address", "behind a NAT", "both"],
)
@pytest.mark.parametrize("directions", list(Directions))
def test_what_moved_is_as_if_it_had_begun_there(moved: ChildSa, directions: Directions) -> None:
    book, kernel = Book(), FakeKernel()
    kernel.install(book, child(), directions)
    kernel.move(book, moved)
    fresh_book, fresh = Book(), FakeKernel()
    fresh.install(fresh_book, moved, directions)
    assert (kernel.sas, kernel.policies, dict(book.owners)) == (fresh.sas, fresh.policies, dict(fresh_book.owners))
    assert book.child(moved.id) == moved
    kernel.remove(book, moved.id)
    assert (kernel.sas, kernel.policies) == ({}, {})


def test_in_a_rekey_each_moves_by_itself() -> None:
    book, kernel = Book(), FakeKernel()
    old, new = generations(2)
    kernel.install(book, old)
    kernel.install(book, new)
    held = dict(kernel.policies)
    kernel.move(book, replace(old, remote=PEER))
    assert kernel.policies == held
    kernel.move(book, replace(new, remote=PEER))
    assert {policy.action for policy in kernel.policies.values()} == {Action.ALLOW}
    assert kernel.outbound_spi(new) == new.outbound.spi
    kernel.remove(book, new.id)
    ends = {
        policy.template and (policy.template.source, policy.template.destination) for policy in kernel.policies.values()
    }
    assert ends == {(OURS, PEER), (PEER, OURS)}
    assert kernel.outbound_spi(old) == old.outbound.spi


@pytest.mark.parametrize("directions", list(Directions))
def test_a_refusal_at_any_step_leaves_what_was_before(directions: Directions) -> None:
    book, kernel = Book(), FakeKernel()
    old, new = generations(2)
    kernel.install(book, old)
    before = (dict(kernel.sas), dict(kernel.policies))
    for step in range(len(book.plan_install(new, directions))):
        kernel.refuse_at = step
        with pytest.raises(Refused):
            kernel.install(book, new, directions)
        assert (kernel.sas, kernel.policies) == before
    kernel.install(book, new, directions)
    kernel.remove(book, new.id)
    assert (kernel.sas, kernel.policies) == before


def test_rekey_switches_in_one_step_and_the_old_one_goes_without_a_gap() -> None:
    book, kernel = Book(), FakeKernel()
    old, new = generations(2)
    kernel.install(book, old)
    kernel.install(book, new, Directions.INBOUND)
    assert kernel.outbound_spi(old) == old.outbound.spi
    kernel.install(book, new, Directions.OUTBOUND)
    assert kernel.outbound_spi(old) == new.outbound.spi
    assert {sa.reqid for sa in kernel.sas.values()} == {next(iter(kernel.sas.values())).reqid}
    assert not any(isinstance(step, RemovePolicy | PutPolicy) for step in book.plan_removal(old.id))
    kernel.remove(book, old.id)
    assert kernel.outbound_spi(old) == new.outbound.spi
    assert len(kernel.policies) == 3


@pytest.mark.parametrize("order", list(permutations((1, 2, 3))))
def test_removed_in_any_order_the_youngest_left_is_used(order: tuple[int, ...]) -> None:
    book, kernel = Book(), FakeKernel()
    children = {one.id: one for one in generations(3)}
    for one in children.values():
        kernel.install(book, one)
    for number in order:
        kernel.remove(book, number)
        del children[number]
        youngest = max(children, default=None)
        assert kernel.outbound_spi(generations(1)[0]) == (youngest and children[youngest].outbound.spi)
    assert (kernel.sas, kernel.policies) == ({}, {})
    assert book.owners == {}


def test_a_pair_may_move_to_another_gateway() -> None:
    book, kernel = Book(), FakeKernel()
    old = child(1, pair=(CLIENT, FAR_CLIENT))
    new = child(2, pair=(CLIENT, FAR_CLIENT), gateways=(GATEWAY, PEER))
    kernel.install(book, old)
    kernel.install(book, new)
    assert {policy.template and policy.template.source for policy in kernel.policies.values()} == {GATEWAY, PEER}
    kernel.remove(book, new.id)
    assert {policy.template and policy.template.source for policy in kernel.policies.values()} == {OURS, THEIRS}


steps = st.lists(st.tuples(st.integers(1, 4), st.sampled_from([*Directions, None])), max_size=30)


@given(steps)
def test_whatever_happens_book_and_kernel_agree(story: list[tuple[int, Directions | None]]) -> None:
    """Two pairs, two Child SAs each; halves are installed at most once; removal at any time."""
    book, kernel = Book(), FakeKernel()
    pairs = [(OURS, THEIRS), (CLIENT, FAR_CLIENT)]
    placed: dict[int, set[Directions]] = {}
    for number, directions in story:
        one = child(number, pair=pairs[number % 2], spis=(0x1000 + number, 0x2000 + number))
        if directions is None:
            kernel.remove(book, number)
            placed.pop(number, None)
            continue
        halves = {Directions.INBOUND, Directions.OUTBOUND} if directions is Directions.BOTH else {directions}
        if not halves & placed.get(number, set()):
            kernel.install(book, one, directions)
            placed.setdefault(number, set()).update(halves)
    assert dict(book.owners).keys() == kernel.sas.keys()
    assert len(kernel.sas) == sum(map(len, placed.values()))
    assert all(place in book.policies for place in kernel.policies)
    assert set(book.children()) == set(placed) == set(book.owners.values())
    for number in list(placed):
        kernel.remove(book, number)
    assert (kernel.sas, kernel.policies) == ({}, {})


def test_unknown_child_sas_are_nothing_to_remove() -> None:
    book = Book()
    assert book.plan_removal(9) == ()
    book.forget(9)


def test_who_depends_on_a_policy() -> None:
    book = Book()
    one, other = child(1), child(2, pair=(CLIENT, FAR_CLIENT))
    for sa in (one, other):
        book.record(sa, book.plan_install(sa, Directions.BOTH))
    inward = (Selector.hosts(FAR_CLIENT, CLIENT), Way.IN)
    assert inward in set(book.policies)
    assert len(book.policies) == 6
    assert book.dependants({inward}) == {2}
    assert book.dependants(set(book.policies)) == {1, 2}
    assert book.dependants(set()) == frozenset()
