"""One TCP stream through ESP in user space: `python -m bench.userspace_esp`, as root. See docs/performance.md.

    network namespace of this process ══veth══ another one
    iperf3, our back end (bench.esp_end)        iperf3, our back end

All four share the processors. `--beside CHECKOUT` lets another checkout take turns with this one, a round each: on a
machine that others use, only what is measured in turns can be compared.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from bench.figures import Spread, console
from oe.errors import MachineLacks, OeError

OWN, PEER = "10.9.0.1", "10.9.0.2"
BUDGET = 0.93
"""Gbit/s."""
_PATIENCE = 30.0
_END = Path(__file__).with_name("esp_end.py")
_CHECKOUT = Path(__file__).parents[1]
UNITS = {"throughput": "Gbit/s", "sender": "µs of CPU a packet", "receiver": "µs of CPU a packet"}


@dataclass(frozen=True, slots=True)
class Round:
    """Gbit/s at the receiver, and what our two processes took for it: microseconds of CPU for each ESP packet."""

    throughput: float
    sender: float
    receiver: float


def summarise(rounds: dict[str, list[Round]]) -> dict[str, dict[str, Spread]]:
    """By name and by figure."""
    return {
        name: {figure: Spread.of([getattr(each, figure) for each in found]) for figure in UNITS}
        for name, found in rounds.items()
    }


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PATIENCE + 600)
    except FileNotFoundError:
        raise MachineLacks(f"the program {command[0]}", f"install {command[0]}") from None
    if done.returncode:
        raise MachineLacks(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-500:]}", "run as root")
    return done.stdout


@contextmanager
def _far() -> Iterator[tuple[str, ...]]:
    """Another network namespace at the other end of a veth; what a command in it begins with."""
    holder = subprocess.Popen(("unshare", "--net", "sh", "-c", "echo; read -r end"), stdin=-1, stdout=-1, text=True)
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        inside = "nsenter", "-t", str(holder.pid), "-n"
        _run("ip", "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", str(holder.pid))
        for prefix, address in (((), OWN), (inside, PEER)):
            _run(*prefix, "ip", "address", "add", f"{address}/24", "dev", "cable")
            for device in ("lo", "cable"):
                _run(*prefix, "ip", "link", "set", device, "up")
        yield inside
        # The namespace takes it away too, but in its own time.
        _run("ip", "link", "delete", "cable")
    finally:
        holder.communicate("")


@contextmanager
def _end(prefix: tuple[str, ...], checkout: Path, own: str, peer: str) -> Iterator[dict[str, float]]:
    """A back end; what it has to say is there when the block has ended."""
    said: dict[str, float] = {}
    command = *prefix, sys.executable, str(_END), own, peer
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise MachineLacks("the back end did not start", "its own output is above")
        yield said
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=_PATIENCE)
    said |= json.loads(output)


def _stream(far: tuple[str, ...], seconds: int) -> float:
    """Gbit/s of one stream."""
    command = *far, "iperf3", "--server", "--one-off", "--forceflush"
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        while "listening" not in (line := server.stdout.readline()):
            if not line:
                raise MachineLacks("iperf3 does not listen", "its own output is above")
        figures = json.loads(_run("iperf3", "--client", PEER, "--time", str(seconds), "--json"))
    finally:
        server.terminate()
        server.communicate(timeout=_PATIENCE)
    return float(figures["end"]["sum_received"]["bits_per_second"]) / 1e9


def play(checkout: Path, seconds: int) -> Round:
    """One round, in this process's network namespace, which must be its own. Raises MachineLacks."""
    with _far() as far:
        with ExitStack() as stack:
            receiver = stack.enter_context(_end(far, checkout, PEER, OWN))
            sender = stack.enter_context(_end((), checkout, OWN, PEER))
            throughput = _stream(far, seconds)
        _run("nft", "delete", "table", "inet", "bench")
    return Round(throughput, *((end["user"] + end["system"]) / end["packets"] for end in (sender, receiver)))


def bare(seconds: int) -> float:
    """Gbit/s without a tunnel."""
    with _far() as far:
        return _stream(far, seconds)


def show(found: dict[str, dict[str, Spread]], without: float) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold", title="One TCP stream", title_justify="left")
    for name in ("", "min", "median", "max"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for name, figures in found.items():
        for figure, spread in figures.items():
            table.add_row(f"{name}: {figure}, {UNITS[figure]}", *spread.cells(2))
    console().print(table)
    console().print(f"without a tunnel {without:.2f} Gbit/s; budget {BUDGET} Gbit/s")


def plain(found: dict[str, dict[str, Spread]], without: float) -> dict[str, Any]:
    """As JSON values."""
    rows = {name: {figure: spread.plain() for figure, spread in row.items()} for name, row in found.items()}
    return {"streams": rows, "units": UNITS, "without_tunnel": round(without, 3), "budget": BUDGET}


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=5, show_default=True, help="Of each round.")
@click.option("--beside", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Another checkout.")
@click.option("--json", "as_json", is_flag=True)
@click.option("--inside", is_flag=True, hidden=True)
def main(rounds: int, seconds: int, beside: Path | None, as_json: bool, inside: bool) -> None:
    """Throughput of one TCP stream through two userspace back ends, as root."""
    if not inside:
        again = sys.executable, "-m", "bench.userspace_esp", *sys.argv[1:], "--inside"
        sys.exit(subprocess.run(("unshare", "--net", *again), check=False).returncode)
    contenders = {"oe": _CHECKOUT} | ({str(beside): beside.resolve()} if beside else {})
    found: dict[str, list[Round]] = {name: [] for name in contenders}
    try:
        without = bare(seconds)
        for _ in range(rounds):
            for name, checkout in contenders.items():
                found[name].append(play(checkout, seconds))
    except OeError as error:
        raise click.ClickException(str(error)) from None
    spreads = summarise(found)
    if as_json:
        click.echo(json.dumps(plain(spreads, without)))
    else:
        show(spreads, without)


if __name__ == "__main__":
    main()
