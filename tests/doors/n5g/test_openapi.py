"""Our OpenAPI file is true: well-formed, complete, served as it is, and what the door does."""

import json
import re
from importlib import resources

import httpx
import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, settings
from openapi_spec_validator import validate

from eir import limits
from eir.doors import n5g_codec as codec
from eir.doors.n5g_door import openapi_text

TEXT = (resources.files("eir.doors") / "n5g_openapi.yaml").read_text()
DOCUMENT = yaml.safe_load(TEXT)
REJECTIONS = {"expected-statuses": ["400", "404", "405", "406", "414"]}
CONFIG = {"checks": {"negative_data_rejection": REJECTIONS}}
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT, config=schemathesis.Config.from_dict(CONFIG))


def test_it_is_well_formed_and_names_what_there_is():
    validate(DOCUMENT)
    assert set(DOCUMENT["paths"]) == {codec.RESOURCE_PATH, codec.OPENAPI_PATH}
    parameters = DOCUMENT["paths"][codec.RESOURCE_PATH]["get"]["parameters"]
    assert {parameter["name"] for parameter in parameters} == codec._PARAMS
    assert DOCUMENT["components"]["schemas"]["Pei"]["maxLength"] == limits.MAX_PEI_CHARS
    for number in (limits.MAX_N5G_URL_CHARS, limits.MAX_N5G_HEADER_BYTES):
        assert str(number) in TEXT


def test_it_lists_every_status_and_cause_the_code_can_give():
    source = "".join(
        (resources.files("eir.doors") / f"n5g_{name}.py").read_text() for name in ("codec", "token")
    )
    responses = DOCUMENT["paths"][codec.RESOURCE_PATH]["get"]["responses"]
    named = {
        int(getattr(codec.HTTPStatus, word))
        for word in re.findall(r"HTTPStatus\.([A-Z_]+)", source)
    }
    assert {int(status) for status in responses} == named | {431}
    causes = set(DOCUMENT["components"]["schemas"]["Cause"]["enum"])
    problems = [value for value in vars(codec).values() if isinstance(value, codec.Problem)]
    problems += [codec.not_ready(1), codec.too_many(1)]
    problems += [codec._incorrect("pei", ""), codec._incorrect("supi", "")]
    assert {problem.cause for problem in problems} - {""} == causes


async def test_it_is_served_as_it_is(open_door):
    async with open_door() as (_, url), httpx.AsyncClient(http1=False, http2=True) as client:
        answer = await client.get(url + codec.OPENAPI_PATH)
    assert answer.headers["content-type"] == "application/yaml"
    assert answer.text == TEXT
    assert openapi_text().body == TEXT.encode()


@pytest.fixture(scope="module")
def door_url(threaded_door, table_checker):
    with threaded_door(table_checker(), http1=True) as url:
        yield url


@SCHEMA.parametrize()
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_door_does_what_it_says(case, door_url):
    case.call_and_validate(base_url=door_url)


@pytest.mark.parametrize("operation", ["GetEquipmentStatus"])
def test_a_lie_in_the_file_would_be_found(operation, door_url):
    lying = json.loads(json.dumps(DOCUMENT))
    lying["components"]["schemas"]["EquipmentStatus"]["enum"] = ["BLACKLISTED"]
    schema = schemathesis.openapi.from_dict(lying)
    case = schema[codec.RESOURCE_PATH]["GET"].Case(query={"pei": "imei-490154203237518"})
    with pytest.raises(schemathesis.core.failures.FailureGroup):
        case.call_and_validate(base_url=door_url)
