"""The lab's DNS: zone templates of `zones/` filled with keys, signed, and spoiled where a host needs it."""

import re
from base64 import b64encode
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import dns.dnssec
import dns.name
import dns.rdata
import dns.rdatatype
import dns.zone
from cryptography.hazmat.primitives.asymmetric import ec
from dns.dnssectypes import Algorithm
from dns.rdtypes.ANY.RRSIG import RRSIG

from oe.errors import ConfigError
from oe.model import PublicKey

_PLACEHOLDER = re.compile(r"<(\w+)\.(\w+)>")
_CHARACTER_STRING = 250
"""Octets of a TXT character-string; RFC 1035 3.3 allows 255."""
_VALIDITY = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class PublishedKey:
    """What a zone template may say of a key: `<host.algorithm>`, `<host.key>`, `<host.strings>`."""

    algorithm: int
    key: str
    """Base64, without blanks."""

    @property
    def strings(self) -> str:
        """The key cut into quoted character-strings, as TXT wants it."""
        cuts = range(0, len(self.key), _CHARACTER_STRING)
        return " ".join(f'"{self.key[cut : cut + _CHARACTER_STRING]}"' for cut in cuts)

    @classmethod
    def of(cls, key: PublicKey) -> "PublishedKey":
        return cls(key.algorithm, b64encode(key.data).decode())


def fill(template: str, keys: Mapping[str, PublishedKey]) -> str:
    """A zone template with every `<host.field>` replaced. Raises ConfigError for a placeholder nobody knows."""

    def replace(match: re.Match[str]) -> str:
        host, field = match.groups()
        if host not in keys or field not in {"algorithm", "key", "strings"}:
            raise ConfigError(f"zone template: nothing is known for {match.group()}")
        return str(getattr(keys[host], field))

    return "\n".join(line if line.startswith(";") else _PLACEHOLDER.sub(replace, line) for line in template.split("\n"))


@dataclass(frozen=True, slots=True)
class SignedZone:
    """Text of a signed zone, and the DS record that a validating resolver takes as its trust anchor."""

    text: str
    trust_anchor: str


def sign(origin: str, text: str, now: datetime, spoiled: Collection[str] = ()) -> SignedZone:
    """Sign a zone with a new P-256 key, valid from an hour before `now`.

    The signatures over the names `spoiled` are made wrong afterwards.
    """
    zone = dns.zone.from_text(text, origin=origin, relativize=False)
    private = ec.generate_private_key(ec.SECP256R1())
    key = dns.dnssec.make_dnskey(private.public_key(), Algorithm.ECDSAP256SHA256, flags=257)
    with zone.writer() as transaction:
        dns.dnssec.sign_zone(
            zone,
            txn=transaction,
            keys=[(private, key)],
            inception=now - timedelta(hours=1),
            expiration=now + _VALIDITY,
            dnskey_ttl=60,
        )
    for owner in spoiled:
        _spoil(zone, dns.name.from_text(owner))
    anchor = dns.dnssec.make_ds(dns.name.from_text(origin), key, "SHA256")
    return SignedZone(zone.to_text(want_origin=True, want_comments=False), f"{origin}. IN DS {anchor.to_text()}")


def _spoil(zone: dns.zone.Zone, owner: dns.name.Name) -> None:
    """Flip a bit in every signature at `owner`; a name outside the zone has none."""
    if not owner.is_subdomain(zone.origin or dns.name.root) or owner not in zone.nodes:
        return
    for rdataset in zone.nodes[owner].rdatasets:
        if rdataset.rdtype == dns.rdatatype.RRSIG:
            wrong = [_with_wrong_signature(record) for record in rdataset if isinstance(record, RRSIG)]
            rdataset.clear()
            for record in wrong:
                rdataset.add(record)


def _with_wrong_signature(record: RRSIG) -> dns.rdata.Rdata:
    signature = record.signature[:-1] + bytes([record.signature[-1] ^ 1])
    return record.replace(signature=signature)
