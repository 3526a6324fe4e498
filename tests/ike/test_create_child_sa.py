"""CREATE_CHILD_SA is answered, and changes nothing."""

from oe.ike.payloads import NoncePayload, NotifyPayload
from oe.ike.registry import ExchangeType, NotifyType, ProtocolId
from oe.ike.states import State
from oe.model import Reason
from tests.ike.puppet import played


def test_a_further_child_sa_or_a_rekey_is_declined() -> None:
    _, host, puppet = played()
    puppet.establish()
    rekey = NotifyPayload(NotifyType.REKEY_SA, b"", ProtocolId.ESP, b"\0\0\x99\x99")
    for message_id, front in ((2, ()), (3, (rekey,))):
        answer = puppet.request(
            ExchangeType.CREATE_CHILD_SA, message_id, *front, NoncePayload(bytes(32)), *puppet.child()
        )
        assert answer == (NotifyPayload(NotifyType.NO_ADDITIONAL_SAS),)
    assert host.states == [State.ESTABLISHED]
    assert len(host.kernel) == 1


def test_one_that_makes_no_sense_is_answered_and_the_ike_sa_stands() -> None:
    _, host, puppet = played()
    puppet.establish()
    answer = puppet.request(ExchangeType.CREATE_CHILD_SA, 2)
    assert answer == (NotifyPayload(NotifyType.INVALID_SYNTAX),)
    assert host.rejected == {Reason.INVALID_SYNTAX: 1}
    assert host.states == [State.ESTABLISHED]
