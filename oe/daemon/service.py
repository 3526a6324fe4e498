"""The loop of the daemon: events in, commands out, one timer.

Start goes from what can fail harmlessly to what changes the machine: configuration, control socket, queues, ports,
then the trap, then the back end. Whatever fails takes back what was done before it, but for `private` and `block` nets:
those stay shut.
"""

import asyncio
import resource
import signal
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from ipaddress import ip_address
from pathlib import Path

import structlog

from oe.config import Config
from oe.control import ControlServer, Json, Refused, Verb
from oe.daemon.addresses import AddressWatch
from oe.daemon.collector import calm
from oe.daemon.hands import Hands, Tools
from oe.daemon.keeper import Keeper
from oe.daemon.machine import ROOT, choose_backend, global_addresses, own_addresses, resolver_users, trap_spec
from oe.daemon.making import make_gateway
from oe.daemon.reload import GIVE_WAY, Input, judge, read_anew, read_input, report
from oe.dnskeys.resolver import Resolver
from oe.errors import OeError, ParseError
from oe.ike.udp import UdpSockets
from oe.ipsec.model import Backend, Probe
from oe.messages import (
    AddressesChanged,
    ClearPacketRefused,
    DatagramReceived,
    DecisionsLost,
    Event,
    FlushAsked,
    PacketTrapped,
    Started,
    StopAsked,
)
from oe.model import MARK_EXEMPT, Address, HostPair
from oe.observe import DaemonStatus, configure_log, status_document
from oe.reasons import Reason
from oe.tasks import spawn
from oe.trap.nft import NftTable
from oe.trap.queue import TrapQueues
from oe.trap.spec import TrapSpec

MOST_WAITING = 4096
"""Events that may wait while the trap is exchanged; beyond that IKE's datagrams are lost, as in a full socket."""


def run(config: Config, path: Path | None) -> int:
    """Run the daemon in the foreground until SIGTERM or SIGINT; the exit code.

    `path`: where `config` was read, as `load_config` takes it, to read it again on a reload. Raises ConfigError or
    MachineLacks before anything was changed on the machine.
    """
    configure_log(config.log.level.value, json_lines=config.log.json_lines)
    # Keys must not end in a file because something crashed.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.setswitchinterval(GIVE_WAY)
    log = structlog.get_logger()
    found = read_input(config)
    for problem in found.policies.problems:
        log.error("policy-problem", problem=str(problem))
    if found.policies.policies.closed:
        log.error("policy-closed", meaning="until `private` is mended every destination but `block` counts as private")
    _warn(found)
    if not found.keys.public_keys:
        log.warning("no-key", remedy=f"make one with `oe key new --dir {config.paths.keys}` and publish it")
    judge(found, ())
    addresses = own_addresses(config.gateway.addresses, global_addresses())

    async def serve() -> int:
        return await Service(found, path, addresses).serve()

    with asyncio.Runner() as runner:
        return runner.run(serve())


def _warn(found: Input) -> None:
    """Of what stops neither a start nor a reload."""
    log = structlog.get_logger()
    for problem in found.misnamed:
        log.warning("policy-file-misnamed", problem=problem)


