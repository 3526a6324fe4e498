"""The made-up world around a real coordinator and a real table: a first packet, its decision, its end."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bench.books import TTL, Books


async def story() -> dict[str, int]:
    """Run in a network namespace of its own."""
    found: dict[str, int] = {}
    with closing(Books(10)) as books:
        for number in (1, 2, 2):
            books.trap(number)
        found |= {"released": books.released, "elements": books.elements(), "told": told(books)}
        books.skip(TTL + 1.0)
        while books.ring():
            pass
        found |= {"elements later": books.elements(), "told later": told(books)}
        books.skip(TTL)
        books.ring()
        found["told at the end"] = told(books)
    return found


def told(books: Books) -> int:
    pairs = books.status({})["pairs"]
    assert isinstance(pairs, Iterator)
    return len(list(pairs))


@pytest.mark.netns
def test_a_decision_reaches_the_kernel_and_ends() -> None:
    command = "unshare", "--net", sys.executable, "-m", "tests.bench.test_books"
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["released"], found["elements"], found["told"]) == (3, 2, 2)
    assert (found["elements later"], found["told later"]) == (0, 2)
    assert found["told at the end"] == 0


if __name__ == "__main__":
    print(json.dumps(asyncio.run(story())))
