"""A stream heard live: the samples that were sent, events at their times, and nothing that can hold it up."""

import io
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from conftest import ROOT, at_work, wait_until
from hypothesis import given, settings
from hypothesis import strategies as st
from test_inference import SR, Told, saved
from test_tag import Loudness, dictionary  # noqa: F401

from avianspec.field.detections import EventConfig
from avianspec.field.live import LiveConfig, Trigger, Writer, listen, live_answers
from avianspec.field.minutes import MINUTE, MinuteCounts
from avianspec.field.streams import Pcm, live_blocks, stream_format
from avianspec.learning.settings import WindowConfig
from avianspec.sound.features import FeatureConfig

rng = np.random.default_rng(0)
NOISE = (0.2 * rng.standard_normal(SR)).astype(np.float32)


def fine(model):
    "A model with a hundred frames a second, so that the newest one is at most 0.16 s old."
    front_end = FeatureConfig(sr=SR, n_fft=2048, hop_length=160)
    return replace(saved(model), front_end=front_end, windows=WindowConfig(100))


def streamed(y, subtype="PCM_16", sr=SR):
    "A WAV stream."
    out = io.BytesIO()
    sf.write(out, y, sr, format="WAV", subtype=subtype)
    return io.BytesIO(out.getvalue())


@pytest.mark.parametrize("subtype, step", [("PCM_16", 2**-15), ("PCM_32", 1e-7), ("FLOAT", 0)])
def test_a_wav_stream_says_how_its_samples_are_written(subtype, step):
    both = np.stack([NOISE, -NOISE], axis=1).clip(-1, 1)
    stream = streamed(both, subtype)
    pcm, first = stream_format(stream, Pcm(8000))
    assert (pcm.sr, pcm.channels, first) == (SR, 2, b"")
    heard = np.concatenate(list(live_blocks(stream, pcm, first)))
    np.testing.assert_allclose(heard, both, atol=step)


def test_raw_samples_are_taken_as_told():
    y = np.int16(1000 * NOISE)
    pcm, first = stream_format(io.BytesIO(y.tobytes()), Pcm(SR))
    stream = io.BytesIO(y.tobytes())
    pcm, first = stream_format(stream, Pcm(SR))
    heard = np.concatenate(list(live_blocks(stream, pcm, first)))[:, 0]
    np.testing.assert_array_equal(heard, y / np.float32(32768))
    torn = io.BytesIO(y.tobytes() + b"\1")
    assert sum(map(len, live_blocks(torn, Pcm(SR)))) == len(y)


def test_streams_that_cannot_be_read_are_refused():
    head = streamed(NOISE).getvalue()
    with pytest.raises(ValueError, match="its header breaks off"):
        stream_format(io.BytesIO(head[:30]))
    with pytest.raises(ValueError, match="format 1 of 24 bits"):
        stream_format(streamed(NOISE, "PCM_24"))
    alaw = bytearray(head)
    alaw[20:22] = struct.pack("<H", 6)
    with pytest.raises(ValueError, match="format 6"):
        stream_format(io.BytesIO(bytes(alaw)))
    for wrong in (dict(format="u8"), dict(sr=0), dict(channels=0)):
        with pytest.raises(ValueError, match="got"):
            Pcm(**wrong)


def test_a_stream_may_come_in_drops():
    class Drops(io.BytesIO):
        def read(self, n=-1):
            if rng.random() < 0.1:
                return None  # it does not block, and nothing has come yet
            return super().read(min(n, int(rng.integers(1, 3000))))

    stream = Drops(streamed(NOISE, "PCM_32").getvalue())
    pcm, first = stream_format(stream)
    assert (pcm.sr, pcm.format) == (SR, "s32le")
    np.testing.assert_allclose(
        np.concatenate(list(live_blocks(stream, pcm, first)))[:, 0], NOISE.clip(-1, 1), atol=1e-7
    )


def test_a_file_that_grows_is_read_as_it_grows(tmp_path):
    y, path = np.int16(20_000 * np.clip(NOISE, -1, 1)).tobytes(), tmp_path / "growing.raw"
    path.write_bytes(y[:1001])

    def grow():
        for k in range(1001, len(y), 4001):
            time.sleep(0.01)
            with open(path, "ab") as f:
                f.write(y[k : k + 4001])

    thread = threading.Thread(target=grow)
    thread.start()
    with open(path, "rb") as stream:
        heard = np.concatenate(list(live_blocks(stream, Pcm(SR), idle_s=2.0)))
    thread.join()
    assert np.int16(heard[:, 0] * 32768).tobytes() == y


