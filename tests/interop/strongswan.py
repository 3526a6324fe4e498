"""strongSwan's charon, configured through swanctl, with raw public keys at both ends."""

import re
from base64 import b64encode
from socket import AF_UNIX, socket

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from oe.ike.publickeys import load as load_public_key
from oe.keystore import generate, load
from oe.model import PublicKey
from tests.interop.places import directory
from tests.interop.rival import Rival

_DAEMON = """
charon-systemd {
  load_modular = yes
  plugins {
    include strongswan.d/charon/*.conf
  }
  filelog {
    charon {
      path = /run/charon.log
      time_format = %%T
      flush_line = yes
      default = 1
      ike = 2
      enc = 1
      cfg = 2
    }
  }
  %(settings)s
}
"""
_CONNECTION = """
connections {
  peer {
    version = 2
    local_addrs = %(own)s
    remote_addrs = %(peer)s
    %(settings)s
    local {
      auth = pubkey
      pubkeys = own.pem
      id = %(own)s
    }
    remote {
      auth = pubkey
      pubkeys = peer.pem
      id = %(peer)s
    }
    children {
      pair {
        local_ts = %(own)s
        remote_ts = %(peer)s
        start_action = trap
        %(child)s
      }
    }
  }
}
"""


class StrongSwan(Rival):
    log = "run/charon.log"

    def make_key(self) -> PublicKey:
        assert self.case.key is not None
        keys = directory(self.host) / "keys"
        pem = generate(keys, self.case.key).read_bytes()
        private = load_pem_private_key(pem, None)
        self.write("etc/swanctl/private/own.pem", pem.decode())
        public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.write("etc/swanctl/pubkey/own.pem", public.decode())
        return load(keys).public_keys[0]

    def prepare(self, peer: PublicKey, anchors: tuple[str, ...]) -> None:
        self.write("etc/swanctl/pubkey/peer.pem", _pem(peer))
        values = {"own": str(self.case.address), "peer": str(self.case.own_address)}
        values |= {"settings": "\n".join(self.case.settings), "child": "\n".join(self.case.child_settings)}
        self.write("etc/swanctl/swanctl.conf", _CONNECTION % values)
        self.write("etc/strongswan.conf", _DAEMON % {"settings": "\n".join(self.case.daemon_settings)})

    def command(self) -> tuple[str, ...]:
        return ("/usr/sbin/charon-systemd",)

    def is_ready(self) -> bool:
        """It listens: its socket is there a moment before."""
        with socket(AF_UNIX) as client:
            return client.connect_ex(str(self.root / "run/charon.vici")) == 0

    def configure(self) -> None:
        self.ask("swanctl", "--load-all", "--noprompt")

    def crash(self) -> None:
        super().crash()
        (self.root / "run/charon.vici").unlink(missing_ok=True)

    def version(self) -> str:
        return self.ask("swanctl", "--version").split("strongSwan")[-1].strip()

    def ike_sas(self) -> frozenset[str]:
        listed = self.ask("swanctl", "--list-sas", "--raw")
        states = re.findall(r"state=(\w+) local-host.*? initiator-spi=(\w+)", listed)
        return frozenset(spi for state, spi in states if state == "ESTABLISHED")

    def rekey_child(self) -> None:
        self.ask("swanctl", "--rekey", "--child", "pair")

    def rekey_ike(self) -> None:
        self.ask("swanctl", "--rekey", "--ike", "peer")

    def delete(self) -> None:
        self.ask("swanctl", "--terminate", "--ike", "peer")


def _pem(key: PublicKey) -> str:
    der = load_public_key(key).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    text = b64encode(der).decode()
    lines = [text[cut : cut + 64] for cut in range(0, len(text), 64)]
    return "\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""])
