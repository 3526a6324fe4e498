"""What every other IKE daemon is to the tests: a root of its own, a process, and some verbs."""

import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from bench.soak.world import inside
from oe.model import PublicKey
from tests.interop.places import directory, run, written
from tests.interop.plan import Case

PATIENCE = 120.0


def await_that(what: str, holds: Callable[[], object], patience: float = PATIENCE, pause: float = 0.1) -> None:
    """Poll until something holds. Raises TimeoutError, if it did not hold when it was asked after that time."""
    deadline = time.monotonic() + patience
    while True:
        asked = time.monotonic()
        if holds():
            return
        if asked > deadline:
            raise TimeoutError(f"{what}: not after {patience:.0f} s")
        time.sleep(pause)


class Rival(ABC):
    """A host with another daemon. `base` is what `packaging/rivals/build` made; nothing is written there."""

    log: str
    """Path of its log in its root."""

    def __init__(self, case: Case, base: Path) -> None:
        self.case = case
        self.host = case.name
        self.root = directory(case.name) / "root"
        self._base = base
        self._process: subprocess.Popen[bytes] | None = None

    def furnish(self) -> None:
        """A root of its own: that of the product, with a layer in memory over it."""
        layers = directory(self.host) / "layers"
        for made in (self.root, layers / "upper", layers / "work"):
            made.mkdir(parents=True)
        layered = f"lowerdir={self._base},upperdir={layers / 'upper'},workdir={layers / 'work'}"
        run("mount", "-t", "overlay", "-o", layered, "overlay", self.root)
        run("mount", "-t", "proc", "proc", self.root / "proc")
        run("mount", "-t", "tmpfs", "tmpfs", self.root / "run")
        run("mount", "--bind", "/dev", self.root / "dev")

    def write(self, path: str, text: str) -> None:
        written(self.root / path, text)

    def start(self) -> None:
        """Start the daemon and wait until it is ready to negotiate."""
        with inside(self.host), (directory(self.host) / "daemon.log").open("ab") as log:
            argv = ["chroot", str(self.root), *self.command()]
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        await_that(f"{self.host}: ready", self.is_ready)
        self.configure()

    def crash(self) -> None:
        """As a power cut does it: nobody is told, and the kernel has forgotten everything."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        for what in ("state", "policy"):
            run("ip", "-n", self.host, "xfrm", what, "flush")
        shutil.move(self.root / self.log, f"{self.root / self.log}.1")

    def ask(self, *argv: str) -> str:
        """The output of a program in the daemon's root and namespace."""
        with inside(self.host):
            return run("timeout", f"{PATIENCE:.0f}", "chroot", self.root, *argv)

    @abstractmethod
    def make_key(self) -> PublicKey | None:
        """A key for it, which it finds when it starts."""

    @abstractmethod
    def command(self) -> tuple[str, ...]:
        """Its program and arguments."""

    @abstractmethod
    def prepare(self, peer: PublicKey, anchors: tuple[str, ...]) -> None:
        """Write its configuration; it talks to a peer with that key, or finds the key in zones with these anchors."""

    @abstractmethod
    def is_ready(self) -> bool: ...

    @abstractmethod
    def configure(self) -> None:
        """What is to be told to the running daemon."""

    @abstractmethod
    def version(self) -> str: ...

    @abstractmethod
    def ike_sas(self) -> frozenset[str]:
        """The IKE SAs that it calls established, by SPI or whatever it tells them apart by."""

    @abstractmethod
    def rekey_child(self) -> None: ...

    @abstractmethod
    def rekey_ike(self) -> None: ...

    @abstractmethod
    def delete(self) -> None:
        """End the IKE SA with its Child SA, and tell the peer."""
