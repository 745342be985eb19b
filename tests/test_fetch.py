"""Fetching from a server that behaves as xeno-canto's documentation says, and as badly as real ones do.

All on this machine; clock and sleep are replaced.
"""

import hashlib
import io
import json
import logging
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
import traceback
import zipfile
from datetime import UTC
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from conftest import ROOT, at_work, tone, wait_until

from avianspec.cli import main
from avianspec.data.layouts import load_recordings
from avianspec.data.sources import SOURCES
from avianspec.download import fetch
from avianspec.download.downloads import Client, DownloadError, UnsafeArchive, download, extract, wait_before
from avianspec.download.fetch import fetch_again, fetch_listed, fetch_source, plan_xeno_canto
from avianspec.download.xeno_canto import XenoCanto, answers_table, choose
from avianspec.files import read_text_table

KEY = "Zz9+very/secret=key"
SPECIES = [
    ("Turdus", "merula", "Common Blackbird"),
    ("Parus", "major", "Great Tit"),
    ("Setophaga", "coronata", "Yellow-rumped Warbler"),
]


def mp3(seed, seconds=1.0):
    file = io.BytesIO()
    sf.write(file, tone(seconds, hz=1000 + 100 * seed), 22050, format="MP3")
    return file.getvalue()


class FakeXenoCanto(BaseHTTPRequestHandler):
    """API v3 and its files.

    `server.plan[path]` is a list of misdeeds, one per request: 503, 429, 401, cut, slow, long, html, once gone.
    """

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urlsplit(self.path)
        s = self.server
        with s.guard:
            s.asked.append((url.path, parse_qs(url.query), dict(self.headers)))
        name = url.path if url.path != "/api/3/recordings" else "api"
        misdeed = s.plan[name].pop(0) if s.plan.get(name) else ""
        if misdeed in (503, 429):
            return self.reply(misdeed, b"busy", {"Retry-After": "7"})
        if misdeed == 401 or (name == "api" and parse_qs(url.query).get("key") != [KEY]):
            return self.reply(401, json.dumps({"error": "unauthorized", "message": f"bad key {KEY}"}).encode())
        if misdeed == 302:
            return self.reply(302, b"", {"Location": f"/elsewhere?{url.query}"})
        if misdeed == 500:
            return self.reply(500, f"trace: {self.path}".encode())
        if misdeed == 404:
            return self.reply(404, s.complaint)
        if name == "api":
            return self.answer(parse_qs(url.query), misdeed)
        body = s.files[re.search(r"/(\d+)/download", url.path)[1]]
        if misdeed == "html":
            return self.reply(200, b"<html>please come back later</html>")
        if misdeed == "short":
            return self.reply(200, body[:300])
        self.send_file(body, misdeed)

    def answer(self, query, misdeed):
        s, page, per_page = self.server, int(query["page"][0]), int(query["per_page"][0])
        terms = dict(re.findall(r'(\w+):"?([^"]+?)"?(?= \w+:|$)', query["query"][0]))
        hits = [
            r
            for r in s.records
            if all(r.get(k, "").lower().startswith(v.lower()) for k, v in terms.items() if k in ("gen", "sp", "en"))
        ]
        part = hits[(page - 1) * per_page : page * per_page]
        body = json.dumps(
            {
                "numRecordings": str(len(hits)),
                "numSpecies": "3",
                "page": page,
                "numPages": max(1, -(-len(hits) // per_page)),
                "next": f"{self.path}",
                "recordings": part,
            }
        ).encode()
        if misdeed == "cut":
            return self.reply(200, body, cut=len(body) // 2)
        if misdeed == "php":
            body = body.replace(b"Wood 0", KEY.replace("/", r"\/").encode()).replace(
                b"Wood 1", KEY.replace("/", r"\u002f").encode()
            )
        if misdeed == "nameless":
            body = body.replace(b'"id"', b'"ID"')
        self.reply(200, body)

    def send_file(self, body, misdeed):
        misdeed = str(misdeed)
        start = (
            int(self.headers["Range"][6:-1])
            if misdeed != "deaf" and "Range" in self.headers and self.headers.get("If-Range", '"v1"') == '"v1"'
            else 0
        )
        headers = ({} if misdeed == "cut nameless" else {"ETag": '"v1"'}) | (
            {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"} if start else {}
        )
        cut = (len(body) - start) // 2 if misdeed.startswith("cut") else None
        self.reply(
            206 if start else 200,
            body[start:],
            headers,
            cut,
            slow=misdeed == "slow",
            claim=100 if misdeed == "long" else 0,
        )

    def reply(self, status, body, headers=(), cut=None, slow=False, claim=0):
        self.send_response(status)
        for k, v in {"Content-Length": str(len(body) + claim), **dict(headers)}.items():
            self.send_header(k, v)
        self.end_headers()
        sent = body if cut is None else body[:cut]
        try:
            for k in range(0, len(sent), 2000) if slow else [0]:
                self.wfile.write(sent[k : k + 2000] if slow else sent)
                if slow:
                    self.wfile.flush()
                    time.sleep(self.server.pace)
        except OSError:
            pass
        with self.server.guard:
            self.server.sent.append((self.path.split("?")[0], self.headers.get("Range"), len(sent)))
        if cut is not None or claim:
            self.close_connection = True

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    s = ThreadingHTTPServer(("127.0.0.1", 0), FakeXenoCanto)
    s.daemon_threads, s.guard, s.asked, s.plan, s.sent, s.pace = True, threading.Lock(), [], {}, [], 0.002
    s.address = f"http://127.0.0.1:{s.server_port}"
    s.api = f"{s.address}/api/3/recordings"
    s.records, s.files = [], {}
    for k in range(130):
        gen, sp, en = SPECIES[k % 3]
        number = str(500000 + 7 * k)
        s.records.append(
            {
                "id": number,
                "gen": gen,
                "sp": sp,
                "ssp": "",
                "grp": "birds",
                "en": en,
                "rec": f"Person {k % 5}",
                "cnt": "France",
                "loc": f"Wood {k % 11}",
                "lat": "47.1",
                "lon": "2.5",
                "alt": "120",
                "type": "song",
                "sex": "male",
                "stage": "adult",
                "method": "field recording",
                "url": f"//xeno-canto.org/{number}",
                "file": f"{s.address}/{number}/download",
                "file-name": f"XC{number}-{gen} {sp}.mp3",
                "lic": f"//creativecommons.org/licenses/{'by-nc-nd' if k % 10 == 9 else 'by-nc-sa'}/4.0/",
                "q": "ABCDE"[k % 5],
                "length": f"0:{1 + k % 3:02}",
                "time": "05:30",
                "date": "2021-05-01",
                "uploaded": "2021-06-01",
                "also": ["Erithacus rubecula", ""],
                "rmk": "",
                "smp": "22050",
            }
        )
    for k, r in enumerate(s.records[:40]):
        s.files[r["id"]] = mp3(k, 1 + k % 3)
    thread = threading.Thread(target=s.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("XENO_CANTO_KEY", KEY)
    yield s
    s.shutdown()


class Clock:
    "Time that passes only when somebody sleeps."

    def __init__(self):
        self.now, self.slept = 0.0, []

    def __call__(self):
        return self.now

    def sleep(self, s):
        self.slept.append(s)
        self.now += s


def client(clock=None, **kwargs):
    clock = clock or Clock()
    return Client(clock=clock, sleep=clock.sleep, **kwargs)


def everything_below(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}


def forms_of(key):
    from urllib.parse import quote, quote_plus

    return {
        form.encode()
        for form in (key, quote(key), quote(key, safe=""), quote_plus(key), "very/secret", "very%2Fsecret")
    }


def test_all_pages_arrive_once_in_order_with_pauses_and_are_kept(server, tmp_path):
    server.plan["api"] = [503, "", "cut", "", 429]
    clock, told = Clock(), []
    api = XenoCanto(tmp_path / "answers", client(clock, say=told.append), server.api, per_page=50)
    found = api.search("grp:birds cnt:France")
    assert [r["id"] for r in found] == [r["id"] for r in server.records]  # 130 in 3 pages, in order, each once
    assert (
        7.0 in clock.slept and len(told) == 2 and clock.now >= len(server.asked) - 1
    )  # Retry-After heeded; never two requests within a second
    pages = [q["page"][0] for _, q, _ in server.asked]
    assert pages == ["1", "1", "2", "2", "3", "3"] and all(
        q["per_page"] == ["50"] and h["User-Agent"].startswith("avianspec/") for _, q, h in server.asked
    )
    n = len(server.asked)
    assert api.search("grp:birds cnt:France") == found and len(server.asked) == n  # answers are kept
    assert all(t not in text for text in everything_below(tmp_path).values() for t in forms_of(KEY))
    table = answers_table(found)
    assert (
        table.length_s.tolist() == [1 + k % 3 for k in range(130)]
        and set(table.also) == {"Erithacus rubecula"}
        and set(table.lon) == {"2.5"}
    )


def test_everything_arrives_once_over_a_bad_line(server, tmp_path):
    ids = [r["id"] for r in server.records[:12]]
    path = {k: f"/{i}/download" for k, i in enumerate(ids)}
    server.plan = {
        path[0]: [503, 503],
        path[1]: ["cut", "cut"],
        path[2]: ["slow"],
        path[3]: ["html"],
        path[4]: ["short"],
        path[5]: [429, "cut"],
        path[6]: ["long"],
    }
    server.files[ids[7]] = bytes(
        np.random.default_rng(0).integers(0, 256, 9000, dtype=np.uint8)
    )  # a corrupt mp3, whenever it is asked for
    server.plan[path[8]] = ["html", "html"]
    clock = Clock()
    came = fetch_listed(answers_table(server.records[:12]), tmp_path / "birds", client(clock))
    assert clock.now >= len(server.asked) - 1  # at most one request a second
    assert set(came.refused.recording_id) == {f"XC{ids[7]}", f"XC{ids[8]}"} and came.n_new == 10
    files = everything_below(tmp_path / "birds")
    assert set(files) == {
        "recordings.csv",
        "quarantine.csv",
        "ATTRIBUTION.csv",
        "CREDITS.md",
        "CREDITS.bib",
        *(f"audio/XC{i}.mp3" for k, i in enumerate(ids) if k not in (7, 8)),
    }  # nothing half-written
    for k, i in enumerate(ids):
        if k not in (7, 8):
            assert files[f"audio/XC{i}.mp3"] == server.files[i], k
    assert sum(n for p, _, n in server.sent if p == path[1]) == len(
        server.files[ids[1]]
    )  # cut twice, each byte sent once
    table = load_recordings(tmp_path / "birds")
    assert (
        set(table.recording_id) == {f"XC{i}" for k, i in enumerate(ids) if k not in (7, 8)}
        and table.label.nunique() == 3
        and set(table.background) == {"Erithacus rubecula"}
    )
    listed = read_text_table(tmp_path / "birds" / "recordings.csv")
    assert [hashlib.sha256(server.files[i]).hexdigest() for i in listed.id] == listed.sha256.tolist()
    n = len(server.asked)
    again = fetch_listed(answers_table(server.records[:7]), tmp_path / "birds", client(clock))
    assert (again.n_new, again.n_there) == (0, 7) and len(server.asked) == n  # nothing is asked for twice
    retried = fetch_listed(answers_table(server.records[8:9]), tmp_path / "birds", client(clock))
    assert retried.n_new == 1 and len(load_recordings(tmp_path / "birds")) == 11  # earlier rows stay


def test_the_key_is_nowhere(server, tmp_path, capfd, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)
    logging.getLogger("urllib3").setLevel(logging.DEBUG)
    handler_text = io.StringIO()
    handler = logging.StreamHandler(handler_text)
    logging.getLogger().addHandler(handler)
    out, texts = tmp_path / "birds", []
    command = [
        "fetch",
        "xeno-canto",
        "--query",
        "gen:turdus",
        "--per-species",
        "2",
        "--api",
        server.api,
        "--output",
        str(out),
        "--pause",
        "0",
    ]
    assert main(command) == 0  # all well
    server.plan["api"] = [401]
    assert main([*command[:3], "gen:parus", *command[4:]]) == 1  # the server repeats the key while it refuses it
    server.plan["api"] = [500, 404]
    for misdeed in (401, 500, "cut"):
        server.plan["api"] = [misdeed] * 6
        api = XenoCanto("", client(say=texts.append), server.api)
        try:
            api.search("gen:setophaga")
        except OSError as e:
            texts += [
                "".join(traceback.TracebackException.from_exception(e, capture_locals=True).format()),
                str(e),
                repr(e),
                repr(e.__context__),
                repr(e.__cause__),
            ]
    dead = XenoCanto(
        "", client(say=texts.append, tries=2), "http://127.0.0.1:9/api/3/recordings"
    )  # nobody listens there
    try:
        dead.search("gen:setophaga")
    except OSError as e:
        texts += ["".join(traceback.TracebackException.from_exception(e, capture_locals=True).format())]
        assert "ConnectionError" in str(e)
    logging.getLogger().removeHandler(handler)
    captured = capfd.readouterr()
    said = "\n".join([captured.out, captured.err, caplog.text, handler_text.getvalue(), *texts]).encode()
    assert (
        b"does not take the key in XENO_CANTO_KEY" in said and b"GET /api/3/recordings" in said and b"key=***" in said
    )  # the log was on, and cleaned
    assert server.asked[0][1]["key"] == [KEY]  # the server did get it
    for where, text in {"messages": said, **everything_below(tmp_path)}.items():
        assert not [t for t in forms_of(KEY) if t in text], where
    server.plan = {"api": []}
    n = len(server.asked)
    monkeypatch.delenv("XENO_CANTO_KEY")
    assert (
        main([*command[:3], "gen:parus", *command[4:]]) == 1
        and len(server.asked) == n
        and "xeno-canto.org/account" in capfd.readouterr().err
    )


def test_the_key_is_in_no_half_and_in_no_other_writing(server, tmp_path):
    for before in range(150, 420, 7):  # wherever a complaint is cut
        server.plan["api"], server.complaint = [404], b"x" * before + KEY.encode()
        with pytest.raises(DownloadError, match="404") as e:
            XenoCanto("", client(), server.api).search("gen:parus")
        assert KEY[:5] not in str(e.value)
    server.plan["api"] = ["php"]
    assert (
        len(found := XenoCanto(tmp_path, client(), server.api).search("gen:turdus")) == 44
        and KEY not in json.dumps(found)
        and "***" in json.dumps(found)
    )
    assert not [text for text in everything_below(tmp_path).values() if b"very" in text]
    server.plan["api"] = ["nameless"] * 3
    with pytest.raises(DownloadError, match="cannot be read"):
        XenoCanto("", client(), server.api).search("gen:parus")


def test_the_key_is_in_no_message_of_a_line_that_cannot_be_had(monkeypatch):
    monkeypatch.setenv("XENO_CANTO_KEY", KEY)
    told = []
    nobody = "http://127.0.0.1:9/api/3/recordings"  # where nobody answers; the trouble of requests quotes the address
    with pytest.raises(DownloadError) as e:
        XenoCanto("", client(tries=2, say=told.append), nobody).search("gen:parus")
    assert len(told) == 1 and "ConnectionError" in told[0] and "***" in told[0]
    for text in (str(e.value), *told):
        assert not [form for form in forms_of(KEY) if form in text.encode()]


def test_stopped_with_control_c_what_came_is_listed(server, tmp_path):
    server.pace, server.plan = 5, {f"/{r['id']}/download": ["slow"] for r in server.records[3:40]}
    code, out = "import sys; from avianspec.cli import main; sys.exit(main(sys.argv[1:]))", tmp_path / "birds"
    words = ["fetch", "xeno-canto", "--query", "gen:turdus", "--api", server.api, "--per-species", 6, "--output", out]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")
    with at_work(code, *words, "--pause", 0, cwd=ROOT, **pipes) as process:
        wait_until(lambda: list(out.glob("audio/*.mp3")), process)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=300)[1]
    assert process.returncode == 130 and "goes on where it was" in said and "Traceback" not in said and KEY not in said
    assert len(load_recordings(out)) == len(list(out.glob("audio/*.mp3"))) >= 1


def test_a_file_that_has_just_come_is_listed_whatever_stops_it(server, tmp_path, monkeypatch):
    plain, asked = fetch.checksum, []

    def stopped_once(path):
        asked.append(path)
        if len(asked) == 1:
            raise KeyboardInterrupt
        return plain(path)

    monkeypatch.setattr(fetch, "checksum", stopped_once)
    with pytest.raises(KeyboardInterrupt):
        fetch_listed(answers_table(server.records[:2]), tmp_path / "birds", client())
    assert list(load_recordings(tmp_path / "birds").path) == [str(p) for p in (tmp_path / "birds").glob("audio/*.mp3")]
    assert fetch_listed(answers_table(server.records[:2]), tmp_path / "birds", client()).n_new == 1


def test_the_key_is_not_carried_elsewhere(server):
    server.plan["api"] = [302]
    with pytest.raises(DownloadError, match="302"):
        XenoCanto("", client(), server.api).search("gen:parus")
    assert [path for path, *_ in server.asked] == ["/api/3/recordings"]
    with pytest.raises(ValueError, match="https only"):
        XenoCanto("", client(), "http://xeno-canto.example/api")


def test_killed_and_started_again_only_what_is_missing_is_asked_for(server, tmp_path):
    number = server.records[0]["id"]
    server.files[number] = mp3(3, 30)
    size, path = len(server.files[number]), f"/{number}/download"
    server.plan[path], server.pace = ["slow"], 0.1
    (tmp_path / "records.json").write_text(json.dumps(server.records[:1]), encoding="utf-8")
    code = (
        "import json; from avianspec.download.fetch import fetch_listed; "
        "from avianspec.download.xeno_canto import answers_table; "
        f"records = json.load(open({str(tmp_path / 'records.json')!r})); "
        f"fetch_listed(answers_table(records), {str(tmp_path / 'birds')!r})"
    )
    part = tmp_path / "birds" / "audio" / ".partial" / f"XC{number}.mp3"
    with at_work(code, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: part.exists() and part.stat().st_size >= 20_000, process)
        process.send_signal(signal.SIGKILL)
    have = part.stat().st_size
    assert 20_000 <= have < size and not (tmp_path / "birds" / "audio" / f"XC{number}.mp3").exists()
    server.asked.clear()
    came = fetch_listed(answers_table(server.records[:1]), tmp_path / "birds", client())
    assert came.n_new == 1 and (tmp_path / "birds" / "audio" / f"XC{number}.mp3").read_bytes() == server.files[number]
    assert [h.get("Range") for _, _, h in server.asked] == [f"bytes={have}-"] and came.n_bytes == size - have
    while not [n for p, r, n in server.sent if r]:
        time.sleep(0.01)
    assert [n for p, r, n in server.sent if (p, r) == (path, f"bytes={have}-")] == [
        size - have
    ]  # counted by the server
    assert not list((tmp_path / "birds").rglob(".partial"))


def test_a_file_that_changed_meanwhile_is_not_patched_together(server, tmp_path):
    number = server.records[0]["id"]
    part = tmp_path / ".partial" / "a.mp3"
    part.parent.mkdir()
    part.write_bytes(b"old beginning")
    part.with_name("a.mp3.json").write_text(
        json.dumps({"etag": '"v0"', "modified": "", "total": len(server.files[number])}), encoding="utf-8"
    )  # another file of the same length
    download(client(), f"{server.address}/{number}/download", tmp_path / "a.mp3")
    assert (tmp_path / "a.mp3").read_bytes() == server.files[number] and server.asked[0][2]["If-Range"] == '"v0"'


def test_a_server_that_knows_no_ranges_sends_it_all_again(server, tmp_path):
    number = server.records[0]["id"]
    server.plan[f"/{number}/download"] = ["cut", "deaf"]
    download(client(), f"{server.address}/{number}/download", tmp_path / "a.mp3")
    assert (tmp_path / "a.mp3").read_bytes() == server.files[number] and "Range" in server.asked[1][2]


@pytest.mark.parametrize("kind", ["FLAC", "MP3", "WAV", "OGG"])
def test_a_recording_that_is_damaged_where_it_lies_is_refused(server, tmp_path, kind):
    file, record = io.BytesIO(), {**server.records[0], "length": "0:20", "file-name": f"a.{kind.lower()}"}
    sf.write(file, tone(20), 22050, format=kind)
    server.files[record["id"]] = file.getvalue()[: len(file.getvalue()) * 7 // 10]  # its Content-Length is right
    came = fetch_listed(answers_table([record]), tmp_path, client())
    assert (
        came.n_new == 0
        and "damaged: " in came.refused.reason[0]
        and set(everything_below(tmp_path)) == {"quarantine.csv"}
    )
    server.files[record["id"]] = file.getvalue()
    assert fetch_listed(answers_table([record]), tmp_path, client()).n_new == 1


def test_a_full_disk_leaves_no_short_file(tmp_path):
    resource = pytest.importorskip("resource")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Archives)
    server.asked, server.bodies, server.chunked = [], {"/a": b"x" * 5000}, True  # no length is stated
    threading.Thread(target=server.serve_forever, daemon=True).start()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            download(client(), f"http://127.0.0.1:{server.server_port}/a", tmp_path / "a")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (
        not (tmp_path / "a").exists()
        and download(client(), f"http://127.0.0.1:{server.server_port}/a", tmp_path / "a").read_bytes() == b"x" * 5000
    )
    server.shutdown()


def test_a_server_without_etags_is_taken_at_its_length(server, tmp_path):
    number = server.records[0]["id"]
    server.plan[f"/{number}/download"] = ["cut nameless", "cut nameless"]
    download(client(), f"{server.address}/{number}/download", tmp_path / "a.mp3")
    assert (tmp_path / "a.mp3").read_bytes() == server.files[number] and sum(n for *_, n in server.sent) == len(
        server.files[number]
    )


def test_a_pinned_list_cannot_name_files_elsewhere(server, tmp_path):
    (tmp_path / "evil.csv").write_text(
        f"id,sha256,file_url\n../../evil,{'0' * 64},{server.address}/1/download\n", encoding="utf-8"
    )
    with pytest.raises(ValueError, match=r"evil.csv, line 2: '../../evil' is no number of a recording"):
        fetch_again(tmp_path / "evil.csv", tmp_path / "deep" / "down", client())
    (tmp_path / "odd.csv").write_text(f"id,sha256,file_url\n1,{'0' * 64},a\n1,,a\n\n2,abc,b\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"odd.csv, line 5: 'abc' is no SHA-256 checksum \(1 such rows\)"):
        fetch_again(tmp_path / "odd.csv", tmp_path / "deep" / "down", client())


def test_waiting_follows_the_server(monkeypatch):
    from datetime import datetime
    from email.utils import format_datetime

    now = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC).timestamp()
    monkeypatch.setattr(time, "time", lambda: now)
    soon = format_datetime(datetime.fromtimestamp(now + 30, UTC), usegmt=True)
    assert (
        wait_before(0, soon) == 30
        and wait_before(5, "3") == 3
        and wait_before(3, None) == 8
        and wait_before(30, None) == 120
    )


def test_what_never_comes_whole_is_said_and_leaves_nothing(server, tmp_path):
    number = server.records[0]["id"]
    server.plan[f"/{number}/download"] = ["long"] * 50  # promises 100 bytes more than there are, for ever
    with pytest.raises(DownloadError, match="does not stand by the length"):
        download(client(tries=3), f"{server.address}/{number}/download", tmp_path / "a.mp3")
    assert not (tmp_path / "a.mp3").exists()
    with pytest.raises(DownloadError, match="its checksum is sha256:.* instead of sha256:0000"):
        download(
            client(),
            f"{server.address}/{server.records[1]['id']}/download",
            tmp_path / "b.mp3",
            expected="sha256:" + "0" * 64,
        )
    with pytest.raises(DownloadError, match="instead of 5 bytes|instead of 5"):
        download(client(), f"{server.address}/{server.records[1]['id']}/download", tmp_path / "b.mp3", size_bytes=5)
    assert not list(tmp_path.rglob("b.mp3*"))


def test_species_by_species_with_caps_licences_and_a_dry_run(server, tmp_path, capsys):
    (tmp_path / "species.txt").write_text("Turdus merula\nGreat Tit\nPica pica  # none there\n", encoding="utf-8")
    told = []
    chosen, others = plan_xeno_canto(
        XenoCanto("", client(say=told.append), server.api),
        "cnt:France",
        ["Turdus merula", "Great Tit", "Pica pica"],
        per_species=4,
        per_recordist=1,
        order="shortest",
    )
    assert (
        chosen.groupby("en").size().to_dict() == {"Common Blackbird": 4, "Great Tit": 4}
        and chosen.groupby("en").rec.nunique().tolist() == [4, 4]
        and not chosen.lic.str.contains("nd").any()
    )
    assert (
        others.why.str.contains("derivatives").sum()
        == sum("nd" in r["lic"] for r in server.records if r["gen"] in ("Turdus", "Parus"))
        and len(told) == 1
    )
    blackbirds = sorted(
        (r for r in server.records if r["gen"] == "Turdus" and "nd" not in r["lic"]),
        key=lambda r: (r["length"], int(r["id"])),
    )
    assert chosen[chosen.gen == "Turdus"].id.iloc[0] == blackbirds[0]["id"]
    server.asked.clear()
    assert (
        main(
            [
                "fetch",
                "xeno-canto",
                "--species",
                str(tmp_path / "species.txt"),
                "--per-species",
                "4",
                "--api",
                server.api,
                "--output",
                str(tmp_path / "birds"),
                "--pause",
                "0",
                "--dry-run",
            ]
        )
        == 0
    )
    out = capsys.readouterr().out
    assert re.match(r"8 files of 2 species, \d+ minutes, about \d+ MB; \d+ left out", out) and {
        p for p, *_ in server.asked
    } == {"/api/3/recordings"}


def test_pinned_lists_bring_the_same_bytes_or_none(server, tmp_path):
    fetch_listed(answers_table(server.records[:4]), tmp_path / "one", client())
    server.files[server.records[2]["id"]] = mp3(99)  # replaced since
    del server.files[server.records[3]["id"]]
    server.plan[f"/{server.records[3]['id']}/download"] = [500] * 9  # gone
    came = fetch_again(tmp_path / "one" / "recordings.csv", tmp_path / "two", client(tries=2))
    assert (
        came.n_new == 2
        and set(came.refused.recording_id) == {f"XC{server.records[k]['id']}" for k in (2, 3)}
        and "its checksum is" in came.refused.reason.str.cat()
    )
    one, two = (
        read_text_table(tmp_path / "one" / "recordings.csv"),
        read_text_table(tmp_path / "two" / "recordings.csv"),
    )
    pd.testing.assert_frame_equal(one[one.id.isin(two.id)].reset_index(drop=True), two.reset_index(drop=True))
    assert {"id", "sha256", "lic", "file_url", "bytes"} <= set(one)
    bad = tmp_path / "bad.csv"
    bad.write_text("id,gen\n1,Parus\n", encoding="utf-8")
    with pytest.raises(ValueError, match="pins no data set: it lacks sha256, file_url"):
        fetch_again(bad, tmp_path / "three")


def test_a_list_of_addresses_and_checksums_is_enough(server, tmp_path):
    number = server.records[0]["id"]
    (tmp_path / "list.csv").write_text(
        f"id,sha256,url,bytes\nXC{number},{hashlib.sha256(server.files[number]).hexdigest()},{server.address}/{number},\n",
        encoding="utf-8",
    )
    assert (
        main(
            [
                "fetch",
                "pinned",
                str(tmp_path / "list.csv"),
                "--output",
                str(tmp_path / "birds"),
                "--pause",
                "0",
                "--quiet",
            ]
        )
        == 0
    )
    assert set(load_recordings(tmp_path / "birds", keep_unnamed=True).label) == {"unknown"}


def test_no_licence_against_derivatives_slips_through(server):
    licences = ["by-nd-nc/1.0", "by-nc-nd/4.0", "BY-ND/3.0", "by-nc-sa/4.0", "by/4.0"]
    table = answers_table(
        [
            {**r, "lic": f"//creativecommons.org/licenses/{name}/"}
            for r, name in zip(server.records[:5], licences, strict=True)
        ]
    )
    chosen, others = choose(table)
    assert set(chosen.lic.str.split("/").str[4]) == {"by-nc-sa", "by"} and len(others) == 3


def test_the_longest_and_the_best_rated_are_chosen_first(server):
    facts = {"1": ("0:05", "B"), "2": ("1:00", "no score"), "3": ("0:20", "A"), "4": ("", "A")}
    one = {**server.records[0], "lic": "//creativecommons.org/licenses/by/4.0/"}
    table = answers_table([{**one, "id": i, "length": length, "q": q} for i, (length, q) in facts.items()])
    order = {how: choose(table, order=how)[0].id.tolist() for how in ("shortest", "longest", "best")}
    assert order == {"shortest": list("1324"), "longest": list("2314"), "best": list("3412")}
    chosen, others = choose(table, per_species=1, order="longest")
    assert chosen.id.tolist() == ["2"] and set(others.why) == {"more than 1 of the species"}


def test_a_renamed_species_stays_one_class_and_is_told(server, tmp_path):
    old = {**server.records[2], "gen": "Dendroica", "en": "Myrtle Warbler"}
    came = fetch_listed(answers_table([old, server.records[5], server.records[8]]), tmp_path / "birds", client())
    assert came.renamed[["from", "to"]].values.tolist() == [["Myrtle Warbler", "Yellow-rumped Warbler"]]
    assert set(load_recordings(tmp_path / "birds").label) == {"Yellow-rumped Warbler"}


def test_credits_name_everyone(server, tmp_path):
    odd = {**server.records[0], "rec": "Ana & {Co}_50%", "loc": "x"}
    fetch_listed(answers_table([odd, server.records[1]]), tmp_path / "birds", client())
    names = read_text_table(tmp_path / "birds" / "ATTRIBUTION.csv")
    assert list(names.license) == ["CC BY-NC-SA 4.0"] * 2 and "Ana & {Co}_50%" in set(names.recordist)
    bib = (tmp_path / "birds" / "CREDITS.bib").read_text(encoding="utf-8")
    assert r"Ana \& \{Co\}\_50\%" in bib and bib.count("@misc{XC") == 2 and "year = {2021}" in bib
    assert f"(https://xeno-canto.org/{odd['id']})" in (tmp_path / "birds" / "CREDITS.md").read_text(encoding="utf-8")


def make_tar(path, members):
    with tarfile.open(path, "w:gz") as t:
        for name, kind, data in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind == tarfile.REGTYPE:
                info.size = len(data)
            else:
                info.linkname = data.decode()
            t.addfile(info, io.BytesIO(data) if kind == tarfile.REGTYPE else None)


@pytest.mark.parametrize(
    "name, kind, data, why",
    [
        ("../evil.txt", tarfile.REGTYPE, b"x", "leads outside"),
        ("a/../../evil.txt", tarfile.REGTYPE, b"x", "leads outside"),
        ("/tmp/evil.txt", tarfile.REGTYPE, b"x", "absolute"),
        ("C:\\evil.txt", tarfile.REGTYPE, b"x", "absolute"),
        ("..\\evil.txt", tarfile.REGTYPE, b"x", "leads outside"),
        ("link", tarfile.SYMTYPE, b"/etc/passwd", "a link"),
        ("hard", tarfile.LNKTYPE, b"good/a.txt", "a link"),
        ("pipe", tarfile.FIFOTYPE, b"", "a device"),
        ("zeros.wav", tarfile.REGTYPE, bytes(3_000_000), "bomb"),
        ("good/a.txt", tarfile.REGTYPE, b"again", "there twice"),
    ],
)
@pytest.mark.parametrize("form", ["tar", "zip"])
def test_archives_that_reach_outside_are_refused_with_the_name(tmp_path, form, name, kind, data, why):
    archive = tmp_path / f"bad.{form}"
    if form == "tar":
        make_tar(archive, [("good/a.txt", tarfile.REGTYPE, b"a"), (name, kind, data)])
    else:
        if kind in (tarfile.LNKTYPE, tarfile.FIFOTYPE):
            pytest.skip("a zip has no such members")
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as z:
            z.writestr("good/a.txt", "a")
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            if kind == tarfile.SYMTYPE:
                info.external_attr = 0o120777 << 16
            if name == "good/a.txt":
                with pytest.warns(UserWarning):
                    z.writestr(info, data)
            else:
                z.writestr(info, data)
    out = tmp_path / "deep" / "out"
    with pytest.raises(UnsafeArchive, match=why) as e:
        extract(archive, out, floor_bytes=1_000_000)
    assert (
        repr(name) in str(e.value)
        and not [p for p in tmp_path.rglob("*") if p.name in ("evil.txt", "link", "hard", "pipe", "zeros.wav", "a.txt")]
        and not Path("/tmp/evil.txt").exists()
    )


def test_a_zip_that_lies_about_its_size_is_still_a_bomb(tmp_path):
    archive = tmp_path / "liar.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("zeros.wav", bytes(3_000_000))
    data = archive.read_bytes().replace((3_000_000).to_bytes(4, "little"), (3_000).to_bytes(4, "little"))
    archive.write_bytes(data)
    with pytest.raises(UnsafeArchive):
        extract(archive, tmp_path / "out", floor_bytes=1_000_000)
    assert not list((tmp_path / "out").rglob("*"))


@pytest.mark.parametrize("packing", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_an_archive_with_damaged_bytes_is_refused_whole(tmp_path, packing):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", packing) as z:
        z.writestr("a.wav", b"birds" * 20_000)
    data = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(data[:50] + bytes(b ^ 255 for b in data[50:90]) + data[90:])
    with pytest.raises(UnsafeArchive, match="no archive that can be read"):
        extract(tmp_path / "a.zip", tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*"))


def test_killed_while_unpacking_nothing_stays_of_the_first_try(tmp_path):
    make_tar(tmp_path / "a.tar", [(f"{k}.bin", tarfile.REGTYPE, bytes(1000)) for k in range(3)])
    code = (
        "import os, signal; from avianspec.download.downloads import extract; "
        f"extract({str(tmp_path / 'a.tar')!r}, {str(tmp_path / 'out')!r}, "
        "progress=lambda n: os.kill(os.getpid(), signal.SIGKILL))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == -signal.SIGKILL
    assert not list((tmp_path / "out").glob("*.bin")) and list((tmp_path / "out").rglob("*.bin"))
    assert extract(tmp_path / "a.tar", tmp_path / "out") == 3 and {p.name for p in (tmp_path / "out").rglob("*")} == {
        "0.bin",
        "1.bin",
        "2.bin",
    }


def test_a_tar_gives_no_rights_and_no_absurd_sizes(tmp_path):
    with tarfile.open(tmp_path / "rights.tar", "w") as t:
        info = tarfile.TarInfo("a.sh")
        info.mode = 0o6777
        t.addfile(info)
    extract(tmp_path / "rights.tar", tmp_path / "out")
    assert (tmp_path / "out" / "a.sh").stat().st_mode & 0o7111 == 0
    with tarfile.open(tmp_path / "absurd.tar", "w") as t:
        info = tarfile.TarInfo("big.wav")
        info.size = 2**62
        t.addfile(info)
    with pytest.raises(UnsafeArchive, match="'big.wav' is too large"):
        extract(tmp_path / "absurd.tar", tmp_path / "out")


class Archives(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        body = self.server.bodies[self.path]
        self.send_response(200)
        if not getattr(self.server, "chunked", False):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def flac(seed=0):
    file = io.BytesIO()
    sf.write(file, tone(hz=500 + seed), 16000, format="FLAC")
    return file.getvalue()


def test_librispeech_and_freesound_are_fetched_by_their_declarations(tmp_path, monkeypatch):
    import dataclasses

    from avianspec.data.sources import SourceFile

    make_tar(
        tmp_path / "dev.tar.gz",
        [
            (
                "LibriSpeech/SPEAKERS.TXT",
                tarfile.REGTYPE,
                b";ID|SEX|SUBSET|MINUTES|NAME\n84 | F | dev-clean | 8.02 | Christie\n"
                b"174 | M | dev-clean | 8.04 | Peter\n",
            ),
            ("LibriSpeech/dev-clean/84/121/84-121-0000.flac", tarfile.REGTYPE, flac(1)),
            ("LibriSpeech/dev-clean/174/50/174-50-0000.flac", tarfile.REGTYPE, flac(2)),
            ("LibriSpeech/test-clean/174/51/174-51-0000.flac", tarfile.REGTYPE, flac(3)),
        ],
    )
    speech = (tmp_path / "dev.tar.gz").read_bytes()

    def zipped(members):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as z:
            for name, data in members.items():
                z.writestr(name, data)
        return file.getvalue()

    zips = {
        "FSDKaggle2019.meta.zip": zipped(
            {
                "FSDKaggle2019.meta/train_curated_post_competition.csv": (
                    'fname,labels,freesound_id,license\na.wav,"Bark,Raindrop",12,CC0\n'
                ),
                "FSDKaggle2019.meta/test_post_competition.csv": "fname,labels\nb.wav,Meow\n",
            }
        ),
        "FSDKaggle2019.audio_train_curated.zip": zipped({"FSDKaggle2019.audio_train_curated/a.wav": flac(4)}),
        "FSDKaggle2019.audio_test.zip": zipped({"FSDKaggle2019.audio_test/b.wav": flac(5)}),
    }
    server = ThreadingHTTPServer(("127.0.0.1", 0), Archives)
    at = f"http://127.0.0.1:{server.server_port}"
    record = {
        "files": [{"key": k, "size": len(v), "checksum": "md5:" + hashlib.md5(v).hexdigest()} for k, v in zips.items()]
    }
    server.asked, server.bodies = (
        [],
        {"/dev-clean.tar.gz": speech, "/record": json.dumps(record).encode(), **{f"/{k}": v for k, v in zips.items()}},
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    md5 = "md5:" + hashlib.md5(speech).hexdigest()
    monkeypatch.setitem(
        SOURCES,
        "librispeech",
        dataclasses.replace(
            SOURCES["librispeech"], files=(SourceFile("dev-clean", f"{at}/dev-clean.tar.gz", len(speech), md5),)
        ),
    )
    monkeypatch.setitem(
        SOURCES,
        "freesound-2019",
        dataclasses.replace(
            SOURCES["freesound-2019"],
            checksums=f"{at}/record",
            files=tuple(SourceFile(k.split(".")[1], f"{at}/{k}") for k in zips),
        ),
    )
    table = fetch_source("librispeech", tmp_path / "speech", "dev-clean", client())
    assert (
        sorted(table.label) == ["F", "M"]
        and not (tmp_path / "speech" / "dev-clean.tar.gz").exists()
        and not (tmp_path / "speech" / "LibriSpeech" / "test-clean").exists()
    )
    assert load_recordings(tmp_path / "speech").equals(table)
    fetch_source("librispeech", tmp_path / "speech", "dev-clean", client())
    assert server.asked == ["/dev-clean.tar.gz"]  # what is there is not fetched again
    tags = fetch_source("freesound-2019", tmp_path / "tags", "", client())
    assert tags.label.tolist() == ["Bark,Raindrop"] and tags.url[0] == "https://freesound.org/s/12/"
    assert fetch_source("freesound-2019", tmp_path / "test", "meta,audio_test", client()).label.tolist() == ["Meow"]
    assert fetch_source(
        "freesound-2019", tmp_path / "tags", "audio_train_curated,audio_test", client()
    ).label.tolist() == ["Bark,Raindrop", "Meow"]
    server.bodies["/FSDKaggle2019.audio_train_curated.zip"] = zips["FSDKaggle2019.audio_train_curated.zip"][:-1] + b"!"
    with pytest.raises(DownloadError, match="its checksum is md5:"):
        fetch_source("freesound-2019", tmp_path / "again", "", client())
    server.shutdown()


def test_kaggle_is_asked_through_kagglehub_and_its_absence_is_said(tmp_path, monkeypatch):
    import types

    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(RuntimeError, match=r"pip install 'avianspec\[kaggle\]'"):
        fetch_source("ca-nv", tmp_path)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "xeno-canto_ca-nv_index.csv").write_text(
        ",country,duration_seconds,english_cname,file_id,file_name,genus,latitude,license,location,longitude,"
        "recordist,species,type,remarks\n0,United States,3,Abert's Towhee,17804,XC17804.mp3,Melozone,33.3,"
        "http://creativecommons.org/licenses/by-nc-nd/2.5/,Cibola,-114.7,Nathan Pieplow,aberti,call,"
        '"XC17804 // Cibola // 600m // 11:00h, 2008-01-09 // call"\n',
        encoding="utf-8",
    )
    asked = []
    monkeypatch.setitem(
        sys.modules,
        "kagglehub",
        types.SimpleNamespace(dataset_download=lambda handle: asked.append(handle) or str(tmp_path / "cache")),
    )
    table = fetch_source("ca-nv", tmp_path / "ca-nv")
    assert (
        asked == ["samhiatt/xenocanto-avian-vocalizations-canv-usa"]
        and table.date[0] == "2008-01-09"
        and (tmp_path / "ca-nv" / "recordings.csv").exists()
    )


def test_two_processes_do_not_fetch_into_one_folder(server, tmp_path):
    from avianspec.download.fetch import _locked

    with _locked(tmp_path / "birds"):
        code = (
            "from avianspec.download.fetch import _locked; from pathlib import Path\n"
            f"with _locked(Path({str(tmp_path / 'birds')!r})): pass"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", cwd=ROOT)
    assert done.returncode == 1 and "Another process fetches into" in done.stderr
