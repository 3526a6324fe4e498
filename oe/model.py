"""The values every room of the house speaks about: host pairs, policy groups, keys, answers, SAs.

All are frozen. Times are seconds of the daemon's monotonic clock. Ports are 0-65535, addresses `ipaddress` values.
"""

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from oe.reasons import Reason

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


# --- traffic ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class HostPair:
    """The unit of every decision: `source` is ours or a client's that we serve, `destination` is the other side's.

    Both are of one family. Inbound traffic of the pair flows from `destination` to `source`.
    """

    source: Address
    destination: Address

    @property
    def reversed(self) -> "HostPair":
        """The same two hosts as the other side names them."""
        return HostPair(self.destination, self.source)

    def __str__(self) -> str:
        return f"{self.source} → {self.destination}"


@dataclass(frozen=True, slots=True)
class SocketAddress:
    """An address and a UDP port: one end of a datagram."""

    address: Address
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class HeldPacket:
    """What is known of one packet that waits in a netfilter queue for its verdict.

    Only peeked at: `protocol` is the IP protocol after extension headers; ports are 0 where the protocol has none
    or the packet is a later fragment. `size` is the IP length in octets, `mark` the packet's mark on arrival.
    """

    id: int
    """Unique in this daemon's life; the queue finds the kernel's packet by it."""
    pair: HostPair
    protocol: int
    source_port: int
    destination_port: int
    size: int
    mark: int
    forwarded: bool
    """Trapped in PREROUTING on its way from a client, not in OUTPUT."""


@dataclass(frozen=True, slots=True)
class Interval:
    """All addresses from `first` to `last`, both included, and the policy group that holds for them."""

    first: Address
    last: Address
    group: "Group"


MARK_EXEMPT = 0x10000
"""Packet mark bit: never trapped again. Our own sockets (IKE, ESP, DNS) set it, and so does every release."""
MARK_SHIELD_CLOSED = 0x20000
"""Packet mark bit: belongs into the userspace tunnel; without a tunnel it must not leave (`private`)."""
MARK_SHIELD_OPEN = 0x40000
"""Packet mark bit: belongs into the userspace tunnel; without a tunnel it may leave in clear."""
MARK_JUDGED = 0x80000
"""Packet mark bit: of ours or of a client's, to a closed net. It lives from before source address translation, which
hides whose packet it is, until after the floor has looked; nobody outside sees it."""


# --- policy ----------------------------------------------------------------------------------------------------


class Group(StrEnum):
    """FreeS/WAN's five policy groups; the value is the file's name."""

    PRIVATE = "private"
    PRIVATE_OR_CLEAR = "private-or-clear"
    CLEAR_OR_PRIVATE = "clear-or-private"
    CLEAR = "clear"
    BLOCK = "block"


class PairState(StrEnum):
    """What happens to the packets of a host pair now."""

    HELD = "held"
    NEGOTIATING = "negotiating"
    PROTECTED = "protected"
    CLEAR = "clear"
    BLOCKED = "blocked"


class Verdict(StrEnum):
    """A decision as the kernel executes it for every further packet of a pair."""

    PROTECTED = "protected"
    CLEAR = "clear"
    BLOCKED = "blocked"


# --- keys ------------------------------------------------------------------------------------------------------


class KeyAlgorithm(IntEnum):
    """IPSECKEY algorithm numbers (IANA, RFC 4025 2.4, RFC 9373)."""

    RSA = 2
    ECDSA = 3
    EDDSA = 4


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A peer's or our own public key, in the octets the IPSECKEY record carries.

    RSA: RFC 3110 (exponent length, exponent, modulus). ECDSA: RFC 6605 x || y. EdDSA: RFC 8080 raw key.
    """

    algorithm: KeyAlgorithm
    data: bytes

    @property
    def fingerprint(self) -> str:
        """First 16 hex digits of the SHA-256 of algorithm number and key; for people and logs."""
        return sha256(bytes([self.algorithm]) + self.data).hexdigest()[:16]

    def __repr__(self) -> str:
        return f"PublicKey({self.algorithm.name}, {self.fingerprint})"


class SignatureScheme(StrEnum):
    """Signatures of RFC 7427 (method 14) and RFC 8420. PKCS#1 v1.5 is verified, never produced."""

    RSA_PSS_SHA256 = "rsa-pss-sha256"
    RSA_PSS_SHA384 = "rsa-pss-sha384"
    RSA_PSS_SHA512 = "rsa-pss-sha512"
    RSA_PKCS1_SHA256 = "rsa-pkcs1-sha256"
    RSA_PKCS1_SHA384 = "rsa-pkcs1-sha384"
    RSA_PKCS1_SHA512 = "rsa-pkcs1-sha512"
    ECDSA_SHA256 = "ecdsa-sha256"
    ECDSA_SHA384 = "ecdsa-sha384"
    ECDSA_SHA512 = "ecdsa-sha512"
    ED25519 = "ed25519"


class Grade(StrEnum):
    """How far a DNS answer may be believed (RFC 4033 5)."""

    SECURE = "secure"
    INSECURE = "insecure"
    BOGUS = "bogus"
    INDETERMINATE = "indeterminate"


class RecordKind(StrEnum):
    IPSECKEY = "IPSECKEY"
    TXT = "TXT"