def test_answers_come_every_step_and_are_of_the_newest_window():
    model = fine(Loudness())
    quiet_then_loud = np.concatenate([0.001 * NOISE, 0.001 * NOISE, NOISE, NOISE])
    blocks = np.array_split(quiet_then_loud, 40)
    answers = list(live_answers(model, iter(blocks), SR, step_s=0.2))
    ends, owl = np.array([end for end, _ in answers]), np.array([p[0] for _, p in answers])
    assert ends[0] >= 1.0 and (np.diff(ends) >= 0.2).all() and ends[-1] <= 4.2
    assert owl[ends < 2].max() < 0.2 < 0.8 < owl[ends > 3.1].min()  # the window is a second long
    for step in (1, 9):  # however the sound comes
        again = list(live_answers(model, iter(np.array_split(quiet_then_loud, step)), SR, step_s=0.2))
        np.testing.assert_allclose([p for _, p in again], [p for _, p in answers], atol=1e-4)


def blocks_of(y):
    return (y[k : k + SR // 10, None] for k in range(0, len(y), SR // 10))


def test_events_of_a_stream(tmp_path, monkeypatch):
    now = [1_714_530_600.0]  # 02:30 UTC on 1 May 2024

    def paced(y):
        for block in blocks_of(y):
            now[0] += len(block) / SR  # by the clock, as it would be recorded
            yield block

    clock = SimpleNamespace(time=lambda: now[0], monotonic=time.monotonic, sleep=time.sleep)
    monkeypatch.setattr("avianspec.field.live.time", clock)
    y = np.concatenate([0.001 * NOISE] * 3 + [NOISE] * 2 + [0.001 * NOISE] * 4 + [NOISE] + [0.001 * NOISE] * 2)
    told = []
    cfg = LiveConfig(EventConfig(0.5, labels=["owl"]), step_s=0.2, zone="Asia/Kolkata", clips=True, margin_s=0.5)
    heard = listen(paced(y), SR, fine(Loudness()), tmp_path, cfg, tell=lambda *cells: told.append(cells))
    table = pd.concat([pd.read_csv(p) for p in sorted(tmp_path.glob("detections-*.csv"))])
    assert (heard.seconds, heard.events, heard.clips, heard.given_up) == (12, 2, 2, 0) and len(table) == len(told) == 2
    np.testing.assert_allclose(table.start_s, [2.5, 8.5], atol=0.45)  # its window began before the sound did
    np.testing.assert_allclose(table.end_s, [5.4, 10.4], atol=0.45)
    began = [pd.Timestamp("2024-05-01T08:00:00+05:30") + pd.Timedelta(seconds=s) for s in table.start_s]
    off = [abs((pd.Timestamp(t) - moment).total_seconds()) for t, moment in zip(table.time, began, strict=True)]
    assert max(off) < 0.002 and table.time.str.endswith("+05:30").all()
    for row in table.itertuples():
        clip, sr = sf.read(tmp_path / "clips" / row.clip_file)
        assert sr == SR and len(clip) / SR == pytest.approx(row.end_s - row.start_s + 1, abs=0.2)
    assert sorted(p.name for p in (tmp_path / "clips").iterdir()) == sorted(table.clip_file)


def test_minutes_of_a_stream_add_up_to_its_events(tmp_path, monkeypatch):
    now = [1_729_990_793.0]  # 7 s before the hour that came twice in Berlin came for the second time

    def paced(y):
        for block in blocks_of(y):
            now[0] += len(block) / SR
            yield block

    clock = SimpleNamespace(time=lambda: now[0], monotonic=time.monotonic, sleep=time.sleep)
    monkeypatch.setattr("avianspec.field.live.time", clock)
    y = np.concatenate([0.001 * NOISE] * 3 + [NOISE] * 2 + [0.001 * NOISE] * 4 + [NOISE] + [0.001 * NOISE] * 2)
    cfg = LiveConfig(EventConfig(0.5, labels=["owl"]), step_s=0.2, zone="Europe/Berlin", parquet=True)
    listen(paced(y), SR, fine(Loudness()), tmp_path, cfg)
    events = pd.read_parquet(tmp_path / "detections-2024-10-27.parquet")
    minutes = pd.read_csv(tmp_path / "presence-2024-10-27.csv")
    assert minutes.minute.tolist() == ["2024-10-27T02:59+02:00", "2024-10-27T02:00+01:00"]
    assert minutes.label.eq("owl").all() and minutes.score.max() == pytest.approx(events.score.max())
    assert minutes.heard_s.sum() == pytest.approx((events.end_s - events.start_s).sum(), abs=0.2)
    assert minutes.listened_s.tolist() == pytest.approx([7, 5], abs=0.3)
    assert minutes.share.tolist() == pytest.approx((minutes.heard_s / minutes.listened_s).tolist(), abs=1e-3)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "presence-2024-10-27.parquet"), minutes)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0.1, 40), st.booleans()), min_size=1, max_size=30), st.floats(0, 59.9))
