"""Commands about sightings: a node's own state, and the registry's reading of an outbox."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Final

import typer

from eir import limits
from eir.core.generation import WELL_KNOWN_REASONS
from eir.core.imei import ImeiKey
from eir.core.policy import FIXED_REASONS
from eir.core.subscriber import ImsiCode, imsi_text
from eir.errors import Refused
from eir.feed.address import Address
from eir.feed.envelope import PublicKey
from eir.feed.keys import key_from_text, key_text
from eir.feed.open_site import open_site
from eir.feed.sightings import FileName, Sightings, file_name, open_sightings
from eir.feed.site import Site
from eir.ops import console
from eir.ops.chronicle import utc
from eir.ops.console import ConfigOption, JsonOption
from eir.ops.settings.config import load_config
from eir.ops.settings.outbox_config import FOLDER
from eir.store.depot import Depot
from eir.store.sighting_spool import node_key, standing_of

app = typer.Typer(
    help="""What nodes have seen, for the registry: signed files to fetch.

\b
Examples:
  eir sightings status
  eir sightings verify /srv/outbox --key eir-node-1:…
  eir sightings show s3://sightings/op1 --key eir-node-1:… > seen.csv
"""
)
UrlArgument = Annotated[
    str, typer.Argument(metavar="URL", help="The outbox: a folder or s3://bucket/prefix.")
]
KeyOption = Annotated[
    list[str],
    typer.Option("--key", help="A node's key, as its `eir sightings status` shows it; repeatable."),
]
EndpointOption = Annotated[str, typer.Option("--endpoint", help="The bucket's server.")]
_REASONS: Final = {**FIXED_REASONS, **WELL_KNOWN_REASONS}
_NAMES: Final = {number: name for name, number in _REASONS.items()}
_MOST_NAMED: Final = 1_000
_COLUMNS: Final = ("node", "sequence", "imei", "msisdn", "imsi", "reason", "seen")


@dataclass(frozen=True, slots=True)
class _Read:
    """One file of an outbox: what it says, or why it is not believed."""

    name: FileName
    said: Sightings | None
    fault: str = ""


@app.command("status")
def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show this node's key, and what waits to go out.

    Reads the depot, with a running node or without. By the key the registry believes the files.
    Exit code 2 if signed files wait.
    """
    settings = load_config(config)
    if settings.sightings is None:
        raise Refused("sightings-none", "nothing is noted: set [sightings] outbox")
    folder = Depot(settings.node.depot).folder / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    key, standing = node_key(folder).public, standing_of(folder)
    told = {
        "node": key.id.hex(),
        "key": key_text(key, "node"),
        "outbox": settings.sightings.address.url,
        "census": settings.sightings.census,
        "next_sequence": standing.sequence,
        "pending_rows": standing.pending,
        "waiting_files": standing.waiting,
    }
    if as_json:
        console.print_json(told)
    else:
        rows = console.table("", "")
        for name, value in told.items():
            rows.add_row(name.replace("_", " "), str(value))
        console.out.print(rows)
    if standing.waiting:
        raise typer.Exit(console.EXIT_INCOMPLETE)


@app.command("verify")
def verify(
    url: UrlArgument,
    key: KeyOption,
    endpoint: EndpointOption = "",
    as_json: JsonOption = False,
) -> None:
    """Verify an outbox: who signed, every file whole, none missing.

    Exit code: 0 if all are good and each node's sequence has no hole, 2 for a hole, 3 if a file is
    not believed.
    """
    found = list(_files(url, key, endpoint))
    nodes = {each.name.node: _gaps(each.name.node, found) for each in found}
    told = {
        "files": len(found),
        "rows": sum(len(each.said.rows) for each in found if each.said),
        "refused": {str(each.name): each.fault for each in found if each.fault},
        "nodes": {
            node: {"first": first, "last": last, "missing": missing}
            for node, (first, last, missing) in nodes.items()
        },
    }
    if as_json:
        console.print_json(told)
    else:
        console.out.print(f"{told['files']:,} files, {told['rows']:,} sightings")
        for node, (first, last, missing) in nodes.items():
            lacks = f", MISSING {', '.join(map(str, missing))}" if missing else ""
            console.out.print(f"node {node}: {first} to {last}{lacks}")
        for each in found:
            if each.fault:
                console.out.print(f"REFUSED {each.fault}")
    if any(each.fault for each in found):
        raise typer.Exit(console.EXIT_REFUSED)
    if any(missing for _, _, missing in nodes.values()):
        raise typer.Exit(console.EXIT_INCOMPLETE)


@app.command("show")
def show(
    url: UrlArgument,
    key: KeyOption,
    after: Annotated[
        int, typer.Option("--after", min=0, help="Only files with a higher sequence.")
    ] = 0,
    endpoint: EndpointOption = "",
    as_json: JsonOption = False,
) -> None:
    """Print what the files of an outbox say, as CSV or JSON.

    Identities are shown in full. A file that is not believed ends it with exit code 3; what was
    printed before is good.
    """
    out = csv.writer(sys.stdout, lineterminator="\n")
    if not as_json:
        out.writerow(_COLUMNS)
    for each in _files(url, key, endpoint, after=after):
        if each.said is None:
            raise Refused("sightings-malformed", each.fault, where=str(each.name))
        for row in each.said.rows.tolist():
            words = (each.name.node, each.name.sequence, *_words(*row))
            if as_json:
                line = json.dumps(dict(zip(_COLUMNS, words, strict=True)))
                sys.stdout.write(f"{line}\n")
            else:
                out.writerow(words)


def _words(imei: int, msisdn: int, imsi: int, reason: int, seen: int) -> tuple[str, ...]:
    subscriber = (str(msisdn) if msisdn else "", imsi_text(ImsiCode(imsi)) if imsi else "")
    return (f"{ImeiKey(imei):014d}", *subscriber, _NAMES.get(reason, str(reason)), utc(seen))


def _files(url: str, keys: list[str], endpoint: str, *, after: int = 0) -> Iterator[_Read]:
    """Every sightings file, node by node in order. Raises Refused where there is no outbox."""
    trusted = [key_from_text(text, "node") for text in keys]
    address = Address(url, endpoint=endpoint, plaintext_accepted=True)
    if address.place == "folder" and not address.folder.is_dir():
        raise Refused("fetch-missing", "no such folder", where=url)
    site = open_site(address)
    names = filter(None, (file_name(each.name) for each in site.standing()))
    for name in sorted(names):
        if name.sequence > after:
            yield _read(site, name, trusted)


def _read(site: Site, name: FileName, trusted: list[PublicKey]) -> _Read:
    """A file that says it is another one is refused like one that was changed."""
    try:
        of_node = [key for key in trusted if key.id.hex() == name.node]
        said = open_sightings(site.fetch(str(name), limits.MAX_SIGHTINGS_BYTES), of_node)
        if said.sequence != name.sequence:
            raise Refused("sightings-malformed", f"says it is {said.sequence}", where=str(name))
    except Refused as refused:
        return _Read(name, None, f"{name}: {refused}")
    return _Read(name, said)


def _gaps(node: str, found: list[_Read]) -> tuple[int, int, list[int]]:
    """First, last, and the sequences between them that are not there; a thousand at most."""
    there = {each.name.sequence for each in found if each.name.node == node}
    first, last = min(there), max(there)
    missing = (sequence for sequence in range(first, last) if sequence not in there)
    return first, last, list(islice(missing, _MOST_NAMED))
