"""Background tasks that cannot get lost.

`asyncio` keeps only a weak reference to a running task, and it reports a failure when the garbage collector finds
the task, if ever. `spawn` keeps the task until it ends and tells its failure at once.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import TypeVar

T = TypeVar("T")

OnFailure = Callable[[str, BaseException], None]
"""Called in the event loop with the task's name and the exception that ended it."""

_running: set[asyncio.Task[object]] = set()


def spawn(coroutine: Coroutine[object, object, T], name: str, on_failure: OnFailure) -> asyncio.Task[T]:
    """Run `coroutine` as a task called `name` in the running event loop.

    An exception that ends the task goes to `on_failure`, once; being cancelled is no failure.
    """
    task = asyncio.get_running_loop().create_task(coroutine, name=name)

    def ended(ended_task: asyncio.Task[T]) -> None:
        _running.discard(ended_task)
        if not ended_task.cancelled() and (error := ended_task.exception()) is not None:
            on_failure(name, error)

    _running.add(task)
    task.add_done_callback(ended)
    return task
