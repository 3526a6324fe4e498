"""Which payloads a message may and must have (RFC 7296 appendix C), as a table; one function holds a message to it.

What the table does not name is skipped: known payloads that say nothing here (CERTREQ), and unknown ones unless they
are marked critical (RFC 7296 2.5).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from oe.ike.payloads import NotifyPayload, Payload, UnknownPayload
from oe.ike.registry import ExchangeType, NotifyType, PayloadType
from oe.reasons import Reason

MANY = 64


@dataclass(frozen=True, slots=True)
class Rule:
    """How often a payload type may stand in a message."""

    type: PayloadType
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Shape:
    """The payloads of one kind of message."""

    rules: tuple[Rule, ...]
    together: frozenset[PayloadType] = frozenset()
    """All of them or none."""


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong with a message, and what to tell its sender — if it may be told anything."""

    reason: Reason
    notify: NotifyType
    data: bytes
    """Notification data of `notify`."""
    text: str
    """For the log: payload and count."""


def _shape(*rules: Rule, together: frozenset[PayloadType] = frozenset()) -> Shape:
    return Shape((*rules, Rule(PayloadType.NOTIFY, 0, MANY), Rule(PayloadType.VENDOR, 0, MANY)), together)


def _one(*types: PayloadType) -> tuple[Rule, ...]:
    return tuple(Rule(type, 1, 1) for type in types)


def _maybe(*types: PayloadType) -> tuple[Rule, ...]:
    return tuple(Rule(type, 0, 1) for type in types)


_CHILD = frozenset({PayloadType.SA, PayloadType.TS_I, PayloadType.TS_R})

_INIT = _shape(*_one(PayloadType.SA, PayloadType.KE, PayloadType.NONCE))

SHAPES: dict[tuple[ExchangeType, bool, bool], Shape] = {
    # exchange, is a response, is protected
    (ExchangeType.IKE_SA_INIT, False, False): _INIT,
    (ExchangeType.IKE_SA_INIT, True, False): _INIT,
    (ExchangeType.IKE_INTERMEDIATE, False, True): _shape(*_one(PayloadType.KE)),
    (ExchangeType.IKE_INTERMEDIATE, True, True): _shape(*_one(PayloadType.KE)),
    # Without AUTH an initiator asks for EAP (2.16): legal, and to be refused as AUTHENTICATION_FAILED by the exchange.
    # Without SA and selectors it asks for no Child SA (RFC 6023).
    (ExchangeType.IKE_AUTH, False, True): _shape(
        *_one(PayloadType.ID_I),
        *_maybe(PayloadType.ID_R, PayloadType.AUTH, PayloadType.SA, PayloadType.TS_I, PayloadType.TS_R, PayloadType.CP),
        together=_CHILD,
    ),
    (ExchangeType.IKE_AUTH, True, True): _shape(
        *_one(PayloadType.ID_R, PayloadType.AUTH),
        *_maybe(PayloadType.SA, PayloadType.TS_I, PayloadType.TS_R, PayloadType.CP),
        together=_CHILD,
    ),
    # Selectors tell a Child SA from an IKE SA that is to be replaced (1.3.1, 1.3.2).
    (ExchangeType.CREATE_CHILD_SA, False, True): _shape(
        *_one(PayloadType.SA, PayloadType.NONCE),
        *_maybe(PayloadType.KE, PayloadType.TS_I, PayloadType.TS_R),
        together=frozenset({PayloadType.TS_I, PayloadType.TS_R}),
    ),
    (ExchangeType.CREATE_CHILD_SA, True, True): _shape(
        *_one(PayloadType.SA, PayloadType.NONCE),
        *_maybe(PayloadType.KE, PayloadType.TS_I, PayloadType.TS_R),
        together=frozenset({PayloadType.TS_I, PayloadType.TS_R}),
    ),
    (ExchangeType.IKE_FOLLOWUP_KE, False, True): _shape(*_one(PayloadType.KE)),
    (ExchangeType.IKE_FOLLOWUP_KE, True, True): _shape(*_one(PayloadType.KE)),
    (ExchangeType.INFORMATIONAL, False, True): _shape(Rule(PayloadType.DELETE, 0, MANY)),
    (ExchangeType.INFORMATIONAL, True, True): _shape(Rule(PayloadType.DELETE, 0, MANY)),
}
"""What each kind of message may have; a kind that is not listed is not for us.

Notifies that come in clear because there is no IKE SA to protect them (RFC 7296 1.5, 2.21.4) are not listed: they
prove nothing, whatever they hold.
"""

_KNOWN = frozenset(PayloadType)


def _refuses(exchange: ExchangeType, payloads: Sequence[Payload]) -> bool:
    """A response that refuses, or asks for another request, has that notify in place of what it should have."""
    return any(
        isinstance(payload, NotifyPayload)
        and (payload.notify.is_error or (payload.notify, exchange) == (NotifyType.COOKIE, ExchangeType.IKE_SA_INIT))
        for payload in payloads
    )


def _name(exchange: ExchangeType, is_response: bool) -> str:
    return f"{exchange.name} {'response' if is_response else 'request'}"


def _invalid(text: str) -> Violation:
    return Violation(Reason.INVALID_SYNTAX, NotifyType.INVALID_SYNTAX, b"", text)


def check(
    exchange: ExchangeType, is_response: bool, is_protected: bool, payloads: Sequence[Payload]
) -> Violation | None:
    """Hold the payloads of one message to the table; None: all is well.

    `is_protected`: the payloads come from inside the Encrypted payload. Check clear and protected ones apart.
    """
    for payload in payloads:
        if isinstance(payload, UnknownPayload) and payload.critical and payload.type not in _KNOWN:
            return Violation(
                Reason.UNSUPPORTED_CRITICAL_PAYLOAD,
                NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD,
                bytes((payload.type,)),
                f"critical payload of type {int(payload.type)}",
            )
    shape = SHAPES.get((exchange, is_response, is_protected))
    if shape is None:
        return _invalid(f"{_name(exchange, is_response)} {'protected' if is_protected else 'in clear'}")
    types = [payload.type for payload in payloads]
    is_refusal = is_response and _refuses(exchange, payloads)
    for rule in shape.rules:
        found = types.count(rule.type)
        if found > rule.most or (found < rule.least and not is_refusal):
            return _invalid(
                f"{_name(exchange, is_response)} with {found} {rule.type.name} payloads, "
                f"must be {rule.least} to {rule.most}"
            )
    if not shape.together <= set(types) and not shape.together.isdisjoint(types) and not is_refusal:
        some = ", ".join(sorted(type.name for type in shape.together))
        return _invalid(f"{_name(exchange, is_response)} with some but not all of {some}")
    return None
