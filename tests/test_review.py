"""From a page of clips to answers and what follows from them; the page in a real browser."""

import base64
import io
import json
import re
import shutil
import subprocess
import tempfile
import time
import tracemalloc
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import websocket
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from avianspec.data.annotations import DETECTION, labelled_windows
from avianspec.data.layouts import load_recordings
from avianspec.field.answers import density_of, export_clips, labels_of, read_answers, thresholds_of
from avianspec.field.review import ANSWER_COLUMNS, draw_for_review, write_review
from avianspec.files import Note, write_table
from avianspec.sound.excerpts import clips_of

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
NASTY = "Wren </script><b> \"&' $x, é"


def detections(n=200, n_files=20, seed=0):
    "A table of detections, right more often where the score is high."
    rng = np.random.default_rng(seed)
    score = rng.beta(1.5, 2, n)
    rows = [[f"f{k % n_files}.wav" for k in range(n)], np.arange(n) // n_files * 3.0, np.arange(n) // n_files * 3.0 + 2]
    label = rng.choice(["wren", "rail"], n, p=[0.7, 0.3])
    table = pd.DataFrame(dict(zip(DETECTION, [*rows, np.nan, np.nan, label, 1, score], strict=True)))
    return table.assign(right=rng.random(n) < score)


def answered(drawn):
    "The answers of a person who knows."
    return drawn.assign(answer=np.where(drawn.right, "yes", "no"), right_label="")[ANSWER_COLUMNS]


@pytest.fixture
def heard(tmp_path):
    "Two recordings of two channels, and detections in them, clips that cannot be read among them."
    rng, sr = np.random.default_rng(0), 16000
    for name in ("a.wav", "b <i>.flac"):
        y = rng.normal(0, 0.01, (12 * sr, 2))
        y[:, 1] += 0.3 * np.sin(2 * np.pi * 3000 * np.arange(12 * sr) / sr)
        sf.write(tmp_path / name, y, sr)
    rows = [
        (str(tmp_path / name), start, start + 1.25, 2500.0, 3500.0, label, channel, score)
        for name in ("a.wav", "b <i>.flac")
        for start, label, channel, score in ((1.5, NASTY, 1, 0.31), (6.0, "Rail", 2, 0.75), (9.5, "Rail", 1, 0.95))
    ]
    return pd.DataFrame(rows, columns=DETECTION)


# ---- drawing -----------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(0, 5), st.sampled_from(["band", "label", "share"]))
def test_what_clips_stand_for_adds_up_to_all(n, seed, how):
    table = detections()
    drawn = draw_for_review(table, how, n, seed)
    assert np.isclose((1 / drawn.drawn_share).sum(), len(table)) and not drawn.duplicated(DETECTION).any()
    again = draw_for_review(table.sample(frac=1, random_state=seed), how, n, seed)
    pd.testing.assert_frame_equal(drawn, again)
    other = draw_for_review(table, how, n, seed + 1)
    assert not drawn.equals(other) or len(drawn) in (len(table), 1)


def test_clips_come_in_random_order():
    drawn = draw_for_review(detections(2000), "band", 50)
    assert abs(np.corrcoef(drawn.score, np.arange(len(drawn)))[0, 1]) < 0.15
    assert drawn.path.iloc[:20].nunique() > 5


@pytest.mark.parametrize(
    "wrong, said",
    [
        (dict(how="luck"), "drawn by band, label, share"),
        (dict(how="share", n=120), "percentage up to 100"),
        (dict(n=0), "from 1"),
        (dict(n=2.5), "whole number"),
        (dict(bands=(0, 0.5)), "from 0 to 1"),
    ],
)
def test_a_drawing_that_cannot_be_is_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        draw_for_review(detections(), **wrong)
    with pytest.raises(ValueError, match="missing: score"):
        draw_for_review(detections().drop(columns="score"))
    with pytest.raises(ValueError, match="nothing to review"):
        draw_for_review(detections().iloc[:0])


# ---- clips and the page ------------------------------------------------------------------------------------


def clips_in(page):
    "What a page holds of each clip: its texts, its picture, its sound."
    text = page.read_text(encoding="utf-8")
    found = re.findall(r'class="clip">(.*?)</script><script type="text/plain">\n(.*?)\n(.*?)\n</script>', text)
    return [(json.loads(texts), picture, sound) for texts, picture, sound in found]


def test_a_file_is_read_alike_from_anywhere_and_from_its_beginning(tmp_path, heard, monkeypatch):
    import avianspec.sound.excerpts as excerpts

    spans = pd.DataFrame({"from_s": [7.0, 0.5, 0.6, 11.5, 30.0, 1.0, 0.5]})
    spans = spans.assign(to_s=[8.0, 3.0, 9.0, 14.0, 31.0, 2.0, 3.0], channel=[1, 2, 1, 2, 1, 3, 0])
    sought = {c.row: c for c in clips_of(heard.path[0], spans)}
    monkeypatch.setattr(excerpts, "_searchable", lambda path: False)
    streamed = {c.row: c for c in clips_of(heard.path[0], spans)}
    assert set(sought) == set(streamed) == set(range(7))
    for k, clip in sought.items():
        assert np.array_equal(clip.y, streamed[k].y) and clip.trouble == streamed[k].trouble
    assert "ends at 12.0 s" in sought[4].trouble and "number 3" in sought[5].trouble
    whole, sr = sf.read(heard.path[0], dtype="float32")
    np.testing.assert_allclose(sought[6].y, whole[sr // 2 : 3 * sr].mean(axis=1), atol=1e-6)  # the mix
    assert len(sought[3].y) == 8000 and np.abs(sought[1].y).max() > 10 * 0.02


def test_what_cannot_be_read_is_named_and_the_rest_is_there(tmp_path, heard):
    whole = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "noise.mp3").write_bytes(np.random.default_rng(0).bytes(20000))
    table = pd.concat([heard] + [heard.iloc[:3].assign(path=str(tmp_path / n)) for n in ("cut.wav", "noise.mp3", "no")])
    page = tmp_path / "page.html"
    assert write_review(draw_for_review(table, "share", 100), page) == 7
    clips = clips_in(page)
    text = page.read_text(encoding="utf-8")
    assert text.count("</script>") == 2 * 15 + 2 and "<b>" not in text and "<i>" not in text
    assert len(clips) == 15 and sorted(c[0]["place"] for c in clips) == list(range(15))
    lost = {(c[0]["name"], c[0]["row"]["start_s"]): c[0]["trouble"] for c in clips if "trouble" in c[0]}
    assert {name for name, _ in lost} == {"cut.wav", "noise.mp3", "no"} and ("cut.wav", "1.5") not in lost
    assert "no such file" in lost["no", "1.5"] and "ends at 6.0 s" in lost["cut.wav", "9.5"]


def test_the_box_and_the_sound_of_a_clip_are_where_they_belong(tmp_path, heard):
    drawn = draw_for_review(heard[heard.label == "Rail"], "share", 100)
    write_review(drawn, tmp_path / "page.html", margin_s=0.5)
    clip, picture, sound = next(c for c in clips_in(tmp_path / "page.html") if c[0]["row"]["channel"] == "2")
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2])))).astype(int).sum(axis=2)
    box, height = clip["box"], len(image)
    place = 1 - (image.mean(axis=1).argmax() + 0.5) / height  # of the tone of 3 kHz
    assert box["bottom"] < place < box["bottom"] + box["height"] and box["height"] < 0.3
    assert clip["from_s"] == 5.5 and abs(box["left"] - 0.5 / clip["width_s"]) < 0.01
    y, sr = sf.read(io.BytesIO(base64.b64decode(sound.partition(",")[2])))
    peak = np.abs(np.fft.rfft(y)).argmax() * sr / len(y)
    assert abs(peak - 3000) < 2 and abs(len(y) / sr - 2.25) < 0.05 and 0.6 < np.abs(y).max() < 0.85


