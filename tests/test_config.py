"""Every variable: its default, what it takes, what it refuses and how it says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_type_hints

import platformdirs
import pytest

from tasks.config import VARIABLES, Config, ConfigError, from_env

HINTS = get_type_hints(Config, include_extras=True)


def meta_of(field: str) -> Any:
    return next(m for m in reversed(HINTS[field].__metadata__) if m.examples)


def test_without_variables_the_box_listens_on_loopback_with_the_demo_model() -> None:
    config = from_env({})
    assert config.data == Path(platformdirs.user_data_dir("stenobox", appauthor=False))
    assert (config.host, config.port, config.model, config.device) == ("127.0.0.1", 8000, "demo", "auto")
    assert (config.slots, config.queue_limit, config.cpus) == (0, 20, 0)
    assert (config.max_bytes, config.max_seconds) == (2_000_000_000, 4 * 3600)
    assert (config.engine_idle, config.lease, config.grace) == (300, 30, 10)


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("data", "/data", Path("/data")),
        ("data", "here", Path.cwd() / "here"),
        ("data", "~/boxes", Path.home() / "boxes"),
        ("host", "::1", "::1"),
        ("host", "localhost", "localhost"),
        ("port", "0", 0),
        ("port", "65535", 65535),
        ("model", "large-v3", "large-v3"),
        ("device", "cuda", "cuda"),
        ("device", "mps", "mps"),
        ("cpus", "4", 4),
        ("slots", "auto", 0),
        ("slots", "16", 16),
        ("queue_limit", "0", 0),
        ("max_bytes", "1", 1),
        ("max_seconds", "0.5", 0.5),
        ("engine_idle", "1", 1.0),
        ("lease", "2", 2.0),
        ("grace", "300", 300.0),
        ("egress_allow", "127.0.0.1:8123", "127.0.0.1:8123"),
        ("port", "  8080\n", 8080),
    ],
)
def test_a_good_value_is_taken(field: str, text: str, value: object) -> None:
    assert getattr(from_env({VARIABLES[field]: text}), field) == value


@pytest.mark.parametrize(
    ("field", "text", "reason"),
    [
        ("port", "http", "expected int"),
        ("port", "-1", ">= 0"),
        ("port", "65536", "<= 65535"),
        ("device", "gpu", "one of auto, cpu, cuda, mps"),
        ("cpus", "1.5", "expected int"),
        ("cpus", "-1", ">= 0"),
        ("slots", "many", "expected int"),
        ("slots", "17", "<= 16"),
        ("queue_limit", "-1", ">= 0"),
        ("max_bytes", "0", ">= 1"),
        ("max_bytes", "2G", "expected int"),
        ("max_seconds", "0", "> 0"),
        ("max_seconds", "1 h", "expected float"),
        ("max_seconds", "nan", "> 0"),
        ("max_seconds", "inf", "<= 31536000"),
        ("engine_idle", "0", "> 0"),
        ("engine_idle", "86401", "<= 86400"),
        ("engine_idle", "nan", "> 0"),
        ("lease", "1", ">= 2"),
        ("lease", "nan", ">= 2"),
        ("lease", "forever", "expected float"),
        ("grace", "0", ">= 1"),
        ("grace", "301", "<= 300"),
        ("egress_allow", "127.0.0.1", "'127.0.0.1' is not an address and a port"),
    ],
)
def test_a_wrong_value_is_refused_with_variable_value_reason_and_example(field: str, text: str, reason: str) -> None:
    variable = VARIABLES[field]
    with pytest.raises(ConfigError) as refusal:
        from_env({variable: text})
    sentence = str(refusal.value)
    assert sentence.startswith(f"{variable}={text!r} ")
    assert meta_of(field).description in sentence
    assert reason in sentence
    assert sentence.endswith(f"For example: {variable}={meta_of(field).examples[0]}")


@pytest.mark.parametrize(("field", "variable"), list(VARIABLES.items()))
def test_every_variable_has_the_prefix_and_an_example_that_works(field: str, variable: str) -> None:
    assert variable == f"STENOBOX_{field.upper()}"
    example = meta_of(field).examples[0]
    from_env({variable: example})


@pytest.mark.parametrize(
    ("env", "port"),
    [
        ({"PORT": "9000"}, 9000),
        ({"PORT": "9000", "STENOBOX_PORT": "9001"}, 9001),
        ({"STENOBOX_PORT": ""}, 8000),
        ({"STENOBOX_PORT": "  "}, 8000),
        ({"STENOBOX_PORT": "", "PORT": "9000"}, 9000),
        ({"STENOBOX_PORT": "  ", "PORT": "9000"}, 9000),
    ],
)
def test_the_hosts_own_port_variable_counts_unless_ours_is_set(env: dict[str, str], port: int) -> None:
    assert from_env(env).port == port


def test_a_wrong_fallback_is_refused_under_its_own_name() -> None:
    with pytest.raises(ConfigError, match=r"^PORT='http' .* For example: PORT=8000$"):
        from_env({"PORT": "http"})


def test_by_default_this_process_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STENOBOX_QUEUE_LIMIT", "7")
    assert from_env().queue_limit == 7


@pytest.mark.parametrize(
    ("env", "exposed"),
    [
        ({}, False),
        ({"STENOBOX_HOST": "127.0.0.1"}, False),
        ({"STENOBOX_HOST": "127.8.9.1"}, False),
        ({"STENOBOX_HOST": "::1"}, False),
        ({"STENOBOX_HOST": "localhost"}, False),
        ({"STENOBOX_HOSTS": " , "}, False),
        ({"STENOBOX_HOST": "0.0.0.0"}, True),
        ({"STENOBOX_HOST": "::"}, True),
        ({"STENOBOX_HOST": "192.168.1.7"}, True),
        ({"STENOBOX_HOST": "stenobox.lan"}, True),
        ({"STENOBOX_HOSTS": "stenobox.lan"}, True),
        ({"FLY_APP_NAME": "steno"}, True),
        ({"RAILWAY_PUBLIC_DOMAIN": "steno.up.railway.app"}, True),
        ({"RAILWAY_ENVIRONMENT_ID": "1234"}, True),
    ],
)
def test_a_box_that_others_reach_knows_it(env: dict[str, str], exposed: bool) -> None:
    assert from_env(env).exposed == exposed


@pytest.mark.parametrize(
    ("env", "names"),
    [
        ({"STENOBOX_HOST": "192.168.1.7"}, ["192.168.1.7"]),
        ({"STENOBOX_HOST": "fd00::7"}, ["[fd00::7]"]),
        ({"STENOBOX_HOST": "0.0.0.0"}, []),
        ({"FLY_APP_NAME": "steno"}, ["steno.fly.dev", "steno.internal", "steno.flycast"]),
        ({"FLY_APP_NAME": "steno", "STENOBOX_HOSTS": "a.example"}, ["a.example", "steno.fly.dev"]),
        (
            {"RAILWAY_PUBLIC_DOMAIN": "a.up.railway.app", "RAILWAY_PRIVATE_DOMAIN": "a.railway.internal"},
            ["a.up.railway.app", "a.railway.internal", "healthcheck.railway.app"],
        ),
    ],
)
def test_names_that_the_address_or_the_platform_gives(env: dict[str, str], names: list[str]) -> None:
    assert from_env(env).allowed_hosts[3:][: len(names) or None] == names


def test_proxies_are_addresses_or_networks() -> None:
    found = from_env({"STENOBOX_PROXIES": "127.0.0.1, 10.0.0.1/8,::1"}).trusted_proxies
    assert [str(network) for network in found] == ["127.0.0.1/32", "10.0.0.0/8", "::1/128"]
    with pytest.raises(ConfigError, match=r"^STENOBOX_PROXIES='caddy' .* For example: STENOBOX_PROXIES=127\.0\.0\.1"):
        from_env({"STENOBOX_PROXIES": "caddy"})


def test_allowed_hosts_are_loopback_and_what_the_operator_named() -> None:
    loopback = ["localhost", "127.0.0.1", "[::1]"]
    assert from_env({}).allowed_hosts == loopback
    assert from_env({"STENOBOX_HOSTS": " a.example , ,b.example,"}).allowed_hosts == [
        *loopback,
        "a.example",
        "b.example",
    ]


def test_everything_lies_under_the_data_folder() -> None:
    config = Config(data=Path("/data"))
    assert config.jobs_db == Path("/data/jobs.db")
    assert config.queue_db == Path("/data/huey.db")
    assert config.media == Path("/data/media")
    assert config.models == Path("/data/models")


def test_a_configuration_never_changes() -> None:
    with pytest.raises(AttributeError):
        Config(data=Path("/data")).port = 1  # type: ignore[misc]


def test_the_folder_of_a_user_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"STENOBOX_DATA='~nobody-here/x'.*STENOBOX_DATA=/data"):
        from_env({"STENOBOX_DATA": "~nobody-here/x"})
