"""Network namespaces without names: they are gone with the last descriptor, however the test ends."""

import ctypes
import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

Result = TypeVar("Result")

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), what)


def _own_namespace() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _output(command: str) -> str:
    return subprocess.run(command.split(), check=True, capture_output=True, text=True).stdout


class Namespace:
    """A network namespace, with a thread that lives in it."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1)
        self._executor.submit(lambda: _check(_libc.unshare(_CLONE_NEWNET), "unshare")).result()
        self.fd = self._executor.submit(_own_namespace).result()
        self.sh("ip link set lo up")

    @property
    def path(self) -> str:
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    def submit(self, function: Callable[[], Result]) -> "Future[Result]":
        """Call a function in the namespace, later."""
        return self._executor.submit(function)

    def call(self, function: Callable[[], Result]) -> Result:
        """Call a function in the namespace."""
        return self.submit(function).result()

    def sh(self, *commands: str) -> str:
        """Run commands in the namespace; their standard output."""
        return "".join(self.call(partial(_output, command)) for command in commands)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread is in the namespace for the length of the block."""
        home = _own_namespace()
        try:
            _check(_libc.setns(self.fd, _CLONE_NEWNET), "setns")
            yield
        finally:
            _check(_libc.setns(home, _CLONE_NEWNET), "setns")
            os.close(home)

    def close(self) -> None:
        self._executor.shutdown()
        os.close(self.fd)
