"""A folder with list files and a manifest, the load of it, and what came out."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from eir.core.deadlines import DeadlineTable
from eir.core.imeiset import ImeiSet
from eir.core.pairtable import PairTable
from eir.core.subscriber import Numbering
from eir.errors import Refused
from eir.feed.codec import open_snapshot
from eir.store.load import LoadOutcome, load

NOW = 1_760_000_000
A, B, C = 35209900176148, 49015420323751, 1012345678901
DAY_END = 1_767_213_000  # 2025-12-31, end of that day in Tehran


class Bench:
    """A folder with list files and a manifest in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "out.eir"
        self.entries: list[str] = []
        self.head = 'feed = "registry"\n'

    def file(
        self, name: str, content: str | bytes | None, list_name: str, **settings: object
    ) -> Bench:
        if content is not None:
            raw = content if isinstance(content, bytes) else content.encode()
            (self.folder / name).write_bytes(raw)
        values = {"path": name} | ({"list": list_name} if list_name else {}) | settings
        self.entries.append(
            "[[file]]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in values.items())
        )
        return self

    def load(self, head: str = "max_reject_share = 1\n", **more: object) -> LoadOutcome:
        manifest = self.folder / "lists.toml"
        manifest.write_text(self.head + head + "\n".join(self.entries))
        return load(manifest, self.out, Numbering(), now=NOW, **more)  # type: ignore[arg-type]

    def refused(self, head: str = "max_reject_share = 1\n") -> Refused:
        with pytest.raises(Refused) as caught:
            self.load(head)
        left = {path.name for path in self.folder.iterdir() if path.name.startswith(".load-")}
        assert not left
        return caught.value

    def rejects(self) -> list[tuple[str, ...]]:
        with (self.folder / "out.eir.rejects.csv").open(encoding="utf-8", newline="") as stream:
            rows = list(csv.reader(stream))
        assert rows[0] == ["file", "line", "column", "value", "reason"]
        return [tuple(row) for row in rows[1:]]

    def conflicts(self) -> list[tuple[str, ...]]:
        with (self.folder / "out.eir.conflicts.csv").open(encoding="utf-8", newline="") as stream:
            return [tuple(row) for row in csv.reader(stream)][1:]

    def keys(self, name: str) -> list[int]:
        content = cast(ImeiSet, open_snapshot(self.out).sections[name].content)
        return [int(key) for chunk in content.chunks() for key in chunk]

    def ranges(self, name: str) -> list[list[int]]:
        content = cast(ImeiSet, open_snapshot(self.out).sections[name].content)
        return np.asarray(content.ranges).tolist()

    def rows(self, name: str) -> list[tuple[int, ...]]:
        content = cast(PairTable | DeadlineTable, open_snapshot(self.out).sections[name].content)
        return [
            tuple(int(value) for value in row)
            for chunk in content.chunks()
            for row in zip(*chunk, strict=True)
        ]


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f'"{value}"'


def zipped(path: Path, members: Mapping[str, str | bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
