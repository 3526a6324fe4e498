"""The parts of a soak that need no kernel: who talks when, and what the samples must say."""

from dataclasses import replace
from ipaddress import ip_network
from random import Random
from typing import Any

import dns.zone
import pytest

from bench.soak import plan
from bench.soak.plan import Flow, Kind
from bench.soak.samples import Moment, Sample, elements
from bench.soak.traffic import Books
from bench.soak.verdict import complaints, faults
from oe.model import KeyAlgorithm, PublicKey

KEYS = dict.fromkeys((plan.ALICE, plan.BOB, plan.NOBODY), PublicKey(KeyAlgorithm.EDDSA, bytes(32)))
DAY = 24 * 3600.0
EMPTY = Sample(0, 8, 5, 70_000, 19, 0, {}, {})
BUSY = replace(EMPTY, sas=200, policies=308, elements=105, pairs=102, states={"protected": 100, "clear": 2})


def moment(phase: str, sample: Sample) -> Moment:
    return Moment(0.0, phase, 0, dict.fromkeys(plan.HOSTS, sample))


def a_day(*, after: Sample = EMPTY, last: Sample = BUSY) -> list[Moment]:
    hours = [moment("traffic", BUSY)] * 23
    return [moment("before", EMPTY), *hours, moment("traffic", last), moment("after", after)]


def changed(sample: Sample, what: str, value: int) -> Sample:
    changes: dict[str, Any] = {what: value}
    return replace(sample, **changes)


# --- the plan -------------------------------------------------------------------------------------------------------


def test_a_day_is_the_same_for_the_same_seed_and_in_order() -> None:
    flows = list(plan.visits(500, DAY, Random(1)))
    assert flows == list(plan.visits(500, DAY, Random(1)))
    assert flows != list(plan.visits(500, DAY, Random(2)))
    assert [flow.begins for flow in flows] == sorted(flow.begins for flow in flows)
    assert {flow.kind for flow in flows} == set(Kind) - {Kind.STEADY}
    assert all(flow.begins < flow.ends <= DAY for flow in flows)


def test_nearly_every_pair_comes_and_goes() -> None:
    far = {flow.destination if flow.host == plan.ALICE else flow.source for flow in plan.visits(500, DAY, Random(1))}
    assert len(far.intersection(plan.published(500))) > 480


def test_traffic_is_as_dense_at_the_end_as_at_the_beginning() -> None:
    flows = list(plan.visits(500, DAY, Random(1)))
    early, late = (sum(hour <= flow.begins / 3600 < hour + 12 for flow in flows) for hour in (0, 12))
    assert early == pytest.approx(late, rel=0.1)


def test_crossed_flows_begin_at_both_ends_at_once() -> None:
    crossed = [flow for flow in plan.visits(500, DAY, Random(1)) if flow.kind is Kind.CROSSED]
    for one, other in zip(crossed[::2], crossed[1::2], strict=True):
        assert (one.begins, one.source, one.destination) == (other.begins, other.destination, other.source)
        assert {one.host, other.host} == set(plan.HOSTS)


def test_steady_flows_keep_their_pairs_to_themselves() -> None:
    def ends(flow: Flow) -> frozenset[object]:
        return frozenset({flow.source, flow.destination})

    steady = {ends(flow) for flow in plan.steady(500, DAY)}
    assert len(steady) == 4
    assert steady.isdisjoint(map(ends, plan.visits(500, DAY, Random(1))))
    assert {flow.host for flow in plan.steady(500, DAY)} == set(plan.HOSTS)


def test_a_pair_of_hosts_uses_the_same_addresses_whoever_begins() -> None:
    for flow in plan.visits(500, DAY, Random(1)):
        if flow.kind in (Kind.KEYED, Kind.CROSSED):
            near, far = (flow.source, flow.destination)[:: 1 if flow.host == plan.ALICE else -1]
            assert near == plan.partner(far)


