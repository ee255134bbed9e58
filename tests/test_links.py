"""yt-dlp for real, behind the guard, against a web site on this machine that the test allowance names.

Addresses that nobody may reach are canaries: servers that count who comes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import link_site
import psutil
import pytest
from link_site import SECONDS, Site, furnish
from support import Served, serve, wait_until

from tasks import children, links
from tasks.children import ChildDied
from tasks.decode import decode
from tasks.errors import StenoboxError
from tasks.links import Progress, Terms, parent


@pytest.fixture(scope="module")
def web() -> Iterator[Site]:
    with link_site.site() as made:
        furnish(made)
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "fetch"
    made.mkdir()
    return made


def terms(web: Site, **others: Any) -> Terms:
    return Terms(**{"max_bytes": 10**8, "max_seconds": 3600.0, "allow": web.allowed} | others)


def refused(url: str, folder: Path, terms: Terms) -> StenoboxError:
    with pytest.raises(StenoboxError) as error:
        links.fetch(url, folder, terms)
    assert not (folder / "media").exists()
    return error.value


def heard(path: Path, folder: Path) -> float:
    """Seconds of sound in a file."""
    return decode(path, folder / "sound.f32", 60).seconds


@pytest.mark.parametrize("path", ["/talk.mp3", "/page.html", "/hls/index.m3u8"])
def test_a_recording_is_fetched_whole_with_what_is_known_of_it(web: Site, folder: Path, path: str) -> None:
    found = links.fetch(web.url + path, folder, terms(web))
    assert found.bytes == found.path.stat().st_size
    assert abs(heard(found.path, folder) - SECONDS) < 0.2
    if path == "/talk.mp3":
        assert found.path.read_bytes() == link_site.media("mp3")
    titles = {"/talk.mp3": "talk", "/page.html": "A talk, with slides", "/hls/index.m3u8": "index"}
    assert found.about["title"] == titles[path]
    assert found.about["webpage"] == web.url + path
    assert [entry.name for entry in folder.iterdir() if entry.suffix != ".f32"] == ["media"]


@pytest.mark.parametrize(
    ("mode", "code", "says"),
    [("ro", "storage_failing", "Read-only file system"), ("size=4k", "disk_full", "The disk of this box is full")],
)
@pytest.mark.parametrize("path", ["/talk.mp3", "/hls/index.m3u8"])
def test_a_disk_that_takes_nothing_is_not_the_link_s_fault(
    web: Site, folder: Path, monkeypatch: pytest.MonkeyPatch, mode: str, code: str, says: str, path: str
) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", mode, "none", folder]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("file systems can't be mounted here")
    monkeypatch.setattr(parent, "SPARE_BYTES", 0)
    try:
        error = refused(web.url + path, folder, terms(web))
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
    assert (error.code, says in error.message) == (code, True), error.message


def test_a_list_is_looked_into_and_not_guessed_at(web: Site, folder: Path) -> None:
    found = links.look(web.url + "/feed.xml", terms(web))
    assert (found.title, found.several, found.more) == ("A podcast", True, False)
    assert [item.title for item in found.items] == ["First <b>episode</b>", "Second"]
    assert [item.url for item in found.items] == [f"{web.url}/talk.mp3", f"{web.url}/other.mp3"]
    assert refused(web.url + "/feed.xml", folder, terms(web)).code == "several_recordings"


def test_a_long_list_is_cut_and_says_so(web: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parent, "MOST_ITEMS", 1)
    found = links.look(web.url + "/two.html", terms(web))
    assert ([item.url for item in found.items], found.more) == ([f"{web.url}/talk.mp3"], True)


def test_progress_is_told_and_a_kill_ends_the_child_at_once(web: Site, folder: Path) -> None:
    told: list[Progress] = []
    started: list[subprocess.Popen[bytes]] = []

    def on_progress(progress: Progress) -> None:
        told.append(progress)
        children.kill(started[0])

    with pytest.raises(ChildDied, match="SIGKILL"):
        links.fetch(web.url + "/endless.mp3", folder, terms(web), on_progress=on_progress, on_start=started.append)
    assert told
    assert told[0].bytes > 0
    assert (told[0].total, told[0].bytes_per_second >= 0) == (None, True)
    assert not psutil.pid_exists(started[0].pid)


def test_what_has_no_length_is_stopped_at_the_limit(web: Site, folder: Path) -> None:
    error = refused(web.url + "/endless.mp3", folder, terms(web, max_bytes=10**6))
    assert error.code == "too_large"
    assert "1,000,000 bytes" in error.message
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2 * 10**6


def test_a_silent_download_is_given_up(web: Site, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parent, "STILL_SECONDS", 0.2)
    assert refused(web.url + "/endless.mp3", folder, terms(web)).code == "timed_out"


def test_a_dripping_download_is_given_up_too(web: Site, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It tells of progress all the time, at 2 kB/s here."""
    monkeypatch.setattr(parent, "STILL_SECONDS", 8.0)
    monkeypatch.setattr(parent, "LEAST_RATE", 10_000)
    assert refused(web.url + "/drip.mp3", folder, terms(web)).code == "timed_out"


