"""Responders in network namespaces of their own, charon and ours, and the initiators that talk to them. As root.

    network namespace of this process          one of each responder
    our engine as the initiators      ══veth══ charon, by chroot into what `packaging/rivals/build` made
                                      ══veth══ ours (bench.answerer)

RSA-2048, X25519, AES-GCM-256, HMAC-SHA-512, and SAs that come to no kernel: charon's go to its own user space
(kernel-libipsec), without policies and so without routes; ours go nowhere.
"""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from time import monotonic, sleep

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from bench.handshake import Pair, Phase, Side
from oe.errors import MachineLacks
from oe.ike.udp import IKE_PORT
from oe.messages import DatagramReceived, SendDatagram
from oe.model import SocketAddress
from oe.negotiation import CloseChild
from oe.reasons import Reason

_PATIENCE = 10.0
_IKE_PORT_OPEN = f":{IKE_PORT:04X} "
AT_ONCE = 8
"""Handshakes in flight, each from an address of its own."""

_STRONGSWAN_CONF = """
charon-systemd {
  rsa_pss = yes
  journal { default = -1 }
  load = random nonce openssl pem pkcs1 pkcs8 pubkey x509 kernel-libipsec kernel-netlink socket-default vici
  plugins { kernel-libipsec { raw_esp = yes } }
}
swanctl { load = random openssl pem pkcs1 pkcs8 pubkey x509 }
"""
"""Nothing is logged, and there is no plugin that a handshake does not need."""

_CONNECTION = """
connections {{ bench-{number} {{
  version = 2
  local_addrs = {own}
  remote_addrs = {peer}
  proposals = aes256gcm16-prfsha512-x25519
  mobike = no
  unique = never
  local {{ auth = pubkey
    pubkeys = own.pem
    id = {own} }}
  remote {{ auth = pubkey
    pubkeys = peer.pem
    id = {peer} }}
  children {{ bench-{number} {{ local_ts = {own}/32
    remote_ts = {peer}/32
    esp_proposals = aes256gcm16
    policies = no }} }}
}} }}
"""


@dataclass(frozen=True, slots=True)
class Link:
    """A veth between the load generator and a responder's namespace."""

    number: int

    @property
    def responder(self) -> SocketAddress:
        return SocketAddress(IPv4Address(f"10.9.{self.number}.1"), IKE_PORT)

    @property
    def initiators(self) -> list[SocketAddress]:
        return [SocketAddress(self.responder.address + number, IKE_PORT) for number in range(1, AT_ONCE + 1)]


def sides(link: Link) -> tuple[Side, list[Side]]:
    """The responder, for its key and address, and its initiators, which share a key."""
    pair = Pair()
    pair.responder.address = link.responder
    initiators = [Side(address, pair.initiator.private, peer=pair.responder) for address in link.initiators]
    return pair.responder, initiators


