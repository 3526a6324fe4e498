"""Each cell of the table in docs/interop.md, as played in the test kernel just now."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.interop.plan import CASES, Case, Product, Step
from tests.interop.table import table

pytestmark = [pytest.mark.interop, pytest.mark.timeout(1500)]

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGING = CHECKOUT / "packaging"
RESULTS = CHECKOUT / "build/interop"
CELLS = [(case, step) for case in CASES for step in Step if step not in case.without]


@pytest.fixture(scope="session")
def played() -> dict[str, Any]:
    """What all cases came to; logs and captures are beside it, in build/interop."""
    roots = [subprocess.check_output([PACKAGING / "rivals/build", product], text=True).strip() for product in Product]
    inside = sys.executable, "-m", "tests.interop", "--results", "/run/job/results", "--rivals", *roots
    guest: list[str | Path] = [PACKAGING / "kernel/run", "--timeout", "1400", "--results", RESULTS]
    subprocess.run([*guest, *inside], cwd=CHECKOUT, check=True)
    document: dict[str, Any] = json.loads((RESULTS / "interop.json").read_text())
    return document


@pytest.mark.parametrize(("case", "step"), CELLS, ids=lambda one: one.name if isinstance(one, Case) else one)
def test_it_is_as_it_must(played: dict[str, Any], case: Case, step: Step) -> None:
    assert played["cases"][case.name][step] == ""


def test_the_document_says_so(played: dict[str, Any]) -> None:
    text = (CHECKOUT / "docs/interop.md").read_text()
    assert table(played) in text, "python -m tests.interop.table mends it"
