"""A bucket from both ends, over real HTTP: published by the site, read by the source."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from eir.errors import Conflict, Refused
from eir.feed.address import Address
from eir.feed.envelope import SecretKey
from eir.feed.head import FeedFile, Serial
from eir.feed.keys import Keys, seal_keys
from eir.feed.open_site import open_site
from eir.feed.publish import Publisher
from eir.feed.sightings import open_sightings
from eir.feed.site import file_name
from eir.ops.outbox import Outbox
from eir.ops.settings.outbox_config import OutboxSettings
from eir.store.sighting_spool import node_key
from eir.sync.reader import Patience
from eir.sync.source import open_source
from tests.core.contents import Listed, generation_of
from tests.serve.test_sighting_ring import Node, unknown

moto_server = pytest.importorskip("moto.server")
CONTENT = bytes(range(256)) * 30_000


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def address(endpoint: str, request: pytest.FixtureRequest) -> Address:
    import boto3

    bucket = f"b{hashlib.sha256(request.node.name.encode()).hexdigest()[:12]}"
    keys = {"aws_access_key_id": "id", "aws_secret_access_key": "secret"}
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)
    client.create_bucket(Bucket=bucket)
    return Address(
        f"s3://{bucket}/nation/a", endpoint=endpoint, access_key_id="id", secret_access_key="secret"
    )


def test_published_and_read(address: Address, tmp_path: Path) -> None:
    site, source = open_site(address), open_source(address, Patience())
    made, part = tmp_path / "made", tmp_path / "part"
    made.write_bytes(CONTENT)
    name = file_name("snapshot", Serial(7))
    site.add(name, made)
    site.swap("head", b"HEAD-1", was=None)

    head = source.head()
    assert head
    assert head.raw == b"HEAD-1"
    assert source.head(head.etag) is None
    file = FeedFile(Serial(7), name, len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), "dd" * 16)
    part.write_bytes(CONTENT[:1_000_000])
    assert source.fetch(file, part) == len(CONTENT) - 1_000_000
    assert part.read_bytes() == CONTENT
    with pytest.raises(Refused, match="fetch-missing"):
        source.keys()


def test_the_second_of_two_publishers_loses(address: Address) -> None:
    one, two = open_site(address), open_site(address)
    assert one.read("head") is None
    tag = one.swap("head", b"base", was=None)
    with pytest.raises(Conflict):
        two.swap("head", b"base too", was=None)
    found = two.read("head")
    assert found
    assert found.tag == tag
    one.swap("head", b"first", was=tag)
    with pytest.raises(Conflict):
        two.swap("head", b"second", was=tag)
    found = two.read("head")
    assert found
    assert found.raw == b"first"


def test_files_are_listed_never_replaced_and_removed(address: Address, tmp_path: Path) -> None:
    site = open_site(address)
    made = tmp_path / "made"
    made.write_bytes(b"12345")
    names = sorted(file_name("delta", Serial(i)) for i in (2, 3))
    for name in names:
        site.add(name, made)
    site.swap("head", b"h", was=None)
    with pytest.raises(Conflict):
        site.add(names[0], made)
    assert [(each.name, each.size) for each in site.standing()] == [(name, 5) for name in names]
    site.remove(names[0])
    site.remove(names[0])
    assert [each.name for each in site.standing()] == names[1:]


def test_a_bucket_that_is_not_there_is_missing(address: Address) -> None:
    nowhere = Address("s3://nowhere/x", endpoint=address.endpoint, access_key_id="id",
                      secret_access_key="secret")  # fmt: skip
    with pytest.raises(Refused, match=r"fetch-(missing|failed)"):
        open_source(nowhere, Patience()).head()


def test_a_publisher_goes_on_from_a_bucket_with_and_without_its_copies(
    address: Address, tmp_path: Path
) -> None:
    site, key = open_site(address), SecretKey(b"k" * 32)
    site.swap("keys", seal_keys(Keys(1, (key.public,), 1, 10**10), key), was=None)
    publisher = Publisher(site, key, tmp_path)
    for n, copies in enumerate(("fresh", "kept", "damaged", "gone")):
        for path in tmp_path.glob("snapshot-*"):
            if copies == "gone":
                path.unlink()
            elif copies == "damaged":
                path.chmod(0o600)
                path.write_bytes(b"x")
        seen = publisher.look([key.public], now=1000 + n)
        assert not seen.lost
        content = generation_of({"white": Listed(frozenset({(k,) for k in range(1, n + 2)}))})
        done = publisher.publish(content, seen, now=1000 + n)
        assert done.head.serial == n + 1
        publisher.sweep(done.head, now=1000 + n)
        assert (tmp_path / done.head.snapshot.name).exists()


def test_sightings_go_into_a_bucket_and_are_read_there(address: Address, tmp_path: Path) -> None:
    settings = OutboxSettings(address, census=False, every_s=0, rows=100, remember=1_000)
    outbox = Outbox(settings, tmp_path, tables=lambda: None)
    worker = Node(tmp_path / "sightings" / "rings")
    worker.check(unknown(150))
    for _ in range(3):
        outbox.turn()
    assert outbox.alarms() == []
    site, key = open_site(address), node_key(tmp_path / "sightings").public
    names = [each.name for each in site.standing()]
    found = [open_sightings(site.fetch(name, 1 << 20), [key]).rows[:, 0] for name in names]
    assert [imei for rows in found for imei in rows] == unknown(150).tolist()
    assert len(site.fetch(names[0], 10)) == 11
    with pytest.raises(Refused, match="fetch-missing"):
        site.fetch("sightings-none", 10)