@dataclass(slots=True)
class Responder:
    """A responder's process and the initiators that talk to it, with a socket each."""

    name: str
    process: subprocess.Popen[str]
    initiators: list[tuple[Side, socket.socket]]

    def cpu(self) -> float:
        """Microseconds that its threads have had so far."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(path.read_text().split()[0]) for path in tasks) / 1000

    def handshakes(self, now: float) -> None:
        """IKE_SA_INIT, IKE_AUTH and the delete, by all initiators at once. MachineLacks when it came to less."""
        requests = [side.feed(side.negotiate(), now, Phase.IKE_SA_INIT) for side, _ in self.initiators]
        for phase in (Phase.IKE_SA_INIT, Phase.IKE_AUTH):
            requests = self._exchange(requests, now, phase)
        if any(requests) or any(len(side.children) != 1 for side, _ in self.initiators):
            raise MachineLacks(f"no Child SA with {self.name}", "its configuration does not fit ours")
        deletes = [
            side.feed(CloseChild(side.children.pop(), Reason.OPERATOR_FLUSH), now, Phase.DELETE)
            for side, _ in self.initiators
        ]
        self._exchange(deletes, now, Phase.DELETE)

    def _exchange(self, requests: list[list[SendDatagram]], now: float, phase: Phase) -> list[list[SendDatagram]]:
        for (_, sock), sent in zip(self.initiators, requests, strict=True):
            for request in sent:
                sock.sendto(request.data, (str(request.remote.address), request.remote.port))
        return [self._answered(side, sock, now, phase) for side, sock in self.initiators]

    def _answered(self, side: Side, sock: socket.socket, now: float, phase: Phase) -> list[SendDatagram]:
        assert side.peer is not None
        return side.feed(DatagramReceived(side.address, side.peer.address, sock.recv(65535)), now, phase)


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        raise MachineLacks(f"{' '.join(map(str, command))}: {done.stderr.strip()[-500:]}", "run as root")
    return done.stdout


@contextmanager
def _started(name: str, link: Link, initiators: Sequence[Side], command: Sequence[str]) -> Iterator[Responder]:
    """`command` in a network namespace of its own at the other end of `link`."""
    waiting = "unshare", "--net", "sh", "-c", 'read -r go; exec "$@"', "sh", *command
    process = subprocess.Popen(waiting, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        ours, its = Path("/proc/self/ns/net"), Path(f"/proc/{process.pid}/ns/net")
        _until(f"{name}: namespace", lambda: its.readlink() != ours.readlink())
        veth, inside = f"oe{link.number}", ("nsenter", "-t", str(process.pid), "-n", "ip")
        run("ip", "link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", str(process.pid))
        for ip, device, ends in ((("ip",), veth, link.initiators), (inside, "eth0", [link.responder])):
            for end in ends:
                run(*ip, "addr", "add", f"{end.address}/24", "dev", device)
            run(*ip, "link", "set", device, "up")
        with ExitStack() as stack:
            socks = [stack.enter_context(_socket(side.address)) for side in initiators]
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
            yield Responder(name, process, list(zip(initiators, socks, strict=True)))
    finally:
        process.terminate()
        process.wait()


def _socket(end: SocketAddress) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(_PATIENCE)
    sock.bind((str(end.address), end.port))
    return sock


def _until(what: str, is_so: Callable[[], bool]) -> None:
    deadline = monotonic() + _PATIENCE
    while not is_so():
        if monotonic() > deadline:
            raise MachineLacks(f"{what} did not come up", "its own output is above")
        sleep(0.02)


@contextmanager
def charon(base: Path, scratch: Path, link: Link) -> Iterator[Responder]:
    """charon as responder. `base`: what `packaging/rivals/build` made; nothing is written there."""
    (own, initiators), root = sides(link), scratch / "root"
    _furnish(base, scratch, own, initiators)
    with _started("charon", link, initiators, ("chroot", str(root), "/usr/sbin/charon-systemd")) as responder:
        _until("charon", (root / "run/charon.vici").is_socket)
        run("chroot", root, "swanctl", "--load-all")
        yield responder


def _furnish(base: Path, scratch: Path, own: Side, initiators: Sequence[Side]) -> None:
    """A root for charon: the rival's, with a layer for our files over it."""
    root = scratch / "root"
    for name in ("root", "upper", "work"):
        (scratch / name).mkdir()
    layers = f"lowerdir={base},upperdir={scratch / 'upper'},workdir={scratch / 'work'}"
    run("mount", "-t", "overlay", "-o", layers, "overlay", root)
    run("mount", "-t", "proc", "proc", root / "proc")
    run("mount", "-t", "tmpfs", "tmpfs", root / "run")
    run("mount", "--bind", "/dev", root / "dev")
    (root / "etc/strongswan.conf").write_text(_STRONGSWAN_CONF)
    swanctl = root / "etc/swanctl"
    (swanctl / "swanctl.conf").write_text(connections(own, initiators))
    (swanctl / "private/own.pem").write_bytes(_private_pem(own.private))
    for name, side in (("own", own), ("peer", initiators[0])):
        public = side.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (swanctl / f"pubkey/{name}.pem").write_bytes(public)


def connections(own: Side, initiators: Sequence[Side]) -> str:
    """charon's word for all of them: their key, and what they may have."""
    return "".join(
        _CONNECTION.format(number=number, own=own.address.address, peer=side.address.address)
        for number, side in enumerate(initiators)
    )


def _private_pem(key: RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@contextmanager
def ours(scratch: Path, link: Link) -> Iterator[Responder]:
    """Our responder: sockets, engine and key hand of the product (bench.answerer)."""
    (own, initiators), pem = sides(link), scratch / "own.pem"
    pem.write_bytes(_private_pem(own.private))
    peer = initiators[0].keys.public_keys[0].data.hex()
    command = sys.executable, "-m", "bench.answerer", str(pem), peer
    with _started("oe", link, initiators, command) as responder:
        _until("oe", lambda: _IKE_PORT_OPEN in Path(f"/proc/{responder.process.pid}/net/udp").read_text())
        yield responder
