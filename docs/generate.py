"""Writes the parts of the documents that are data in the code: `python docs/generate.py`.

A block stands between `<!-- generated: NAME -->` and `<!-- end -->`. What is between them is replaced; a test fails
when it is stale.
"""

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from functools import cache
from inspect import getsource
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path

from oe.dnskeys.answers import FAILURE_LIFETIME, NEGATIVE_CAP, POSITIVE_LIFETIME, UNUSABLE_LIFETIME
from oe.dnskeys.publish import zone_lines
from oe.ike.collisions import COLLISIONS
from oe.ike.payloads import SaPayload
from oe.ike.proposals import IKE_ADDITIONAL, describe, offer_esp, offer_ike
from oe.ike.registry import PayloadType
from oe.ike.rules import MANY, SHAPES, Rule, Shape
from oe.ike.settings import IkeSettings
from oe.ike.states import CHILD_STEPS, HEARD, STEPS, ChildState
from oe.model import Grade, Group, KeyAlgorithm, LookupOutcome, PairState, PublicKey
from oe.policy.flow import TRANSITIONS, mermaid
from oe.policy.outcome import (
    CAPS,
    FAILURES,
    Dnssec,
    Failure,
    GroupSettings,
    Unreachable,
    decide,
    may_use,
)
from oe.reasons import Reason

DOCUMENTS = Path(__file__).parent
_BLOCK = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

_EXAMPLE_KEY = PublicKey(
    KeyAlgorithm.EDDSA, bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
)
"""RFC 8032 7.1, test 1: short, and nobody's."""


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    lines = [tuple(head), *(tuple(row) for row in rows)]
    lines.insert(1, ("---",) * len(lines[0]))
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def diagram(text: str) -> str:
    return f"```mermaid\n{text}```\n"


def duration(seconds: float) -> str:
    """Seconds in the largest unit that divides them."""
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit and seconds % unit == 0:
            return f"{seconds / unit:g} {name}"
    return f"{seconds:g} s"


def code(words: Iterable[object]) -> str:
    return ", ".join(f"`{word}`" for word in words)


# --- policy --------------------------------------------------------------------------------------------------------

_PERMISSIVE = Group.PRIVATE_OR_CLEAR
_OF = {
    Failure.NO_RECORD: "no record",
    Failure.DNS_SILENT: "DNS is silent or fails",
    Failure.UNBELIEVABLE: "answer bogus, record malformed",
    Failure.RECORD_UNUSABLE: "records, none that may be used",
    Failure.PEER_SILENT: "key published, peer silent",
    Failure.PEER_REFUSED: "the authenticated peer refuses",
    Failure.SIGNATURE_WRONG: "the peer's signature is wrong",
    Failure.OWN_CREDENTIALS: "our own record or key is at fault",
    Failure.LOCAL_LIMIT: "a limit or accident of our own",
}


def pair_life() -> str:
    return diagram(mermaid())


def pair_changes() -> str:
    moves = ((state, event, move) for (state, event), move in TRANSITIONS.items() if move.to is not state)
    return table(
        ("from", "event", "to", "that is"),
        ((_state(state), f"`{event}`", _state(move.to), move.story) for state, event, move in moves),
    )


def _state(state: PairState | None) -> str:
    return "unknown" if state is None else f"`{state}`"


def _verdict(failure: Failure, group: Group, grade: Grade, settings: GroupSettings | None = None) -> str:
    """State and longest time, as `decide` gives them for a failure of that class."""
    reason = next((reason for reason, of in FAILURES.items() if of is failure), Reason.INSTALL_FAILED)
    outcome = decide(group, reason, grade, settings or GroupSettings(), authenticated=failure is Failure.PEER_REFUSED)
    return f"{outcome.state}, {duration(outcome.lifetime)}{' ⚠' if outcome.downgrade else ''}"


def failures() -> str:
    return table(
        ("class", "what failed", "`private-or-clear`, signed", "`private-or-clear`, unsigned", "`private`"),
        (
            (
                failure,
                _OF[failure],
                _verdict(failure, _PERMISSIVE, Grade.SECURE),
                _verdict(failure, _PERMISSIVE, Grade.INSECURE),
                _verdict(failure, Group.PRIVATE, Grade.SECURE),
            )
            for failure in CAPS
        ),
    )


