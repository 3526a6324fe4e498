"""`make fuzz MINUTES=10`: every target for its share of the time, as many at once as there are cores.

What a target stumbles over is in `build/fuzz/TARGET/crash-*` (or `timeout-*`, `oom-*`), and `python -m tests.fuzz.one
TARGET FILE` does it again. New inputs that reach new code are in `build/fuzz/TARGET/inputs`; with `--keep` the kept
corpus becomes the smallest choice of old and new ones that reaches all that all reach.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from re import findall

import click

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
WORK = Path("build/fuzz")
LONGEST = 4096
"""Octets of an input."""
HANG = 10
"""Seconds after which one input counts as a hang."""
MEBIBYTES = 1024
SHARES = {"endpoint": 4, "peer": 6}
"""Of the time: a handshake goes before each input, and there is most to find. The others have one."""
FINDINGS = ("crash-*", "timeout-*", "oom-*", "leak-*")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a target came to."""

    name: str
    code: int
    executions: int
    edges: int
    findings: tuple[Path, ...]

    def __str__(self) -> str:
        trouble = ", ".join(map(str, self.findings)) or (f"exit code {self.code}, see log" if self.code else "clean")
        return f"{self.name:12} {self.executions:>9} inputs {self.edges:>6} edges  {trouble}"


def fuzz(name: str, seconds: int) -> Outcome:
    """Run one target; its log is in its directory."""
    directory = WORK / name
    inputs, corpus = directory / "inputs", CORPUS / name
    inputs.mkdir(parents=True, exist_ok=True)
    arguments = [
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST}",
        f"-timeout={HANG}",
        f"-rss_limit_mb={MEBIBYTES}",
        f"-artifact_prefix={directory}/",
        "-print_final_stats=1",
        str(inputs),
        str(corpus),
    ]
    done = _run(name, arguments, directory / "log")
    log = (directory / "log").read_text(errors="replace")
    executions, edges = findall(r"number_of_executed_units: (\d+)", log), findall(r"cov: (\d+)", log)
    findings = tuple(sorted(path for pattern in FINDINGS for path in directory.glob(pattern)))
    return Outcome(name, done, int(executions[-1]) if executions else 0, int(edges[-1]) if edges else 0, findings)


def keep(name: str) -> None:
    """Choose the smallest part of old and new inputs that reaches all they reach, and make it the kept corpus."""
    chosen = WORK / name / "chosen"
    chosen.mkdir(parents=True, exist_ok=True)
    for old in chosen.iterdir():
        old.unlink()
    log = WORK / name / "merge-log"
    if _run(name, ["-set_cover_merge=1", *map(str, (chosen, CORPUS / name, WORK / name / "inputs"))], log):
        raise click.ClickException(f"{name}: see {log}")
    if not any(chosen.iterdir()):
        raise click.ClickException(f"{name}: nothing was chosen, see {log}")
    for old in (CORPUS / name).iterdir():
        old.unlink()
    for path in chosen.iterdir():
        (CORPUS / name / path.name[:12]).write_bytes(path.read_bytes())


def _share(name: str) -> int:
    return SHARES.get(name, 1)


def _run(name: str, arguments: list[str], log: Path) -> int:
    with log.open("wb") as file:
        command = [sys.executable, "-m", "tests.fuzz.one", name, *arguments]
        return subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode


@click.command()
@click.option("--minutes", default=10.0, show_default=True, help="For all targets together.")
@click.option("--keep", "keeps", is_flag=True, help="Take what was found into the kept corpus.")
@click.argument("names", nargs=-1, type=click.Choice(sorted(TARGETS)))
def main(minutes: float, keeps: bool, names: tuple[str, ...]) -> None:
    """Fuzz NAMES, or every target. Exit code 1 when something was found."""
    # The longest first, so that all cores are done at about the same time.
    chosen, cores = sorted(names or TARGETS, key=_share, reverse=True), os.cpu_count() or 1
    share = minutes * 60 * cores / sum(map(_share, chosen))
    with ThreadPoolExecutor(cores) as pool:
        outcomes = []
        for outcome in pool.map(lambda name: fuzz(name, max(5, round(share * _share(name)))), chosen):
            click.echo(str(outcome))
            outcomes.append(outcome)
        if keeps:
            list(pool.map(keep, chosen))
    sys.exit(any(outcome.code or outcome.findings for outcome in outcomes))


if __name__ == "__main__":
    main()