class Service:
    """One running daemon."""

    _backend: Backend
    _backend_found: Probe
    _hands: Hands
    _keeper: Keeper
    _resolver: Resolver

    def __init__(self, found: Input, path: Path | None, addresses: tuple[Address, ...]) -> None:
        self._input = found
        self._path = path
        self._addresses = addresses
        self._loop = asyncio.get_running_loop()
        self._log = structlog.get_logger()
        self._events: deque[Event] = deque()
        self._working = False
        self._resting = False
        self._timer: asyncio.TimerHandle | None = None
        self._reloads = asyncio.Lock()
        self._hangup_waits = False
        self._finished = asyncio.Event()
        self._started = self._loop.time()
        self._gateway, self._ike = make_gateway(found, addresses)

    async def serve(self) -> int:
        """Start, work until told to stop, stop. 0 after an orderly stop."""
        verbs: dict[str, Verb] = {"status": self._status, "flush": self._flush, "reload": self._reload}
        control = ControlServer(self._input.config.paths.run, verbs, self._connection_failed)
        await control.start()
        try:
            with ExitStack() as stack:
                self._start(stack)
                for number in (signal.SIGTERM, signal.SIGINT):
                    self._loop.add_signal_handler(number, self._feed, StopAsked())
                self._loop.add_signal_handler(signal.SIGHUP, self._hung_up)
                # `oe run` begins with the signal blocked: one that came since then comes now.
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
                calm()
                self._log.info("ready", backend=self._backend.name, why=self._backend_found.why)
                await self._finished.wait()
                self._log.info("stopping")
                async with self._reloads:
                    pass  # One that runs has come to its end; those that wait find us finished.
        finally:
            await control.close()
        return 0

    def _start(self, stack: ExitStack) -> None:
        """Open the wings' I/O; `stack` closes it in the right order."""
        config = self._input.config
        self._backend, self._backend_found = choose_backend(config.gateway.backend)
        table = NftTable()
        stack.callback(table.close)
        closed, open_ = config.gateway.queues
        queues = TrapQueues(
            closed=closed,
            open=open_,
            on_packet=lambda packet: self._feed(PacketTrapped(packet)),
            on_refused=lambda packet: self._feed(ClearPacketRefused(packet.pair.reversed)),
            on_malformed=self._malformed,
            max_len=config.gateway.hold_in_all,
        )
        stack.callback(queues.close)
        sockets = UdpSockets(self._feed, mark=MARK_EXEMPT, port=config.ike.port, nat_port=config.ike.nat_port)
        sockets.open(self._loop)
        stack.callback(sockets.close)
        self._backend.join(sockets)
        resolver = self._resolver = Resolver(list(config.dns.resolvers), MARK_EXEMPT, self._feed, self._loop.time)
        resolver.start()
        stack.callback(resolver.close)
        if ROOT in resolver_users(config):
            self._log.warning("resolver-is-root", remedy="run it as a user of its own: its questions are trapped")
        # The trap before the back end, which at its start takes away the SAs of a run that crashed: their packets
        # must find the trap. At the end the other way round: decisions go before what they point to.
        stack.callback(self._backend.close)
        spec = trap_spec(config, self._input.policies.policies, self._backend)
        self._keeper = Keeper(table, spec, self._loop, lambda: self._feed(DecisionsLost()))
        stack.callback(self._keeper.close)
        stack.callback(self._reduce, table)
        self._backend.start(self._loop, self._feed)
        tools = Tools(queues, table, sockets, resolver, self._backend, self._input.keys)
        self._hands = Hands(tools, self._loop, self._feed, self._finished.set)
        stack.callback(self._hands.close)
        queues.attach(self._loop)
        addresses = AddressWatch(
            config.gateway.addresses, self._addresses, self._loop, lambda now: self._feed(AddressesChanged(now))
        )
        stack.callback(addresses.close)
        self._feed(Started())

    def _reduce(self, table: NftTable) -> None:
        try:
            table.reduce_to_floor()
        except OeError as error:
            self._log.error("table-not-reduced", error=str(error))

    # --- the loop ----------------------------------------------------------------------------------------------

    def _feed(self, event: Event) -> None:
        """Take an event in. One that comes while another is being worked on waits its turn."""
        if self._resting and len(self._events) >= MOST_WAITING and isinstance(event, DatagramReceived):
            self._hands.counters.count(Reason.RELOAD_UNDER_WAY)
            return
        self._events.append(event)
        if not (self._working or self._resting):
            self._work()

    def _work(self) -> None:
        self._working = True
        try:
            while self._events:
                self._handle(self._events.popleft())
        finally:
            self._working = False
        self._set_timer()

    def _handle(self, event: Event) -> None:
        try:
            self._gateway.handle(event, self._loop.time())
        except Exception:
            # One event that the engines cannot digest must not end the protection of everybody else.
            self._log.exception("event-not-handled", kind=type(event).__name__)
        self._carry_out()

    def _carry_out(self) -> None:
        """Every command, in order. What one brings about is worked on when all are done."""
        was_working, self._working = self._working, True
        for command in self._gateway.take():
            try:
                self._hands.carry_out(command)
            except Exception:
                self._log.exception("command-not-carried-out", kind=type(command).__name__)
        self._working = was_working

    @contextmanager
    def _rest(self) -> Iterator[None]:
        """For the length of the block events wait, and no timer rings: nothing is decided.

        Packets are still taken out of the queues, and the back end goes on carrying what tunnels have.
        """
        self._resting = True
        try:
            yield
        finally:
            self._resting = False
            self._work()

    def _ring(self) -> None:
        self._timer = None
        if self._resting:
            return
        try:
            self._gateway.expire(self._loop.time())
        except Exception:
            self._log.exception("timer-not-handled")
        self._carry_out()
        self._work()

    def _set_timer(self) -> None:
        deadline = self._gateway.deadline()
        if self._timer is not None:
            if self._timer.when() == deadline:
                return
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            self._timer = self._loop.call_at(max(deadline, self._loop.time()), self._ring)

    def _malformed(self, error: ParseError) -> None:
        self._hands.counters.count(Reason.PACKET_MALFORMED)
        self._log.debug("packet-malformed", error=str(error))

    # --- the operator ------------------------------------------------------------------------------------------

    def _status(self, request: Json) -> Json:
        """With `"ike": true` there are IKE SAs in the answer, too."""
        now = self._loop.time()
        daemon = DaemonStatus(
            version=version("oe"),
            backend=self._backend.name.value,
            backend_why=self._backend_found.why,
            uptime=now - self._started,
            policy_problems=tuple(str(problem) for problem in self._input.policies.problems),
            reasons=self._hands.counters.with_those_of(self._gateway.reasons, self._backend.statistics()),
            queues=self._hands.queue_rows(),
        )
        ike_sas = self._ike.snapshot() if request.get("ike") else None
        return status_document(daemon, self._gateway.snapshot(), now, ike_sas)

    async def _flush(self, request: Json) -> Json:
        """`{"source": A, "destination": B}` forgets one pair, without them all; how many there were.

        Not while the trap is exchanged.
        """
        async with self._reloads:
            return self._forget(request)

    def _forget(self, request: Json) -> Json:
        if "source" not in request and "destination" not in request:
            self._resolver.forget(None)
            known = len(self._gateway.pairs)
            self._feed(FlushAsked(None))
            return {"pairs": known}
        try:
            source, destination = ip_address(str(request.get("source"))), ip_address(str(request.get("destination")))
        except ValueError as error:
            raise Refused(f"a pair to flush is two addresses: {error}") from None
        self._resolver.forget(source)
        self._resolver.forget(destination)
        pair = HostPair(source, destination)
        known = int(pair in self._gateway.pairs)
        self._feed(FlushAsked(pair))
        return {"pairs": known}

    async def _reload(self, _request: Json) -> Json:
        """Goes on to its end even when who asked for it has gone."""
        return await asyncio.shield(spawn(self._reload_in_turn(), "reload", self._reload_failed))

    def _hung_up(self) -> None:
        """SIGHUP: the log has what came of it. All that come before the reload begins are one."""
        if not self._hangup_waits:
            self._hangup_waits = True
            spawn(self._reload_in_turn(hangup=True), "reload", self._reload_failed)

    def _reload_failed(self, name: str, error: BaseException) -> None:
        if isinstance(error, OeError):
            self._log.error("not-reloaded", error=str(error))
        else:
            self._connection_failed(name, error)

    async def _reload_in_turn(self, *, hangup: bool = False) -> Json:
        """One reload at a time, each of the files as they are when its turn comes.

        What takes its time is done in a thread, up to the last that may refuse, the trap.
        """
        async with self._reloads:
            if hangup:
                self._hangup_waits = False
            found, spec = await asyncio.to_thread(self._read_anew)
            if self._finished.is_set():
                raise Refused("oe is stopping")
            return await self._take_over(found, spec)

    def _read_anew(self) -> tuple[Input, TrapSpec]:
        found = read_anew(self._path, self._input)
        judge(found, self._input.keys.public_keys)
        return found, trap_spec(found.config, found.policies.policies, self._backend)

    async def _take_over(self, found: Input, spec: TrapSpec) -> Json:
        """First the trap: from then on its floor shuts what is closed now, or it refuses and nothing has changed.

        Then the pairs, whose decisions fall through to the new trap. Nothing is decided and no packet let go between
        the two: what the old policy says must not come into the new table, nor the other way round.
        """
        before, config = self._input, found.config
        with self._rest():
            await self._keeper.reload(spec)
            self._input = found
            self._hands.sign_with(found.keys)
            let_go = self._gateway.adopt(found.rules(), self._loop.time())
            self._carry_out()
        configure_log(config.log.level.value, json_lines=config.log.json_lines)
        _warn(found)
        told = await asyncio.to_thread(report, before, found, let_go, len(self._gateway.pairs))
        self._log.info("reloaded", pairs_let_go=told["pairs_let_go"], pairs_kept=told["pairs_kept"])
        return told

    def _connection_failed(self, name: str, error: BaseException) -> None:
        self._log.error("task-failed", task=name, error=repr(error))
