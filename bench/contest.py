"""Inside the test kernel: labs of all contenders, in turn, round by round.

`python -m bench.contest ROOT ROUNDS [KEYED KEYLESS]`, with ROOT the rival's root file system and how many samples of
either kind a lab gives. Prints one JSON object; says on standard error what it does.
"""

import json
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from bench.first_connect import isolated, sample
from bench.libreswan import FLAVOURS, KEYED
from bench.samples import KEYLESS

CONTENDERS = ("oe", *FLAVOURS)

Lab = dict[str, Any]
"""What bench.samples or bench.libreswan printed."""


def play(rounds: int, lab: Callable[[str], Lab]) -> dict[str, list[Lab]]:
    """`rounds` labs of each contender, by name. Every round has all of them: they share the machine's moods."""
    labs: dict[str, list[Lab]] = {contender: [] for contender in CONTENDERS}
    for number in range(rounds):
        for contender, found in labs.items():
            print(f"round {number + 1} of {rounds}: {contender}", file=sys.stderr, flush=True)
            found.append(lab(contender))
    return labs


def version(said: str) -> str:
    """Name and number, "Libreswan 5.2", of what a program says of itself before it names its features."""
    return " ".join(said.split()[:2])


def main(arguments: Sequence[str]) -> None:
    root, rounds, *counts = arguments
    keyed, keyless = counts or (str(len(KEYED)), str(len(KEYLESS)))

    def lab(contender: str) -> Lab:
        if contender == "oe":
            return sample("xfrm", int(keyed), int(keyless))
        return isolated("bench.libreswan", root, contender, keyed, keyless)

    pluto = ["chroot", root, "/usr/libexec/ipsec/pluto", "--version"]
    rival = version(subprocess.run(pluto, capture_output=True, text=True, check=True).stdout)
    labs = play(int(rounds), lab)
    print(json.dumps({"kernel": platform.release(), "rival": rival, "rounds": int(rounds), "labs": labs}))


if __name__ == "__main__":
    main(sys.argv[1:])