def test_a_link_is_called_as_its_file_is(web: Site, folder: Path) -> None:
    web.put("/s/abc/download", link_site.media("mp3"), "audio/mpeg")
    web.headers["/s/abc/download"] = "attachment; filename*=UTF-8''M%C3%BCller%20Interview.mp3"
    web.redirects["/share"] = "/s/abc/download"
    assert links.fetch(web.url + "/share", folder, terms(web)).about["title"] == "Müller Interview"
    assert [item.title for item in links.look(web.url + "/s/abc/download", terms(web)).items] == ["Müller Interview"]


def test_addresses_of_a_list_are_those_of_the_site(web: Site) -> None:
    feed = web.pages["/feed.xml"][1].replace(b"</title>\n        <enclosure", b"</title><guid>one</guid><enclosure")
    found = links.look(web.put("/guids.xml", feed, "application/rss+xml"), terms(web))
    assert [item.url for item in found.items] == [web.url + "/talk.mp3", web.url + "/other.mp3"]


def test_where_a_link_led_is_in_the_log_and_not_in_the_answer(
    web: Site, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for host in ("127.0.0.1", "localhost"):
        error = refused(f"http://{host}/talk.mp3", folder, terms(web))
        assert (error.code, "127.0.0.1" in error.message) == ("unreachable", False)
    assert "a link led to 127.0.0.1:80, where none may" in caplog.text


def test_an_operators_list_of_sites_holds_for_where_a_link_leads(web: Site, folder: Path) -> None:
    elsewhere = web.url.replace("127.0.0.1", "localhost")
    web.redirects["/away"] = f"{elsewhere}/talk.mp3"
    assert refused(f"{web.url}/away", folder, terms(web, hosts=("127.0.0.1",))).code == "host_not_allowed"
    assert links.fetch(f"{web.url}/away", folder, terms(web, hosts=("127.0.0.1", "localhost"))).bytes > 0


def test_pages_of_unknown_sites_are_searched_only_if_the_operator_likes(web: Site, folder: Path) -> None:
    assert refused(web.url + "/page.html", folder, terms(web, generic=False)).code == "unsupported_link"


# One process behind the guard for many links: what each says, and who was asked

DRIVER = """
import json, sys
from tasks import egress
from tasks.links import __main__ as child
import yt_dlp
task = json.loads(sys.stdin.read())
lookup = child.egress.socket.getaddrinfo
answers = dict(task.pop("names"))
def names(host, *more, **others):  # a name server that changes its answer, and then changes it again
    if host in answers:
        turn = answers[host].pop(0) if len(answers[host]) > 1 else answers[host][0]
        return lookup(turn, *more, **others)
    return lookup(host, *more, **others)
child.egress.socket.getaddrinfo = names
rules = egress.Rules(egress.read_allowed(task["allow"]))
egress.arm(rules, None)
for url in task.pop("urls"):
    with yt_dlp.YoutubeDL(child._options(task, None)) as ydl:
        try:
            one = child.Child(ydl, task | {"url": url}, rules)
            print(json.dumps([url, one.fetch()["fetched"]["title"]]))
        except Exception as error:
            print(json.dumps([url, child._fault(error).code]))
"""


def visit(web: Site, folder: Path, urls: list[str], **others: Any) -> dict[str, str]:
    """What becomes of each link, by one process; its title or the code of its refusal."""
    task = {
        "do": "fetch", "most": 2, "max_bytes": 10**7, "max_seconds": 60.0, "spare_bytes": 0, "allow": web.allowed,
        "hosts": [], "generic": True, "too_long": "", "too_large": "", "names": {}, "urls": urls,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-P", "-c", DRIVER],
        input=json.dumps(task | others).encode(), capture_output=True, cwd=folder, timeout=240,
        env=parent._environment(folder),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    said = [json.loads(line) for line in done.stdout.splitlines()]
    return dict(line for line in said if isinstance(line, list))  # the others are progress


def test_each_reason_has_a_code_of_its_own(web: Site, folder: Path) -> None:
    web.statuses |= {"/401": 401, "/403": 403, "/404": 404, "/410": 410, "/429": 429, "/451": 451}
    web.redirects["/loop"] = "/loop"
    web.hls("/hls/long.m3u8", ["0.ts"] * 40)
    web.put("/live.mpd", b'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="dynamic"></MPD>', "application/dash+xml")
    expected = {
        "/talk.mp3": "talk", "/401": "login_required", "/403": "login_required", "/404": "link_not_found",
        "/410": "link_not_found", "/429": "bot_check", "/451": "geo_blocked", "/none.html": "unsupported_link",
        "/hls/live.m3u8": "live_stream", "/hls/long.m3u8": "too_long", "/two.html": "several_recordings",
        "/loop": "unreachable",
    }  # fmt: skip
    found = visit(web, folder, [web.url + path for path in expected])
    assert {url.removeprefix(web.url): code for url, code in found.items()} == expected


def test_no_link_reaches_what_is_not_public(web: Site, folder: Path) -> None:
    """Every form of a loopback address, directly, and from an allowed site by redirect, refresh, player, playlist,
    segments, keys, DASH, feed and renamed hosts: nobody comes to the canaries, and all of it reads alike."""
    with link_site.site() as four, link_site.site("::1") as six:
        for canary in (four, six):
            furnish(canary)
        port = four.port
        hosts = [
            "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0x7f.0.0.1", "0", "localhost",
            "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "127.0.0.1.",
        ]  # fmt: skip
        urls = [f"http://{host}:{port}/talk.mp3" for host in hosts] + [f"http://[::1]:{six.port}/talk.mp3"]
        urls += [f"http://turn.example:{port}/talk.mp3", "http://127.0.0.1:1/talk.mp3", "http://127.0.0.1:22/"]
        urls += ["http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/", "http://10.0.0.1/a.mp3"]
        inner = f"http://127.0.0.1:{port}"
        web.redirects["/to-inner"] = f"{inner}/talk.mp3"
        web.redirects["/to-number"] = f"http://2130706433:{port}/talk.mp3"
        web.redirects["/to-six"] = f"http://[::1]:{six.port}/talk.mp3"
        web.redirects["/to-file"] = "file:///etc/passwd"
        web.redirects["/segment-away"] = f"{inner}/hls/0.ts"
        web.page("/refresh", f'<meta http-equiv="refresh" content="0; url={inner}/talk.mp3">')
        web.page("/player", f'<video src="{inner}/talk.mp3"></video>')
        web.page("/player-list", f'<audio src="{inner}/talk.mp3"></audio>')
        web.page("/frame", f'<iframe src="{inner}/page.html"></iframe>')
        web.page("/og", f'<meta property="og:video" content="{inner}/talk.mp3">')
        web.hls("/hls/inner.m3u8", [f"{inner}/hls/0.ts", f"{inner}/hls/1.ts"])
        web.hls("/hls/turned.m3u8", ["/segment-away"])
        web.hls("/hls/file.m3u8", ["file:///etc/passwd"])
        web.hls("/hls/key.m3u8", ["0.ts"], extra=f'#EXT-X-KEY:METHOD=AES-128,URI="{inner}/key"')
        web.hls("/hls/map.m3u8", ["0.ts"], extra=f'#EXT-X-MAP:URI="{inner}/hls/0.ts"')
        master = f'#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS="mp4a.40.2"\n{inner}/hls/index.m3u8\n'
        web.put("/hls/master.m3u8", master.encode(), "application/vnd.apple.mpegurl")
        web.put("/inner.mpd", _mpd(f"{inner}/talk.mp3"), "application/dash+xml")
        item = f'<item><title>x</title><enclosure url="{inner}/talk.mp3" type="audio/mpeg"/></item>'
        web.put("/inner.xml", f"<rss><channel><title>x</title>{item}</channel></rss>".encode(), "application/rss+xml")
        traps = [
            "/to-inner", "/to-number", "/to-six", "/to-file", "/refresh", "/player", "/player-list", "/frame", "/og",
            "/hls/inner.m3u8", "/hls/turned.m3u8", "/hls/file.m3u8", "/hls/key.m3u8", "/hls/map.m3u8",
            "/hls/master.m3u8", "/inner.mpd", "/inner.xml",
        ]  # fmt: skip
        urls += [web.url + trap for trap in traps]
        # The name answers first with the allowed site's address, then with the canary's: it is checked each time.
        names = {"turn.example": ["127.0.0.1", "::1", "127.0.0.1"]}
        found = visit(web, folder, [f"{web.url}/talk.mp3", *urls], names=names)
        assert (four.hits, six.hits) == ([], [])
        assert found.pop(f"{web.url}/talk.mp3") == "talk"  # what is allowed is still reached
        direct = {url: code for url, code in found.items() if not url.startswith(web.url)}
        assert set(direct.values()) == {"unreachable"}, direct
        wrong = {url: code for url, code in found.items() if code not in ("unreachable", "unsupported_link")}
        assert wrong == {}
        assert "root:" not in "".join(p.read_text(errors="replace") for p in folder.iterdir() if p.is_file())


def _mpd(url: str) -> bytes:
    return f"""<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"
    mediaPresentationDuration="PT4S"><Period><AdaptationSet mimeType="audio/mp4"><Representation id="1" bandwidth="1"
    codecs="mp4a.40.2"><BaseURL>{url}</BaseURL></Representation></AdaptationSet></Period></MPD>""".encode()


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("ip"), reason="needs a network namespace"
)
def test_public_addresses_work_and_private_ones_on_the_same_wire_do_not(tmp_path: Path, folder: Path) -> None:
    """In a network namespace that has a public and several private addresses, with no allowance at all."""
    script = tmp_path / "inside.py"
    script.write_text(INSIDE)
    setup = "ip link set lo up && " + " && ".join(
        f"ip addr add {address} dev lo"
        for address in ("93.184.216.34/32", "10.7.7.7/32", "192.168.7.7/32", "172.20.0.7/32", "100.64.0.7/32",
                        "169.254.169.254/32", "fdaa::3/128", "fd12::7/128", "fd00:ec2::254/128")
    )  # fmt: skip
    try:
        done = subprocess.run(
            ["unshare", "-n", "sh", "-c", f'{setup} && exec "$0" "$@"', sys.executable, "-P", str(script), str(folder)],
            capture_output=True, timeout=240, env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        )  # fmt: skip
    except OSError:
        pytest.skip("no network namespaces here")
    if b"ermitted" in done.stderr:
        pytest.skip("no network namespaces here")
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    assert found.pop("http://93.184.216.34/talk.mp3") == "talk"
    assert set(found.pop("hits")) == {"93.184.216.34"}
    assert set(found.values()) == {"unreachable"}, found


INSIDE = """
import json, sys, threading
from contextlib import ExitStack
from pathlib import Path
import link_site
from test_links import visit
hosts = ["93.184.216.34", "10.7.7.7", "192.168.7.7", "172.20.0.7", "100.64.0.7", "169.254.169.254", "fdaa::3",
         "fd12::7", "fd00:ec2::254", "127.0.0.1", "::1"]
with ExitStack() as stack:
    sites = {host: stack.enter_context(link_site.site(host, 80)) for host in hosts}
    for one in sites.values():
        link_site.furnish(one)
    public = sites["93.184.216.34"]
    bare = {host: f"http://{f'[{host}]' if ':' in host else host}" for host in hosts}
    urls = [f"{url}/talk.mp3" for url in bare.values()]
    for number, host in enumerate(hosts[1:]):
        public.redirects[f"/to/{number}"] = f"{bare[host]}/talk.mp3"
        urls.append(f"http://93.184.216.34/to/{number}")
    public.hls("/hls/in.m3u8", [f"{bare['10.7.7.7']}/hls/0.ts"])
    urls.append("http://93.184.216.34/hls/in.m3u8")
    found = visit(public, Path(sys.argv[1]), urls, allow="")
    print(json.dumps(found | {"hits": [host for host in hosts if sites[host].hits]}))
"""


def test_the_child_has_nothing_of_this_machine(web: Site, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "http_proxy", "AWS_SECRET_ACCESS_KEY", "STENOBOX_PASSWORD"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    environment = parent._environment(folder)
    assert not {"HTTPS_PROXY", "http_proxy", "AWS_SECRET_ACCESS_KEY", "STENOBOX_PASSWORD"} & environment.keys()
    assert environment["HOME"] == str(folder)
    assert links.fetch(web.url + "/talk.mp3", folder, terms(web)).bytes > 0  # and no proxy was asked


def test_the_links_query_is_in_no_log_and_no_command_line(
    web: Site, folder: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    lines: list[str] = []
    refused_url = f"{web.url}/gone?token=hush"

    def on_start(process: subprocess.Popen[bytes]) -> None:
        lines.extend(psutil.Process(process.pid).cmdline())

    with pytest.raises(StenoboxError) as error:
        links.fetch(refused_url, folder, terms(web), on_start=on_start)
    said = "".join(capfd.readouterr()) + caplog.text + " ".join(lines) + error.value.message
    assert "link_not_found" in said
    assert "hush" not in said


def test_deno_is_the_one_program_that_may_start(folder: Path) -> None:
    """Under the child's own limits, as yt-dlp calls it."""
    code = '''
import resource, subprocess, sys, sysconfig
from tasks import egress
from tasks.links.__main__ import MEMORY_BYTES
resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6))
deno = sysconfig.get_path("scripts") + "/deno"
egress.arm(egress.Rules(), deno)
run = ["run", "--ext=js", "--no-prompt", "--no-remote", "--no-lock", "--no-config", "-"]
script = b"""
for (const rights of [() => Deno.connect({port: 9, hostname: '127.0.0.1'}), () => Deno.readTextFileSync('/etc/passwd'),
                      () => Deno.writeTextFileSync('x', 'x'), () => new Deno.Command('true').outputSync()])
  try { await rights(); console.log('taken') } catch (error) { console.log(error.name) }
"""
print(subprocess.run([deno, *run], input=script, capture_output=True).stdout.decode().split())
'''
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, env=parent._environment(folder), timeout=60
    )
    assert done.stdout.strip() == str(["NotCapable"] * 4), done.stderr


def test_a_thread_that_is_late_leaves_no_child(web: Site, folder: Path) -> None:
    before = {thread.name for thread in threading.enumerate()}
    started: list[subprocess.Popen[bytes]] = []
    links.fetch(web.url + "/talk.mp3", folder, terms(web), on_start=started.append)
    assert started[0].poll() is not None
    wait_until(lambda: {thread.name for thread in threading.enumerate()} <= before | {"spawner_0"}, 10)


@pytest.fixture(scope="module")
def link_box(web: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    made = serve(tmp_path_factory.mktemp("box"), STENOBOX_SLOTS="1", STENOBOX_EGRESS_ALLOW=web.allowed)
    yield made
    assert made.stop() == 0, made.log.read_text()


@pytest.mark.timeout(600)
def test_a_link_becomes_a_transcript_on_a_real_box_while_a_slow_site_holds_no_slot(web: Site, link_box: Served) -> None:
    web.pause = 0.05
    web.page("/slow.html", '<title>A slow talk</title><audio src="/endless.mp3"></audio>')
    try:
        for url in ("/slow.html", "/talk.mp3"):
            assert link_box.post("/links", data={"url": web.url + url}).status_code == 303
        done, slow = link_box.get("/api/v1/jobs").json()["jobs"]
        done = link_box.finish(done, 500)
        assert (done["state"], done["source"]["name"], done["about"]["title"]) == ("completed", "talk", "talk")
        assert (done["source"]["url"], done["attempts"]) == (f"{web.url}/talk.mp3", 1)
        assert link_box.transcript(done).json()["segments"]
        slow = link_box.get(slow["links"]["self"]).json()
        assert (slow["state"], slow["stage"]) == ("running", "download")
        assert slow["source"]["bytes"] > 0
        assert link_box.children("tasks.links")
        link_box.post(slow["links"]["self"] + "/cancel")
        assert link_box.finish(slow)["state"] == "canceled"
        wait_until(lambda: not link_box.children("tasks.links"), 10)
    finally:
        web.pause = 0.001


@pytest.mark.timeout(600)
def test_a_link_is_fetched_extracted_and_transcribed_in_three_steps(web: Site, link_box: Served) -> None:
    def step(name: str, **fields: str) -> dict[str, Any]:
        answer = link_box.post(f"/api/v1/{name}", json=fields)
        assert answer.status_code == 202, answer.text
        done = link_box.finish(answer.json(), 500)
        assert done["state"] == "completed", done
        return done

    fetched = step("downloads", url=f"{web.url}/page.html")
    assert (fetched["kind"], fetched["about"]["title"], fetched["source"]["url"]) == (
        "download", "A talk, with slides", f"{web.url}/page.html",
    )  # fmt: skip
    assert link_box.get(fetched["links"]["media"]).content == link_site.media("mp3")
    sound = step("audio-extractions", source_job=fetched["id"], format="flac")
    assert link_box.get(sound["links"]["media"]).content.startswith(b"fLaC")
    spoken = step("transcriptions", source_job=sound["id"], model="demo")
    at_once = step("transcriptions", url=f"{web.url}/page.html", model="demo")
    assert spoken["source"]["seconds"] == pytest.approx(SECONDS, abs=0.2)
    assert link_box.transcript(spoken).json()["text"] == link_box.transcript(at_once).json()["text"] != ""


@pytest.mark.timeout(600)
def test_sound_is_taken_from_a_link_in_one_step(web: Site, link_box: Served) -> None:
    job = link_box.post("/api/v1/audio-extractions", json={"url": f"{web.url}/talk.mp3", "format": "wav"}).json()
    done = link_box.finish(job, 500)
    assert (done["state"], done["params"]["format"]) == ("completed", "wav")
    assert link_box.get(done["links"]["media"]).content.startswith(b"RIFF")
