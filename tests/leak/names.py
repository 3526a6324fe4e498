"""The DNS of the leak tests: who answers for whom, on loopback of both gateways, and silence when told so."""

import select
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from ipaddress import ip_address

import dns.flags
import dns.message
import dns.reversename
import dns.rrset

from oe.dnskeys.publish import zone_lines
from oe.model import Address, PublicKey
from tests.ipsec.netns import Namespace


class Names:
    """Answers as a validating resolver does. `records`: gateway and key by the owner; what is not there has none."""

    def __init__(self, records: Callable[[Address], tuple[Address | None, PublicKey] | None]) -> None:
        self._records = records
        self.silent_to: set[Namespace] = set()
        self.on_question: Callable[[Namespace, Address], None] = lambda asker, owner: None
        self._sockets: dict[socket.socket, Namespace] = {}
        self._closing = False
        self._thread = threading.Thread(target=self._serve)

    def start(self, hosts: Mapping[str, Namespace]) -> None:
        for host in hosts.values():
            with host.entered():
                server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                server.bind(("127.0.0.1", 53))
                self._sockets[server] = host
        self._thread.start()

    def close(self) -> None:
        self._closing = True
        self._thread.join()
        for server in self._sockets:
            server.close()

    def _serve(self) -> None:
        while not self._closing:
            for server in select.select(list(self._sockets), [], [], 0.2)[0]:
                query, asker = server.recvfrom(4096)
                response = self._answer(self._sockets[server], query)
                if response is not None:
                    with suppress(OSError):
                        server.sendto(response, asker)

    def _answer(self, asker: Namespace, query: bytes) -> bytes | None:
        question = dns.message.from_wire(query)
        owner = ip_address(dns.reversename.to_address(question.question[0].name))
        self.on_question(asker, owner)
        if asker in self.silent_to:
            return None
        response = dns.message.make_response(question)
        response.flags |= dns.flags.AD | dns.flags.RA
        record = self._records(owner)
        if record is not None and question.question[0].rdtype.name == "IPSECKEY":
            gateway, key = record
            for line in zone_lines(owner, (key,), gateway):
                name, ttl, kind, form, rdata = line.split(" ", 4)
                response.answer.append(dns.rrset.from_text(name, int(ttl), kind, form, rdata))
        return response.to_wire()
