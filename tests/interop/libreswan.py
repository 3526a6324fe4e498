"""Libreswan's pluto with an opportunistic group, as its documentation sets them up."""

import re
from base64 import b64decode
from ipaddress import ip_network
from pathlib import Path

from oe.model import KeyAlgorithm, PublicKey
from tests.interop.plan import Case
from tests.interop.rival import Rival

_GROUP = "oe"
"""What it does in its groups follows from their settings; names are free."""
_PROGRAMS = "/usr/libexec/ipsec"
_SHUNT_LIFETIME = 3
"""Seconds. As an initiator pluto looks a key up while it negotiates, and does not wait for it when the other end's
proof is there. The resolver beside it has the key, but validation takes some questions, and the processor is busy:
where the proof came first, pluto has given up and lets packets go in clear. It tries again when that has ended, by
default after 15 minutes, and when the kernel asks for an SA again: that is 30 s after it asked in vain."""
_SETUP = f"""
config setup
  shuntlifetime={_SHUNT_LIFETIME}s
  logfile=/run/pluto.log
  dnssec-enable=yes
  dnssec-anchors=/etc/ipsec.d/anchors
"""


class Libreswan(Rival):
    log = "run/pluto.log"

    def __init__(self, case: Case, base: Path) -> None:
        super().__init__(case, base)
        self._ckaid = ""

    def make_key(self) -> PublicKey | None:
        self.ask("ipsec", "initnss")
        if self.case.key is None:
            return None
        bits = self.case.key.removeprefix("rsa")
        self.ask("ipsec", "newhostkey", "--bits", bits)
        listed = self.ask("ipsec", "showhostkey", "--list")
        (self._ckaid,) = re.findall(r"ckaid: (\w+)", listed)
        record = self.ask("ipsec", "showhostkey", "--ipseckey", "--ckaid", self._ckaid)
        ((algorithm, key),) = re.findall(r"IPSECKEY\s+10 0 (\d) \. (\S+)", record)
        return PublicKey(KeyAlgorithm(int(algorithm)), b64decode(key))

    def prepare(self, peer: PublicKey, anchors: tuple[str, ...]) -> None:
        lines = (
            f"left={self.case.address}",
            *([f"leftckaid={self._ckaid}"] if self._ckaid else []),
            "right=%opportunisticgroup",
            "auto=ondemand",
            "leftupdown=%disabled",  # pluto waits for its script, and a slow machine makes that seconds
            *self.case.settings,
        )
        self.write("etc/ipsec.conf", _SETUP + f"conn {_GROUP}\n" + "".join(f"  {line}\n" for line in lines))
        self.write("etc/ipsec.secrets", "")
        self.write(f"etc/ipsec.d/policies/{_GROUP}", f"{self._group_line}\n")
        self.write("etc/ipsec.d/anchors", "".join(f"{anchor}\n" for anchor in anchors))
        self.write("etc/resolv.conf", "nameserver 127.0.0.1\n")
        (self.root / "run/pluto").mkdir(exist_ok=True)

    @property
    def _group_line(self) -> str:
        return str(ip_network(self.case.own_address))

    def command(self) -> tuple[str, ...]:
        return (f"{_PROGRAMS}/pluto", "--config", "/etc/ipsec.conf", "--nofork")

    def is_ready(self) -> bool:
        """Connections are loaded by a helper, and what that was told is the last that is logged."""
        log = self.root / self.log
        return log.exists() and "addconn: loading group" in log.read_text(errors="replace")

    def configure(self) -> None:
        """Read from its files."""

    def version(self) -> str:
        return self.ask("ipsec", "--version").split("\n")[0].split()[-1]

    def ike_sas(self) -> frozenset[str]:
        listed = self.ask(f"{_PROGRAMS}/whack", "--showstates")
        return frozenset(re.findall(r"^#(\d+): .*established IKE SA", listed, re.MULTILINE))

    def _whack(self, verb: str) -> None:
        self.ask(f"{_PROGRAMS}/whack", verb, "--asynchronous", "--name", f"{_GROUP}#{self._group_line}")

    def rekey_child(self) -> None:
        self._whack("--rekey-child")

    def rekey_ike(self) -> None:
        self._whack("--rekey-ike")

    def delete(self) -> None:
        self._whack("--terminate")