@dataclass(frozen=True, slots=True)
class Delegation:
    """One usable record: who answers IKE for the owner, and with which key."""

    kind: RecordKind
    precedence: int
    """Lower is tried first; 8 bits in IPSECKEY, 16 in TXT."""
    gateway: Address | None
    """Address of the gateway; None when the record names none (`.`): the owner answers for itself."""
    gateway_name: str | None
    """Name of the gateway (IPSECKEY gateway type 3, TXT `@name`), without trailing dot; then `gateway` is None."""
    key: PublicKey | None
    """None: the key stands at the gateway's own name."""


class LookupOutcome(StrEnum):
    """What a lookup found; RFC 4322 and the outcome taxonomy of docs/dns.md."""

    FOUND = "found"
    NO_KEY = "no-key"
    UNUSABLE = "unusable"
    BOGUS = "bogus"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class KeyAnswer:
    """The answer to "who answers for this address, and with what key?"."""

    owner: Address
    outcome: LookupOutcome
    grade: Grade
    reason: Reason | None
    """Why the outcome is not FOUND; None when it is."""
    delegations: tuple[Delegation, ...]
    """Usable records, best precedence first; empty unless FOUND."""
    expires: float
    """Until when the answer may be used, monotonic seconds (TTL, negative TTL, or failure back-off)."""
    detail: str = ""
    """One sentence for people: names asked, what was odd."""


class Anonymity(IntEnum):
    """Rank of an authentication; a lower rank never displaces a higher one."""

    ANONYMOUS = 0
    AUTHENTICATED = 1


class IdentityKind(IntEnum):
    """IKEv2 identification types that `oe` understands (RFC 7296 3.5, RFC 7619)."""

    IPV4_ADDR = 1
    FQDN = 2
    IPV6_ADDR = 5
    NULL = 13


@dataclass(frozen=True, slots=True)
class Identity:
    """An IKE identity: type and the octets of its data field."""

    kind: IdentityKind
    data: bytes

    @classmethod
    def of(cls, address: Address) -> "Identity":
        kind = IdentityKind.IPV4_ADDR if address.version == 4 else IdentityKind.IPV6_ADDR
        return cls(kind, address.packed)

    @property
    def address(self) -> Address | None:
        """The address it names, None for other kinds."""
        if self.kind == IdentityKind.IPV4_ADDR and len(self.data) == 4:
            return IPv4Address(self.data)
        if self.kind == IdentityKind.IPV6_ADDR and len(self.data) == 16:
            return IPv6Address(self.data)
        return None

    def __str__(self) -> str:
        if self.kind == IdentityKind.FQDN:
            return "@" + self.data.decode("ascii", "backslashreplace")
        return str(self.address) if self.address is not None else f"{self.kind.name}:{self.data.hex()}"


ID_NULL = Identity(IdentityKind.NULL, b"")
"""What an anonymous end says that it is: nothing (RFC 7619 2.2)."""


# --- SAs -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Secret:
    """Key octets; neither `repr` nor comparison in logs shows them."""

    octets: bytes = field(repr=False)

    def __repr__(self) -> str:
        return f"Secret({len(self.octets)} octets)"

    __str__ = __repr__


class Mode(StrEnum):
    TUNNEL = "tunnel"
    TRANSPORT = "transport"


class EspCipher(StrEnum):
    """ESP algorithms, all AEAD with a 16-octet ICV (RFC 4106)."""

    AES_GCM_16_128 = "aes-gcm-16-128"
    AES_GCM_16_256 = "aes-gcm-16-256"


@dataclass(frozen=True, slots=True)
class EspSa:
    """One direction of a Child SA. `key` is the AES key followed by the 4-octet salt (RFC 4106 8.1)."""

    spi: int
    cipher: EspCipher
    key: Secret


@dataclass(frozen=True, slots=True)
class Encapsulation:
    """ESP in UDP (RFC 3948): the ports of both ends."""

    local_port: int
    remote_port: int


class Directions(StrEnum):
    """Which half of a Child SA a command is about."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class ChildSa:
    """Both directions of an ESP SA pair for exactly one host pair."""

    id: int
    """Unique in this daemon's life; names the Child SA in commands and events. Also selects its kernel reqid."""
    pair: HostPair
    local: Address
    """Outer address of this gateway."""
    remote: Address
    """Outer address of the peer gateway."""
    inbound: EspSa
    outbound: EspSa
    esn: bool
    mode: Mode
    encapsulation: Encapsulation | None
    lifetime: float
    """Hard lifetime in seconds from installation."""
    fail_closed: bool
    """The pair's group is `private`: without this SA nothing may pass."""
    octets: int | None = None
    """Hard lifetime of each direction in octets of inner packets; None: no limit."""


@dataclass(frozen=True, slots=True)
class ChildCounters:
    """Traffic of one Child SA since its installation."""

    child: int
    inbound_packets: int
    inbound_octets: int
    outbound_packets: int
    outbound_octets: int


# --- what people ask for ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PairStatus:
    """One row of `oe status`: what is known of a host pair now."""

    pair: HostPair
    group: Group
    state: PairState
    reason: Reason
    detail: str
    since: float
    """When the state was entered, monotonic seconds."""
    expires: float | None
    """When it ends by itself, monotonic seconds."""
    peer: Address | None
    """The gateway that we negotiate with or are protected by."""
    key: PublicKey | None
    """The key that authenticated the peer, or is expected to."""
    key_source: RecordKind | None
    grade: Grade | None
    """DNSSEC grade of the answer behind the state; None while it is not known."""
    authentication: Anonymity | None
    """How the peer proved who it is; None without a tunnel."""
    child: ChildSa | None
    counters: ChildCounters | None
    """Of all Child SAs that the pair has had since it is protected."""
    held: int
    """Packets held now."""
    lost: int
    """Packets dropped while held, since the pair is known."""
