"""Draws house.svg and flow.svg beside itself: `python docs/pictures/draw.py`. Needs nothing.

A picture carries its own paper and colours, so it reads alike on a light page and on a dark one.
"""

from pathlib import Path
from xml.sax.saxutils import escape

PAPER, INK, SOFT, LINE = "#fbfaf7", "#1f2933", "#5b6773", "#b9c0c7"
FILL = {
    "roof": "#e9ddd3",
    "door": "#d7e8ee",
    "work": "#dfeadb",
    "feed": "#f3e6c4",
    "core": "#2f4858",
    "base": "#e4e6e8",
    "peer": "#ffffff",
    "hot": "#f6d9cf",
}


def _text(
    x: float, y: float, words: str, *, size: float = 13, bold: bool = False, **more: str
) -> str:
    colour = more.get("fill", INK)
    weight = ' font-weight="600"' if bold else ""
    anchor = more.get("anchor", "middle")
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" fill="{colour}" text-anchor="{anchor}"{weight}>'
        f"{escape(words)}</text>"
    )


def _box(x: float, y: float, w: float, h: float, kind: str, title: str, *lines: str) -> str:
    ink, soft = ("#ffffff", "#d5dde3") if kind == "core" else (INK, SOFT)
    top = y + h / 2 + 5 - 8.5 * len(lines)
    parts = [
        f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="7" fill="{FILL[kind]}"'
        f' stroke="{LINE}"/>',
        _text(x + w / 2, top, title, size=14.5, bold=True, fill=ink),
    ]
    for n, line in enumerate(lines, 1):
        parts.append(_text(x + w / 2, top + 3 + 16 * n, line, size=12, fill=soft))
    return "".join(parts)


def _arrow(points: str, label: str = "", at: tuple[float, float] = (0, 0), **more: str) -> str:
    dash = ' stroke-dasharray="5 4"' if more.get("dashed") else ""
    drawn = (
        f'<polyline points="{points}" fill="none" stroke="{SOFT}" stroke-width="1.6"{dash}'
        ' marker-end="url(#tip)"/>'
    )
    return drawn + (_text(*at, label, size=12, fill=SOFT, **more) if label else "")


def _page(width: int, height: int, title: str, *parts: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"'
        ' font-family="system-ui, -apple-system, Segoe UI, Roboto, DejaVu Sans, sans-serif">'
        f"<title>{escape(title)}</title>"
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6.5"'
        ' markerHeight="6.5" orient="auto">'
        f'<path d="M0 0 L8 4 L0 8 z" fill="{SOFT}"/></marker></defs>'
        f'<rect width="{width}" height="{height}" rx="14" fill="{PAPER}"/>'
        + "\n".join(parts)
        + "</svg>\n"
    )


def _house() -> str:
    left, right = 190, 710
    wall = (
        f'<rect x="{left - 14}" y="118" width="{right - left + 28}" height="420" rx="8"'
        f' fill="none" stroke="{LINE}" stroke-width="2"/>'
    )
    roof = (
        f'<path d="M{left - 40} 118 L450 30 L{right + 40} 118 Z" fill="{FILL["roof"]}"'
        f' stroke="{LINE}" stroke-linejoin="round"/>'
        + _text(450, 84, "ops", size=15, bold=True)
        + _text(450, 103, "the office: keeper, configuration, command line", size=12, fill=SOFT)
    )
    names = (
        ("gRPC", "any language"),
        ("native", "gRPC at line rate"),
        ("S13", "Diameter: 4G"),
        ("N5g-eir", "HTTP/2: 5G"),
    )
    doors = [_box(left + i * 131, 130, 127, 62, "door", *each) for i, each in enumerate(names)]
    works = [
        _box(left, 208, 168, 92, "work", "store", "the cellar: what", "survives a restart"),
        _box(
            left + 176, 208, 168, 92, "work", "serve", "the counter: what", "serves, and guards it"
        ),
        _box(left + 352, 208, 168, 92, "work", "sync", "the gate: what", "comes from a feed"),
    ]
    return _page(
        900,
        560,
        "The house: rooms, and who rests on whom",
        roof,
        wall,
        *doors,
        *works,
        _box(left, 316, 520, 60, "feed", "feed", "the common language: snapshot, delta, keys"),
        _box(left, 392, 520, 84, "core", "core", "the vault, pure values: identities, lists,",
            "generation, the decision table, the compiled kernel"),
        _box(left, 492, 520, 34, "base", "limits · errors"),
        _box(18, 130, 128, 62, "peer", "core network", "MME, SGSN, AMF"),
        _arrow("146,161 186,161"),
        _box(754, 223, 128, 62, "peer", "registry", "signed feed"),
        _arrow("754,254 714,254"),
        _box(18, 223, 128, 62, "peer", "list files", "eir load"),
        _arrow("146,254 186,254"),
        _arrow("800,338 800,506", "a room imports", (800, 316)),
        _text(800, 331, "only what is below", size=12, fill=SOFT),
    )  # fmt: skip


def _flow() -> str:
    steps = ("build aside", "check", "make durable", "swap", "announce")
    notes = (
        ("a new snapshot,", "or base + overlay"),
        ("hash, structure,", "digest, guard"),
        ("fsync, rename,", "manifest"),
        ("one reference", "is set"),
        ("status, metrics,", "outcome"),
    )
    write = [
        _box(176 + i * 146, 60, 126, 74, "hot" if name == "swap" else "work", name, *note)
        for i, (name, note) in enumerate(zip(steps, notes, strict=True))
    ]
    write += [_arrow(f"{302 + i * 146},97 {320 + i * 146},97") for i in range(4)]
    read = [
        _box(176, 344, 126, 74, "door", "door", "IMEI → 14 digits,", "number, IMSI"),
        _box(322, 344, 126, 74, "work", "take once", "what serves,", "and the time"),
        _box(468, 344, 126, 74, "core", "facts", "probes fill", "one bitmask"),
        _box(614, 344, 126, 74, "core", "decide", "sixteen rows, first", "match wins"),
        _box(760, 344, 126, 74, "door", "verdict", "status, reason,", "two serials"),
    ]
    start = {"anchor": "start"}
    read += [_arrow(f"{302 + i * 146},381 {320 + i * 146},381") for i in range(4)]
    return _page(
        910,
        450,
        "The flow: how data come in, and how a question is answered",
        _text(24, 28, "What changes: rare, slow, careful", size=14, bold=True, **start),
        _box(24, 44, 122, 48, "peer", "signed feed"),
        _box(24, 102, 122, 48, "peer", "list files"),
        _arrow("146,68 160,68 160,90 174,90"),
        _arrow("146,126 160,126 160,104 174,104"),
        *write,
        _box(322, 196, 418, 78, "feed", "what serves: one immutable value",
            "registry's generation + operator's generation + policy",
            "lists and bindings lie in mapped files, shared by all workers"),
        _arrow("677,134 677,194"),
        _arrow("385,274 385,342", "read, never locked", (396, 312), **start),
        _arrow("531,274 531,342", dashed="yes"),
        _text(24, 326, "What is asked: all day, in microseconds", size=14, bold=True, **start),
        _box(24, 352, 122, 58, "peer", "core network", "may it attach?"),
        _arrow("146,381 174,381"),
        *read,
        _arrow("823,418 823,434 85,434 85,412"),
    )  # fmt: skip


if __name__ == "__main__":
    here = Path(__file__).parent
    (here / "house.svg").write_text(_house(), encoding="utf-8")
    (here / "flow.svg").write_text(_flow(), encoding="utf-8")
