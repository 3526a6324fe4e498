"""Background tasks: kept until they end, and their failures told once."""

import asyncio
import gc

from oe.tasks import spawn


class Failures(list[tuple[str, BaseException]]):
    def __call__(self, name: str, error: BaseException) -> None:
        self.append((name, error))


async def value() -> int:
    return 7


async def failure() -> None:
    raise ValueError("no")


def test_the_task_has_the_name_and_gives_the_result() -> None:
    failures = Failures()

    async def scene() -> None:
        task = spawn(value(), "seven", failures)
        assert task.get_name() == "seven"
        assert await task == 7

    asyncio.run(scene())
    assert failures == []


def test_a_failure_is_told_once_with_the_name() -> None:
    failures = Failures()

    async def scene() -> None:
        await asyncio.wait([spawn(failure(), "doomed", failures)])
        await asyncio.sleep(0)

    asyncio.run(scene())
    ((name, error),) = failures
    assert name == "doomed"
    assert isinstance(error, ValueError)


def test_being_cancelled_is_no_failure() -> None:
    failures = Failures()

    async def scene() -> None:
        task = spawn(asyncio.Event().wait(), "waiting", failures)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(scene())
    assert failures == []


def test_a_task_that_nobody_holds_survives_the_garbage_collector() -> None:
    ended = []

    async def scene() -> None:
        async def patient() -> None:
            # Only the task itself refers to this future: without `spawn` both would be garbage.
            woken = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(woken.set_result, None)
            gc.collect()
            await woken
            ended.append(True)

        spawn(patient(), "patient", Failures())
        await asyncio.sleep(0)
        gc.collect()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(scene())
    assert ended == [True]