def test_memory_does_not_grow_with_the_clips(tmp_path, heard):
    def peak(n):
        table = pd.concat([heard] * n, ignore_index=True)
        table["start_s"] += np.arange(len(table)) * 1e-4
        drawn = draw_for_review(table, "share", 100)
        tracemalloc.start()
        write_review(drawn, tmp_path / f"{n}.html")
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most, (tmp_path / f"{n}.html").stat().st_size

    peak(1)  # what is made once
    (few, small), (many, large) = peak(1), peak(8)
    assert large - small > 1_000_000 and many - few < 0.3 * (large - small)


def test_a_page_that_fails_leaves_the_old_one(tmp_path, heard, monkeypatch):
    import avianspec.field.review as review

    page = tmp_path / "page.html"
    page.write_text("old")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(review, "_clip_lines", full)
    with pytest.raises(OSError):
        write_review(draw_for_review(heard, "share", 100), page)
    assert page.read_text() == "old" and not list(tmp_path.glob(".page*"))


# ---- a real browser ----------------------------------------------------------------------------------------


class Browser:
    "A headless Chromium with one page, driven by its DevTools."

    def __init__(self, folder, width=1000, height=800):
        self.folder = folder
        # its socket must have a short name, and its profile is gone with the browser
        self.profile = tempfile.mkdtemp(prefix="review-")
        options = f"--headless=new --no-sandbox --disable-gpu --mute-audio --remote-debugging-port=0 --no-first-run \
            --remote-allow-origins=* --autoplay-policy=no-user-gesture-required --window-size={width},{height}".split()
        command = [CHROMIUM, *options, f"--user-data-dir={self.profile}", "about:blank"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port = Path(self.profile) / "DevToolsActivePort"
        try:
            self.wait(lambda: port.exists() and port.read_text().count("\n"), "it starts")
            base = f"http://127.0.0.1:{port.read_text().split()[0]}/json/list"
            found = self.wait(
                lambda: [p for p in json.load(urllib.request.urlopen(base)) if p["type"] == "page"], "a page"
            )
            self.socket, self.n = websocket.create_connection(found[0]["webSocketDebuggerUrl"], timeout=60), 0
            self.call("Page.enable")
            self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
        except BaseException:
            self.close()
            raise

    def wait(self, reached, what, limit_s=60):
        end = time.monotonic() + limit_s
        while not (value := reached()):
            assert time.monotonic() < end and self.process.poll() is None, f"it did not come to: {what}"
            time.sleep(0.05)
        return value

    def call(self, method, **params):
        self.n += 1
        self.socket.send(json.dumps({"id": self.n, "method": method, "params": params}))
        while (answer := json.loads(self.socket.recv())).get("id") != self.n:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def run(self, code):
        "Value of an expression in the page."
        said = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    def open(self, page):
        "Leave what is open, and wait until the page is there."
        for url in ("about:blank", page.as_uri()):
            self.call("Page.navigate", url=url)
            there = f"document.readyState === 'complete' && location.href === {json.dumps(url)}"
            self.wait(lambda there=there: self.run(there), url)
        return self

    def press(self, *keys):
        for key in keys:
            text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
            self.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=text)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def download(self, name):
        "Press the button, and read the answers."
        (self.folder / name).unlink(missing_ok=True)
        self.run("document.getElementById('save').click()")
        self.wait(lambda: (self.folder / name).exists() and not list(self.folder.glob("*.crdownload")), "a download")
        return read_answers(self.folder / name)

    def text(self, name):
        return self.run(f"document.getElementById('{name}').textContent")

    def close(self):
        self.process.terminate()
        self.process.wait(30)
        shutil.rmtree(self.profile, ignore_errors=True)


