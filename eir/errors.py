"""The closed families of expected badness. Imports nothing of ours.

A bug is none of these: it surfaces as whatever Python raises, and ends the request or the process.
"""

from __future__ import annotations


class EirError(Exception):
    """Root of the families below; never raised itself."""


class Refused(EirError):
    """Something from outside was not accepted, and nothing changed.

    ``reason`` is a short, stable code (documented in docs/reasons.md); ``detail`` says in words
    what is wrong and what to do; ``where`` names the file, line or field, if there is one.
    """

    def __init__(self, reason: str, detail: str, *, where: str = "") -> None:
        super().__init__(f"{where}: {detail} [{reason}]" if where else f"{detail} [{reason}]")
        self.reason = reason
        self.detail = detail
        self.where = where


class Corrupt(EirError):
    """A local file is damaged: fall back to the next older good one.

    ``section`` names the part that failed ("header", "white", …).
    """

    def __init__(self, section: str, detail: str, *, where: str = "") -> None:
        place = f"{where}: section {section}" if where else f"section {section}"
        super().__init__(f"{place}: {detail}")
        self.section = section
        self.detail = detail
        self.where = where


class Conflict(EirError):
    """A strict change does not fit its base: adding what is there, removing what is not."""


class Unavailable(EirError):
    """No generation serves yet, or no longer: ask another node."""
