"""An explanation of a pair, for programs and for people. The latter is made of the former: both say the same."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from oe.cli.forecast import Forecast
from oe.cli.lookups import Looked
from oe.cli.words import counted, duration
from oe.dnskeys.names import reverse_name
from oe.model import Delegation, Group, HostPair, LookupOutcome, PublicKey
from oe.observe import printable
from oe.policy.groups import Entry
from oe.policy.outcome import Outcome
from oe.policy.select import Selection
from oe.reasons import Reason

Document = dict[str, Any]

IF_THE_PEER_BEGINS = {
    Group.PRIVATE: "accepted, if DNS vouches for it; what comes from there in clear is dropped",
    Group.PRIVATE_OR_CLEAR: "accepted, if DNS vouches for it",
    Group.CLEAR_OR_PRIVATE: "accepted, if DNS vouches for it; then encrypted both ways",
    Group.CLEAR: "refused",
    Group.BLOCK: "refused, and what comes from there is dropped",
}
REMEDIES = {
    Reason.POLICY_UNLISTED: "list it in a policy group, if it is to be encrypted",
    Reason.NO_KEY: "nothing is wrong here; ask the other side to publish a key",
    Reason.NO_USABLE_KEY: "it is for the other side to mend",
    Reason.MALFORMED_RECORD: "tell the owner of the zone",
    Reason.DNS_BOGUS: "an attack, or a broken zone: compare `dig` and `dig +cd`",
    Reason.DNS_FAILED: "do the resolvers run, {resolvers}, and can they reach the world?",
    Reason.DNS_TIMEOUT: "do the resolvers run, {resolvers}, and can they reach the world?",
    Reason.DNSSEC_REQUIRED: "it takes a signed zone, and a validating resolver on loopback",
    Reason.UNSIGNED_DELEGATION: "its owner has to sign the zone",
    Reason.OWN_KEY_UNPUBLISHED: "publish what `oe key show --address {source}` prints, or wait for the caches",
    Reason.OWN_CLIENT_UNDELEGATED: "publish what `oe key show --address {source} --gateway OURS` prints; sign the zone",
    Reason.PEER_SILENT: "is it up, and do UDP 500 and ESP pass both firewalls?",
    Reason.NEGOTIATION_TIMEOUT: "a slow or lossy way; raise gateway.setup-budget",
    Reason.PEER_REFUSED: "its log says why",
    Reason.WE_WERE_REFUSED: "is our record that of our key, in the peer's DNS too? caches keep the old one",
    Reason.PEER_AUTHENTICATION_FAILED: "an attack, or its record is stale",
    Reason.NO_PROPOSAL_CHOSEN: "it has no algorithms in common with us",
    Reason.TS_UNACCEPTABLE: "its policy has no tunnel for us, or it finds no delegation for our client",
}
"""What to do next."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that is known of a pair without touching it."""

    pair: HostPair
    selection: Selection
    problems: tuple[str, ...]
    """What is wrong with the policy files."""
    forecast: Forecast
    looked: tuple[Looked, ...] = ()
    """What DNS says of the destination and of the source; empty where it need not be asked."""
    budget: float = 0.0
    """Seconds that a packet waits at most."""
    own_keys: tuple[PublicKey, ...] = ()
    resolvers: tuple[str, ...] = ()


# --- for programs ---------------------------------------------------------------------------------------------------


def document(explanation: Explanation) -> Document:
    """The object of `oe explain --json`, but for `now` and `no_answer`. Times are seconds, null does not apply."""
    pair, selection, forecast = explanation.pair, explanation.selection, explanation.forecast
    credentials = forecast.credentials
    return {
        "source": str(pair.source),
        "destination": str(pair.destination),
        "group": selection.group.value,
        "closed": selection.closed,
        "entry": _entry(selection.entry),
        "wider_entries": [_entry(entry) for entry in selection.losers],
        "policy_problems": list(explanation.problems),
        "resolvers": list(explanation.resolvers),
        "setup_budget": explanation.budget,
        "dns": [_looked(looked, explanation.own_keys) for looked in explanation.looked],
        "state": forecast.state.value if forecast.state is not None else None,
        "reason": forecast.reason.value if forecast.reason is not None else None,
        "detail": forecast.detail,
        "gateways": [
            {"gateway": str(one.gateway), "keys": [key.fingerprint for key in one.keys]} for one in forecast.gateways
        ],
        "identity": None
        if credentials is None
        else "anonymous"
        if credentials.is_anonymous
        else str(credentials.local),
        "signs": _signer(explanation),
        "fallback": _outcome(forecast.fallback),
        "asks_anonymously": forecast.asks_anonymously,
        "if_the_peer_begins": IF_THE_PEER_BEGINS[selection.group],
    }


def _signer(explanation: Explanation) -> str | None:
    """The newest of our keys that the source publishes, or the newest. A daemon that has not seen it published for long
    enough signs with an older one."""
    published = {delegation.key for looked in explanation.looked[1:] for delegation in looked.answer.delegations}
    ranked = sorted(explanation.own_keys, key=lambda key: key not in published)
    return ranked[0].fingerprint if ranked else None


def _entry(entry: Entry | None) -> Document | None:
    if entry is None:
        return None
    return {"net": str(entry.network), "group": entry.group.value, "file": entry.file, "line": entry.line}


def _looked(looked: Looked, own_keys: tuple[PublicKey, ...]) -> Document:
    answer = looked.answer
    return {
        "owner": str(answer.owner),
        "name": reverse_name(answer.owner),
        "outcome": answer.outcome.value,
        "grade": answer.grade.value,
        "reason": answer.reason.value if answer.reason is not None else None,
        "detail": answer.detail,
        "took": round(looked.took, 4),
        "expires": round(looked.lasts, 1),
        "records": [_record(delegation, own_keys) for delegation in answer.delegations],
    }


