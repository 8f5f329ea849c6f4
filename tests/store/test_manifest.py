"""What a manifest may say; whatever else it says is refused, by place and nearest name."""

from __future__ import annotations

from pathlib import Path

import pytest

from eir.errors import Refused
from eir.store.importers.catalogue import FileFormat
from eir.store.importers.manifest import read_manifest

FILE = '[[file]]\npath = "w.csv"\nlist = "white"\n'


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "lists.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_defaults(tmp_path: Path) -> None:
    manifest = read_manifest(written(tmp_path, f'feed = "registry"\n{FILE}'))
    (file,) = manifest.files
    assert (manifest.registry, manifest.timezone.key) == ("local", "Asia/Tehran")
    assert manifest.max_reject_share is None
    assert (file.path, file.name, file.list_name) == (tmp_path / "w.csv", "w.csv", "white")
    assert (file.format, file.typed, file.allow_empty) == (FileFormat.CSV, False, False)


def test_everything_said(tmp_path: Path) -> None:
    text = """\ufefffeed = "operator"\r
registry = "ir.example"\r
timezone = "UTC"\r
max_reject_share = 0\r
[reasons]\r
" Stolen device " = "stolen"\r
"Unpaid" = "unpaid"\r
[reason_ids]\r
unpaid = 40000\r
[[file]]\r
path = "/lists/b.zip"\r
format = "dirbs-blacklist"\r
[[file]]\r
path = "sub/c.csv"\r
format = "ceir"\r
list = "black.rented"\r
typed = true\r
allow_empty = true\r
"""
    manifest = read_manifest(written(tmp_path, text))
    assert manifest.max_reject_share == 0
    assert manifest.reasons == {"Stolen device": "stolen", "Unpaid": "unpaid"}
    assert manifest.black_reasons() == ("rented", "stolen", "unpaid")
    assert manifest.black_ids() == {"rented": 40001, "stolen": 256, "unpaid": 40000}
    assert [file.path for file in manifest.files] == [
        Path("/lists/b.zip"),
        tmp_path / "sub/c.csv",
    ]
    assert manifest.files[1].typed
    assert manifest.files[1].allow_empty


@pytest.mark.parametrize(
    ("text", "reason", "words"),
    [
        ("feed = !\n", "manifest-syntax", "line 1"),
        (b"\xff", "manifest-unreadable", "UTF-8"),
        (FILE, "manifest-value", "`feed` is missing"),
        (f'feed = "registri"\n{FILE}', "manifest-unknown", "did you mean 'registry'?"),
        ('feed = "registry"\n', "manifest-no-files", "[[file]]"),
        ('feed = "registry"\nfile = 3\n', "manifest-no-files", "[[file]]"),
        (f'feed = "registry"\ntimzone = "UTC"\n{FILE}', "manifest-unknown", "'timezone'"),
        (f'feed = "registry"\ntimezone = "Mars/X"\n{FILE}', "manifest-value", "timezone"),
        (f'feed = "registry"\ntimezone = "../x"\n{FILE}', "manifest-value", "timezone"),
        (f'feed = "registry"\nmax_reject_share = 2\n{FILE}', "manifest-value", "0 to 1"),
        (f'feed = "registry"\nmax_reject_share = true\n{FILE}', "manifest-value", "0 to 1"),
        (f'feed = "registry"\nmax_reject_share = nan\n{FILE}', "manifest-value", "0 to 1"),
        (f'feed = "registry"\nreasons = 1\n{FILE}', "manifest-value", "[reasons]"),
        (f'feed = "registry"\n{FILE}lst = 1\n', "manifest-unknown", "did you mean 'list'?"),
        (f'feed = "registry"\n{FILE}typed = "yes"\n', "manifest-value", "true or false"),
        (f'feed = "registry"\n{FILE}format = "cvs"\n', "manifest-unknown", "'csv'"),
        ('feed = "registry"\n[[file]]\nlist = "white"\n', "manifest-value", "`path` is missing"),
        ('feed = "registry"\n[[file]]\npath = "x"\n', "manifest-value", "`list` is missing"),
        ('feed = "registry"\n[[file]]\npath = ""\nlist = "white"\n', "manifest-value", "path"),
        (
            'feed = "registry"\n[[file]]\npath = "a\\u0000"\nlist = "white"\n',
            "manifest-value",
            "NUL",
        ),
        (f'feed = "registry"\n{FILE.replace("white", "withe")}', "manifest-unknown", "'white'"),
        (
            f'feed = "registry"\n{FILE.replace("white", "black.stole")}'.replace("stole", "Stolen"),
            "manifest-unknown",
            "'black.stolen'",
        ),
        (f'feed = "registry"\n{FILE.replace("white", "black-union")}', "manifest-unknown", "known"),
        (f'feed = "operator"\n{FILE}', "manifest-feed", "registry feed"),
        (f'feed = "registry"\n{FILE.replace("white", "released")}', "manifest-feed", "operator"),
        (
            'feed = "operator"\n[[file]]\npath = "x"\nformat = "dirbs-exceptions"\n',
            "manifest-feed",
            "registry",
        ),
        (
            f'feed = "registry"\n{FILE.replace("white", "bindings")}format = "ceir"\n',
            "manifest-value",
            "list of IMEIs",
        ),
        (
            f'feed = "registry"\n{FILE}format = "dirbs-notifications"\n',
            "manifest-value",
            "leave `list` out",
        ),
        (
            'feed = "registry"\n[[file]]\npath = "x"\nformat = "dirbs-blacklist"\n',
            "manifest-reasons",
            "[reasons]",
        ),
        (f'feed = "registry"\n{FILE}[reasons]\nX = "Bad Name"\n', "manifest-value", "Bad Name"),
        (f'feed = "registry"\n{FILE}[reason_ids]\nx = 511\n', "manifest-value", "512"),
        (f'feed = "registry"\n{FILE}[reason_ids]\nstolen = 600\n', "manifest-value", "known id"),
        (f'feed = "registry"\n{FILE}[reason_ids]\nx = 600\ny = 600\n', "manifest-value", "once"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str | bytes, reason: str, words: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(Refused) as caught:
        read_manifest(path)
    assert caught.value.reason == reason
    assert words in str(caught.value)
    assert caught.value.where.startswith(str(path))


def test_too_many_black_reasons(tmp_path: Path) -> None:
    files = "".join(f'[[file]]\npath = "x"\nlist = "black.r{n}"\n' for n in range(65))
    with pytest.raises(Refused) as caught:
        read_manifest(written(tmp_path, f'feed = "registry"\n{files}'))
    assert caught.value.reason == "manifest-reasons"


def test_a_missing_manifest_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.toml", tmp_path):
        with pytest.raises(Refused) as caught:
            read_manifest(path)
        assert caught.value.reason == "manifest-unreadable"