@pytest.fixture
def browser(tmp_path):
    (tmp_path / "downloads").mkdir()
    opened = Browser(tmp_path / "downloads")
    yield opened
    opened.close()


@pytest.fixture
def page(tmp_path, heard):
    "A page of six clips and one that is gone, and the table they are drawn from."
    table = pd.concat([heard, heard.iloc[:1].assign(path=str(tmp_path / "gone.wav"))])
    drawn = draw_for_review(table, "band", 10)
    origin = pd.DataFrame({"path": heard.path.unique(), "recordist": "<i>Ada", "license": "//x.org/by/4.0/", "url": ""})
    write_review(drawn, tmp_path / "page.html", origin, ["Crake"])
    return tmp_path / "page.html", drawn[drawn.path != str(tmp_path / "gone.wav")].reset_index(drop=True)


@in_a_browser
def test_keys_are_pressed_and_the_csv_has_them(browser, page):
    path, drawn = page
    browser.open(path)
    assert browser.text("count") == "0 of 6 answered" and browser.text("label") == drawn.label[0]
    assert browser.run("document.getElementById('save').disabled")
    browser.press("y", "n", "?", "1")  # the first of the labels: the one that was given, Crake
    browser.press("o", *"Corn  crake", "Enter")
    browser.press("y", "u", "ArrowLeft", "ArrowLeft", "n")  # the last is undone, the one two before it changed
    assert browser.text("count") == "5 of 6 answered"
    saved = browser.download("page-answers.csv")
    expected = drawn.iloc[:5].assign(
        answer=["yes", "no", "unsure", "other", "other"], right_label=["", "", "", "Crake", "Corn crake"]
    )
    expected.loc[3, ["answer", "right_label"]] = ["no", ""]
    pd.testing.assert_frame_equal(saved, expected[ANSWER_COLUMNS], check_dtype=False)