def failure_reasons() -> str:
    return table(
        ("class", "reasons"),
        (
            (failure, code(reason for reason, of in FAILURES.items() if of is failure) or "all others")
            for failure in CAPS
        ),
    )


def unreachable() -> str:
    return table(
        ("`published-but-unreachable`", "`private-or-clear`, signed", "`private-or-clear`, unsigned", "`private`"),
        (
            (
                f"`{knob}`",
                _verdict(Failure.PEER_SILENT, _PERMISSIVE, Grade.SECURE, settings),
                _verdict(Failure.PEER_SILENT, _PERMISSIVE, Grade.INSECURE, settings),
                "—"
                if knob is Unreachable.CLEAR
                else _verdict(Failure.PEER_SILENT, Group.PRIVATE, Grade.SECURE, settings),
            )
            for knob in Unreachable
            for settings in (GroupSettings(published_but_unreachable=knob),)
        ),
    )


def dnssec() -> str:
    return table(
        ("grade of the answer", *(f"`dnssec = {demand}`" for demand in Dnssec)),
        (
            (f"`{grade}`", *(_use(may_use(grade, demand)) for demand in Dnssec))
            for grade in (Grade.SECURE, Grade.INSECURE, Grade.INDETERMINATE, Grade.BOGUS)
        ),
    )


def _use(refusal: Reason | None) -> str:
    return "used" if refusal is None else f"`{refusal}`"


# --- DNS -----------------------------------------------------------------------------------------------------------


def zone_examples() -> str:
    host, client, gateway = (ip_address(text) for text in ("192.0.2.1", "192.0.2.193", "192.0.2.3"))
    examples = (
        ("a host that answers for itself", zone_lines(host, [_EXAMPLE_KEY])),
        ("a client behind a gateway", zone_lines(client, [_EXAMPLE_KEY], gateway)),
        ("the gateway itself, for readers of either form", zone_lines(gateway, [_EXAMPLE_KEY], gateway)),
    )
    return "```\n" + "\n".join(line for text, lines in examples for line in (f"; {text}", *lines)) + "\n```\n"


def lifetimes() -> str:
    def between(bounds: tuple[float, float]) -> str:
        return f"TTL, at least {duration(bounds[0])}, at most {duration(bounds[1])}"

    proven, unproven = NEGATIVE_CAP[Grade.SECURE], NEGATIVE_CAP[Grade.INSECURE]
    return table(
        ("outcome", "kept for"),
        (
            ("`found`", between(POSITIVE_LIFETIME)),
            ("`unusable`", between(UNUSABLE_LIFETIME)),
            ("`no-key`, signed denial", f"negative TTL of the SOA (RFC 2308), at most {duration(proven)}"),
            ("`no-key`, otherwise", f"the same, at most {duration(unproven)}; without SOA not at all"),
            ("`bogus`", duration(FAILURE_LIFETIME[LookupOutcome.BOGUS])),
            ("`failed`", duration(FAILURE_LIFETIME[LookupOutcome.FAILED])),
        ),
    )


# --- IKE -----------------------------------------------------------------------------------------------------------


def ike_states() -> str:
    arrows = [f"    {_mermaid(state)} --> {_mermaid(to)}: {step}\n" for (state, step), (to, _) in STEPS.items()]
    beginnings = [
        "    [*] --> started: initiator\n",
        "    [*] --> half_open: responder\n",
        "    [*] --> established: successor\n",
    ]
    return diagram("".join(["stateDiagram-v2\n", *beginnings, *arrows, "    gone --> [*]\n"]))


def _mermaid(state: str) -> str:
    """A hyphen is no part of a Mermaid state's name."""
    return state.replace("-", "_")


def ike_steps() -> str:
    return table(
        ("from", "step", "to", "that is"),
        ((f"`{state}`", f"`{step}`", f"`{to}`", story) for (state, step), (to, story) in STEPS.items()),
    )


def child_states() -> str:
    arrows = [f"    {state} --> {to}: {step}\n" for (state, step), (to, _) in CHILD_STEPS.items()]
    ends = [f"    {state} --> [*]\n" for state in ChildState]
    return diagram("".join(["stateDiagram-v2\n", "    [*] --> up\n", *arrows, *ends]))


