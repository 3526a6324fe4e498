"""Puts the table of the last run into docs/interop.md: `python -m tests.interop.table`."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.interop.plan import CASES, Case, Product, Step

_CHECKOUT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"(<!-- table: interop -->\n).*?(<!-- end -->)", re.DOTALL)
_VERSION = re.compile(r"\d+(\.\d+)+")


def table(document: Mapping[str, Any]) -> str:
    """The cells of a run as Markdown: one row for each case, one column for each step."""
    rows = ((f"{case.product.spelling}: {case.title}", *_cells(case, document["cases"][case.name])) for case in CASES)
    lines = [("with", *Step), ("---",) * (1 + len(Step)), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def versions(document: Mapping[str, Any]) -> str:
    found = ((product, _VERSION.search(text)) for product, text in document["versions"].items())
    named = (f"{Product(product).spelling} {version[0]}" for product, version in found if version is not None)
    return f"Played with {', '.join(named)} on Linux {document['kernel']}.\n"


def _cells(case: Case, told: Mapping[str, str]) -> Iterable[str]:
    for step in Step:
        yield "—" if step in case.without else "no" if told[step] else "yes"


def document_with(text: str, rows: str) -> str:
    """The document with another table."""
    return _BLOCK.sub(lambda block: f"{block[1]}\n{rows}\n{block[2]}", text)


def main() -> None:
    page = _CHECKOUT / "docs/interop.md"
    document = json.loads((_CHECKOUT / "build/interop/interop.json").read_text())
    page.write_text(document_with(page.read_text(), f"{table(document)}\n{versions(document)}"))


if __name__ == "__main__":
    main()