def _record(delegation: Delegation, own_keys: tuple[PublicKey, ...]) -> Document:
    key, gateway = delegation.key, delegation.gateway or delegation.gateway_name
    return {
        "kind": delegation.kind.value,
        "precedence": delegation.precedence,
        "gateway": str(gateway) if gateway is not None else None,
        "key": key.fingerprint if key is not None else None,
        "key_algorithm": key.algorithm.name if key is not None else None,
        "is_our_key": key in own_keys,
    }


def _outcome(outcome: Outcome | None) -> Document | None:
    if outcome is None:
        return None
    return {"state": outcome.state.value, "lifetime": round(outcome.lifetime, 1), "downgrade": outcome.downgrade}


# --- for people -----------------------------------------------------------------------------------------------------


def story(told: Document) -> Iterator[str]:
    """The same document, with `now` and `no_answer`, as lines. The word at their beginning says what they are about."""
    yield f"{told['source']} → {told['destination']}"
    for problem in told["policy_problems"]:
        yield _line("policy", problem)
    yield _line("group", _chosen(told))
    for entry in told["wider_entries"]:
        yield _line("", f"before {_place(entry)}")
    for looked in told["dns"]:
        yield from _answer(looked, told["setup_budget"])
    yield from _prospect(told)
    if told["state"] is not None:
        yield _line("inbound", f"if the peer begins: {told['if_the_peer_begins']}")
    yield from _present(told)


def _line(subject: str, text: str) -> str:
    """What others wrote, a zone or a file, does nothing to a terminal."""
    return f"{subject:9} {printable(text)}"


def _chosen(told: Document) -> str:
    entry = told["entry"]
    if told["closed"]:
        return "private, because a line of the file private cannot be read: everything counts as private until then"
    return "none: it is listed nowhere" if entry is None else _place(entry)


def _place(entry: Document) -> str:
    return f"{entry['group']}, by {entry['net']} ({entry['file']}:{entry['line']})"


def _answer(looked: Document, budget: float) -> Iterator[str]:
    known = f"{looked['grade']}, after {1000 * looked['took']:.0f} ms, for {duration(looked['expires'])}"
    yield _line("dns", f"{looked['name']} {looked['reason'] or looked['outcome']}, {known}")
    if looked["reason"] is not None:
        yield _line("", looked["detail"])
    for record in looked["records"]:
        key = f"key {record['key']} ({record['key_algorithm']})" if record["key"] else "key at the gateway's own name"
        ours = ", ours" if record["is_our_key"] else ""
        yield _line("", f"{record['kind']} {record['precedence']}, gateway {record['gateway'] or '.'}, {key}{ours}")
    if looked["took"] > budget and looked["outcome"] != LookupOutcome.FAILED:
        yield _line("", f"too late for a first packet, which waits {budget:g} s; a later one finds the answer")


def _prospect(told: Document) -> Iterator[str]:
    """What a first packet would lead to."""
    state, reason, fallback = told["state"], told["reason"], told["fallback"]
    if state is None:
        yield _line("packets", f"left alone, in clear: {told['detail']}")
        return
    if state == "negotiating":
        names = ", then ".join(one["gateway"] for one in told["gateways"])
        yield _line(
            "packets",
            f"the first is held up to {told['setup_budget']:g} s; we negotiate with {names} as {told['identity']}",
        )
        yield _line("", f"if nobody answers: {_stands(fallback)}; {REMEDIES[Reason.PEER_SILENT]}")
        return
    yield _line("packets", f"{_stands(fallback) if fallback else state}: {reason}")
    if told["detail"] not in ("", *(looked["detail"] for looked in told["dns"])):
        yield _line("", told["detail"])
    if told["asks_anonymously"]:
        yield _line("", "behind that we ask for an anonymous tunnel")
    yield from _remedy(told, reason)


def _stands(fallback: Document) -> str:
    downgrade = ", a downgrade" if fallback["downgrade"] else ""
    return f"{fallback['state']} for {duration(fallback['lifetime'])}{downgrade}"


def _present(told: Document) -> Iterator[str]:
    """What a running daemon has decided."""
    pairs = told["now"]
    if pairs is None:
        yield _line("now", told["no_answer"])
    elif not pairs:
        yield _line("now", "oe runs, and has no pair with this destination")
    for pair in pairs or ():
        peer = f", peer {pair['peer']}" if pair["peer"] else ""
        since = f"for {duration(pair['since'])}"
        yield _line("now", f"from {pair['source']}: {pair['state']} {since}, {pair['reason']}{peer}")
        if pair["detail"]:
            yield _line("", pair["detail"])
        yield from _traffic(pair["packets_out"], pair["packets_in"])
        if pair["reason"] != told["reason"]:
            yield from _remedy(told | {"source": pair["source"]}, pair["reason"])


def _traffic(sent: int | None, received: int | None) -> Iterator[str]:
    """What went through the tunnel; None: there is none, or its counters were not read yet."""
    if sent is None or received is None:
        return
    yield _line("", f"{counted(sent, 'packet')} out, {received} in")
    if sent and not received:
        yield _line("", "nothing comes back: does ESP (behind a NAT, UDP 4500) pass both firewalls?")


def _remedy(told: Document, reason: str) -> Iterator[str]:
    if reason in REMEDIES:
        yield _line("", REMEDIES[Reason(reason)].format(source=told["source"], resolvers=", ".join(told["resolvers"])))
