"""Tagging: the same events in whatever blocks the sound comes, nothing lost by a kill, every bad file named."""

import json
import os
import shutil
import subprocess
import sys
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from conftest import at_work, tone, wait_until
from hypothesis import given, settings
from hypothesis import strategies as st
from test_inference import HOP, SR, Told, saved

from avianspec.data.annotations import DETECTION
from avianspec.field.boxes import event_bands
from avianspec.field.detections import POOLS, EventConfig, EventMaker
from avianspec.field.tag import run_thresholds, tag, tag_files
from avianspec.field.windows import stretches, window_chunks
from avianspec.learning.listeners import ListenerConfig, train_listener
from avianspec.learning.predictions import predictions_table, write_predictions
from avianspec.learning.saved_model import SavedModel, save_model
from avianspec.learning.tasks import Task
from avianspec.learning.unsupervised import DictionaryConfig
from avianspec.sound.audio import AudioStream, UnusableAudio, channel_blocks
from avianspec.sound.whitening import FINE


class Loudness:
    "A network that hears an owl where a window is loud, and a wren where it is high."

    def predict_on_batch(self, x):
        level, half = x[..., 0], x.shape[2] // 2
        owl = 1 / (1 + np.exp(-0.5 * (level.mean(axis=(1, 2)) + 12)))
        return np.stack([owl, (level[:, :, half:].mean(axis=(1, 2)) > -10).astype(float)], axis=1)


def song(seconds, seed=0):
    "Noise that swells and fades."
    rng, t = np.random.default_rng(seed), np.arange(int(seconds * SR)) / SR
    swell = np.interp(t, np.arange(0, seconds + 2), rng.random(int(seconds) + 2) ** 4)
    return (0.2 * swell * rng.standard_normal(len(t))).astype(np.float32)


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    "A recording of eleven and a half minutes: three stretches."
    path = tmp_path_factory.mktemp("long") / "20240501_043000.wav"
    sf.write(path, song(690), SR)
    return path


def events_of(path, model=None, cfg=EventConfig(0.5, gap_s=0.5), **how):
    return next(tag_files([str(path)], saved(model or Loudness()), cfg, **how))["events"]


def test_events_do_not_depend_on_the_blocks_that_the_decoder_gives(long, monkeypatch):
    whole = events_of(long)
    assert len(whole) > 20 and {e[3] for e in whole} == {"owl", "wren"}
    for size in (1152, 50_000, 1_000_000, 20_000_000):
        monkeypatch.setattr("avianspec.sound.decoders.BLOCK", size)
        assert events_of(long) == whole


def test_windows_meet_at_the_seams(long):
    times = np.concatenate([c.times for c in window_chunks(saved(Loudness()), AudioStream(long))])
    assert np.allclose(np.diff(times[:-1, 0]), 0.5) and times[0, 0] == 0 and times[-1, 1] == pytest.approx(690)
    assert np.allclose(times[:-1, 1] - times[:-1, 0], 1.0)


def test_the_last_stretch_reaches_back():
    count = np.arange(100.0)[:, None]  # frames that say their number; stretches of 30 frames for windows of 10
    made = list(stretches([(count, count)], length=10, hop=5, frame_s=10.0))
    assert [(s.first, s.own[0], len(s.spectrogram)) for s in made] == [
        (0, 0, 40),
        (30, 30, 40),
        (60, 60, 40),
        (70, 90, 30),
    ]
    assert all(s.spectrogram[0, 0] == s.first for s in made)


def test_a_recording_is_its_halves_with_an_overlap(long, tmp_path):
    y, _ = sf.read(long, dtype="float32")
    cut, reach = 300 * SR, 10 * HOP  # a stretch; a window
    sf.write(tmp_path / "first.wav", y[: cut + reach], SR)
    sf.write(tmp_path / "second.wav", y[cut:], SR)
    cfg = EventConfig(0.5)

    def windows(path):
        chunks = list(window_chunks(saved(Loudness()), AudioStream(path)))
        return np.concatenate([c.times for c in chunks]), np.concatenate(
            [Loudness().predict_on_batch(c.x) for c in chunks]
        )

    (t1, p1), (t2, p2), (t, p) = (windows(q) for q in (tmp_path / "first.wav", tmp_path / "second.wav", long))
    times, answers = np.concatenate([t1[t1[:, 0] < 299.9], t2 + 300]), np.concatenate([p1[t1[:, 0] < 299.9], p2])
    np.testing.assert_allclose(times, t, atol=1e-6)
    away = np.abs(times[:, 0] - 300) > 0.15  # the very first frame of a file is half before it
    np.testing.assert_allclose(answers[away], p[away], atol=0.05)
    joined, whole = EventMaker(["owl", "wren"], cfg), EventMaker(["owl", "wren"], cfg)
    joined.add(times, answers.round(1))
    whole.add(t, p.round(1))
    assert [e[:3] for e in joined.finish()] == [e[:3] for e in whole.finish()]


