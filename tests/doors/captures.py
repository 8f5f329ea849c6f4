"""Captures made of what two sides said, for tshark to judge: no packet was sent for them."""

import struct
from pathlib import Path


def write_capture(path: Path, exchanges: list[tuple[bool, bytes]], *, port: int) -> None:
    """A pcap file of these octets, each a TCP segment of its own; True is what ``port`` said."""
    written = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 101)
    at = {True: 1, False: 1}
    for second, (ours, octets) in enumerate(exchanges):
        segment = _packet(
            octets, port=port, ours=ours, sequence=at[ours], acknowledged=at[not ours]
        )
        at[ours] += len(octets)
        written += struct.pack("<IIII", second, 0, len(segment), len(segment)) + segment
    path.write_bytes(written)


def _packet(octets: bytes, *, port: int, ours: bool, sequence: int, acknowledged: int) -> bytes:
    """One TCP segment over IPv4, without checksums: tshark does not verify them."""
    ports = (port, 40_000) if ours else (40_000, port)
    tcp = struct.pack(">HHIIBBHHH", *ports, sequence, acknowledged, 0x50, 0x18, 65_535, 0, 0)
    hosts = (b"\x7f\0\0\2", b"\x7f\0\0\1") if ours else (b"\x7f\0\0\1", b"\x7f\0\0\2")
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 40 + len(octets), 0, 0, 64, 6, 0) + b"".join(hosts)
    return ip + tcp + octets
