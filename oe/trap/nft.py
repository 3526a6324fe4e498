"""Puts the table `inet oe` into the kernel: rules by the `nft` program, decisions by raw netlink."""

import errno
import os
import socket
import subprocess
from dataclasses import dataclass

from oe.errors import KernelError, MachineLacks
from oe.model import HostPair, Verdict
from oe.trap import nfnetlink
from oe.trap.nfnetlink import Counter
from oe.trap.ruleset import render, render_floor, render_reload
from oe.trap.spec import Kernel, TrapSpec, fate, fates

_NETLINK_NETFILTER = 12
_RECEIVE_OCTETS = 65536
_NFT_PATIENCE = 60.0
"""Seconds for one run of `nft`; a hundred thousand intervals take about three."""


class NftTable:
    """Our table in the network namespace of the thread that makes the object. Other tables are never touched.

    `install`, `reload`, `reduce_to_floor` and `remove` run `nft` and take tens of milliseconds, more with very many
    intervals; everything else takes microseconds. All block. `KernelError` names what the kernel refused.
    """

    def __init__(self) -> None:
        """Raises `MachineLacks` when there is no netfilter netlink."""
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
        except OSError as fault:
            remedy = "load the kernel module nf_tables or use a kernel built with it"
            raise MachineLacks("no netfilter netlink in this kernel", remedy) from fault
        self._socket.bind((0, 0))
        self._kernel: Kernel | None = None
        self._spec: TrapSpec | None = None
        self._author = 0

    def kernel(self) -> Kernel:
        """What this kernel can do, found out by trying, once. `MachineLacks` when it can queue in no way."""
        if self._kernel is None:
            queue = _accepts("queue to 0")
            if not queue and not self._has_queue_target():
                remedy = "load the kernel module nft_queue, or xt_NFQUEUE with nft_compat"
                raise MachineLacks("nftables here has neither the queue expression nor the NFQUEUE target", remedy)
            self._kernel = Kernel(native_queue=queue, reject=_accepts("reject with icmpx admin-prohibited"))
        return self._kernel

    def install(self, spec: TrapSpec) -> None:
        """Put the table in place, instead of that of an earlier run, at once. Decisions start empty."""
        kernel = self.kernel()
        self._write("install", render(spec, kernel))
        self._spec = spec
        if not kernel.native_queue:
            # Until this is done the closed trap drops and the open one passes, as without a listener.
            self._transact(
                "add queue rules to",
                "table inet oe",
                nfnetlink.transaction(
                    nfnetlink.add_queue_target("oe", "queue-closed", spec.queue_closed, bypass=False),
                    nfnetlink.add_queue_target("oe", "queue-open", spec.queue_open, bypass=True),
                ),
            )

    def reload(self, spec: TrapSpec) -> None:
        """New intervals, served nets and resolvers at once; decisions stay. Queues and tunnel must be the same."""
        self._write("reload", render_reload(spec))
        self._spec = spec

    def restore(self) -> None:
        """Put the table in place once more, after somebody changed it or took it away. Decisions start empty."""
        self.install(self._installed())

    def stands(self) -> bool:
        """Whether there is a table of ours, whatever is in it."""
        return self._send(nfnetlink.get_table()) == 0

    def reduce_to_floor(self) -> None:
        """Leave only what keeps closed nets shut; without such nets, nothing."""
        if self._spec is not None:
            self.install_floor(self._spec)

    def install_floor(self, spec: TrapSpec) -> None:
        """Put the floor alone in place, instead of any table of ours; without closed nets, nothing."""
        self._write("reduce", render_floor(spec))

    def knows_ipsec(self) -> bool:
        """Whether this kernel can tell packets of its own tunnels; without XFRM it has none."""
        return _accepts("meta ipsec exists accept")

    @property
    def port(self) -> int:
        """The netlink address that decisions are sent from."""
        port: int = self._socket.getsockname()[0]
        return port

    @property
    def author(self) -> int:
        """The netlink address that the last change by `nft` was sent from: the number of its process, unless somebody
        had taken that."""
        return self._author

    def remove(self) -> None:
        """Take the table away, whoever installed it; none is fine too."""
        self._write("remove", "add table inet oe\ndelete table inet oe\n")

    def decide(self, pair: HostPair, verdict: Verdict, lifetime: float, fail_closed: bool) -> None:
        """Further packets of `pair` go as `verdict` says for `lifetime` seconds.

        An earlier decision is replaced in one step. Only between `install` and `reduce_to_floor`.
        """
        spec = self._installed()
        chosen = fate(spec, verdict, fail_closed=fail_closed)
        self._transact("decide", pair, nfnetlink.decide_pair(pair, fates(spec), chosen, lifetime))

    def undecide(self, pair: HostPair) -> None:
        """The pair's group decides about its next packet again; no decision is fine too."""
        batch = nfnetlink.decide_pair(pair, fates(self._installed()), None, 1)
        self._transact("undecide", pair, batch)

    def counters(self) -> dict[str, Counter]:
        """What the table dropped so far, by the names of `spec.Dropped`; empty without a table."""
        found: dict[str, Counter] = {}
        self._socket.send(nfnetlink.dump_counters())
        finished = False
        while not finished:
            part, finished = nfnetlink.counters(self._socket.recv(_RECEIVE_OCTETS))
            found |= part
        return found

    def close(self) -> None:
        """Close our socket; the table stays."""
        self._socket.close()

    def _write(self, operation: str, text: str) -> None:
        """Have `nft` make one transaction of `text`."""
        finished = _nft(text=text)
        self._author = finished.process
        if finished.status == 0:
            return
        first = next(iter(finished.errors.splitlines()), "no message")
        fault = next((number for number in errno.errorcode if os.strerror(number) in first), 0)
        raise KernelError(operation, "table inet oe", fault, first)

    def _has_queue_target(self) -> bool:
        probe = f"oe-probe-{os.getpid()}"
        trial = nfnetlink.trial(
            nfnetlink.add_table(probe),
            nfnetlink.add_chain(probe, "probe"),
            nfnetlink.add_queue_target(probe, "probe", 0, bypass=True),
        )
        fault = self._send(trial)
        if fault == errno.EPERM:
            raise _no_privilege()
        return fault == 0

    def _installed(self) -> TrapSpec:
        if self._spec is None:
            raise KernelError("decide in", "table inet oe", errno.ENOENT, "not installed")
        return self._spec

    def _transact(self, operation: str, subject: object, batch: bytes) -> None:
        fault = self._send(batch)
        if fault:
            raise KernelError(operation, str(subject), fault, os.strerror(fault))

    def _send(self, batch: bytes) -> int:
        """Send a batch; its first errno, 0 if there was none.

        The kernel works through a batch inside `send`, so that all answers are there when it returns. How many
        there are depends on what failed; they are read up to the last, lest one be taken for the next batch's.
        """
        self._socket.send(batch)
        fault = 0
        while True:
            try:
                answer = self._socket.recv(_RECEIVE_OCTETS, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return fault
            fault = fault or next(filter(None, nfnetlink.errors(answer)), 0)


def _no_privilege() -> MachineLacks:
    return MachineLacks("no permission to change nftables", "run as root or with CAP_NET_ADMIN")


@dataclass(frozen=True, slots=True)
class _Finished:
    """One run of `nft`."""

    process: int
    status: int
    errors: str


def _accepts(rule: str) -> bool:
    """Whether the kernel knows all expressions of `rule`; nothing is changed."""
    probe = f"oe-probe-{os.getpid()}"
    finished = _nft("--check", text=f"table inet {probe} {{\n chain probe {{\n  {rule}\n }}\n}}\n")
    return finished.status == 0


def _nft(*options: str, text: str) -> _Finished:
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    try:
        process = subprocess.Popen(["nft", *options, "-f", "-"], stdin=pipe, stdout=nowhere, stderr=pipe, text=True)
    except FileNotFoundError as fault:
        raise MachineLacks("the program nft is not installed", "install nftables") from fault
    with process:
        try:
            _, errors = process.communicate(text, _NFT_PATIENCE)
        except subprocess.TimeoutExpired as fault:
            process.kill()
            raise KernelError("run", "nft", errno.ETIMEDOUT, f"no end within {_NFT_PATIENCE:.0f} s") from fault
    if process.returncode and "Operation not permitted" in errors:
        raise _no_privilege()
    return _Finished(process.pid, process.returncode, errors)
