"""Follows the addresses of this machine while the daemon runs."""

from collections.abc import Callable

import structlog

from oe.daemon.machine import global_addresses
from oe.errors import KernelError
from oe.ipsec.model import Loop, Timer
from oe.ipsec.netlink import NETLINK_ROUTE, Multicast
from oe.ipsec.route_wire import GROUP_IPV4_ADDRESS, GROUP_IPV6_ADDRESS, GROUP_LINK
from oe.model import Address

SETTLING = 0.25
"""Seconds from the first news to the look: changes come in swarms, and what comes back at once was never away."""


class AddressWatch:
    """`on_change(addresses)` whenever the addresses to negotiate from are others than before.

    `configured`: those that the configuration names; without any all that are there are meant.
    """

    def __init__(
        self,
        configured: tuple[Address, ...],
        known: tuple[Address, ...],
        loop: Loop,
        on_change: Callable[[tuple[Address, ...]], None],
    ) -> None:
        self._configured = configured
        self._known = known
        self._loop = loop
        self._on_change = on_change
        self._log = structlog.get_logger()
        self._news = Multicast(NETLINK_ROUTE, GROUP_LINK, GROUP_IPV4_ADDRESS, GROUP_IPV6_ADDRESS)
        loop.add_reader(self._news.fileno(), self._hear)
        # What changed between the first look and now is not in the news.
        self._timer: Timer | None = loop.call_at(loop.time() + SETTLING, self._look)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._news.fileno())
        self._news.close()

    def _hear(self) -> None:
        """What the news say does not matter: the kernel is asked when they have come to rest."""
        self._news.skip()
        if self._timer is None:
            self._timer = self._loop.call_at(self._loop.time() + SETTLING, self._look)

    def _look(self) -> None:
        self._timer = None
        try:
            present = global_addresses()
        except KernelError as error:
            self._log.error("addresses-not-read", error=str(error))
            return
        usable = tuple(one for one in self._configured or present if one in present)
        if set(usable) != set(self._known):
            self._known = usable
            self._on_change(usable)