def plain_events(times, p, cfg):
    "The same by hand, for one label."
    half = cfg.smooth // 2
    mean = [p[max(0, k - half) : k + half + 1].mean() for k in range(len(p))]
    out = []
    for (a, b), m in zip(times, mean, strict=True):
        if m < cfg.threshold:
            continue
        if out and a <= out[-1][1] + cfg.gap_s + 1e-6:
            out[-1] = (out[-1][0], max(out[-1][1], b), max(out[-1][2], m))
        else:
            out.append((a, b, m))
    return [e for e in out if e[1] - e[0] >= cfg.least_s - 1e-6]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 3, 5]), st.sampled_from([0.0, 0.5, 1.0]), st.floats(0.2, 0.9))
def test_events_are_those_by_hand_in_whatever_portions(seed, smooth, gap_s, threshold):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 40))
    starts, p = np.arange(n) * 0.5, rng.random(n)
    times, cfg = np.stack([starts, starts + 1], axis=1), EventConfig(threshold, {}, smooth, gap_s, 1.5)
    wanted = plain_events(times, p, cfg)
    for cuts in ([], sorted(rng.integers(0, n + 1, 5))):
        maker = EventMaker(["owl"], cfg)
        for some, theirs in zip(np.split(times, cuts), np.split(p[:, None], cuts), strict=True):
            maker.add(some, theirs)
        found = maker.finish()
        assert [e[2] for e in found] == ["owl"] * len(wanted)
        np.testing.assert_allclose([(a, b, s) for a, b, _, s in found] or np.zeros((0, 3)), wanted or np.zeros((0, 3)))


def test_settings_of_events():
    times = np.array([[0.0, 1], [1, 2], [2, 3]])
    p = np.array([[0.6, 0.7, 0.1], [0.9, 0.2, 0.95], [0.4, 0.1, 0.1]])

    def found(cfg):
        maker = EventMaker(["owl", "wren", "tit"], cfg)
        maker.add(times, p)
        return [(a, b, label) for a, b, label, _ in maker.finish()]

    assert found(EventConfig()) == [(0, 1, "wren"), (0, 2, "owl"), (1, 2, "tit")]
    assert found(EventConfig(top=1)) == [(0, 1, "wren"), (1, 2, "tit")]
    assert found(EventConfig(labels=["owl"])) == [(0, 2, "owl")]
    assert found(EventConfig(thresholds={"owl": 0.3, "tit": 1.1})) == [(0, 1, "wren"), (0, 3, "owl")]
    assert found(EventConfig(least_s=1.5)) == [(0, 2, "owl")]
    for wrong in (dict(threshold=0), dict(smooth=2), dict(gap_s=-1), dict(top=-1)):
        with pytest.raises(ValueError, match="; got"):
            EventConfig(**wrong)


def test_events_say_their_channel(tmp_path):
    left, right = song(8, 1), song(8, 2)
    sf.write(tmp_path / "both.wav", np.stack([0 * left, right], axis=1), SR)
    for k, y in (("left", left), ("right", right)):
        sf.write(tmp_path / f"{k}.wav", y, SR)
    alone = [e[1:] for e in events_of(tmp_path / "right.wav")]
    made = next(tag_files([str(tmp_path / "both.wav")], saved(Loudness()), EventConfig(0.5, gap_s=0.5), "all"))
    assert [e[1:] for e in made["events"]] == alone and {e[0] for e in made["events"]} == {2}
    assert "channel 1 is empty" in made["note"]
    assert {e[0] for e in events_of(tmp_path / "right.wav")} == {1}
    mixed = next(tag_files([str(tmp_path / "both.wav")], saved(Loudness()), EventConfig(0.2)))
    assert {e[0] for e in mixed["events"]} == {0}
    none = next(tag_files([str(tmp_path / "left.wav")], saved(Loudness()), channels=[2]))
    assert none["verdict"] == "unusable" and "no channel 2" in none["note"]


