"""Commands of a feed's publisher, and of anyone who wants to look at a feed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress as Bar
from rich.progress import TaskID

from eir.core.generation import BLACK_UNION, OPERATOR, Generation
from eir.errors import Refused
from eir.feed.address import Address
from eir.feed.codec import open_snapshot
from eir.feed.envelope import PublicKey
from eir.feed.head import KEYS_NAME
from eir.feed.keys import key_from_text, load_secret, open_keys, read_keys
from eir.feed.publish import Edition, Habits, Published, Publisher
from eir.feed.site import Site
from eir.ops import console
from eir.ops.cli.ask import utc
from eir.ops.cli.keys import read_keys_file
from eir.ops.cli.load import teller
from eir.ops.cli.published import Step, head_fields, pairs, print_published, weight
from eir.ops.console import ConfigOption, JsonOption
from eir.ops.desk import Desk, is_desk, read_desk, write_desk
from eir.ops.feed_reading import FeedReader, changes_of, reading
from eir.ops.ordering import bulk
from eir.ops.settings.config import Config, load_config

if TYPE_CHECKING:
    from eir.store.load import LoadOutcome

app = typer.Typer(
    help="""Publish lists as a signed feed; verify one, read its log.

A feed is a folder or bucket of a snapshot, the deltas since, and a signed head that names them.

\b
Examples:
  eir feed init desk --to /srv/feed --key feed.key --keys keys-1 --root-key eir-root-1:…
  eir feed publish desk --from lists/registry.toml
  eir feed verify https://feed.example/nation --root-key eir-root-1:…
  eir feed log desk
"""
)

DeskArgument = Annotated[Path, typer.Argument(metavar="DESK", help="The publisher's folder.")]
UrlArgument = Annotated[
    str, typer.Argument(metavar="FEED", help="A feed's URL or folder, or a publisher's folder.")
]
RootKeyOption = Annotated[
    str, typer.Option("--root-key", help="The root's text; a publisher's folder knows it.")
]
EndpointOption = Annotated[str, typer.Option(help="A bucket's endpoint; empty: AWS.")]
RegionOption = Annotated[str, typer.Option(help="A bucket's region.")]
CertificateOption = Annotated[
    Path | None, typer.Option(help="PEM of who signed the server's certificate.")
]
ClientCertificateOption = Annotated[
    Path | None, typer.Option(help="PEM of our certificate, for mTLS.")
]
ClientKeyOption = Annotated[Path | None, typer.Option(help="PEM of its key.")]
SnapshotEveryOption = Annotated[
    int, typer.Option(help="Deltas after which a snapshot is due.", min=1, max=1_000)
]
AllowMissingOption = Annotated[
    bool, typer.Option("--allow-missing", help="Empty the lists that the manifest lacks.")
]
NewSessionOption = Annotated[
    bool, typer.Option("--new-session", help="Begin anew: every node takes the snapshot.")
]
ManifestOption = Annotated[
    Path | None, typer.Option("--from", help="The manifest of all lists; none: sign the head anew.")
]
DeltasOption = Annotated[
    Path | None, typer.Option(help="The manifest of others' deltas, to go on by.")
]
RunOption = Annotated[
    list[str] | None,
    typer.Option(metavar="SOURCE=RUN", help="The run of DIRBS-Core that is published."),
]
PlaintextOption = Annotated[
    bool, typer.Option("--accept-plaintext", help="Allow http to another machine.")
]


@app.command("init")
def init(
    desk: DeskArgument,
    to: Annotated[str, typer.Option(help="Folder, file:// or s3:// where the feed stands.")],
    key: Annotated[Path, typer.Option(help="The feed key's secret file.")],
    keys: Annotated[Path, typer.Option(help="The `keys` file that the root signed.")],
    root_key: Annotated[str, typer.Option(help="The root's text.")],
    endpoint: EndpointOption = "",
    region: RegionOption = "us-east-1",
    root_certificate: CertificateOption = None,
    accept_plaintext: PlaintextOption = False,
    as_json: JsonOption = False,
) -> None:
    """Begin a feed where none stands, or go on with one.

    Checks the keys against each other, and puts the `keys` file where the feed stands.
    """
    made = Desk(
        desk.absolute(),
        url=to if "://" in to else str(Path(to).absolute()),
        key=key.absolute(),
        root_key=root_key,
        endpoint=endpoint,
        region=region,
        root_certificate=str(root_certificate.absolute()) if root_certificate else "",
        plaintext_accepted=accept_plaintext,
    )
    secret, raw = load_secret(key, "feed"), read_keys_file(keys)
    trusted = open_keys(raw, [made.root], now=int(time.time()))
    if secret.public not in trusted.keys:
        detail = f"{keys} does not name the key in {key}: have the root sign it in"
        raise Refused("publish-key-unlisted", detail)
    site = made.site()
    write_desk(made)
    _put_keys(site, raw, made.root)
    if as_json:
        console.print_json({"desk": str(made.folder), "url": made.url, "keys": trusted.version})
    else:
        console.out.print(f"next: eir feed publish {desk} --from MANIFEST")


@app.command("put-keys")
def put_keys(
    desk: DeskArgument,
    file: Annotated[
        Path, typer.Argument(metavar="KEYS", help="The next `keys` file that the root signed.")
    ],
    key: Annotated[
        Path | None, typer.Option(help="The secret file to sign heads with from now on.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Put a newer `keys` file up: the second half of a rotation."""
    held = read_desk(desk)
    raw = read_keys_file(file)
    trusted = open_keys(raw, [held.root], now=int(time.time()))
    signer = load_secret(key or held.key, "feed").public
    if signer not in trusted.keys:
        detail = f"{file} does not name the key in {key or held.key}: nobody would believe a head"
        raise Refused("publish-key-unlisted", detail)
    _put_keys(held.site(), raw, held.root)
    if key is not None:
        write_desk(replace(held, key=key.absolute()), anew=True)
    if as_json:
        console.print_json({"desk": str(held.folder), "keys": trusted.version})
    else:
        console.out.print(f"version {trusted.version} stands at {held.url}")