@in_a_browser
def test_a_page_that_is_closed_goes_on_where_it_was(browser, page, tmp_path):
    path, drawn = page
    browser.open(path).press("n", "y")
    browser.open(path)
    assert browser.text("count") == "2 of 6 answered" and browser.text("label") == drawn.label[2]
    browser.press("u", "u")
    assert browser.text("count") == "0 of 6 answered" and browser.text("label") == drawn.label[0]
    other = tmp_path / "other.html"
    write_review(drawn.iloc[:3], other)
    browser.press("y")
    assert browser.open(other).text("count") == "0 of 3 answered"  # its answers are its own


@in_a_browser
def test_clips_are_seen_and_heard_and_strangers_write_no_page(browser, page):
    path, drawn = page
    browser.open(path)
    ready = "document.getElementById('image').naturalWidth > 100 && document.getElementById('audio').duration"
    seconds = browser.wait(lambda: browser.run(ready), "a picture and a sound")
    assert abs(seconds - 3.25) < 0.3 and browser.run("document.getElementById('mute').hidden")
    browser.press(" ")
    browser.wait(lambda: browser.run("document.getElementById('audio').currentTime > 0.2"), "a playing clip")
    browser.press(" ")
    assert browser.run("document.getElementById('audio').paused")
    assert "gone.wav" in browser.text("troubles") and "no such file" in browser.text("troubles")
    while browser.text("label") != NASTY:
        browser.press("ArrowRight")
    assert browser.run("document.querySelectorAll('main b, main i').length") == 0
    assert "<i>Ada" in browser.text("credit")
    assert (
        browser.run("performance.getEntriesByType('resource').filter(e => !/^(data|blob):/.test(e.name)).length") == 0
    )


@in_a_browser
@pytest.mark.parametrize("width", [360, 1400])
def test_the_page_fits_its_window_and_is_worked_without_a_mouse(browser, page, width):
    path, _ = page
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
    browser.open(path)
    assert browser.run("document.documentElement.scrollWidth") <= width
    named = "[...document.querySelectorAll('button, input, select')].every(e => e.textContent.trim() || " \
        "e.getAttribute('aria-label') || e.labels?.length)"  # fmt: skip
    assert browser.run(named)
    browser.run("document.querySelector('.answer[data-answer=no]').focus()")
    browser.press(" ")
    browser.run("document.querySelector('.answer[data-answer=no]').click()")
    assert browser.text("count").startswith("2 of 6")


# ---- answers and what follows ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "column, value, said",
    [
        ("answer", "maybe", "line 3: answer is 'maybe'; it is one of yes, no, unsure, other"),
        ("answer", "other", "line 3: right_label is ''; say which"),
        ("end_s", "0", "behind start_s"),
        ("channel", "-1", "counted from 1"),
        ("low_hz", "deep", "frequency"),
        ("drawn_by", "luck", "drawn_by"),
        ("band_high", "0", "above band_low"),
        ("label", "", "label is ''"),
    ],
)
def test_answers_that_cannot_be_are_refused_by_their_line(tmp_path, column, value, said):
    table = answered(draw_for_review(detections(), "band", 3)).astype(object)
    table.loc[1, column] = value
    write_table(tmp_path / "a.csv", table)
    with pytest.raises(ValueError, match=re.escape(said)):
        read_answers(tmp_path / "a.csv")


def test_answers_from_two_sittings_count_once(tmp_path):
    table = answered(draw_for_review(detections(), "band", 3))
    again = table.iloc[[0]].assign(answer="unsure")
    write_table(tmp_path / "a.csv", pd.concat([table, again, table.iloc[[1]].assign(answer="")]))
    with pytest.warns(Note, match="1 clips answered twice.*line 2"):
        read = read_answers(tmp_path / "a.csv")
    assert len(read) == len(table) and read.answer.tolist().count("unsure") == 1
    write_table(tmp_path / "b.csv", table.drop(columns="drawn_of"))
    with pytest.raises(ValueError, match="no column drawn_of"):
        read_answers(tmp_path / "b.csv")


