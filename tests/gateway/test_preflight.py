"""What is told of our own records at the start."""

from ipaddress import ip_address

import pytest

from oe.messages import LookUpKeys, Note, Started
from oe.reasons import Reason
from tests.gateway.script import OTHER_KEY, OUR_KEY, OURS, Script, delegation, found, missing

OURS6 = ip_address("2001:db8::1")


def told(script: Script) -> dict[str, str]:
    """Event by address."""
    script.feed(Started())
    notes = script.all(Note)
    return {str(dict(note.fields)["address"]): note.event for note in notes}


def test_every_own_address_is_looked_up_and_the_result_told() -> None:
    script = Script(answers=(found(OURS, delegation(OUR_KEY)), missing(OURS6)))
    assert told(script) == {str(OURS): "own-key-published", str(OURS6): "own-key-missing"}
    assert [command.owner for command in script.all(LookUpKeys)] == [OURS, OURS6]


def test_the_remedy_names_the_command() -> None:
    script = Script(answers=(found(OURS, delegation(OTHER_KEY)),))
    script.feed(Started())
    (note,) = script.all(Note)
    assert note.level == "warning"
    assert dict(note.fields)["reason"] == Reason.OWN_KEY_UNPUBLISHED
    assert f"oe key show --address {OURS}" in str(dict(note.fields)["remedy"])


@pytest.mark.parametrize("reason", [Reason.DNS_FAILED, Reason.DNS_TIMEOUT])
def test_without_an_answer_the_remedy_is_another_one(reason: Reason) -> None:
    script = Script(answers=(missing(OURS, reason),))
    script.feed(Started())
    (note,) = script.all(Note)
    assert dict(note.fields)["reason"] == reason
    assert "look at the resolver" in str(dict(note.fields)["remedy"])


def test_it_decides_nothing() -> None:
    script = Script(answers=(missing(OURS),))
    script.feed(Started())
    assert not script.gateway.pairs
