"""The documents say what the code does, as far as that can be checked."""

import re
from collections.abc import Iterator
from enum import Enum
from ipaddress import ip_address
from pathlib import Path

import pytest
from pydantic import BaseModel

from docs import generate
from oe.cli.main import COMMANDS
from oe.cli.status import AUTHENTICATION, COLUMNS, IKE_COLUMNS, IKE_STYLES
from oe.config import Config
from oe.model import Group, SocketAddress
from oe.policy.files import parse_network
from oe.policy.groups import Entry, PolicySet
from oe.policy.select import select
from oe.reasons import Reason
from oe.trap.spec import Dropped

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")])
OPERATIONS = (ROOT / "docs/operations.md").read_text()
POLICY = (ROOT / "docs/policy.md").read_text()

_LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)")


def rows(text: str, heading: str) -> list[list[str]]:
    """Cells of the table rows below a heading, its head left out."""
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def keys(table: BaseModel, path: str = "") -> Iterator[tuple[str, object]]:
    for name, field in type(table).model_fields.items():
        key, value = f"{path}{field.alias or name}", getattr(table, name)
        if isinstance(value, BaseModel):
            yield from keys(value, f"{key}.")
        else:
            yield key, value


def written(value: object) -> str:
    """A default as the document writes it."""
    match value:
        case bool():
            return str(value).lower()
        case int() if value >= 1 << 30:
            return f"{value >> 30}GiB"
        case Enum() | SocketAddress() | Path() | int():
            return str(value)
        case float():
            return f"{value:g}s" if value < 3600 else f"{value / 3600:g}h"
        case _:
            assert isinstance(value, tuple)
            return f"[{', '.join(map(str, value))}]"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_generated_blocks_are_fresh(document: Path) -> None:
    text = document.read_text()
    assert generate.generated(text) == text, "run `make docs`"


def test_every_block_is_used_once() -> None:
    used = [name for document in DOCUMENTS for name in re.findall(r"<!-- generated: (\S+) -->", document.read_text())]
    assert sorted(used) == sorted(generate.BLOCKS)


def test_an_unknown_block_is_an_error() -> None:
    with pytest.raises(KeyError):
        generate.generated("<!-- generated: nonsense -->\n<!-- end -->")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target, anchor in _LINK.findall(document.read_text()):
        if target.startswith("http"):
            continue
        file = document.parent / target if target else document
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_every_reason_is_explained() -> None:
    explained = [row[0].strip("`") for row in rows(OPERATIONS, "Reasons")]
    assert explained == [reason.value for reason in Reason]
    assert all(all(cells) for cells in rows(OPERATIONS, "Reasons"))


def test_every_key_of_the_configuration_is_explained_with_its_default() -> None:
    explained = [(row[0].strip("`"), row[1].strip("`")) for row in rows(OPERATIONS, "Configuration")]
    assert explained == [(key, written(value)) for key, value in keys(Config())]


def test_every_column_of_status_is_explained() -> None:
    columns = [row[0].strip("`") for row in rows(OPERATIONS, "Status") if row[0].strip("`") in COLUMNS]
    assert columns == list(COLUMNS)


def test_every_column_and_state_of_ike_sas_is_explained() -> None:
    found = {name: row[1] for row in rows(OPERATIONS, "IKE SAs") for name in re.findall(r"`([a-z]+)`", row[0])}
    assert set(found) == {*IKE_COLUMNS, "nat", "identity"}
    assert set(re.findall(r"`([a-z-]+)`", found["state"])) == set(IKE_STYLES)


def test_every_counter_of_the_table_is_explained() -> None:
    named = {name for row in rows(OPERATIONS, "Status") for name in re.findall(r"`([a-z-]+)`", row[0])}
    assert named - {*COLUMNS, AUTHENTICATION} == set(Dropped)


def test_every_event_of_the_log_is_explained() -> None:
    """Events are the first text of a call; decisions' are made of their verdict."""
    source = "".join(
        path.read_text() for room in ("daemon", "gateway", "ike") for path in (ROOT / "oe" / room).rglob("*.py")
    )
    call = re.compile(r'(?:_try|log\.\w+|note)\(\s*(?:(?:"(?:debug|info|warning|error)"|level), )?"([a-z-]+)"[,)]')
    explained = {name for row in rows(OPERATIONS, "Logs") for name in re.findall(r"`([a-z-]+)`", row[1])}
    verdicts = {"pair-protected", "pair-clear", "pair-blocked"}
    assert explained == set(call.findall(source)) - {"info"} | verdicts


def test_every_group_is_explained_in_both_documents() -> None:
    for text, heading in ((POLICY, "The five groups"), ((ROOT / "README.md").read_text(), "Policy groups")):
        assert [row[0].strip("`") for row in rows(text, heading)] == [group.value for group in Group]


def test_examples_of_selection_are_right() -> None:
    section = POLICY.partition("## Selection\n")[2].partition("\n## ")[0]
    listed = [line.split() for line in section.splitlines() if line.startswith("    ")]
    entries = [Entry(parse_network(net), Group(group), "", 0, net) for group, net in listed]
    policies, _ = PolicySet.of(entries)
    for destination, group, match in rows(POLICY, "Selection"):
        chosen = select(policies, ip_address(destination))
        if chosen.entry is None:
            assert (group, match) == ("none, left alone", "—")
        else:
            assert (group, match) == (f"`{chosen.group}`", str(chosen.entry.network))


def test_every_command_is_shown() -> None:
    text = (ROOT / "README.md").read_text() + OPERATIONS
    assert [command for command in COMMANDS if f"oe {command}" not in text and f"make {command}" not in text] == []