def test_densities_are_those_of_all_where_all_is_answered():
    table = detections(400)
    for how in ("band", "label", "share"):
        density = density_of(answered(draw_for_review(table, how, 100 if how == "share" else 400)), table)
        assert np.allclose(density.right_share, table.groupby("label").right.mean()) and (density.unreviewed == 0).all()
        assert np.allclose(density.right, table.groupby("label").right.sum())


@pytest.mark.parametrize("how, n", [("band", 12), ("label", 60), ("share", 10)])
def test_densities_are_corrected_for_the_drawing(how, n):
    table = detections(1200, seed=4)
    truth, held, values = table.groupby("label").right.mean(), [], []
    for seed in range(40):
        density = density_of(answered(draw_for_review(table, how, n, seed)), table).set_index("label")
        values.append(density.right_share)
        held.append((density.low <= truth) & (truth <= density.high))
    assert np.abs(np.mean(values, axis=0) - truth).max() < 0.03 and np.mean(held) >= 0.9


def test_bands_without_an_answer_widen_the_interval():
    table = detections(600)
    answers = answered(draw_for_review(table, "band", 20))
    half = density_of(answers[answers.band_low < 0.45], table)
    assert (half.unreviewed > 0.1).all() and half.remark.str.contains("bands without an answer").all()
    truth = table.groupby("label").right.mean().to_numpy()
    assert (half.low < truth).all() and (truth < half.high).all()


def test_answers_to_other_detections_are_refused():
    table = detections()
    for how in ("band", "label", "share"):
        answers = answered(draw_for_review(table, how, 5))
        with pytest.raises(ValueError, match="drawn out of other detections"):
            density_of(answers, table.iloc[:100])


def test_a_threshold_weighs_what_clips_stand_for():
    table = pd.DataFrame({"score": [0.95] * 2 + [0.55] * 100, "right": [True] * 2 + [False, True] * 50})
    table = table.assign(path="a.wav", start_s=np.arange(102.0), end_s=np.arange(102.0) + 1, label="wren", channel=1)
    table = table.assign(low_hz=np.nan, high_hz=np.nan)
    drawings = (answered(draw_for_review(table, "band", 2, seed)) for seed in range(20))
    answers = next(a for a in drawings if (a.answer == "yes").sum() == 3)  # both of the upper band, one of the lower
    assert thresholds_of(answers, 0.7).threshold[0] == 0.95  # 3 of 4 clips are right, 52 of the 102 they stand for
    assert thresholds_of(answers, 0.5).threshold[0] == 0.55
    none = thresholds_of(answers.assign(answer="no"), 0.5).iloc[0]
    assert np.isnan(none.threshold) and "0 of 4 clips are right" in none.remark and none.best == 0


def test_only_what_was_heard_becomes_a_label(heard):
    table = draw_for_review(heard, "share", 100).sort_values(["path", "start_s"], ignore_index=True)
    answers = table.assign(answer=["yes", "no", "other"] * 2, right_label=["", "", "Crake"] * 2)[ANSWER_COLUMNS]
    marks = labels_of(answers)
    assert marks.label.tolist() == [NASTY, "Crake"] * 2
    lengths = {path: 12.0 for path in heard.path.unique()}
    assert (labelled_windows(marks, lengths, 1.0, 1.0).label != "").all()
    empty = labelled_windows(labels_of(answers, negatives=True), lengths, 1.0, 1.0).query("label == ''")
    assert empty.start_s.tolist() == [6.0, 6.0]


def test_exported_clips_are_recordings_with_their_source_as_group(tmp_path, heard):
    answers = draw_for_review(heard, "share", 100).assign(answer="yes", right_label="")[ANSWER_COLUMNS]
    bad = pd.concat([answers, answers.iloc[:1].assign(path=str(tmp_path / "gone.wav"))], ignore_index=True)
    with pytest.warns(Note, match="1 clips could not be cut.*gone.wav.*no such file"):
        export_clips(bad, tmp_path / "train", margin_s=0.25)
    table = load_recordings(tmp_path / "train")
    assert len(table) == 6 and table.group.nunique() == 2 and set(table.label) == {"Rail", NASTY}
    assert np.allclose(table.duration_s, 1.75) and all(Path(p).is_file() for p in table.path)
    assert {p.name for p in (tmp_path / "train").iterdir()} >= {"recordings.csv", "ATTRIBUTION.csv", "Rail"}
    with pytest.raises(ValueError, match="nothing to write"):
        export_clips(answers.assign(answer="no"), tmp_path / "none")
