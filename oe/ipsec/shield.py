"""Leads marked packets into the tunnel device, and `private` ones nowhere at all when the device is gone.

    rule  mark SHIELD_CLOSED  → table: default dev oe0, else blackhole    the process dies: packets are dropped
    rule  mark SHIELD_OPEN    → table: default dev oe0                    the process dies: packets go the ordinary way

Routes through a device vanish with it; that is the whole mechanism, and it needs nobody alive.
"""

import errno
from ipaddress import IPv4Address

from oe.errors import KernelError
from oe.ipsec import route_wire as wire
from oe.ipsec.model import Marks
from oe.ipsec.netlink import NETLINK_ROUTE, Netlink
from oe.ipsec.netlink_wire import CREATE, EXCLUSIVE, REPLACE
from oe.ipsec.route_wire import DefaultRoute, Rule

CLOSED_TABLE = 0x6F65
OPEN_TABLE = 0x6F66
PRIORITY = 111
"""Of our rules: after that of the local table, before the operator's and the main table's."""

_DUMMY_ADDRESS = IPv4Address("192.0.0.8")
"""RFC 7600. Without any IPv4 address on a device, the kernel's reverse path filter lets nothing in there, not even
when it is loose."""

_LAST_METRIC = 0xFFFF_FFFF

_NOT_HERE = frozenset({errno.EAFNOSUPPORT, errno.EOPNOTSUPP})
_GONE = frozenset({errno.ENOENT, errno.ESRCH, errno.ENODEV})


class Shield:
    """The rules and routes of one tunnel device."""

    def __init__(self, marks: Marks) -> None:
        self._netlink = Netlink(NETLINK_ROUTE)
        self._rules = [
            Rule(family, priority, mark, table)
            for family in wire.FAMILIES
            for priority, mark, table in (
                (PRIORITY, marks.shield_closed, CLOSED_TABLE),
                (PRIORITY + 1, marks.shield_open, OPEN_TABLE),
            )
        ]
        self._blackholes = [DefaultRoute(family, CLOSED_TABLE, None, _LAST_METRIC) for family in wire.FAMILIES]
        self._routes: list[DefaultRoute] = []

    def raise_over(self, device: int) -> None:
        """Put everything in place for the device of that index, which is up. Raises KernelError.

        What a crashed run left behind is taken over, not removed first: at no time is a marked packet unprotected.
        A family that the kernel lacks has no packets either and is left out.
        """
        self._routes = [
            DefaultRoute(family, table, device, 1) for family in wire.FAMILIES for table in (CLOSED_TABLE, OPEN_TABLE)
        ]
        address = wire.encode_address(device, _DUMMY_ADDRESS)
        self._try(wire.NEWADDR, address, "add address", str(_DUMMY_ADDRESS), CREATE | REPLACE, _NOT_HERE)
        for route in self._blackholes + self._routes:
            body = wire.encode_route(route)
            self._try(wire.NEWROUTE, body, "add route to table", str(route.table), CREATE | REPLACE, _NOT_HERE)
        tolerated = _NOT_HERE | {errno.EEXIST}
        for rule in self._rules:
            body = wire.encode_rule(rule)
            self._try(wire.NEWRULE, body, "add rule for mark", f"{rule.mark:#x}", CREATE | EXCLUSIVE, tolerated)
        for rule in set(self._own_rules()) - set(self._rules):
            self._try(wire.DELRULE, wire.encode_rule(rule), "remove rule for mark", f"{rule.mark:#x}", 0, _GONE)

    def lower(self) -> None:
        """Take everything away. Raises KernelError."""
        for rule in self._rules:
            self._try(wire.DELRULE, wire.encode_rule(rule), "remove rule for mark", f"{rule.mark:#x}", 0, _ABSENT)
        for route in self._routes + self._blackholes:
            body = wire.encode_route(route)
            self._try(wire.DELROUTE, body, "remove route from table", str(route.table), 0, _ABSENT)

    def close(self) -> None:
        """What is in place stays."""
        self._netlink.close()

    def _own_rules(self) -> list[Rule]:
        messages = [
            message
            for family in wire.FAMILIES
            for message in self._netlink.dump(wire.GETRULE, wire.encode_rule_query(family), "rules")
        ]
        return [rule for message in messages if (rule := wire.decode_rule(message.body)) is not None]

    def _try(self, kind: int, body: bytes, operation: str, subject: str, flags: int, tolerated: frozenset[int]) -> None:
        try:
            self._netlink.request(kind, body, operation, subject, flags)
        except KernelError as error:
            if error.errno not in tolerated:
                raise


_ABSENT = _GONE | _NOT_HERE
