"""The handshake that is timed is a whole one."""

from cProfile import Profile

from bench.handshake import Pair, Phase
from oe.model import SignatureScheme


def test_a_handshake_has_three_exchanges_and_leaves_nothing() -> None:
    pair = Pair()
    pair.run()
    pair.run()
    assert len(pair.sizes) == 3
    assert pair.responder.scheme is SignatureScheme.RSA_PSS_SHA512
    assert pair.responder.endpoint.snapshot() == pair.initiator.endpoint.snapshot() == ()
    assert set(pair.responder.spent) == set(Phase)


def test_the_profile_is_of_the_responder_alone() -> None:
    seen = Profile()
    Pair(seen).run()
    names = {getattr(entry.code, "co_name", entry.code) for entry in seen.getstats()}
    assert "answer_begin" in names
    assert "start_auth" not in names
