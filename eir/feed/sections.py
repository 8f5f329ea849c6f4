"""A section's content as named parts of bytes, and back. One place knows both directions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgpack
import numpy as np
from numpy.typing import NDArray

from eir.core import deadlines, generation, imeiset, pairtable
from eir.core.deadlines import DeadlineTable
from eir.core.generation import Content, Section, spec_of
from eir.core.imeiset import ImeiSet
from eir.core.orders import (
    Hold,
    Order,
    Override,
    check_holds,
    check_orders,
    check_overrides,
)
from eir.core.pairtable import PairTable
from eir.core.rankindex import RankIndex
from eir.errors import Corrupt, Refused
from eir.feed.digest import encode_order

Bytes = NDArray[np.uint8]
Row = TypeVar("Row", Override, Hold, Order)


def parts_of(content: Content) -> dict[str, Bytes]:
    """The parts to write, in the order in which they stand in the file."""
    if isinstance(content, ImeiSet):
        return {"keys": content.data, "ranges": _raw(content.ranges)}
    if isinstance(content, PairTable):
        return {
            **_index_parts(content.index),
            "values": _raw(content.values),
            "words": _raw(content.words),
        }
    if isinstance(content, DeadlineTable):
        return {
            **_index_parts(content.index),
            "starts": _raw(content.starts),
            "numbers": _raw(content.numbers),
            "deadlines": _raw(content.deadlines),
        }
    packed = b"".join(encode_order(row) for row in content)
    return {"rows": np.frombuffer(packed, np.uint8)}


def content_of(
    kind: str, parts: Mapping[str, Bytes], *, base: int, items: int, trusted: bool = False
) -> Content:
    """The content over its parts. Cheap: what stands inside is checked by its ``chunks``; orders
    are checked here, but not where they are ``trusted``: verified before, these very bytes.

    Raises Corrupt where parts are missing or have impossible sizes.
    """
    try:
        if kind in _ORDERS:
            return _rows_of(parts["rows"].tobytes(), *_ORDERS[kind], trusted=trusted)
        return _OPENERS[kind](parts, base, items)
    except KeyError as missing:
        raise Corrupt("header", f"unknown kind or missing part {missing}") from None
    except ValueError as error:
        raise Corrupt(
            "header", f"a part's length is no multiple of its entries': {error}"
        ) from None


def without_overlay(section: Section) -> Section:
    """The section as it stands, on a base alone: what is written is one table."""
    if section.overlay is None:
        return section
    kind, content = spec_of(section.name).kind, section.content
    if kind == generation.LIST:
        content = imeiset.build((rows[:, 0] for rows in section.rows()), section.ranges)
    elif kind == generation.PAIRS:
        content = pairtable.rebuilt(lambda: ((r[:, 0], r[:, 1]) for r in section.rows()))
    else:
        columns = ((r[:, 0], r[:, 1], r[:, 2].astype(np.int64)) for r in section.rows())
        content = deadlines.build(columns)
    return Section(section.name, content, section.reason_id)


def base_of(content: Content) -> int:
    """What has to stand in the header beside the parts: the base of a pair table, else 0."""
    return content.base if isinstance(content, PairTable) else 0


def _raw(array: NDArray[np.generic]) -> Bytes:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _index_parts(index: RankIndex) -> dict[str, Bytes]:
    return {"containers": _raw(index.containers), "index": index.data}


def _index_of(parts: Mapping[str, Bytes]) -> RankIndex:
    containers = parts["containers"].view(np.uint64).reshape(-1, 4)
    return RankIndex(containers, parts["index"])


def _open_list(parts: Mapping[str, Bytes], base: int, items: int) -> Content:
    return imeiset.open_parts(parts["keys"], parts["ranges"].view(np.uint64).reshape(-1, 2))


def _open_pairs(parts: Mapping[str, Bytes], base: int, items: int) -> Content:
    values, words = parts["values"].view(np.uint32), parts["words"].view(np.uint32)
    return PairTable(_index_of(parts), values, words, base, items)


def _open_deadlines(parts: Mapping[str, Bytes], base: int, items: int) -> Content:
    return DeadlineTable(
        _index_of(parts),
        parts["starts"].view(np.uint32),
        parts["numbers"].view(np.uint64),
        parts["deadlines"].view(np.uint32),
    )


def _override(fields: list[object]) -> Override:
    return Override(*fields)  # type: ignore[arg-type]


def _hold(fields: list[object]) -> Hold:
    until, tacs, *others = fields
    return Hold(until, tuple(tacs), *others)  # type: ignore[arg-type]


def _order(fields: list[object]) -> Order:
    return Order(*fields)  # type: ignore[arg-type]


def _rows_of(
    packed: bytes,
    make: Callable[[list[object]], Row],
    check: Callable[[Sequence[Row]], None],
    *,
    trusted: bool,
) -> tuple[Row, ...]:
    reader = msgpack.Unpacker(max_buffer_size=max(len(packed), 1), use_list=True)
    reader.feed(packed)
    try:
        rows = tuple(make(fields) for fields in reader)
        if trusted:
            return rows
        check(rows)
    except (Refused, TypeError, ValueError, msgpack.UnpackException) as error:
        raise Corrupt("rows", f"an order is malformed: {error}") from error
    if b"".join(encode_order(row) for row in rows) != packed or list(rows) != sorted(set(rows)):
        raise Corrupt("rows", "orders are not in canonical form")
    return rows


_ORDERS: Mapping[str, tuple[Callable[[list[object]], Any], Callable[[Sequence[Any]], None]]] = {
    generation.OVERRIDES: (_override, check_overrides),
    generation.HOLDS: (_hold, check_holds),
    generation.ORDERS: (_order, check_orders),
}
_OPENERS: Mapping[str, Callable[[Mapping[str, Bytes], int, int], Content]] = {
    generation.LIST: _open_list,
    generation.PAIRS: _open_pairs,
    generation.DEADLINES: _open_deadlines,
}