def child_steps() -> str:
    return table(
        ("from", "step", "to", "that is"),
        ((f"`{state}`", f"`{step}`", f"`{to}`", story) for (state, step), (to, story) in CHILD_STEPS.items()),
    )


def collisions() -> str:
    return table(
        ("how it stands with us", "the peer asks for", "it is told", "that is"),
        ((f"`{situation}`", f"`{ask}`", told.name, story) for (situation, ask), (told, story) in COLLISIONS.items()),
    )


def heard() -> str:
    return table(
        ("state", "requests of the peer that are heard"),
        ((f"`{state}`", ", ".join(sorted(kind.name for kind in kinds)) or "—") for state, kinds in HEARD.items()),
    )


def suites() -> str:
    offers = (("IKE", offer_ike(additional=IKE_ADDITIONAL)), ("ESP", offer_esp(0x1000)))
    return table(("", "transform", "offered and accepted, best liked first"), _suites(offers))


def _suites(offers: Iterable[tuple[str, SaPayload]]) -> Iterator[tuple[str, ...]]:
    for name, offer in offers:
        transforms = offer.proposals[0].transforms
        for kind in dict.fromkeys(transform.kind for transform in transforms):
            yield name, kind.name, ", ".join(describe(one) for one in transforms if one.kind == kind)


def shapes() -> str:
    return table(
        ("message", "", "must have", "may have"),
        (
            (
                exchange.name,
                f"{'response' if is_response else 'request'}, {'encrypted' if is_protected else 'in clear'}",
                _payloads(rule for rule in shape.rules if rule.least),
                _payloads(rule for rule in shape.rules if not rule.least) + _together(shape),
            )
            for (exchange, is_response, is_protected), shape in SHAPES.items()
        ),
    )


def _payloads(rules: Iterable[Rule]) -> str:
    return ", ".join(_payload(rule.type) + ("…" if rule.most == MANY else "") for rule in rules) or "—"


def _payload(kind: PayloadType) -> str:
    """As RFC 7296 writes it."""
    return {
        PayloadType.ID_I: "IDi",
        PayloadType.ID_R: "IDr",
        PayloadType.TS_I: "TSi",
        PayloadType.TS_R: "TSr",
        PayloadType.NONCE: "Nonce",
        PayloadType.NOTIFY: "N",
        PayloadType.VENDOR: "V",
        PayloadType.DELETE: "D",
    }.get(kind, kind.name)


def _together(shape: Shape) -> str:
    return f"; {', '.join(_payload(kind) for kind in sorted(shape.together))} together" if shape.together else ""


def ike_limits() -> str:
    settings = IkeSettings()
    return table(
        ("setting", "value", "meaning"),
        (
            (f"`{field.name}`", f"{getattr(settings, field.name):.12g}", _meanings()[field.name])
            for field in fields(settings)
            if not isinstance(field.default, bool)  # Neither a time nor a limit.
        ),
    )


@cache
def _meanings() -> dict[str, str]:
    """What stands under each field of `IkeSettings`; docstrings of attributes are in the source only."""
    (body,) = (node.body for node in ast.parse(getsource(IkeSettings)).body if isinstance(node, ast.ClassDef))
    return {
        field.target.id: text.value.value
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


BLOCKS: dict[str, Callable[[], str]] = {
    "pair-life": pair_life,
    "pair-changes": pair_changes,
    "failures": failures,
    "failure-reasons": failure_reasons,
    "unreachable": unreachable,
    "dnssec": dnssec,
    "zone-examples": zone_examples,
    "lifetimes": lifetimes,
    "ike-states": ike_states,
    "ike-steps": ike_steps,
    "child-states": child_states,
    "child-steps": child_steps,
    "collisions": collisions,
    "heard": heard,
    "suites": suites,
    "shapes": shapes,
    "ike-limits": ike_limits,
}


def generated(text: str) -> str:
    """`text` with every block of `BLOCKS` brought up to date. An unknown block is a KeyError."""
    return _BLOCK.sub(lambda block: f"{block[1]}\n{BLOCKS[block[2]]()}\n{block[3]}", text)


def main() -> None:
    for document in sorted(DOCUMENTS.glob("*.md")):
        before = document.read_text()
        after = generated(before)
        if after != before:
            document.write_text(after)
            print(f"docs/{document.name}: rewritten")


if __name__ == "__main__":
    main()
