"""Commands on the keys of a feed: the offline root, the keys that sign heads, the `keys` file."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from eir import limits
from eir.errors import Refused
from eir.feed.keys import (
    Keys,
    Role,
    key_from_text,
    key_text,
    load_secret,
    new_secret,
    read_keys,
    rotated,
    seal_keys,
)
from eir.ops import console
from eir.ops.cli.ask import utc
from eir.ops.console import JsonOption

app = typer.Typer(
    help="""Make the keys of a feed, sign them in, rotate them.

The page docs/keys.md tells the order of it all.

\b
Examples:
  eir keys init-root root.key
  eir keys new feed.key
  eir keys sign keys-1 --root root.key --key eir-feed-1:…
  eir keys rotate keys-2 --root root.key --kept keys-1 --new eir-feed-1:…
  eir keys show keys-2 --root-key eir-root-1:…
"""
)

CLOCKS_LAG_S = 3_600
"""A new `keys` file holds from this long ago, for nodes whose clock lags."""

OutArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="The `keys` file to write; a new name.")
]
RootOption = Annotated[Path, typer.Option("--root", help="The root's secret key file.")]
DaysOption = Annotated[int, typer.Option(help="Days until the file expires.", min=1, max=3_650)]


@app.command("init-root")
def init_root(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The root's secret key file; a new name.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Make the root's secret key, on an offline machine.

    Prints the text that every node pins as `root_key`.
    """
    _show_new(file, "root", as_json=as_json)


@app.command("new")
def new(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The feed key's secret file; a new name.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Make a key that signs heads, on the publisher's machine.

    Prints the text to carry to the root, which signs it in.
    """
    _show_new(file, "feed", as_json=as_json)


@app.command("sign")
def sign(
    out: OutArgument,
    root: RootOption,
    key: Annotated[
        list[str], typer.Option("--key", help="Text of a key that may sign; the first is in use.")
    ],
    after: Annotated[
        Path | None, typer.Option(help="The `keys` file before this one; none: version 1.")
    ] = None,
    days: DaysOption = 365,
    as_json: JsonOption = False,
) -> None:
    """Write a signed `keys` file that names exactly these keys."""
    secret = load_secret(root, "root")
    version = read_keys(read_keys_file(after), [secret.public]).version + 1 if after else 1
    now = int(time.time())
    named = tuple(key_from_text(text, "feed") for text in key)
    keys = Keys(version, named, now - CLOCKS_LAG_S, now + days * 86_400)
    _write(out, seal_keys(keys, secret))
    _show(keys, out, as_json=as_json)


@app.command("rotate")
def rotate(
    out: OutArgument,
    root: RootOption,
    kept: Annotated[Path, typer.Option(help="The `keys` file in use.")],
    new: Annotated[str, typer.Option(help="Text of the new key, which will be the one in use.")],
    retire: Annotated[
        list[str] | None, typer.Option(help="Text of a key that may no longer sign.")
    ] = None,
    days: DaysOption = 365,
    as_json: JsonOption = False,
) -> None:
    """Write the next `keys` file, with a new key in use.

    Retire the old key only when the new one has signed the head that stands.
    """
    secret = load_secret(root, "root")
    now = int(time.time())
    keys = rotated(
        read_keys(read_keys_file(kept), [secret.public]),
        new=key_from_text(new, "feed"),
        retire=[key_from_text(text, "feed") for text in retire or []],
        not_before=now - CLOCKS_LAG_S,
        expires=now + days * 86_400,
    )
    _write(out, seal_keys(keys, secret))
    _show(keys, out, as_json=as_json)


@app.command("show")
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A `keys` file.")],
    root_key: Annotated[str, typer.Option(help="Text of the root that signed it.")],
    as_json: JsonOption = False,
) -> None:
    """What a `keys` file says, once its signature is verified. Exit code 2: expired."""
    keys = read_keys(read_keys_file(file), [key_from_text(root_key, "root")])
    _show(keys, file, as_json=as_json)
    if time.time() >= keys.expires:
        raise typer.Exit(console.EXIT_INCOMPLETE)


def _show_new(file: Path, role: Role, *, as_json: bool) -> None:
    text = key_text(new_secret(file, role), role)
    if as_json:
        console.print_json({"file": str(file), "text": text})
        return
    console.out.print(f"secret, mode 0600, for this machine only: {file}")
    console.out.print("public:")
    console.out.print(text, soft_wrap=True)


def _show(keys: Keys, file: Path, *, as_json: bool) -> None:
    texts = [key_text(key, "feed") for key in keys.keys]
    if as_json:
        dates = {"not_before": keys.not_before, "expires": keys.expires}
        console.print_json({"file": str(file), "version": keys.version, "keys": texts, **dates})
        return
    rows = console.table("", "")
    rows.add_row("file", str(file))
    rows.add_row("version", str(keys.version))
    rows.add_row("holds", f"{utc(keys.not_before)} to {utc(keys.expires)}")
    console.out.print(rows)
    for place, text in enumerate(texts):
        console.out.print("in use:" if place == 0 else "beside it:")
        console.out.print(text, soft_wrap=True)


def read_keys_file(file: Path) -> bytes:
    """The octets of a `keys` file, unverified. Raises Refused ``key-file-unreadable``."""
    try:
        with file.open("rb") as stream:
            return stream.read(limits.MAX_KEYS_BYTES + 1)
    except OSError as error:
        raise Refused("key-file-unreadable", str(error.strerror), where=str(file)) from error


def _write(out: Path, raw: bytes) -> None:
    """A new file, durable before it is spoken of."""
    try:
        with out.open("xb") as stream:
            stream.write(raw)
            stream.flush()
            os.fsync(stream.fileno())
    except FileExistsError:
        detail = "a keys file is never overwritten: name it by its version"
        raise Refused("key-file-exists", detail, where=str(out)) from None
    except OSError as error:
        raise Refused("key-file-unreadable", str(error.strerror), where=str(out)) from error
