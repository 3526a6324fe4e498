"""The secret of quick crash detection on disk: made once, for nobody else, never half."""

import stat
from pathlib import Path

import pytest

from oe.crashsecret import FILE, OCTETS, load
from oe.errors import ConfigError


def test_it_is_made_once_and_the_same_ever_after(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    secret = load(directory)
    assert len(secret.octets) == OCTETS
    assert load(directory) == secret
    assert load(tmp_path / "other") != secret


def test_nobody_else_can_read_it_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "state"
    load(directory)
    assert [path.name for path in directory.iterdir()] == [FILE]
    assert stat.S_IMODE((directory / FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_one_that_others_may_know_is_refused(tmp_path: Path, mode: int) -> None:
    load(tmp_path)
    (tmp_path / FILE).chmod(mode)
    with pytest.raises(ConfigError, match="may be known to others; remove it"):
        load(tmp_path)


@pytest.mark.parametrize("octets", [b"", bytes(OCTETS - 1), bytes(OCTETS + 1)])
def test_one_of_another_length_is_refused(tmp_path: Path, octets: bytes) -> None:
    path = tmp_path / FILE
    path.write_bytes(octets)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="octets, must be 32"):
        load(tmp_path)


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file"):
        load(tmp_path / "file" / "state")


def test_of_two_that_make_it_at_once_one_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    winner = bytes(range(OCTETS))

    def lose(octets: int) -> bytes:
        path = tmp_path / FILE
        path.write_bytes(winner)
        path.chmod(0o600)
        return bytes(octets)

    monkeypatch.setattr("oe.crashsecret.os.urandom", lose)
    assert load(tmp_path).octets == winner
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