def test_events_say_how_high_and_so_do_the_files_that_programs_open(dictionary, tmp_path):
    y, hz = 0.002 * np.random.default_rng(0).normal(size=40 * SR), 3000
    t = np.arange(len(y)) / SR
    y += 0.3 * np.sin(2 * np.pi * hz * t) * np.sin(np.pi * np.minimum(t % 4, 1.0)) ** 2 * (t < 20)
    sf.write(tmp_path / "both.wav", np.stack([y, 0 * y], axis=1), SR)
    kept = dict(channels=[1], progress=False)
    made = tag([tmp_path / "both.wav"], dictionary, tmp_path / "a", EventConfig(0.01), kinds=["audacity"], **kept)
    low, high = made.detections.low_hz, made.detections.high_hz
    assert len(low) and (low < hz).all() and (high > hz).all() and (high <= SR / 2).all() and (high - low < 1200).all()
    lines = (tmp_path / "a" / "audacity" / "both.wav.labels.txt").read_text().splitlines()
    assert lines[1] == f"\\\t{low[0]:.6f}\t{high[0]:.6f}"
    bare = tag([tmp_path / "both.wav"], dictionary, tmp_path / "b", EventConfig(0.01), boxes=False, **kept).detections
    assert bare.low_hz.isna().all() and bare.high_hz.isna().all()
    pd.testing.assert_frame_equal(
        bare.drop(columns=["low_hz", "high_hz"]), made.detections[bare.columns.drop(["low_hz", "high_hz"])]
    )


def test_a_band_does_not_depend_on_how_an_event_is_cut_into_pieces(monkeypatch, tmp_path):
    y, t = 0.002 * np.random.default_rng(0).normal(size=50 * SR), np.arange(50 * SR) / SR
    sf.write(
        tmp_path / "a.wav", y + 0.3 * np.sin(2 * np.pi * 2500 * t) * np.sin(np.pi * np.minimum(t % 2, 0.5) * 2) ** 2, SR
    )
    events = pd.DataFrame({"channel": 1, "start_s": [1.0, 5.0, 20.0], "end_s": [4.0, 19.0, 45.0]})
    whole = event_bands(tmp_path / "a.wav", events)
    monkeypatch.setattr("avianspec.field.boxes.PIECE_S", 7.0)
    pieces = event_bands(tmp_path / "a.wav", events)
    assert np.isfinite(whole).all() and np.abs(pieces / whole - 1).max() < 0.2  # another background for each piece
    each = [event_bands(tmp_path / "a.wav", events.iloc[[k]])[0] for k in range(3)]
    monkeypatch.setattr("avianspec.field.boxes.MOST_S", 3.0)
    short = event_bands(tmp_path / "a.wav", events.assign(end_s=events.start_s + 30))
    np.testing.assert_array_equal(short, event_bands(tmp_path / "a.wav", events.assign(end_s=events.start_s + 3)))
    assert np.abs(np.array(each) / whole - 1).max() < 0.2


def test_a_band_is_looked_for_when_its_event_was(tmp_path):
    y, t = 0.002 * np.random.default_rng(0).normal(size=40 * SR), np.arange(40 * SR) / SR
    for start, hz in ((20, 2500), (25, 5000), (35, 7000)):
        y += 0.3 * np.sin(2 * np.pi * hz * t) * np.sin(np.pi * np.clip(t - start, 0, 1)) ** 2
    sf.write(tmp_path / "a.wav", y, SR)
    events = pd.DataFrame({"channel": 0, "start_s": [19.5, 24.5, 31.0, 1], "end_s": [21.5, 26.5, 33.0, 39]})
    low, high = event_bands(tmp_path / "a.wav", events).T
    assert low[3] < 2500 and 5000 < high[3] < 6500  # of a long event the first half minute
    assert low[0] < 2500 < high[0] < 4000 < low[1] < 5000 < high[1] and np.isnan([low[2], high[2]]).all()
    low, high = event_bands(tmp_path / "a.wav", events[:3]).T  # with five seconds around them
    assert low[0] < 2500 < high[0] < 4000 < low[1] < 5000 < high[1] and np.isnan([low[2], high[2]]).all()


@pytest.mark.parametrize("pool", POOLS)
def test_pooled_windows_are_those_by_hand(pool):
    rng, cfg = np.random.default_rng(3), EventConfig(0.4, smooth=5, pool=pool, pool_n=2)
    p, times = rng.random((30, 2)), np.stack([np.arange(30.0), np.arange(30.0) + 1], axis=1)
    by_hand = {"mean": np.mean, "max": np.max, "lme": lambda x: np.log(np.mean(np.exp(5 * x))) / 5}
    by_hand["top"] = lambda x: np.sort(x)[-2:].mean()
    told = []
    maker = EventMaker(["owl", "wren"], cfg, lambda *window: told.append(window))
    for some, theirs in zip(np.split(times, [1, 2, 17]), np.split(p, [1, 2, 17]), strict=True):
        maker.add(some, theirs)
    maker.finish()
    wanted = [
        (k, label, by_hand[pool](p[max(0, k - 2) : k + 3, c]))
        for k in range(30)
        for c, label in enumerate(("owl", "wren"))
    ]
    wanted = [(label, float(k), k + 1.0, value) for k, label, value in wanted if value >= 0.4]
    assert [w[:3] for w in told] == [w[:3] for w in wanted]
    np.testing.assert_allclose([w[3] for w in told], [w[3] for w in wanted])
    with pytest.raises(ValueError, match="got 'median'"):
        EventConfig(pool="median")


