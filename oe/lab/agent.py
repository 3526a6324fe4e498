"""The lab's hand inside a host: `python -m oe.lab.agent SOCKET` in the host's namespace.

It answers echo (TCP and UDP port 7) on all addresses, and does jobs for the lab: one JSON line in, one JSON line out,
one connection each. The socket is a path, so that the lab reaches it from outside the host's network namespace.
"""

import json
import socket
import socketserver
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from threading import Thread
from typing import Any

from oe.lab import probes

_LARGEST_ANSWER = 65_535
_IP_PKTINFO = 8
"""IP_PKTINFO of Linux; the `socket` module of Python 3.11 lacks it."""


class _JobServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64


class _Job(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        line = self.rfile.readline()
        if line:
            job = json.loads(line)
            self.wfile.write(json.dumps(JOBS[job.pop("job")](**job)).encode() + b"\n")


def _probe(**fields: Any) -> dict[str, Any]:
    return asdict(probes.run(probes.Probe(**fields)))


def _exchange(address: str, port: int, payload: str, patience: float) -> dict[str, str]:
    """Send a datagram (hex), return the first answer (hex), empty when none came."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.settimeout(patience)
        try:
            datagrams.connect((address, port))
            datagrams.send(bytes.fromhex(payload))
            return {"answer": datagrams.recv(_LARGEST_ANSWER).hex()}
        except OSError:
            return {"answer": ""}


def _read(path: str) -> dict[str, str]:
    """The text of a file of the host's /proc; empty when it cannot be read."""
    try:
        return {"text": Path(path).read_text()}
    except OSError:
        return {"text": ""}


JOBS: dict[str, Callable[..., dict[str, Any]]] = {"probe": _probe, "exchange": _exchange, "read": _read}


def serve_streams(family: socket.AddressFamily) -> None:
    """Echo TCP on all addresses of one family from now on, in a thread."""

    class Echo(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while data := self.request.recv(65_536):
                self.request.sendall(data)

    class Server(socketserver.ThreadingTCPServer):
        address_family = family
        daemon_threads = True
        allow_reuse_address = True

        def server_bind(self) -> None:
            if family == socket.AF_INET6:
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            super().server_bind()

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A probe that gave up is no error here."""

    Thread(target=Server(("", probes.PORT), Echo).serve_forever, daemon=True).start()


def serve_datagrams(family: socket.AddressFamily) -> None:
    """Echo UDP from now on, in a thread, and from the very address that was asked: a host of the lab has many."""
    datagrams = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        datagrams.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    datagrams.bind(("", probes.PORT))

    def echo() -> None:
        while True:
            try:
                data, ancillary, _, sender = datagrams.recvmsg(65_536, 256)
                asked = [(level, kind, _as_source(level, value)) for level, kind, value in ancillary]
                datagrams.sendmsg([data], asked, 0, sender)
            except OSError:
                continue  # an ICMP error for an earlier answer, or an answer that policy forbids

    Thread(target=echo, daemon=True).start()


def _as_source(level: int, info: bytes) -> bytes:
    """Received packet information turned into the one that chooses a source: the interface is left to routing."""
    if level == socket.IPPROTO_IPV6:
        return info[:16] + bytes(4)
    return bytes(4) + info[8:12] + bytes(4)


def main(path: str) -> None:
    for serve in (serve_streams, serve_datagrams):
        for family in (socket.AF_INET, socket.AF_INET6):
            serve(family)
    with _JobServer(path, _Job) as server:
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
