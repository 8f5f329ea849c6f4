"""The configuration file: defaults, every fault with its line, and what belongs together."""

from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eir.core.policy import BlackList, Policy, Status
from eir.core.subscriber import Numbering
from eir.errors import Refused
from eir.ops.settings.config import Config, config_check, find_config, load_config, read_config
from eir.ops.settings.sections import NumberingSection, Settings
from eir.ops.settings.setting import known_keys

FOLDER = Path("/etc/eir")


def read(text: str) -> Config:
    return read_config(text, name="eir.toml", folder=FOLDER)


def refusal(text: str) -> Refused:
    with pytest.raises(Refused) as caught:
        read(text)
    return caught.value


def test_an_empty_file_is_a_local_node() -> None:
    config = read("")
    assert config.policy == Policy()
    assert config.numbering == Numbering()
    assert config.node.depot == FOLDER / ".eir"
    assert config.admin.socket == FOLDER / ".eir/admin.sock"
    assert config.grpc.listen == ("127.0.0.1:50061",)
    assert config.grace.grace_lag == 3600


def test_what_is_set_is_in_force() -> None:
    config = read(
        """
        [node]
        depot = "/var/lib/eir"
        [grpc]
        listen = ["[::1]:0", "unix:run/check.sock"]
        [policy]
        mode = "shadow"
        black_order = ["stolen", "lost"]
        home_plmns = ["43211", "43235"]
        [policy.status]
        grace-expired = "GREYLISTED"
        [policy.black.cloned]
        legacy_overrides = true
        active_from = 2026-03-21T00:00:00+03:30
        active_until = 1800000000
        [numbering]
        country_code = "49"
        """
    )
    assert config.node.depot == Path("/var/lib/eir")
    assert config.admin.socket == Path("/var/lib/eir/admin.sock")
    assert config.grpc.listen == ("[::1]:0", "unix:/etc/eir/run/check.sock")
    assert config.policy.mode == "shadow"
    assert config.policy.status["grace-expired"] == Status.GREYLISTED
    assert config.policy.black["cloned"] == BlackList(
        binding_overrides=True,
        legacy_overrides=True,
        active_from=1_774_038_600,
        active_until=1_800_000_000,
    )
    assert config.policy.home_plmns == ("43211", "43235")
    assert config.numbering == Numbering(country_code="49")