def test_a_channel_is_asked_for_by_its_number(tmp_path):
    sf.write(tmp_path / "both.wav", np.hstack([tone(1, SR), 0.5 * tone(1, SR)]), SR)
    second = np.concatenate(list(channel_blocks(AudioStream(tmp_path / "both.wav"), 2)))
    np.testing.assert_allclose(second, 0.5 * tone(1, SR)[:, 0], atol=1e-4)
    for number in (0, 3):
        with pytest.raises(UnusableAudio, match=f"no channel {number}"):
            list(channel_blocks(AudioStream(tmp_path / "both.wav"), number))


def test_memory_does_not_grow_with_a_recording(tmp_path):
    def peak(minutes):
        with sf.SoundFile(tmp_path / f"{minutes}.wav", "w", SR, 1) as f:
            for k in range(minutes):
                f.write(song(60, k))
        tracemalloc.start()
        events_of(tmp_path / f"{minutes}.wav")
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(1)
    assert peak(48) < 1.15 * peak(16)


@pytest.fixture(scope="module")
def dictionary(tmp_path_factory):
    "A folder with a small listener that has learnt rustling from whistling."
    rng = np.random.default_rng(0)
    heard = [rng.normal(size=(300, 96)) + (k % 2) * 20 * (np.arange(96) == 40) for k in range(6)]
    cfg = ListenerConfig(DictionaryConfig(window_s=1.0, n_atoms=4, n_patches=200, n_dims=8, lengths=(4, 8)), None)
    listener = train_listener(heard, ["rustle", "whistle"] * 3, list("abcdef"), cfg, progress=False)
    folder = tmp_path_factory.mktemp("runs") / "small"
    save_model(
        folder / "model.npz", SavedModel(listener, Task(("rustle", "whistle")), "listener", FINE, network="small")
    )
    return folder


