"""Back after a crash: tokens of quick crash detection (RFC 6290) and INITIAL_CONTACT (RFC 7296 2.4).

Each end gives the other, encrypted, a token that it can compute again from the IKE SA's SPIs and a secret that survives
it. Asked later, in a request that it cannot read, it shows the token in clear, with its INVALID_IKE_SPI:

    peer                                       we, after a crash
    HDR, SK{liveness check}             ──▶
                                        ◀──    HDR, N(INVALID_IKE_SPI), N(QUICK_CRASH_DETECTION, token)
    the token is ours: the IKE SA and its Child SAs are gone

It is the one thing said in clear that ends an IKE SA, because nobody else can say it. So a token of an IKE SA that
stands must never be shown, to whoever asks and however (RFC 6290 9.2).
"""

import hmac
from collections.abc import Sequence
from hashlib import sha256

from oe.ike.channel import drop
from oe.ike.context import Context
from oe.ike.message import Message
from oe.ike.payloads import NotifyPayload, Payload, find_notify
from oe.ike.registry import NotifyType, ProtocolId
from oe.ike.sa import IkeSa, Role
from oe.model import Identity, IdentityKind, Secret
from oe.reasons import Reason

LEAST_OCTETS, MOST_OCTETS = 16, 128
"""Of a token (RFC 6290 5)."""
MOST_TOKENS = 4
"""In one answer: a peer may have changed its secret meanwhile (RFC 6290 4.5)."""


# --- tokens ----------------------------------------------------------------------------------------------------


def token(secret: Secret, initiator_spi: int, responder_spi: int) -> NotifyPayload:
    """Our token for the IKE SA with these SPIs, the same in every life of ours that has the same `secret`."""
    spis = initiator_spi.to_bytes(8, "big") + responder_spi.to_bytes(8, "big")
    digest = hmac.digest(secret.octets, spis, sha256)
    return NotifyPayload(NotifyType.QUICK_CRASH_DETECTION, digest, ProtocolId.IKE)


def own_token(ctx: Context, sa: IkeSa) -> tuple[Payload, ...]:
    """For a protected message of `sa`: our token, if we can make one."""
    if ctx.crash_secret is None:
        return ()
    spis = (sa.local_spi, sa.remote_spi) if sa.role is Role.INITIATOR else (sa.remote_spi, sa.local_spi)
    return (token(ctx.crash_secret, *spis),)


def keep_token(sa: IkeSa, payloads: Sequence[Payload]) -> None:
    """Keep the peer's token from a protected message of it, if there is one; a later one replaces it (RFC 6290 4.4)."""
    found = find_notify(payloads, NotifyType.QUICK_CRASH_DETECTION)
    if found is not None and LEAST_OCTETS <= len(found.data) <= MOST_OCTETS:
        sa.crash_token = Secret(found.data)


def token_of_the_lost(ctx: Context, message: Message) -> tuple[Payload, ...]:
    """What shows the sender of a request under an IKE SA we do not know that we have lost it; perhaps nothing.

    Only what is protected is answered so, and only if neither SPI names an IKE SA of ours: with the sender's flag
    turned round a request for one that stands looks as if it were for none. The successor that we asked for counts as
    one: the peer has it as soon as it answers us.
    """
    spis = (message.header.initiator_spi, message.header.responder_spi)
    if ctx.crash_secret is None or message.sealed is None:
        return ()
    if any(spi in ctx.sas for spi in spis) or any(sa.promised in spis for sa in ctx.sas.values()):
        return ()
    return (token(ctx.crash_secret, *spis),)


def hear_in_clear(ctx: Context, sa: IkeSa, message: Message) -> None:
    """A response under `sa` that nobody sealed. It changes nothing, unless it shows the peer's token.

    Comparing tokens costs less than counting who sends them: there is no rate bound on it.
    """
    shown = [
        payload.data
        for payload in message.payloads
        if isinstance(payload, NotifyPayload) and payload.notify == NotifyType.QUICK_CRASH_DETECTION
    ][:MOST_TOKENS]
    kept = sa.crash_token
    if kept is not None and any(hmac.compare_digest(data, kept.octets) for data in shown):
        drop(ctx, sa, Reason.PEER_RESTARTED)
        return
    reason = Reason.INVALID_CRASH_TOKEN if shown else Reason.UNAUTHENTICATED_NOTIFY
    ctx.reject(reason, sa.remote.address, f"{message.header.exchange.name} response in clear")


# --- INITIAL_CONTACT -------------------------------------------------------------------------------------------


def initial_contact(ctx: Context, sa: IkeSa, own: Identity, peer: Identity) -> tuple[Payload, ...]:
    """For our IKE_AUTH message: INITIAL_CONTACT, if `sa` is our only IKE SA between these two identities.

    Those that we only began do not count: of several that begin together, as after a restart, the first to come so
    far says it. Who is nobody in particular cannot say it, nor be told (RFC 7619 2.3).
    """
    if IdentityKind.NULL in (own.kind, peer.kind):
        return ()
    others = ctx.with_identities(sa.local.address, peer)
    if all(other is sa or other.is_only_begun for other in others):
        return (NotifyPayload(NotifyType.INITIAL_CONTACT),)
    return ()


def hear_initial_contact(ctx: Context, sa: IkeSa, payloads: Sequence[Payload]) -> None:
    """The peer of `sa`, whose IKE_AUTH message this was and who has proved its identity, knows of no other IKE SA.

    Only a signature gives that right: NULL authentication proves nobody to be the same as before (RFC 7619 2.3). Under
    a name it takes the same key: an address has its keys at itself, but who publishes a gateway of some name with a key
    of his own is not everybody of that name. An IKE SA that was established only after `sa` began is younger than the
    peer's memory loss: it crossed ours.
    """
    if find_notify(payloads, NotifyType.INITIAL_CONTACT) is None or sa.peer_key is None or sa.peer_identity is None:
        return
    for other in ctx.with_identities(sa.local.address, sa.peer_identity):
        is_older = other is not sa and other.established is not None and other.established < sa.created
        if is_older and (sa.peer_identity.address is not None or other.peer_key == sa.peer_key):
            drop(ctx, other, Reason.REPLACED_BY_PEER)
