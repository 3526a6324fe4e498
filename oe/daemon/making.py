"""The coordinator and its IKE engine, made of what the operator wrote."""

import os
from collections.abc import Callable
from itertools import count

import structlog

from oe.config import Config
from oe.crashsecret import load as load_crash_secret
from oe.daemon.reload import Input
from oe.errors import ConfigError
from oe.gateway import Gateway, GatewaySettings, OwnSide
from oe.ike.endpoint import Endpoint
from oe.ike.settings import IkeSettings
from oe.model import Address, Secret
from oe.trap.holds import HoldTable

HOLD_MARGIN = 0.5
"""Seconds that a packet may wait beyond the setup budget: it must still be there when the budget's verdict comes."""


def make_gateway(found: Input, addresses: tuple[Address, ...]) -> tuple[Gateway, Endpoint]:
    """For a machine with these addresses to negotiate from. The engine is the coordinator's to drive: others look."""
    config, rules, tickets = found.config, found.rules(), count(1)
    own = OwnSide(addresses, rules.served, rules.keys)
    log = structlog.get_logger()
    log.info("addresses", own=", ".join(map(str, own.addresses)))
    gateway = config.gateway
    settings = GatewaySettings(
        groups=rules.groups,
        setup_budget=gateway.setup_budget,
        max_pairs=gateway.max_pairs,
        liveness=gateway.liveness,
        idle=gateway.idle,
        ike_port=config.ike.port,
    )
    holds = HoldTable(
        per_pair=gateway.hold_per_pair, total=gateway.hold_in_all, patience=gateway.setup_budget + HOLD_MARGIN
    )
    ike_settings = IkeSettings(
        additional_key_exchange=config.ike.additional_key_exchange,
        nat_port=config.ike.nat_port,
        child_lifetime=gateway.child_lifetime,
        child_octets=gateway.child_octets,
        ike_lifetime=gateway.ike_lifetime,
    )
    crash_secret = _crash_secret(config)
    engines: list[Endpoint] = []

    def make_ike(admits: Callable[[Address], bool]) -> Endpoint:
        engines.append(Endpoint(ike_settings, own.keys, os.urandom, admits, tickets, count(1), crash_secret))
        return engines[0]

    made = Gateway(settings, rules.policies, own, make_ike, holds, tickets, os.urandom)
    return made, engines[0]


def _crash_secret(config: Config) -> Secret | None:
    """None: without it we work all the same, only peers notice a crash of ours later."""
    if not config.ike.crash_tokens:
        return None
    try:
        return load_crash_secret(config.paths.state)
    except ConfigError as error:
        log = structlog.get_logger()
        log.warning("no-crash-secret", error=str(error), meaning="peers notice a crash of ours later")
        return None
