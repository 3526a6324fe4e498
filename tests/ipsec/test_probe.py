"""What this machine can run, and what is said when it can run nothing."""

from contextlib import closing

import pytest

from oe.errors import MachineLacks
from oe.ipsec import probe as probing
from oe.ipsec import xfrm_wire as wire
from oe.ipsec.model import BackendName
from oe.ipsec.netlink import NETLINK_XFRM, Netlink
from oe.ipsec.operations import KernelSa, SaKey
from oe.ipsec.probe import create, probe
from oe.ipsec.userspace import UserspaceBackend
from oe.ipsec.xfrm import XfrmBackend
from oe.ipsec.xfrm_wire import encode_sa, encode_sa_id
from oe.model import Mode
from tests.ipsec.netns import Namespace
from tests.ipsec.standing import StandingLoop, counted, ignore

pytestmark = pytest.mark.netns


def test_the_probe_tells_why_and_leaves_nothing(host: Namespace) -> None:
    with host.entered():
        found = probe()
    assert ("no ESP" in found.why) == (found.backend is BackendName.USERSPACE)
    assert host.sh("ip xfrm state") == ""
    assert "oe-probe" not in host.sh("ip link")


def test_without_esp_the_userspace_back_end_is_chosen(host: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "_try_xfrm", lambda: "none")
    with host.entered():
        assert probe().backend is BackendName.USERSPACE


def test_what_is_missing_is_named(host: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "_try_xfrm", lambda: "none")
    monkeypatch.setattr("oe.ipsec.tun._DEVICE", "/dev/net/nothing")
    with host.entered(), pytest.raises(MachineLacks, match="and /dev/net/nothing cannot be opened"):
        probe()


@pytest.mark.parametrize(
    ("name", "kind", "modes"),
    [
        (BackendName.XFRM, XfrmBackend, frozenset(Mode)),
        (BackendName.USERSPACE, UserspaceBackend, frozenset({Mode.TUNNEL})),
    ],
)
def test_back_ends_are_made_by_name(
    host: Namespace, name: BackendName, kind: type[object], modes: frozenset[Mode], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "_try_xfrm", lambda: None)
    with host.entered():
        backend = create(name)
        assert isinstance(backend, kind)
        assert (backend.name, backend.modes) == (name, modes)
        loop = StandingLoop()
        backend.start(loop, ignore)
        with closing(backend):
            assert counted(backend, loop) == ()


def test_a_back_end_that_is_asked_for_and_cannot_be_had_is_refused_at_once(
    host: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "_try_xfrm", lambda: "none")
    with host.entered(), pytest.raises(MachineLacks, match=r"no ESP in the kernel \(none\)"):
        create(BackendName.XFRM)


@pytest.mark.kernel
def test_both_families_are_tried_so_that_the_first_sa_finds_everything_loaded(
    host: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def watched(sa: KernelSa) -> bytes:
        tried.append(sa.source.version)
        return encode_sa(sa)

    monkeypatch.setattr("oe.ipsec.xfrm_wire.encode_sa", watched)
    with host.entered():
        create(BackendName.XFRM).close()
    assert tried == [4, 6]


@pytest.mark.kernel
def test_another_one_that_tries_at_the_same_time_does_not_matter(
    host: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its SA is there before ours, or ours is taken away by it, which looks as if it had expired meanwhile."""
    with host.entered(), closing(Netlink(NETLINK_XFRM)) as other:

        def overtaken(sa: KernelSa) -> bytes:
            other.request(wire.NEWSA, encode_sa(sa), "add", "SA")
            return encode_sa(sa)

        def preempted(key: SaKey) -> bytes:
            other.request(wire.DELSA, encode_sa_id(key), "remove", "SA")
            return encode_sa_id(key)

        with monkeypatch.context() as patch:
            patch.setattr("oe.ipsec.xfrm_wire.encode_sa", overtaken)
            assert probe().backend is BackendName.XFRM
        monkeypatch.setattr("oe.ipsec.xfrm_wire.encode_sa_id", preempted)
        assert probe().backend is BackendName.XFRM
    assert host.sh("ip xfrm state") == ""
