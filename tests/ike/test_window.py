"""Message IDs, repetition and the kept answer."""

import pytest

from oe.ike.window import Arrival, Due, Requests, Responses


def test_repeats_with_doubling_pauses_until_the_deadline() -> None:
    requests = Requests()
    requests.start((b"one",), 0.0, 0.5, 10.0)
    sent = []
    while (at := requests.deadline()) is not None:
        due = requests.due(at)
        if due is Due.GIVE_UP:
            assert at == 10.0
            requests.finish()
        else:
            assert due is Due.AGAIN
            sent.append(at)
    assert sent == [0.5, 1.5, 3.5, 7.5]


def test_no_repetition_at_or_after_the_deadline() -> None:
    requests = Requests()
    requests.start((b"one",), 0.0, 0.5, 0.5)
    assert requests.deadline() == 0.5
    assert requests.due(0.49) is Due.NOTHING
    assert requests.due(0.5) is Due.GIVE_UP


def test_a_late_timer_repeats_once_not_for_each_pause_missed() -> None:
    requests = Requests()
    requests.start((b"one",), 0.0, 0.5, 10.0)
    assert requests.due(4.0) is Due.AGAIN
    assert requests.due(4.0) is Due.NOTHING
    assert requests.deadline() == 5.0


def test_one_request_at_a_time() -> None:
    requests = Requests()
    requests.start((b"one",), 0.0, 0.5, 10.0)
    with pytest.raises(RuntimeError):
        requests.start((b"two",), 0.0, 0.5, 10.0)


def test_ids_count_up_and_only_the_pending_one_is_answered() -> None:
    requests = Requests()
    assert not requests.is_answered_by(0)
    for expected in range(3):
        assert requests.next_id == expected
        requests.start((b"",), 0.0, 0.5, 10.0)
        assert requests.is_answered_by(expected)
        assert not requests.is_answered_by(expected + 1)
        requests.finish()
        assert not requests.is_answered_by(expected)
    assert requests.deadline() is None
    assert requests.due(100.0) is Due.NOTHING


def test_a_replaced_request_keeps_id_and_deadline_and_starts_over_with_its_pauses() -> None:
    requests = Requests()
    requests.start((b"plain",), 0.0, 0.5, 10.0)
    assert requests.due(0.5) is Due.AGAIN
    requests.replace((b"with cookie",), 0.6, 0.5)
    assert requests.pending is not None
    assert (requests.pending.datagrams, requests.pending.message_id) == ((b"with cookie",), 0)
    assert requests.deadline() == pytest.approx(1.1)
    assert requests.due(10.0) is Due.GIVE_UP


def test_nothing_to_replace() -> None:
    with pytest.raises(RuntimeError):
        Requests().replace((b"",), 0.0, 0.5)


def test_starting_over_gives_the_request_its_full_time_again() -> None:
    requests = Requests()
    requests.start((b"request",), 0.0, 1.0, 7.0)
    assert requests.due(1.0) is Due.AGAIN
    requests.start_over(2.5, 1.0, 9.5)
    assert [requests.due(at) for at in (3.4, 3.5, 5.5, 9.4, 9.5)] == [
        Due.NOTHING,
        Due.AGAIN,
        Due.AGAIN,
        Due.NOTHING,
        Due.GIVE_UP,
    ]


def test_the_peers_requests_are_new_once_then_repeated_from_the_kept_answer() -> None:
    responses = Responses()
    assert responses.classify(0) is Arrival.NEW
    assert responses.classify(1) is Arrival.AHEAD
    responses.begin()
    assert responses.classify(0) is Arrival.UNDER_WAY
    responses.finish((b"answer 0",))
    assert (responses.classify(0), responses.kept) == (Arrival.REPEATED, (b"answer 0",))
    assert responses.classify(1) is Arrival.NEW
    responses.begin()
    # The peer has the answer to 0: it would not have gone on otherwise (its window is one too). But the network may
    # still hold a copy of request 0, and answering it again does no harm.
    assert responses.classify(0) is Arrival.REPEATED
    responses.finish((b"answer 1",))
    assert (responses.classify(0), responses.classify(1)) == (Arrival.OLD, Arrival.REPEATED)


def test_a_deadline_comes_nearer_and_never_goes_away() -> None:
    requests = Requests()
    requests.hasten(1.0)
    requests.start((b"one",), 0.0, 0.5, 10.0)
    requests.hasten(20.0)
    assert requests.due(9.9) is Due.AGAIN
    requests.hasten(12.0)
    assert requests.due(10.0) is Due.GIVE_UP
    requests.finish()
    requests.start((b"two",), 20.0, 0.5, 30.0)
    requests.hasten(20.4)
    assert requests.deadline() == 20.4
    assert requests.due(20.4) is Due.GIVE_UP


def test_work_on_a_request_of_the_peer_is_known() -> None:
    responses = Responses()
    seen = [responses.is_under_way]
    responses.begin()
    seen.append(responses.is_under_way)
    responses.finish((b"answer",))
    assert [*seen, responses.is_under_way] == [False, True, False]


def test_pauses_grow_no_further_than_the_longest() -> None:
    """So there is no long time in which nothing is asked and all hangs on the answer to what was asked before."""
    requests = Requests()
    requests.start((b"one",), 0.0, 0.5, 15.0)
    sent = []
    while requests.due(at := requests.deadline() or 0.0) is Due.AGAIN:
        sent.append(at)
    assert sent == [0.5, 1.5, 3.5, 7.5, 11.5]
    assert at == 15.0
