"""Traffic between two namespaces, and a look at the link between them."""

import socket
import subprocess
from collections import Counter
from contextlib import closing

from oe.model import Address
from tests.waiting import PATIENCE

PORT = 4711

FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
ETH_P_ALL, ETH_P_IP, ETH_P_IPV6 = 0x0003, 0x0800, 0x86DD
PACKET_OUTGOING = 4
SO_RCVBUFFORCE = 33
FRAGMENT_HEADER, ESP = 44, 50


def listening(address: Address, kind: socket.SocketKind, patience: float = PATIENCE) -> socket.socket:
    server = socket.socket(FAMILIES[address.version], kind)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.settimeout(patience)
    server.bind((str(address), PORT))
    if kind is socket.SOCK_STREAM:
        server.listen()
    return server


def echo_datagram(server: socket.socket) -> None:
    """Answer one datagram."""
    data, peer = server.recvfrom(65535)
    server.sendto(data, peer)


def ask_datagram(source: Address, destination: Address, data: bytes, patience: float = PATIENCE) -> bytes:
    """Send a datagram; its answer."""
    with socket.socket(FAMILIES[source.version], socket.SOCK_DGRAM) as client:
        client.settimeout(patience)
        client.bind((str(source), 0))
        client.sendto(data, (str(destination), PORT))
        return client.recv(65535)


def take_stream(server: socket.socket) -> bytes:
    """All octets of one connection."""
    connection, _ = server.accept()
    with connection:
        connection.settimeout(PATIENCE)
        received = bytearray()
        while data := connection.recv(1 << 16):
            received += data
        return bytes(received)


def send_stream(source: Address, destination: Address, data: bytes) -> None:
    """One connection that carries `data`."""
    with socket.create_connection((str(destination), PORT), PATIENCE, (str(source), 0)) as client:
        client.sendall(data)


def ping(source: Address, destination: Address, size: int) -> None:
    """One echo request of that many octets; raises CalledProcessError when it is not answered."""
    subprocess.run(
        ["ping", "-c1", f"-W{PATIENCE:.0f}", "-s", str(size), "-I", str(source), str(destination)],
        check=True,
        capture_output=True,
    )


class Capture:
    """IP protocols of the packets that leave on a device; neighbour discovery left out."""

    def __init__(self, device: str = "cable") -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        self._socket.bind((device, ETH_P_ALL))
        self._socket.setblocking(False)

    def protocols(self) -> Counter[int]:
        """What was seen since the last call."""
        seen: Counter[int] = Counter()
        while True:
            try:
                frame, address = self._socket.recvfrom(65535)
            except BlockingIOError:
                return seen
            if address[2] != PACKET_OUTGOING:
                continue
            kind = int.from_bytes(frame[12:14], "big")
            if kind == ETH_P_IP:
                seen[frame[23]] += 1
            elif kind == ETH_P_IPV6 and not _neighbour_discovery(frame[14:]):
                seen[frame[54] if frame[20] == FRAGMENT_HEADER else frame[20]] += 1

    def close(self) -> None:
        self._socket.close()


def capture() -> "closing[Capture]":
    """Begin to watch the link of the namespace the caller is in."""
    return closing(Capture())


def _neighbour_discovery(packet: bytes) -> bool:
    multicast_reports = packet[6] == 0
    return multicast_reports or (packet[6] == 58 and packet[40] in range(133, 137))
