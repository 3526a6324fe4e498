"""A real name server (nsd) behind a real validating resolver (unbound), as own processes on loopback high ports."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import dns.dnssec
import dns.dnssectypes
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rdatatype
import dns.rrset
import dns.zone
from cryptography.hazmat.primitives.asymmetric import ec

from oe.model import SocketAddress
from tests.ports import free_ports

MISSING = [tool for tool in ("nsd", "unbound") if shutil.which(tool, path="/usr/sbin:/usr/bin:/sbin:/bin") is None]

HEAD = """$TTL 300
@ IN SOA ns.example. admin.example. 1 3600 600 86400 120
@ IN NS ns.example.
"""


@dataclass(frozen=True)
class Zone:
    """`lines` come after SOA and NS. `signed` adds a trust anchor too; `bogus` spoils every signature afterwards."""

    name: str
    lines: str
    signed: bool = False
    bogus: bool = False


@contextmanager
def running(directory: Path, zones: list[Zone]) -> Iterator[SocketAddress]:
    """Serve `zones`; yields the address of the validating resolver."""
    authority, resolver = free_ports(2)
    anchors = [anchor for zone in zones for anchor in _write(directory, zone)]
    (directory / "anchors").write_text("\n".join(anchors) + "\n")
    (directory / "nsd.conf").write_text(_nsd_conf(directory, zones, authority))
    (directory / "unbound.conf").write_text(_unbound_conf(directory, zones, authority, resolver))
    with ExitStack() as stack:
        stack.enter_context(_process(directory, "nsd", "-d", "-c", str(directory / "nsd.conf")))
        _await_answer(directory, zones[0].name, authority)
        stack.enter_context(_process(directory, "unbound", "-d", "-c", str(directory / "unbound.conf")))
        _await_answer(directory, zones[0].name, resolver)
        yield SocketAddress(IPv4Address("127.0.0.1"), resolver)


def _write(directory: Path, zone: Zone) -> list[str]:
    """Write the zone file; returns the trust anchors that validate it."""
    content = dns.zone.from_text(HEAD + zone.lines, origin=zone.name, relativize=False)
    anchors = []
    if zone.signed or zone.bogus:
        private = ec.generate_private_key(ec.SECP256R1())
        public = dns.dnssec.make_dnskey(private.public_key(), dns.dnssectypes.Algorithm.ECDSAP256SHA256, flags=257)
        dns.dnssec.sign_zone(content, keys=[(private, public)], lifetime=86_400)
        anchors.append(f"{zone.name} IN DNSKEY {public.to_text()}")
    if zone.bogus:
        _spoil(content)
    content.to_file(str(directory / f"{zone.name}zone"), relativize=False)
    return anchors


def _spoil(content: dns.zone.Zone) -> None:
    """Change what was signed, below the apex: the signatures do not fit any more."""
    for name, node in content.nodes.items():
        for rdataset in node.rdatasets if name != content.origin else ():
            if rdataset.rdtype == dns.rdatatype.IPSECKEY:
                changed = [rdata.replace(precedence=rdata.precedence ^ 1) for rdata in rdataset]
                rdataset.clear()
                for rdata in changed:
                    rdataset.add(rdata)


def _nsd_conf(directory: Path, zones: list[Zone], port: int) -> str:
    lines = [
        "server:",
        f"  ip-address: 127.0.0.1@{port}",
        f'  zonesdir: "{directory}"\n  logfile: "{directory}/nsd.log"\n  pidfile: "{directory}/nsd.pid"',
        f'  database: ""\n  xfrdfile: "{directory}/xfrd"\n  zonelistfile: "{directory}/zonelist"',
        '  username: ""\n  chroot: ""\n  server-count: 1\n  xfrdir: "' + str(directory) + '"',
        "remote-control:\n  control-enable: no",
    ]
    lines += [f'zone:\n  name: "{zone.name}"\n  zonefile: "{zone.name}zone"' for zone in zones]
    return "\n".join(lines) + "\n"


def _unbound_conf(directory: Path, zones: list[Zone], authority: int, port: int) -> str:
    lines = [
        "server:",
        f"  interface: 127.0.0.1\n  port: {port}\n  do-ip6: no\n  num-threads: 1",
        f'  directory: "{directory}"\n  logfile: "{directory}/unbound.log"\n  pidfile: "{directory}/unbound.pid"',
        '  username: ""\n  chroot: ""\n  use-syslog: no\n  do-daemonize: no\n  do-not-query-localhost: no',
        f'  trust-anchor-file: "{directory}/anchors"\n  module-config: "validator iterator"',
    ]
    lines += [f'  local-zone: "{zone.name}" nodefault' for zone in zones]
    lines += ["remote-control:\n  control-enable: no"]
    lines += [f'stub-zone:\n  name: "{zone.name}"\n  stub-addr: 127.0.0.1@{authority}' for zone in zones]
    return "\n".join(lines) + "\n"


@contextmanager
def _process(directory: Path, name: str, *arguments: str) -> Iterator[None]:
    program = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") or name
    with (directory / f"{name}.out").open("wb") as output:
        process = subprocess.Popen([program, *arguments], stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await_answer(directory: Path, zone: str, port: int) -> None:
    """Poll until the server answers for the zone's SOA."""
    query = dns.message.make_query(zone, "SOA", flags=dns.flags.RD)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            if dns.query.udp(query, "127.0.0.1", port=port, timeout=0.2).answer:
                return
        except (dns.exception.DNSException, OSError):
            time.sleep(0.02)
    logs = "\n".join(path.read_text() for path in sorted(directory.glob("*.out")) + sorted(directory.glob("*.log")))
    raise RuntimeError(f"no answer for {zone} on port {port}:\n{logs}")
