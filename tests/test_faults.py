"""What sites and yt-dlp say, and what a person is told."""

from __future__ import annotations

import pytest

from tasks.errors import KINDS
from tasks.links.about import about, address, clean, seconds
from tasks.links.faults import ADVICE, Fault, code_of, for_log, written_errors

SAID = {
    # yt-dlp's own words, from its extractors
    "Sign in to confirm you’re not a bot. Use --cookies-from-browser or --cookies for the authentication": "bot_check",
    "Got HTTP Error 403 caused by Cloudflare anti-bot challenge": "bot_check",
    "This content isn't available, try again later. The current session has been rate-limited by YouTube": "bot_check",
    "This video is not available from your location due to geo restriction": "geo_blocked",
    "The uploader has not made this video available in your country": "geo_blocked",
    "This live event will begin in 3 days.": "live_stream",
    "Premieres in 2 hours": "live_stream",
    "The channel is not currently live": "live_stream",
    "someone is offline": "live_stream",
    "Private video. Sign in if you've been granted access to this video": "login_required",
    "This video is only available for registered users": "login_required",
    "Join this channel to get access to members-only content like this video": "login_required",
    "Sign in to confirm your age. This video may be inappropriate for some users.": "login_required",
    "This video is protected by a password, use the --video-password option": "login_required",
    "This video requires payment to watch: rent it": "login_required",
    "No video formats found!": "unsupported_link",
    "This video is DRM protected": "unsupported_link",
    "Requested format is not available. Use --list-formats": "unsupported_link",
    "Video unavailable. This video has been removed by the uploader": "link_not_found",
    "This account has been terminated": "login_required",
    "fragment 1 not found, unable to continue": "link_not_found",
    "Got error: Failed to resolve 'x'. Giving up after 3 retries": "unreachable",
    "something nobody has said before, in the current parent": "unsupported_link",
}


@pytest.mark.parametrize(("message", "code"), list(SAID.items()))
def test_a_saying_has_a_code(message: str, code: str) -> None:
    assert code_of(f"ERROR: [site] id: {message}") == code


@pytest.mark.parametrize(
    ("message", "numbers"),
    [
        ("ERROR: unable to open for writing: [Errno 30] Read-only file system: 'media.part'", {30}),
        ("ERROR: \r[download] Unable to write data: [Errno 28] No space left on device", {28}),
        ("Unable to download webpage: [Errno 111] Connection refused", set()),
        ("ERROR: unable to open for writing", set()),
    ],
)
def test_what_could_not_be_written_has_a_number(message: str, numbers: set[int]) -> None:
    assert written_errors(message) == numbers


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "login_required"), (402, "login_required"), (403, "login_required"), (404, "link_not_found"),
     (410, "link_not_found"), (429, "bot_check"), (451, "geo_blocked"), (500, "site_error"),
     (503, "site_error"), (302, "unreachable")],
)  # fmt: skip
def test_so_has_a_status(status: int, code: str) -> None:
    assert code_of("HTTP Error", status) == code


def test_a_403_of_cloudflare_is_a_check_for_robots() -> None:
    assert code_of("HTTP Error 403: Cloudflare says no", 403) == "bot_check"


@pytest.mark.parametrize(
    ("kind", "code"),
    [("GeoRestrictedError", "geo_blocked"), ("UserNotLive", "live_stream"), ("UnsupportedError", "unsupported_link"),
     ("TransportError", "unreachable"), ("SSLError", "unreachable"), ("CertificateVerifyError", "unreachable")],
)  # fmt: skip
def test_and_an_exception(kind: str, code: str) -> None:
    assert code_of("", kind=kind) == code


@pytest.mark.parametrize("code", list(ADVICE))
def test_every_code_is_one_of_the_products_with_a_sentence_that_says_what_to_do(code: str) -> None:
    assert KINDS[code].type == "job_error"
    assert Fault(code).sentence == ADVICE[code]
    assert ADVICE[code].endswith(".")


def test_a_log_gets_no_query() -> None:
    said = for_log("ERROR: [generic] a?token=x: no https://example.org/a?key=1#f (caused by\n <HTTPError>)" + "y" * 900)
    assert said.startswith("ERROR: [generic] a?… no https://example.org/a?… (caused by <HTTPError>)y")
    assert len(said) == 500


def test_what_a_site_says_is_cut_and_cleaned() -> None:
    found = about(
        {
            "title": "A\u202e talk\x00\n about  <b>",
            "uploader": None,
            "channel": "C",
            "duration": float("nan"),
            "thumbnail": "javascript:alert(1)",
            "webpage_url": "https://example.org/a",
            "extractor_key": "Generic",
            "chapters": [{"start_time": 0, "end_time": 5, "title": "One"}, {"start_time": "x"}, "no", None],
            "automatic_captions": {"en": []},
        }
    )
    assert found == {
        "title": "A talk about <b>", "uploader": "C", "webpage": "https://example.org/a", "site": "Generic",
        "chapters": [{"start": 0.0, "end": 5.0, "title": "One"}],
    }  # fmt: skip
    assert about({}) == {}


def test_lines_are_not_endless() -> None:
    assert clean("x" * 300) == "x" * 254 + "…"
    assert clean(None) == ""
    assert [seconds(value) for value in (5, 0.5, -1, float("inf"), "5", None)] == [5.0, 0.5, None, None, None, None]
    assert [address(a) for a in ("http://x", "ftp://x", "https://" + "x" * 3000, "http://x\n", None)] == [
        "http://x", None, None, None, None,
    ]  # fmt: skip
