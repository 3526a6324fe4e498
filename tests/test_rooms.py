"""Which modules do I/O is decided here, by name. All others outside the shell are under the contract of purity."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
SHELL = ("oe.cli", "oe.lab", "oe.daemon")
"""Packages that exist to do I/O."""
DOORS = {
    "oe.config",
    "oe.configvalues",
    "oe.control",
    "oe.crashsecret",
    "oe.keystore",
    "oe.observe",
    "oe.tasks",
    "oe.dnskeys.loopback",
    "oe.dnskeys.resolver",
    "oe.dnskeys.sockets",
    "oe.ike.udp",
    "oe.ipsec.census",
    "oe.ipsec.esp_socket",
    "oe.ipsec.netlink",
    "oe.ipsec.probe",
    "oe.ipsec.shield",
    "oe.ipsec.tun",
    "oe.ipsec.userspace",
    "oe.ipsec.xfrm",
    "oe.policy.files",
    "oe.trap.guard",
    "oe.trap.nft",
    "oe.trap.queue",
    "oe.trap.watch",
}
"""Modules of the other rooms through which the world comes in."""


def modules() -> set[str]:
    paths = (path.relative_to(ROOT) for path in (ROOT / "oe").rglob("*.py") if path.name != "__init__.py")
    return {".".join(path.with_suffix("").parts) for path in paths}


def pure() -> list[str]:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = (contract for contract in contracts if contract["name"].startswith("pure modules"))
    return list(contract["source_modules"])


def test_every_module_is_pure_by_contract_or_a_door() -> None:
    inside = {name for name in modules() if not name.startswith(SHELL)}
    assert set(pure()) == inside - DOORS


def test_every_door_is_there() -> None:
    assert modules() >= DOORS


def test_the_contract_is_in_order() -> None:
    assert pure() == sorted(pure())