@pytest.fixture
def night(tmp_path):
    "Sixty recordings, five of them bad in five ways."
    folder = tmp_path / "night"
    for k in range(55):
        (folder / f"{k % 3}").mkdir(parents=True, exist_ok=True)
        sf.write(folder / f"{k % 3}" / f"20240501_04{k:02d}00.wav", song(4 + k % 7, k), SR)
    whole = (folder / "0" / "20240501_040000.wav").read_bytes()
    (folder / "cut.wav").write_bytes(whole[: len(whole) // 3])
    (folder / "empty.wav").touch()
    (folder / "page.mp3").write_text("<html>not found</html>")
    sf.write(folder / "silent.wav", np.zeros(SR), SR)
    (folder / "rate.wav").write_bytes(whole[:24] + (100).to_bytes(4, "little") + whole[28:])
    return folder


COMMAND = "import sys; from avianspec.cli import main; sys.exit(main(sys.argv[1:]))"


def test_a_night_that_is_killed_twice_is_the_night_undisturbed(night, dictionary, tmp_path):
    how = [str(night), "--run", str(dictionary), "--threshold", "0.6", "--gap", "1", "--zone", "UTC", "--jobs", "2"]
    tagging = [sys.executable, "-c", COMMAND, "tag", *how]
    done = subprocess.run([*tagging, "--output", str(tmp_path / "once"), "--quiet"], capture_output=True, text=True)
    assert done.returncode == 1 and "tensorflow" not in done.stderr.lower()
    journal = tmp_path / "killed" / "journal.jsonl"
    for least in (5, 25):
        words = ["tag", *how, "--output", str(tmp_path / "killed")]
        with at_work(COMMAND, *words, stderr=subprocess.DEVNULL) as going:
            wait_until(lambda n=least: journal.exists() and journal.read_bytes().count(b"\n") >= n, going)
            going.kill()
        assert not (tmp_path / "killed" / "ledger.csv").exists()
        with open(journal, "ab") as f:
            f.write(b'{"path": "broken off')
    subprocess.run([*tagging, "--output", str(tmp_path / "killed"), "--quiet"], capture_output=True)
    for name in ("detections.csv", "ledger.csv", "settings.json"):
        assert (tmp_path / "once" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()
    ledger = pd.read_csv(tmp_path / "once" / "ledger.csv")
    bad = ledger[ledger.verdict != "usable"]
    bad = bad.set_index(bad.path.map(os.path.basename))
    assert len(ledger) == 60 and sorted(bad.index) == ["cut.wav", "empty.wav", "page.mp3", "rate.wav", "silent.wav"]
    assert bad.note.notna().all() and all(name in done.stderr for name in bad.index)
    detections = pd.read_csv(tmp_path / "once" / "detections.csv")
    assert list(detections.columns) == [*DETECTION, "time"] and len(detections) > 20
    first = detections.iloc[0]
    assert first.time == f"2024-05-01T04:00:{first.start_s:06.3f}+00:00"


def test_tagging_with_a_dictionary_loads_no_tensorflow(night, dictionary, tmp_path):
    code = (
        "import sys; from avianspec.field.tag import tag; from avianspec.field.detections import EventConfig; "
        f"tag([{str(night / '0')!r}], {str(dictionary)!r}, {str(tmp_path / 'tags')!r}, progress=False); "
        "print('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_a_cluster_tags_the_same(night, dictionary, tmp_path):
    from distributed import LocalCluster

    here = tag([night], dictionary, tmp_path / "here", EventConfig(0.6), progress=False)
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        how = dict(scheduler=cluster.scheduler_address, progress=False)
        there = tag([night], dictionary, tmp_path / "there", EventConfig(0.6), **how)
    pd.testing.assert_frame_equal(there.detections, here.detections)
    pd.testing.assert_frame_equal(there.ledger, here.ledger)


def test_thresholds_of_a_run_reach_the_wanted_precision(dictionary, tmp_path):
    shutil.copytree(dictionary, tmp_path / "run")
    with pytest.raises(ValueError, match="has kept no predictions"):
        run_thresholds(tmp_path / "run")
    rows = [
        ("a", "rustle", 0.9),
        ("b", "rustle", 0.8),
        ("c", "whistle", 0.7),
        ("d", "rustle", 0.6),
        ("e", "whistle", 0.1),
    ]
    items = pd.DataFrame(rows, columns=["recording_id", "label", "p"])
    p = np.stack([items.p, 1 - items.p], axis=1)
    table = predictions_table(items, ("rustle", "whistle"), p, split="", fold="1", crop_seed=0)
    write_predictions(tmp_path / "run" / "predictions.parquet", table)
    assert run_thresholds(tmp_path / "run", 1.0) == pytest.approx({"rustle": 0.8, "whistle": 0.9})  # by hand
    assert run_thresholds(tmp_path / "run", 0.75) == pytest.approx({"rustle": 0.6, "whistle": 0.9})


def test_results_of_other_settings_are_not_mixed(night, dictionary, tmp_path):
    made = tag([night / "0"], dictionary, tmp_path / "tags", EventConfig(0.6), progress=False)
    with pytest.raises(ValueError, match=r"other settings \(events differ"):
        tag([night / "0"], dictionary, tmp_path / "tags", EventConfig(0.7), progress=False)
    kept = json.loads((tmp_path / "tags" / "settings.json").read_text())
    assert (
        kept["model"]["name"] == "small" and len(kept["model"]["sha256"]) == 64 and kept["events"]["threshold"] == 0.6
    )
    again = tag([night / "0"], dictionary, tmp_path / "tags", EventConfig(0.7), again=True, progress=False)
    assert len(again.ledger) == len(made.ledger)
    with pytest.raises(ValueError, match="does not know dodo; it knows rustle, whistle"):
        tag([night / "0"], dictionary, tmp_path / "other", EventConfig(labels=["dodo"]), progress=False)


def test_a_file_that_has_changed_is_tagged_again(night, dictionary, tmp_path):
    path = next((night / "0").glob("*.wav"))
    before = tag([path], dictionary, tmp_path / "tags", progress=False).ledger
    sf.write(path, song(30, 9), SR)
    after = tag([path], dictionary, tmp_path / "tags", progress=False).ledger
    assert before.duration_s[0] != after.duration_s[0] == 30


def test_what_goes_wrong_in_a_thread_is_not_swallowed(night, monkeypatch):
    class Broken(Told):
        def predict_on_batch(self, x):
            raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        list(tag_files([str(p) for p in (night / "0").glob("*.wav")], saved(Broken())))

    def fails(identifier, stream, channel=0):
        raise OSError("the disk has gone")
        yield

    monkeypatch.setattr("avianspec.field.tag.window_chunks", fails)
    with pytest.raises(OSError, match="the disk has gone"):
        list(tag_files([str(p) for p in (night / "0").glob("*.wav")], saved(Loudness())))
