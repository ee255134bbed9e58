"""What hosting platforms say of themselves in the environment: the names they give a box, and who stands before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Platform:
    """hosts: names by which people, and health checks, reach the box; proxies: where requests come from that passed the
    platform's own proxy; client_header: in which that one says who asked."""

    hosts: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    client_header: str = "x-forwarded-for"


def find(env: Mapping[str, str]) -> Platform:
    """The platform that this environment is of; an empty one elsewhere."""
    if app := env.get("FLY_APP_NAME", "").strip():
        # https://fly.io/docs/networking/request-headers/: Fly-Client-IP is the client as its proxy saw it; one that a
        # client sends is overwritten (github.com/arcjet/arcjet-js/issues/5412 tried it). That the proxy comes from
        # 172.16.0.0/12 isn't documented: apps there log such peers (github.com/jessestimpson/livesecret/issues/3). Were
        # that to change, nobody would be believed, and all people would look like one. Other machines of the same
        # organisation come from fdaa::/16, past the proxy, and are not believed.
        return Platform((f"{app}.fly.dev", f"{app}.internal", f"{app}.flycast"), ("172.16.0.0/12",), "fly-client-ip")
    if any(env.get(f"RAILWAY_{name}", "").strip() for name in ("ENVIRONMENT_ID", "PUBLIC_DOMAIN", "PRIVATE_DOMAIN")):
        given = (env.get(f"RAILWAY_{name}_DOMAIN", "").strip() for name in ("PUBLIC", "PRIVATE"))
        # https://docs.railway.com/guides/healthchecks: their requests carry this name. X-Real-IP is documented at
        # https://docs.railway.com/networking/public-networking/specs-and-limits; the proxy's network is not.
        return Platform((*filter(None, given), "healthcheck.railway.app"), ("100.64.0.0/10",), "x-real-ip")
    return Platform()
