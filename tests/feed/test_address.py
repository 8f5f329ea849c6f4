"""Addresses: refused with a reason before anything is opened, and no secret in a repr."""

from pathlib import Path

import pytest

from eir.errors import Refused
from eir.feed.address import Address


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("/var/lib/feed", "folder"),
        ("feed", "folder"),
        ("file:///var/lib/feed", "folder"),
        ("https://feed.example/nation", "web"),
        ("http://127.0.0.1:8080/x", "web"),
        ("http://[::1]:8080/x", "web"),
        ("http://localhost/x", "web"),
        ("s3://bucket/nation", "bucket"),
    ],
)
def test_places(url: str, place: str) -> None:
    assert Address(url).place == place


def test_a_file_url_is_a_folder() -> None:
    assert Address("file:///var/lib/a%20feed").folder == Path("/var/lib/a feed")
    assert Address("feeds/own").folder == Path("feeds/own")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://a/b",
        "https:///x",
        "s3://",
        "https://u:p@host/x",
        "https://host/x?y=1",
        "s3://b#c",
        "file://h/x",
    ],
)
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(Refused, match="feed-url"):
        Address(url)


@pytest.mark.parametrize("url", ["http://feed.example/x", "http://10.0.0.1/x"])
def test_plaintext_to_another_machine_is_a_decision(url: str) -> None:
    with pytest.raises(Refused, match="feed-plaintext"):
        Address(url)
    assert Address(url, plaintext_accepted=True).place == "web"
    with pytest.raises(Refused, match="feed-plaintext"):
        Address("s3://bucket", endpoint=url)


def test_a_client_certificate_comes_with_its_key_and_tls() -> None:
    pem = Path("client.pem")
    with pytest.raises(Refused, match="feed-url"):
        Address("https://feed.example", client_certificate=pem)
    with pytest.raises(Refused, match="feed-url"):
        Address("http://localhost", client_certificate=pem, client_key=pem)


def test_no_repr_shows_the_secret() -> None:
    assert "hush" not in repr(Address("s3://bucket", access_key_id="id", secret_access_key="hush"))
