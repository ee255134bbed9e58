"""What the operator decides before the start, from the environment: read once, frozen, refused when wrong.

What a person may change while it runs (slots, queue length, …) is a setting: a row of the settings table,
whose first value comes from here (see `store.settings`). A changed row wins.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from tasks import platforms
from tasks.egress import Rules, read_allowed


class ConfigError(Exception):
    """A variable has a value that can't be used; the sentence names it and gives an example."""


Network = ipaddress.IPv4Network | ipaddress.IPv6Network
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
"""Also of apps, such as tauri://localhost. Never * or null, which would be everybody."""
_USUAL_PORT = re.compile(r"^(http://.+(?=:80$)|https://.+(?=:443$)):[0-9]+$")
_Positive = Annotated[float, Meta(gt=0, le=86_400)]


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """One field for each variable: `data` is STENOBOX_DATA and so on; the example is the first of `examples`."""

    data: Annotated[Path, Meta(description="folder for everything the program writes", examples=["/data"])]
    host: Annotated[str, Meta(description="address to listen on", examples=["127.0.0.1"])] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535, description="port to listen on", examples=["8000"])] = 8000
    hosts: Annotated[
        str, Meta(description="names people reach the box by, with commas", examples=["stenobox.example.org"])
    ] = ""
    origins: Annotated[
        str,
        Meta(
            description="origins whose pages may use the API with a key, with commas",
            examples=["https://app.example.org"],
        ),
    ] = ""
    proxies: Annotated[
        str,
        Meta(description="proxies to believe who asks, with commas", examples=["127.0.0.1,10.0.0.0/8"]),
    ] = ""
    client_header: Annotated[
        str,
        Meta(
            pattern="^[A-Za-z0-9-]+$",
            description="header in which those proxies say who asks",
            examples=["X-Forwarded-For"],
        ),
    ] = "X-Forwarded-For"
    model: Annotated[str, Meta(min_length=1, description="model of jobs that name none", examples=["small"])] = "demo"
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"], Meta(description="where models run", examples=["auto"])
    ] = "auto"
    compute_type: Annotated[
        Literal["auto", "int8", "int8_float16", "float16", "bfloat16", "float32"],
        Meta(description="numbers that models compute in", examples=["int8"]),
    ] = "auto"
    cpus: Annotated[int, Meta(ge=0, le=1024, description="CPUs to use, 0 for all", examples=["4"])] = 0
    slots: Annotated[int, Meta(ge=0, le=16, description="jobs that run at once, or auto", examples=["2"])] = 0
    queue_limit: Annotated[
        int, Meta(ge=0, le=100_000, description="jobs that may wait, 0 to refuse at once", examples=["20"])
    ] = 20
    max_bytes: Annotated[int, Meta(ge=1, description="largest upload in bytes", examples=["2000000000"])] = (
        2_000_000_000
    )
    max_seconds: Annotated[
        float, Meta(gt=0, le=365 * 86_400, description="longest recording in seconds", examples=["14400"])
    ] = 4 * 3600.0
    inbox: Annotated[
        Path | None, Meta(description="folder whose files are transcribed", examples=["/srv/recordings"])
    ] = None
    inbox_settle: Annotated[
        float,
        Meta(ge=1, le=86_400, description="seconds a file there must stand still before it is taken", examples=["10"]),
    ] = 10.0
    inbox_formats: Annotated[
        str, Meta(description="transcripts laid beside its files, with commas", examples=["txt,json,srt"])
    ] = "txt,json"
    inbox_language: Annotated[str, Meta(description="language of its files, empty to detect it", examples=["en"])] = ""
    inbox_model: Annotated[
        str, Meta(description="model for its files, empty for the box's own", examples=["small"])
    ] = ""
    engine_idle: Annotated[_Positive, Meta(description="seconds before an idle engine leaves", examples=["300"])] = (
        300.0
    )
    lease: Annotated[float, Meta(ge=2, le=3600, description="seconds a silent worker keeps a job", examples=["30"])] = (
        30.0
    )
    grace: Annotated[float, Meta(ge=1, le=300, description="seconds to leave after SIGTERM", examples=["10"])] = 10.0
    metrics: Annotated[
        str,
        Meta(
            pattern=r"^$|^(\[[0-9a-fA-F:]+\]|[^:\s]+):[0-9]{1,5}$",
            description="address and port of /metrics for Prometheus, empty for none",
            examples=["127.0.0.1:9091"],
        ),
    ] = ""

    log: Annotated[
        Literal["auto", "json", "text"],
        Meta(description="form of the log, auto for text at a terminal and JSON elsewhere", examples=["json"]),
    ] = "auto"
    egress_allow: Annotated[
        str,
        Meta(
            description="addresses with ports that links may lead to besides public web servers",
            examples=["192.168.1.20:8096"],
        ),
    ] = ""

    @property
    def egress(self) -> Rules:
        """Where requests to addresses that strangers chose may go."""
        return Rules(read_allowed(self.egress_allow))

    @property
    def inbox_forms(self) -> tuple[str, ...]:
        """Names of what is laid beside the inbox's files."""
        return tuple(dict.fromkeys(form.lower() for form in _split(self.inbox_formats)))

    @property
    def jobs_db(self) -> Path:
        return self.data / "jobs.db"

    @property
    def queue_db(self) -> Path:
        return self.data / "huey.db"

    @property
    def media(self) -> Path:
        return self.data / "media"

    @property
    def models(self) -> Path:
        return self.data / "models"

    @property
    def run(self) -> Path:
        """For what processes leave for those that come after them."""
        return self.data / "run"

    @property
    def allowed_hosts(self) -> list[str]:
        """Host names that requests may carry: loopback always, the address it listens on, and what the operator or
        the platform named."""
        address = f"[{self.host}]" if ":" in self.host else self.host
        own = [] if self.is_loopback or self.listens_everywhere else [address]
        return [*LOOPBACK, *_split(self.hosts), *own]

    @property
    def allowed_origins(self) -> list[str]:
        """Other origins whose pages may use the API, as browsers write them."""
        return [_USUAL_PORT.sub(r"\1", text.lower()) for text in _split(self.origins)]

    @property
    def answers_addresses(self) -> bool:
        """Whether requests may carry any numeric address as their host. A page elsewhere can lead a name of its own to
        this box, never an address; and in a container the addresses that people type aren't to be seen."""
        return not self.is_loopback and not _split(self.hosts)

    @property
    def exposed(self) -> bool:
        """Whether others may reach the box: it listens beyond this machine, has a name that people use, or a proxy
        before it."""
        return not self.is_loopback or bool(_split(self.hosts)) or bool(_split(self.proxies))

    @property
    def listens_everywhere(self) -> bool:
        """Whether it listens on all addresses of this machine."""
        try:
            return ipaddress.ip_address(self.host).is_unspecified
        except ValueError:
            return False

    @property
    def is_loopback(self) -> bool:
        """Whether it listens on this machine alone."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def trusted_proxies(self) -> list[Network]:
        """Where requests come from whose word on who asks is taken."""
        return [ipaddress.ip_network(text, strict=False) for text in _split(self.proxies)]


PASSWORD = "STENOBOX_PASSWORD"
KEY = "STENOBOX_KEY"
"""What `submit` and `bench --against` send to a box that asks for a key: not an option, which others could read."""
"""Not a field: it goes from the environment into the database as a hash, and is in no process from then on."""
VARIABLES: dict[str, str] = {name: f"STENOBOX_{name.upper()}" for name in Config.__struct_fields__}
_FALLBACKS = {"port": "PORT"}  # what Fly, Railway and most hosts set


def from_env(env: Mapping[str, str] | None = None) -> Config:
    """Read the configuration from env (default: this process's environment).

    Raises ConfigError with the variable, its value and an example.
    """
    env = os.environ if env is None else env
    values: dict[str, Any] = {}
    for field, variable in VARIABLES.items():
        given = (name for name in (variable, _FALLBACKS.get(field, variable)) if env.get(name, "").strip())
        if name := next(given, None):
            values[field] = _convert(field, name, env[name].strip())
    if "data" not in values:
        import platformdirs  # every process of a box is told its folder

        values["data"] = Path(platformdirs.user_data_dir("stenobox", appauthor=False))
    platform = platforms.find(env)
    values["hosts"] = ",".join((*_split(values.get("hosts", "")), *platform.hosts))
    values.setdefault("proxies", ",".join(platform.proxies))
    values.setdefault("client_header", platform.client_header)
    config = Config(**values)
    _check_proxies(config)
    _check_origins(config)
    if config.inbox and (config.inbox.is_relative_to(config.data) or config.data.is_relative_to(config.inbox)):
        raise ConfigError(
            f"STENOBOX_INBOX={str(config.inbox)!r} can't be used: one of it and the data folder lies in the other, and "
            "the files there are Stenobox's own. For example: STENOBOX_INBOX=/srv/recordings"
        )
    return config


def _convert(field: str, variable: str, text: str) -> Any:
    hint = get_type_hints(Config, include_extras=True)[field]
    meta = next(m for m in reversed(hint.__metadata__) if m.examples)
    if field == "slots" and text == "auto":
        return 0
    if field in ("data", "inbox"):
        try:
            return Path(text).expanduser().absolute()
        except RuntimeError:
            raise ConfigError(
                f"{variable}={text!r} can't be used as {meta.description}: there is no such user. "
                f"For example: {variable}={meta.examples[0]}"
            ) from None
    if field == "egress_allow":
        try:
            read_allowed(text)
        except ValueError as error:
            raise ConfigError(
                f"{variable}={text!r} can't be used as {meta.description}: {error}. "
                f"For example: {variable}={meta.examples[0]}"
            ) from None
    try:
        return msgspec.convert(text, hint, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"{variable}={text!r} can't be used as {meta.description}: {_reason(hint, error)}. "
            f"For example: {variable}={meta.examples[0]}"
        ) from None


def _reason(hint: Any, error: msgspec.ValidationError) -> str:
    choices = next((h for h in get_args(hint) if get_origin(h) is Literal), None)
    if choices is not None:
        return f"it must be one of {', '.join(get_args(choices))}"
    return re.sub(r"`(\w+)`", r"\1", str(error)).replace("Expected ", "expected ", 1)


def _check_proxies(config: Config) -> None:
    for text in _split(config.proxies):
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise ConfigError(
                f"STENOBOX_PROXIES={config.proxies!r} can't be used as addresses of proxies: {text} is none. "
                "For example: STENOBOX_PROXIES=127.0.0.1,10.0.0.0/8"
            ) from None


def _check_origins(config: Config) -> None:
    for text in config.allowed_origins:
        if not _ORIGIN.fullmatch(text):
            raise ConfigError(
                f"STENOBOX_ORIGINS={config.origins!r} can't be used as origins of pages: {text} is none, which is a "
                "scheme and a host, with a port if it isn't the usual one, and no path. "
                "For example: STENOBOX_ORIGINS=https://app.example.org,http://localhost:5173"
            )


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
