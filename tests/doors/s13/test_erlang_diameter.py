"""Erlang/OTP diameter as client: a third stack, and a strict one: any decode error fails."""

import re

import pytest

from tests.doors.s13.peers import PEERS, needs_program, run
from tests.doors.s13.talk import BLACK, UNKNOWN, WHITE, running

SOURCES = PEERS / "erlang"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of the compiled client."""
    return tmp_path_factory.mktemp("erlang")


async def build(folder) -> None:
    make = f'ok = diameter_make:codec("{SOURCES}/s13.dia", [{{outdir, "{folder}"}}]), halt(0).'
    await run("erl", "-noinput", "-eval", make)
    await run("erlc", "-o", str(folder), f"{folder}/s13.erl", f"{SOURCES}/s13_client.erl")


async def test_a_strict_stack_finds_nothing_to_complain_of(built):
    needs_program("erl", "erlc")
    await build(built)
    imeis = [f"{WHITE:014d}0", f"{BLACK:014d}07", "35111111111111", f"{UNKNOWN:014d}3", "12345"]
    words = ("-noinput", "-pa", str(built), "-run", "s13_client", "main")
    async with running(leave_seconds=5) as door:
        said = await run("erl", *words, str(door.port), *imeis)
        assert door.events["s13", "closed", "left"] + door.events["s13", "closed", "peer-gone"] == 1
    lines = said.splitlines()
    assert lines[0] == "up"
    assert lines[-1] == "done"
    form = r"answer (\w+) session (\w+) errors (.*) error-bit (\w+) status (\w+) proxies (.*)"
    answers = [re.fullmatch(form, line).groups() for line in lines if line.startswith("answer")]
    results = [(result, error, status) for result, _, _, error, status, _ in answers]
    assert results == [
        ("2001", "false", "0"),
        ("2001", "false", "1"),
        ("2001", "false", "2"),
        ("5422", "false", "none"),
        ("2001", "false", "2"),
        ("3002", "true", "none"),
        ("3003", "true", "none"),
        ("5004", "false", "none"),
        ("5005", "false", "none"),
        ("2001", "false", "0"),
        ("2001", "false", "0"),
    ]
    assert {same for _, same, _, _, _, _ in answers} == {"true"}
    assert {errors for _, _, errors, _, _, _ in answers} == {"[]"}
    assert answers[-1][5] == '[<<"one">>,<<"two">>]'
    assert int(re.search(r"dwas (\d+)", said)[1]) >= 1
