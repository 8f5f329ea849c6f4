"""One protocol each: bytes in, verdicts out. A door knows the checker and nothing behind it."""
