"""The command group: its exit codes, its errors, and that it starts quickly."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner, Result

from oe.cli.main import COMMANDS, House, main
from oe.control import Refused
from oe.errors import ConfigError, KernelError, MachineLacks, OeError


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Refused("not today"), 1),
        (ConfigError("oe.toml: dns.resolver: unknown key"), 2),
        (MachineLacks("no nftables", "install them"), 3),
        (KernelError("NEWSA", "192.0.2.1", 93, "Protocol not supported"), 3),
    ],
)
def test_an_error_of_the_house_is_one_line_and_an_exit_code(error: OeError, code: int) -> None:
    @click.group(cls=House)
    def group() -> None:
        raise error

    result = CliRunner().invoke(group, ["status"])
    assert result.exit_code == code
    assert result.stderr == f"oe: {error}\n"
    assert result.stdout == ""


@pytest.mark.parametrize("arguments", [["nonsense"], ["--nonsense"], ["status", "--nonsense"], ["key", "show"]])
def test_wrong_use_is_2(arguments: list[str]) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert "Usage: " in result.stderr


def test_a_defect_is_no_expected_outcome() -> None:
    @click.group(cls=House)
    def group() -> None:
        raise ZeroDivisionError

    assert isinstance(CliRunner().invoke(group, ["status"]).exception, ZeroDivisionError)


def test_help_names_every_command() -> None:
    help_text = invoke("--help").stdout
    assert all(name in help_text and short in help_text for name, short in COMMANDS.items())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_in_the_table_is_there(name: str) -> None:
    result = invoke(name, "--help")
    assert result.exit_code == 0, result.stderr
    assert f"{name} [OPTIONS]" in result.stdout


def test_the_version_is_that_of_the_package() -> None:
    assert invoke("--version").stdout == "oe 0.1.0\n"


def test_starting_loads_no_part_of_the_daemon() -> None:
    heavy = ("asyncio", "pydantic", "cryptography", "rich", "structlog", "pyroute2", "dns")
    code = f"import sys, oe.cli.main; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
