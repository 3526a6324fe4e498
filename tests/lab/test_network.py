"""Links and routes as `ip` is told them."""

from oe.lab.network import gateway_batch, host_batch, router_batch
from oe.lab.plan import CLIENT, CLIENTS, GATE, HOST, HOSTS, ROUTER


def test_the_router_has_a_link_and_routes_to_every_host_but_the_clients() -> None:
    commands = router_batch()
    for host in HOSTS:
        linked = f"link add {host.link} type veth peer name eth0 netns {host.name}" in commands
        assert linked == (host.behind is None)
        for address in host.addresses:
            assert (f"route add {address} dev {host.link}" in commands) == linked


def test_the_clients_net_is_routed_through_the_gate() -> None:
    assert f"route add {CLIENTS} via {GATE} dev to-gate onlink" in router_batch()
    assert f"route add {CLIENT} dev clients" in gateway_batch(HOST["gate"])
    assert any(line.startswith(f"route add default via {GATE} ") for line in host_batch(HOST["client"]))


def test_hosts_leave_through_the_router_with_their_first_address() -> None:
    alice = HOST["alice"]
    assert f"route add default via {ROUTER} dev eth0 onlink src {alice.addresses[0]}" in host_batch(alice)


def test_v6_addresses_are_usable_at_once() -> None:
    for host in HOSTS:
        for command in host_batch(host):
            assert not command.startswith("address add 2001:") or command.endswith(" nodad")


def test_a_host_without_v6_gets_no_v6_route() -> None:
    assert not any("::/0" in command for command in host_batch(HOST["dave"]))


def test_links_make_no_addresses_of_their_own() -> None:
    commands = router_batch()
    for host in HOSTS:
        if host.behind is None:
            before = commands.index(f"link set {host.link} addrgenmode none")
            assert before < commands.index(f"link set {host.link} up")
