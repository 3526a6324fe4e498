"""A daemon as far as the command line can tell: a control socket that answers, in a thread of its own."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from oe.control import ControlServer, Verb


@contextmanager
def answering(run_dir: Path, verbs: Mapping[str, Verb]) -> Iterator[None]:
    """While the block runs, requests in `run_dir` are answered with `verbs`."""
    loop = asyncio.new_event_loop()
    server = ControlServer(run_dir, verbs, lambda *_: None)
    loop.run_until_complete(server.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(server.close())
        loop.close()
