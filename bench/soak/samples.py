"""What kernel and daemon of a host hold at one moment."""

import json
import re
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.soak.world import World, run

_TABLE = ("list", "table", "inet", "oe")


@dataclass(frozen=True, slots=True)
class Sample:
    """One host. Counts but for `rss`, which is KiB. `states` maps states of pairs to how many are in each."""

    sas: int
    policies: int
    elements: int
    """Of all nft sets and maps, the constant ones of the policy included."""
    rss: int
    descriptors: int
    pairs: int
    states: dict[str, int]
    reasons: dict[str, int]

    def plain(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Moment:
    """Both hosts at one time; `active` flows at that time."""

    at: float
    """Seconds since the traffic began; negative before it."""
    phase: str
    active: int
    hosts: dict[str, Sample]

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def sample(world: World, host: str) -> Sample:
    """Look at a host whose daemon runs."""
    status: dict[str, Any] = world.status(host)
    daemon = Path(f"/proc/{world.daemons[host].pid}")
    return Sample(
        *in_kernel(host),
        rss=int(_field((daemon / "status").read_text(), r"VmRSS:\s+(\d+)")),
        descriptors=len(list((daemon / "fd").iterdir())),
        pairs=len(status["pairs"]),
        states=dict(Counter(pair["state"] for pair in status["pairs"])),
        reasons=status["reasons"],
    )


def in_kernel(host: str) -> tuple[int, int, int]:
    """SAs, policies, and elements of the table's sets and maps."""
    states = run("ip", "-n", host, "xfrm", "state", "count")
    policies = run("ip", "-n", host, "xfrm", "policy", "count")
    sas = int(_field(states, r"SAD\s+count\s+(\d+)"))
    return sas, sum(map(int, re.findall(r"(?:IN|OUT|FWD)\s+(\d+)", policies))), elements(_table(host))


def elements(table: Any) -> int:
    """Elements of all sets and maps in what `nft --json list table` prints."""
    lists = (entry.get("set") or entry.get("map") or {} for entry in table["nftables"])
    return sum(len(one.get("elem", ())) for one in lists)


def _table(host: str) -> Any:
    return json.loads(run("ip", "netns", "exec", host, "nft", "--json", *_TABLE))


def _field(text: str, pattern: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise ValueError(f"nothing like {pattern} in: {text}")
    return found[1]