def test_the_zones_can_be_loaded_and_name_every_key() -> None:
    for name, text in plan.zones(500, KEYS).items():
        zone = dns.zone.from_text(text, origin=name, relativize=False)
        keys = sum(len(rdatas) for _, rdatas in zone.iterate_rdatasets("IPSECKEY"))
        # The gateway that others delegate to stands there like the others: once.
        assert keys == (2 if name == plan.ALICE_ZONE else 500 + len(plan.SILENT))


def test_what_is_unpublished_is_not_in_its_zone() -> None:
    address = plan.published(8)[5]
    whole, without = (plan.zones(8, KEYS, missing)[plan.BOB_ZONE] for missing in ((), (address,)))
    gone = set(whole.splitlines()) - set(without.splitlines())
    assert [line.split()[0] for line in gone] == [f"{address.reverse_pointer}."]


def test_every_destination_is_in_a_group() -> None:
    for host in plan.HOSTS:
        nets = [ip_network(net) for group in plan.POLICIES[host].values() for net in group]
        for flow in (*plan.steady(500, DAY), *plan.visits(500, DAY, Random(1))):
            if flow.host == host:
                assert sum(flow.destination in net for net in nets) == 1


# --- samples and verdict --------------------------------------------------------------------------------------------


def test_elements_of_sets_and_maps_count_and_nothing_else() -> None:
    table = {
        "nftables": [
            {"metainfo": {}},
            {"table": {"name": "oe"}},
            {"set": {"name": "a", "elem": ["192.0.2.1", {"elem": {"val": "192.0.2.2", "timeout": 5}}]}},
            {"set": {"name": "empty"}},
            {"map": {"name": "b", "elem": [["192.0.2.1", {"drop": None}]]}},
            {"rule": {"expr": []}},
        ]
    }
    assert elements(table) == 3


def test_a_day_that_ends_as_it_began_is_fine() -> None:
    assert list(faults(a_day(), Books())) == []


@pytest.mark.parametrize("what", ["sas", "policies", "elements", "pairs"])
def test_whatever_stays_is_told(what: str) -> None:
    left = changed(EMPTY, what, getattr(EMPTY, what) + 1)
    told = list(faults(a_day(after=left), Books()))
    assert len(told) == 2
    assert all(what in line for line in told)


@pytest.mark.parametrize(("what", "grown"), [("rss", 72_200), ("descriptors", 22)])
def test_whatever_grows_from_the_second_hour_on_is_told(what: str, grown: int) -> None:
    assert len(list(faults(a_day(last=changed(BUSY, what, grown)), Books()))) == 2
    assert list(faults(a_day(last=changed(BUSY, what, getattr(BUSY, what) + 1)), Books())) == []


@pytest.mark.parametrize(("sas", "faulty"), [(220, False), (221, True)])
def test_child_sas_that_pile_up_are_told(sas: int, faulty: bool) -> None:
    crowded = replace(BUSY, sas=sas)
    told = list(faults([*a_day()[:3], moment("traffic", crowded), *a_day()[4:]], Books()))
    assert told == (
        ["alice: 221 SAs for 100 protected pairs", "bob: 221 SAs for 100 protected pairs"] if faulty else []
    )


def test_losses_are_told_but_for_those_to_nobody() -> None:
    books = Books()
    books.sent[Kind.SILENT] = books.lost[Kind.SILENT] = 10
    assert list(faults(a_day(), books)) == []
    books.sent[Kind.STEADY], books.lost[Kind.STEADY], books.refused[Kind.STEADY] = 100, 1, 2
    assert list(faults(a_day(), books)) == ["3 of 100 datagrams of steady flows lost"]
    assert list(faults(a_day(), books, lossless=False)) == []


def test_answers_of_nobody_are_told() -> None:
    books = Books()
    books.answered[Kind.SILENT] = 1
    assert list(faults(a_day(), books)) == ["1 answers from addresses that nobody has"]


def test_complaints_of_a_daemon_are_told() -> None:
    lines = [{"level": "error", "event": "no-spi", "error": "why"}, {"level": "warning", "event": "pair-downgraded"}]
    assert list(complaints({plan.ALICE: lines[1:], plan.BOB: lines})) == ["bob complains: no-spi why"]