@pytest.mark.parametrize(
    ("text", "reason", "where", "says"),
    [
        ("\n[polcy]", "config-unknown-key", "eir.toml:2: polcy", "'policy'"),
        ("[node]\ndepo = 1", "config-unknown-key", "eir.toml:2: node.depo", "'depot'"),
        ("depot = 'x'", "config-unknown-key", "eir.toml:1: depot", "'node.depot'"),
        ("[load]\nzzz = 1", "config-unknown-key", "eir.toml:2: load.zzz", "known here: max_rej"),
        ("'a\\b\u202e' = 1", "config-unknown-key", r'eir.toml:1: "a\\b\u202e"', "known here: node"),
        ("node = 3", "config-type", "eir.toml:1: node", "a table, got a whole number"),
        ("node.json_logs = 1", "config-type", "eir.toml:1: node.json_logs", "true or false"),
        ("[load]\nthreads = true", "config-type", "eir.toml:2: load.threads", "a whole number"),
        ("[load]\nthreads = -1", "config-range", "eir.toml:2: load.threads", "0 to 256"),
        ("[load]\nmax_reject_share = nan", "config-range", "eir.toml:2: load.max_reject_share", ""),
        ("[load]\nmax_reject_share = 2", "config-range", "eir.toml:2: load.max_reject_share", ""),
        ("[node]\nlog_level = 'Inf'", "config-range", "eir.toml:2: node.log_level", '"info"?'),
        ("[node]\ndepot = ''", "config-range", "eir.toml:2: node.depot", "path"),
        ("[node]\ndepot = '~/eir'", "config-range", "eir.toml:2: node.depot", "path"),
        ("[grpc]\nlisten = 'x'", "config-type", "eir.toml:2: grpc.listen", "an array"),
        ("[grpc]\nlisten = [1]", "config-type", "eir.toml:2: grpc.listen", "a string"),
        ("[grpc]\nlisten = ['[::1]:66000']", "config-range", "eir.toml:2: grpc.listen", "port"),
        ("[grpc]\nlisten = ['unix:']", "config-range", "eir.toml:2: grpc.listen", "unix:path"),
        ("[grpc]\nlisten = ['unix:/']", "config-range", "eir.toml:2: grpc.listen", "unix:path"),
        (
            "[policy]\nhome_plmns = ['4321']",
            "config-range",
            "eir.toml:2: policy.home_plmns",
            "PLMN",
        ),
        (
            "[policy]\nhome_plmns = ['43211', '43211']",
            "config-range",
            "eir.toml:2: policy.home_plmns",
            "twice",
        ),
        (
            "[policy.status]\ngrase = 'UNKNOWN'",
            "config-unknown-key",
            "eir.toml:2: policy.status.grase",
            "'grace'",
        ),
        (
            "[policy.status]\ngrace = 'greylisted'",
            "config-range",
            "eir.toml:2: policy.status.grace",
            '"GREYLISTED"?',
        ),
        ("[policy.black.Sto]", "config-range", "eir.toml:1: policy.black.Sto", "reason name"),
        (
            "[policy.black.x]\nactive_from = 2026-03-21T00:00:00",
            "config-type",
            "eir.toml:2: policy.black.x.active_from",
            "time zone",
        ),
        (
            "[policy.black.x]\nactive_from = 1404-01-01T00:00:00Z",
            "config-range",
            "eir.toml:2: policy.black.x.active_from",
            "Gregorian",
        ),
        (
            "[policy.black.x]\nactive_from = 2026-03-21",
            "config-type",
            "eir.toml:2: policy.black.x.active_from",
            "got a date",
        ),
        (
            "[numbering]\ncountry_code = '+98'",
            "config-range",
            "eir.toml:2: numbering.country_code",
            "",
        ),
        (
            "[numbering]\ntrunk_prefix = '۰'",
            "config-range",
            "eir.toml:2: numbering.trunk_prefix",
            "",
        ),
    ],
)
def test_a_wrong_setting_is_refused_with_its_line(
    text: str, reason: str, where: str, says: str
) -> None:
    fault = refusal(text)
    assert (fault.reason, fault.where) == (reason, where)
    assert says in fault.detail


@pytest.mark.parametrize(
    ("text", "reason", "where"),
    [
        ("[grpc]\nlisten = ['0.0.0.0:1']", "config-plaintext", "eir.toml:2: grpc.listen"),
        ("[grpc]\nlisten = ['node7.example:1']", "config-plaintext", "eir.toml:2: grpc.listen"),
        ("[grpc]\ntls_cert = 'c'", "config-conflict", "eir.toml:2: grpc.tls_cert"),
        ("[grpc]\ntls_key = 'k'", "config-conflict", "eir.toml:2: grpc.tls_key"),
        ("[grpc]\nclient_ca = 'k'", "config-conflict", "eir.toml:2: grpc.client_ca"),
        ("[admin]\nremote_listen = 'x:1'", "config-conflict", "eir.toml:2: admin.remote_listen"),
        ("[admin]\nremote_listen = 'unix:x'", "config-range", "eir.toml:2: admin.remote_listen"),
        ("[admin]\ntls_cert = 'c'", "config-conflict", "eir.toml:1: admin"),
        (f"[admin]\nsocket = '/{'s' * 107}'", "config-range", "eir.toml:2: admin.socket"),
        ("[numbering]\nmin_national_digits = 11", "config-conflict", "eir.toml:2: "),
        ("[numbering]\nmax_national_digits = 14", "config-conflict", "eir.toml:2: "),
        ("[numbering]\ntrunk_prefix = '00'", "config-conflict", "eir.toml:2: "),
        (
            "[policy.black.x]\nactive_from = 1800000000\nactive_until = 1800000000",
            "config-conflict",
            "eir.toml:3: policy.black.x.active_until",
        ),
    ],
)
def test_settings_that_do_not_belong_together_are_refused(
    text: str, reason: str, where: str
) -> None:
    fault = refusal(text)
    assert fault.reason == reason
    assert fault.where.startswith(where)


@pytest.mark.parametrize(
    "text",
    [
        "[grpc]\nlisten = ['0.0.0.0:1']\nplaintext = 'accepted'",
        "[grpc]\nlisten = ['0.0.0.0:1']\ntls_cert = 'c'\ntls_key = 'k'",
        "[grpc]\nlisten = ['127.3.2.1:1', 'localhost:2', '[::1]:3', 'unix:/run/x']",
        "[grpc]\nlisten = []",
    ],
)
def test_plaintext_stays_on_this_machine_unless_accepted(text: str) -> None:
    assert read(text).grpc.max_streams == 1024


