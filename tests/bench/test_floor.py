"""The floor does the cryptography of the very handshake that it is compared with."""

import hmac

import pytest

from bench.floor import PRF_CALLS, Floor
from bench.handshake import Pair


def test_every_operation_is_measured() -> None:
    pair = Pair()
    pair.run()
    assert pair.responder.scheme is not None
    floor = Floor(pair.responder.private, pair.initiator.private, pair.responder.scheme, tuple(pair.sizes))
    assert set(floor.measure(1)) == set(floor.operations)


def test_the_engine_calls_the_prf_as_often_as_the_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair()
    calls = []
    original = hmac.digest

    def counted(key: bytes, data: bytes, digest: str) -> bytes:
        calls.append(digest)
        return original(key, data, digest)

    monkeypatch.setattr(hmac, "digest", counted)
    pair.run()
    assert calls == ["sha512"] * 2 * PRF_CALLS  # by both ends
