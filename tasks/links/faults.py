"""Why a link could not be had: from what yt-dlp and the network say to a code and a sentence. Pure."""

from __future__ import annotations

import re

ADVICE = {
    "unreachable": "This link could not be reached: the address may be wrong, or nothing on the public internet "
    "answers there. Check that it opens in a browser, or download the recording and send the file.",
    "site_error": "The site has an error of its own: it was reached, but could not answer. Try the link again later.",
    "link_not_found": "There is nothing at this link: it was removed, or the address is incomplete.",
    "login_required": "This recording is only for people who are signed in, and this box never signs in anywhere. "
    "Download it yourself and send the file.",
    "geo_blocked": "The site does not show this recording in the country this box is in. Download it yourself and send "
    "the file.",
    "bot_check": "The site takes this box for a robot, as many do with addresses of data centres. Download the "
    "recording yourself and send the file.",
    "live_stream": "This is a live stream, or one that is yet to begin. Send the link once the recording is complete.",
    "unsupported_link": "No recording was found at this link. Send the address of the page that plays it, or of the "
    "file itself; what is protected against copying can't be had.",
    "several_recordings": "This link holds several recordings. Look what it holds and choose: on the page under the "
    "link's field, or by POST /api/v1/links.",
    "host_not_allowed": "The operator of this box does not allow links to this site. Download the recording yourself "
    "and send the file.",
}
"""Sentences by code. One for everything the network refuses: who asks must not learn what listens where."""


class Fault(Exception):
    """The link can't be had. code: one of ADVICE, or of the limits' codes with a sentence of its own."""

    def __init__(self, code: str, sentence: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.sentence = sentence or ADVICE.get(code, "")


_STATUS = {
    401: "login_required", 402: "login_required", 403: "bot_check", 404: "link_not_found", 407: "login_required",
    410: "link_not_found", 429: "bot_check", 451: "geo_blocked",
}  # fmt: skip

# In this order: YouTube's check for robots asks to sign in, too.
_SAYINGS = (
    ("bot_check", r"not a bot|captcha|anti-bot|unusual traffic|cloudflare|rate.?limit|too many requests"
                  r"|\bip (address )?is\b"),
    ("unreachable", r"failed to resolve|connection (refused|reset|aborted)|timed out|network is unreachable"
                    r"|giving up after \d+ retries"),
    ("geo_blocked", r"geo.?restrict|not available (in|from) your (country|location|region)|your country|geo.?block"),
    ("live_stream", r"live (event|stream)|livestream|not currently live|premieres? in|is offline|will begin|upcoming"),
    ("login_required", r"\blog.?in\b|\bsign.?in\b|registered users|members.?only|\bprivate\b|password|premium|subscri"
                       r"|cookies|\baccount|confirm your age|age.?restrict|authenticat|purchase|\brent(al|ed)?\b"),
    ("unsupported_link", r"unsupported url|no video formats|drm|requested format|no media|unsupported features"),
    ("link_not_found", r"removed|does ?n.t exist|not found|unavailable|no longer|deleted|not available|terminated"),
)  # fmt: skip


def code_of(message: str, status: int | None = None, kind: str = "") -> str:
    """The code for an error. message: what yt-dlp said; status: HTTP's, where the site answered; kind: the name of the
    exception's class."""
    if kind in ("GeoRestrictedError", "UserNotLive", "UnsupportedError"):
        return {"GeoRestrictedError": "geo_blocked", "UserNotLive": "live_stream"}.get(kind, "unsupported_link")
    if status is not None:
        if status == 403 and "cloudflare" not in message.lower():
            return "login_required"
        return _STATUS.get(status, "site_error" if status >= 500 else "unreachable")
    if kind in ("TransportError", "SSLError", "IncompleteRead", "ProxyError", "CertificateVerifyError", "HTTPError"):
        return "unreachable"
    for code, saying in _SAYINGS:
        if re.search(saying, message, re.IGNORECASE):
            return code
    return "unsupported_link"


def written_errors(message: str) -> set[int]:
    """Numbers of what the system said when yt-dlp could not write, which it tells in words alone."""
    return {int(number) for number in re.findall(r"(?i)unable to (?:write|open)[^\[]*\[Errno (\d+)\]", message)}


def for_log(message: str) -> str:
    """An error as a log may have it: without the queries of URLs, which can be secrets, and not endless."""
    return re.sub(r"[?#][^\s'\"]+", "?…", " ".join(message.split()))[:500]