def test_all_faults_are_told_at_once() -> None:
    text = "[grpc]\nlisten = ['h:1']\n[node]\nlog_level = 'x'\n[load]\nthreads = 'y'\n"
    fault = refusal(text + "[admin]\ntls_cert = 'c'\n[policy]\nmode = 'z'\n")
    assert fault.reason == "config-faults"
    assert [line.split(": ")[:2] for line in fault.detail.splitlines()[1:]] == [
        ["  eir.toml:2", "grpc.listen"],
        ["  eir.toml:4", "node.log_level"],
        ["  eir.toml:6", "load.threads"],
        ["  eir.toml:7", "admin"],
        ["  eir.toml:10", "policy.mode"],
    ]


@pytest.mark.parametrize(
    ("raw", "where"),
    [
        (b"[node\n", "eir.toml:1"),
        (b"a = 1\na = 2\n", "eir.toml:2"),
        (b"\n\n\xff = 1\n", "eir.toml:3"),
        (b"a = " + b"9" * 10_000, "eir.toml"),
        (b"a = " + b"[" * 5_000, "eir.toml"),
        (b"#" * ((1 << 20) + 1), "eir.toml"),
    ],
)
def test_what_is_no_toml_is_refused(tmp_path: Path, raw: bytes, where: str) -> None:
    path = tmp_path / "eir.toml"
    path.write_bytes(raw)
    with pytest.raises(Refused) as caught:
        config_check(path)
    assert caught.value.reason == "config-syntax"
    assert caught.value.where.startswith(str(tmp_path / where))


def test_windows_line_ends_and_a_byte_order_mark_are_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "eir.toml"
    path.write_bytes(b"\xef\xbb\xbf[load]\r\nthreads = 3\r\n")
    config = config_check(path)
    assert config.load.threads == 3
    assert config.path == path
    assert config.node.depot == tmp_path / ".eir"


def test_named_certificates_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "eir.toml"
    path.write_text("[grpc]\ntls_cert = 'cert.pem'\ntls_key = 'key.pem'\n")
    (tmp_path / "cert.pem").write_text("")
    with pytest.raises(Refused) as caught:
        config_check(path)
    assert caught.value.reason == "config-file"
    assert caught.value.where == f"{path}:3: grpc.tls_key"
    (tmp_path / "key.pem").write_text("")
    assert config_check(path).grpc.tls_key == tmp_path / "key.pem"


def test_the_file_is_searched_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("eir.ops.settings.config.SEARCHED", (Path("eir.toml"),))
    monkeypatch.delenv("EIR_CONFIG", raising=False)
    assert load_config().path is None
    assert load_config().node.depot == tmp_path / ".eir"
    (tmp_path / "eir.toml").write_text("[load]\nthreads = 7")
    assert load_config().load.threads == 7
    assert find_config({"EIR_CONFIG": "/nowhere.toml"}) == Path("/nowhere.toml")
    monkeypatch.setenv("EIR_CONFIG", str(tmp_path))
    with pytest.raises(Refused) as caught:
        load_config()
    assert caught.value.reason == "config-missing"


def test_numbering_settings_are_those_of_the_core() -> None:
    assert [f.name for f in fields(NumberingSection)] == [f.name for f in fields(Numbering)]


SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(1 << 65), 1 << 65),
    st.floats(),
    st.text(max_size=8),
    st.datetimes(),
)
KEYS = st.sampled_from([key for key in known_keys(Settings()) if "*" not in key])


@given(KEYS, st.one_of(SCALARS, st.lists(SCALARS, max_size=2), st.just({}), st.just({"x": 1})))
def test_any_value_anywhere_is_accepted_or_refused(key: str, value: object) -> None:
    try:
        config = read(f"{key} = {toml(value)}")
    except Refused as fault:
        told = str(fault)
    else:
        told = f"eir.toml:1 [config-none] {config.path}"
    assert "eir.toml:1" in told
    assert "[config-" in told


def toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08x}" for c in value) + '"'
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {toml(v)}" for k, v in value.items()) + "}"
    return value.isoformat() if hasattr(value, "isoformat") else repr(value)