@app.command("publish")
def publish(
    desk: DeskArgument,
    manifest: ManifestOption = None,
    deltas: DeltasOption = None,
    run: RunOption = None,
    snapshot_every: SnapshotEveryOption = 100,
    allow_missing: AllowMissingOption = False,
    new_session: NewSessionOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish what changed: one delta, and a snapshot when due.

    Nothing changed: the head is signed anew. Run it from a timer: a head that grows old makes
    every node stale. Exit code 1: another publisher was first; run it again.

    Of an operator's feed the manifest owns the lists that it names: others stay as they are, and
    what was ordered by hand stays in all.

    --deltas goes on from what is published, by the delta files of others: all fit it, or nothing
    changes. The run that they lead to is remembered; --run says it where nothing else does.
    """
    held = read_desk(desk)
    given = _given(manifest, deltas, run or [], allow_missing=allow_missing, anew=new_session)
    step: Step | None = None
    with (
        held.at_work(Habits(snapshot_every=snapshot_every)) as publisher,
        console.progress_bar("reading what is published", hidden=as_json) as (bar, task),
    ):
        if given is None:
            done = publisher.re_sign([held.root], now=int(time.time()))
        else:
            done, step = _publish(held, publisher, given, load_config(config), bar, task)
        bar.update(task, description="removing what left the head long ago")
        gone = publisher.sweep(done.head, now=int(time.time()))
    print_published(done, gone, step, as_json=as_json)


@app.command("verify")
def verify(
    url: UrlArgument,
    root_key: RootKeyOption = "",
    endpoint: EndpointOption = "",
    region: RegionOption = "us-east-1",
    root_certificate: CertificateOption = None,
    client_certificate: ClientCertificateOption = None,
    client_key: ClientKeyOption = None,
    accept_plaintext: PlaintextOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fetch and verify all of a feed, from signature to digest.

    Exit code 3: the feed is not to be believed; 2: nothing answers there; 1: what was signed does
    not fit together.
    """
    access = Access(
        endpoint, region, root_certificate, client_certificate, client_key, accept_plaintext
    )
    with _read(url, root_key, access, hidden=as_json) as feed:
        generation = feed.verify()
    _print_verified(feed, generation, as_json=as_json)


def _print_verified(feed: FeedReader, generation: Generation, *, as_json: bool) -> None:
    head, keys = feed.head, feed.keys
    sections = sorted(generation.sections.items())
    items = {name: section.items for name, section in sections if name != BLACK_UNION}
    if as_json:
        facts = {"digest": generation.digest, "items": items, "keys_expire": keys.expires}
        console.print_json({**head_fields(head), "feed": generation.feed, **facts})
        return
    rows = console.table("", "")
    rows.add_row("feed", f"{generation.feed} of {head.registry_id}")
    rows.add_row("session", f"{head.session}, epoch {head.epoch}")
    rows.add_row("serial", f"{head.serial}, made {utc(head.made_at)}")
    rows.add_row("snapshot", f"serial {head.snapshot.serial}, {head.snapshot.size:,} bytes")
    rows.add_row("deltas", f"{len(head.deltas)}, {weight(head):,} bytes")
    rows.add_row("digest", generation.digest)
    rows.add_row("keys", f"version {keys.version}, until {utc(keys.expires)}")
    for name, count in items.items():
        rows.add_row(name, f"{count:,}")
    console.out.print(rows)
    console.out.print("good: every byte, from the root's signature to the last digest")


@app.command("log")
def log(
    url: UrlArgument,
    root_key: RootKeyOption = "",
    endpoint: EndpointOption = "",
    region: RegionOption = "us-east-1",
    root_certificate: CertificateOption = None,
    client_certificate: ClientCertificateOption = None,
    client_key: ClientKeyOption = None,
    accept_plaintext: PlaintextOption = False,
    as_json: JsonOption = False,
) -> None:
    """List a feed's deltas: when, how big, what changed."""
    access = Access(
        endpoint, region, root_certificate, client_certificate, client_key, accept_plaintext
    )
    entries: list[dict[str, object]] = []
    rows = console.table("serial", "made", "bytes", "list", "removed", "added")
    with _read(url, root_key, access, hidden=as_json) as feed:
        head = feed.head
        for file, step, delta in feed.steps():
            changes = changes_of(delta)
            fields = {"serial": file.serial, "made_at": step.made_at, "bytes": file.size}
            entries.append({**fields, "digest": file.digest, "changes": pairs(changes)})
            first = [str(file.serial), utc(step.made_at), f"{file.size:,}"]
            for name, (removed, added) in changes.items():
                rows.add_row(*first, name, f"{removed:,}", f"{added:,}")
                first = ["", "", ""]
    if as_json:
        console.print_json({**head_fields(head), "deltas": entries})
        return
    console.out.print(rows)
    console.out.print(
        f"snapshot: serial {head.snapshot.serial}, {head.snapshot.size:,} bytes;"
        f" head: serial {head.serial}, made {utc(head.made_at)}"
    )


def _put_keys(site: Site, raw: bytes, root: PublicKey) -> None:
    """Swap the `keys` file for a newer one. Raises Refused ``keys-lower`` or ``keys-rewritten``."""
    now = int(time.time())
    found = site.read(KEYS_NAME)
    if found is not None and found.raw == raw:
        return
    if found is not None:
        open_keys(raw, [root], now=now, kept=read_keys(found.raw, [root]))
    site.swap(KEYS_NAME, raw, was=found.tag if found else None)


def lists_in(manifest: Path, folder: Path, settings: Config, bar: Bar, task: TaskID) -> LoadOutcome:
    """What a manifest's lists come to, in a file in ``folder``. Raises Refused as `eir load`."""
    from eir.store.importers.scratch import Effort
    from eir.store.load import load as load_lists

    return load_lists(
        manifest,
        folder / "lists",
        settings.numbering,
        teller(bar, task),
        reports=manifest.parent,
        max_reject_share=settings.load.max_reject_share,
        effort=Effort(settings.load.threads, settings.load.memory_mib),
    )


@dataclass(frozen=True, slots=True)
class _Given:
    """What is to be published: full lists, or ``deltas``; ``runs``: as the person says."""

    manifest: Path
    deltas: bool
    runs: Mapping[str, int]
    allow_missing: bool
    new_session: bool


def _given(
    manifest: Path | None, deltas: Path | None, runs: list[str], *, allow_missing: bool, anew: bool
) -> _Given | None:
    """Raises BadParameter, and Refused ``delta-run``."""
    from eir.ops.runs import runs_said

    if manifest is not None and deltas is not None:
        raise typer.BadParameter("--from takes all lists, --deltas what changed: give one of them")
    source = deltas or manifest
    if source is None and runs:
        raise typer.BadParameter("--run goes with --from or --deltas")
    said = runs_said(runs)
    return _Given(source, deltas is not None, said, allow_missing, anew) if source else None


def _publish(
    desk: Desk, publisher: Publisher, given: _Given, settings: Config, bar: Bar, task: TaskID
) -> tuple[Published, Step]:
    from eir.ops.runs import remember, runs_of

    edition = publisher.look([desk.root], now=int(time.time()))
    before = edition.content.digest if edition.content else ""
    emptied = given.allow_missing
    with desk.loading() as folder:
        if given.deltas:
            known = {**runs_of(desk, before), **given.runs}
            content, step = _stepped(given.manifest, edition, known, folder, settings, bar, task)
        else:
            content, step = _whole(given.manifest, folder, settings, bar, task)
            if content.feed == OPERATOR:
                content = bulk(edition.content, content, allow_missing=given.allow_missing)
                emptied = True
            runs = {**runs_of(desk, content.digest), **step.runs, **given.runs}
            step = replace(step, runs=runs)
        bar.update(task, description="comparing and writing", note="", total=None)
        remember(desk, content.digest, step.runs, published=before)
        done = publisher.publish(
            content,
            edition,
            now=int(time.time()),
            new_session=given.new_session,
            allow_missing=emptied,
        )
    return done, replace(step, repeated=content is edition.content)


def _whole(
    manifest: Path, folder: Path, settings: Config, bar: Bar, task: TaskID
) -> tuple[Generation, Step]:
    """The content that full lists make, and the runs that it holds, where their zips tell."""
    from eir.store.importers.deltas import runs_beside

    outcome = lists_in(manifest, folder, settings, bar, task)
    runs = runs_beside(file.name for file in outcome.files)
    rejects = sum(file.rejected for file in outcome.files)
    step = Step(runs, repeated=False, rejects=rejects, rejects_path=outcome.rejects_path)
    return open_snapshot(outcome.facts.path), step


def _stepped(
    manifest: Path,
    edition: Edition,
    known: Mapping[str, int],
    folder: Path,
    settings: Config,
    bar: Bar,
    task: TaskID,
) -> tuple[Generation, Step]:
    """What is published with the deltas of others, and the runs that it then holds."""
    from eir.ops.runs import with_changes
    from eir.store.changes import reading_changes
    from eir.store.importers.scratch import Effort

    with reading_changes(
        manifest,
        folder,
        settings.numbering,
        teller(bar, task),
        max_reject_share=settings.load.max_reject_share,
        effort=Effort(settings.load.threads, settings.load.memory_mib),
    ) as changes:
        content = with_changes(edition, changes, known)
        runs = {**known, **{name: run for name, (_, run) in changes.runs.items()}}
        rejects = sum(file.rejected for file in changes.files)
        step = Step(runs, repeated=False, rejects=rejects, rejects_path=changes.rejects_path)
        return content, step


@dataclass(frozen=True, slots=True)
class Access:
    """What it takes to get in, as the options say."""

    endpoint: str
    region: str
    root_certificate: Path | None
    client_certificate: Path | None
    client_key: Path | None
    plaintext_accepted: bool

    def address(self, url: str) -> Address:
        """The feed there. Raises Refused as ``Address``."""
        return Address(
            url,
            root_certificate=self.root_certificate,
            client_certificate=self.client_certificate,
            client_key=self.client_key,
            endpoint=self.endpoint,
            region=self.region,
            plaintext_accepted=self.plaintext_accepted,
        )


@contextmanager
def _read(url: str, root_key: str, access: Access, *, hidden: bool) -> Iterator[FeedReader]:
    """The feed, with a bar for its files. A publisher's folder knows where, and whom to believe."""
    desk = read_desk(Path(url)) if is_desk(Path(url)) else None
    if desk is None and not root_key:
        raise Refused("key-text", "--root-key says whom to believe: only a publisher's folder does")
    root = desk.root if desk and not root_key else key_from_text(root_key, "root")
    address = desk.address if desk else access.address(url)
    with console.progress_bar("fetching", hidden=hidden) as (bar, task):

        def tell(name: str, there: int, size: int) -> None:
            bar.update(task, description=name[:24], completed=there, total=size)

        with reading(address, root, tell) as feed:
            yield feed