def test_minutes_hold_all_that_was_heard_once(steps, began):
    counts, at, heard, rows, covered = MinuteCounts(lambda s: began + s, "UTC"), 0.0, 0.0, [], 0.0
    for step, there in steps:
        at += step
        counts.listened(at)
        if there:
            first = max(0.0, at - 3.0)
            counts.noted("owl", first, at, 0.5)
            heard, covered = heard + at - max(first, covered), at
        rows += counts.over(at - 3.0)
    rows += counts.over()
    table = pd.DataFrame(rows, columns=MINUTE)
    assert table[table.label == "owl"].heard_s.astype(float).sum() == pytest.approx(heard, abs=0.02)
    each = table.drop_duplicates("minute").listened_s.astype(float)
    assert each.sum() == pytest.approx(at, abs=0.02) and each.max() <= 60


def test_a_stream_that_ends_in_an_event_and_one_of_nothing(tmp_path):
    y = np.concatenate([0.001 * NOISE, NOISE, NOISE])
    cfg = LiveConfig(EventConfig(0.5, labels=["owl"]))
    assert listen(blocks_of(y), SR, fine(Loudness()), tmp_path / "a", cfg).events == 1
    assert listen(iter([]), SR, fine(Loudness()), tmp_path / "b", cfg).seconds == 0
    assert listen(blocks_of(0 * y), SR, fine(Told(*[[1.0, 0]] * 99)), tmp_path / "c", cfg).events == 0  # silence


def test_what_breaks_a_stream_is_said(tmp_path):
    def broken():
        yield from blocks_of(NOISE)
        raise OSError("the pipe has gone")

    with pytest.raises(OSError, match="the pipe has gone"):
        listen(broken(), SR, fine(Loudness()), tmp_path)


def test_a_command_is_run_once_without_a_shell_and_killed_at_its_limit(tmp_path):
    y = np.concatenate([0.001 * NOISE, NOISE, 0.001 * NOISE, 0.001 * NOISE, NOISE, 0.001 * NOISE, 0.001 * NOISE])
    code = "import sys, time; open(sys.argv[1], 'a').write(sys.argv[2] + '\\n'); time.sleep(60)"
    trigger = Trigger(f"{sys.executable} -c \"{code}\" '{tmp_path / 'run'}' '{{label}}; {{score}}'", limit_s=2.0)
    cfg = LiveConfig(EventConfig(0.5, labels=["owl"]), step_s=0.2)
    heard = listen(blocks_of(y), SR, fine(Loudness()), tmp_path / "heard", cfg, trigger)
    assert heard.events == 2  # it went on
    for thread in trigger.threads:
        thread.join()
    said = (tmp_path / "run").read_text().splitlines()
    assert len(said) == 1 and said[0].startswith("owl; 0.") and (trigger.n_run, trigger.n_killed) == (1, 1)
    missing = Trigger("/no/such/command {label}", pause_s=0)
    assert missing.fire("owl", 1.0, "") and missing.fire("owl", 1.0, "")
    for thread in missing.threads:
        thread.join()
    assert (missing.n_run, missing.n_failed) == (0, 2)
    with pytest.raises(ValueError, match="at least one word"):
        Trigger(" ")


def test_a_slow_disk_costs_clips_but_no_line():
    writer, rows, clips = Writer(most=3), [], []
    writer.put(lambda: time.sleep(0.3))
    for k in range(20):
        writer.put(lambda k=k: rows.append(k))
        writer.put(lambda k=k: clips.append(k), needed=False)
    writer.close()
    assert rows == list(range(20)) and 0 < len(clips) < 20 and writer.given_up == 20 - len(clips)


@pytest.mark.parametrize("source", ["-", "pipe"])
def test_listening_ends_with_control_c_while_the_stream_goes_on(dictionary, tmp_path, source):  # noqa: F811
    code, heard = "import sys; from avianspec.cli import main; sys.exit(main(sys.argv[1:]))", tmp_path / "somebody"
    pipe, out = tmp_path / "pipe", tmp_path / "heard"
    words = ["--run", dictionary, "--rate", "32000", "--threshold", "0.05", "--output", out]
    os.mkfifo(pipe)
    with open(tmp_path / "said", "wb") as said:
        how = dict(cwd=ROOT, stdin=subprocess.PIPE, stdout=said, stderr=subprocess.STDOUT)
        to_hear = source if source == "-" else pipe
        with at_work(code, "listen", to_hear, *words, "--command", f"touch '{heard}'", **how) as process:
            with process.stdin if source == "-" else open(pipe, "wb") as stream:
                stream.write(np.int16(5000 * rng.standard_normal(32000 * 5)).tobytes())
                stream.flush()
                wait_until(heard.exists, process)
                process.send_signal(signal.SIGINT)
                ended = process.wait(timeout=300)  # nobody closes the stream, which a thread is waiting for
    text = (tmp_path / "said").read_text()
    assert ended == 0 and "min of sound" in text and "Traceback" not in text and "Fatal" not in text
    assert sum(len(pd.read_csv(p)) for p in out.glob("detections-*.csv")) >= 1
