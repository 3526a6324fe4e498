import pytest

from oe.ike.registry import ExchangeType, KeyExchangeId, NotifyType, PayloadType, Registry, TransformType


def test_listed_numbers_are_their_members() -> None:
    assert PayloadType(46) is PayloadType.SK


@pytest.mark.parametrize("table", Registry.__subclasses__())
def test_every_table_takes_unknown_numbers(table: type[Registry]) -> None:
    unknown = table(64000)
    assert unknown == 64000
    assert unknown.name == "UNKNOWN_64000"
    assert 64000 not in [int(member) for member in table], "hostile numbers must not make the table grow"


def test_unknown_numbers_equal_each_other_and_find_dictionary_entries() -> None:
    assert ExchangeType(99) == ExchangeType(99)
    assert {99: "odd"}[ExchangeType(99)] == "odd"
    assert {KeyExchangeId.CURVE25519: 1}[KeyExchangeId(31)] == 1


def test_negative_numbers_are_none_of_a_registry() -> None:
    with pytest.raises(ValueError, match="is not a valid"):
        PayloadType(-1)


def test_errors_end_where_status_types_begin() -> None:
    assert NotifyType.STATE_NOT_FOUND.is_error
    assert NotifyType(16383).is_error
    assert not NotifyType.INITIAL_CONTACT.is_error


def test_additional_key_exchanges_are_in_a_row() -> None:
    first, last = TransformType.ADDITIONAL_KEY_EXCHANGE_1, TransformType.ADDITIONAL_KEY_EXCHANGE_7
    assert [t for t in TransformType if first <= t <= last] == list(range(6, 13))
