"""The synthetic band: GTZAN's layout, one seed, traces of a track in all its clips."""

import librosa
import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from avianspec.data.known_sets import load_gtzan
from avianspec.data.layouts import load_layout
from avianspec.files import read_json
from avianspec.synthetic import band
from avianspec.synthetic.band import STYLES, make_band, make_track, pitch


def bytes_of(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_band_lies_in_gtzans_layout(tmp_path):
    folder = make_band(tmp_path / "band", n_styles=3, n_tracks=2, duration_s=2.5, progress=False)
    table = load_gtzan(folder)
    assert table.label.value_counts().to_dict() == {"waltz": 2, "techno": 2, "lullaby": 2} and table.synthetic.all()
    assert (folder / "genres" / "waltz" / "waltz.00001.flac").exists() and read_json(folder / "band.json")[
        "synthetic"
    ] is True
    assert load_layout(folder).equals(table)
    for path in table.path:
        info = sf.info(path)
        assert (info.samplerate, info.channels, info.frames, info.subtype) == (22050, 1, int(2.5 * 22050), "PCM_16")
        assert 0.05 < np.abs(sf.read(path)[0]).max() < 1  # heard, and not clipped
    tracks = pd.read_csv(folder / "tracks.csv")
    assert sorted(tracks.recording_id) == list(table.recording_id)
    low, high = next(s.bpm for s in STYLES if s.name == "techno")
    assert tracks.bpm[tracks["style"] == "techno"].between(low, high).all()


def test_same_seed_same_bytes(tmp_path):
    folders = [
        make_band(tmp_path / str(k), 2, 3, 2.0, seed, jobs, progress=False)
        for k, (seed, jobs) in enumerate([(5, 1), (5, 4), (6, 1)])
    ]
    assert bytes_of(folders[0]) == bytes_of(folders[1])
    flac = [{n: b for n, b in bytes_of(f).items() if n.endswith(".flac")} for f in folders]
    assert not set(flac[0].values()) & set(flac[2].values()) and len(set(flac[0].values())) == 6


def test_a_larger_band_begins_with_the_smaller_one(tmp_path):
    small, large = (
        make_band(tmp_path / "small", 2, 1, 2.0, progress=False),
        make_band(tmp_path / "large", 3, 2, 2.0, progress=False),
    )
    name = "genres/techno/techno.00000.flac"
    assert (small / name).read_bytes() == (large / name).read_bytes()


def test_band_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    save, saved = band._save_track, []

    def breaks(*args):
        saved.append(args)
        if len(saved) == 3:
            raise OSError("disk full")
        return save(*args)

    monkeypatch.setattr(band, "_save_track", breaks)
    with pytest.raises(OSError):
        make_band(tmp_path / "band", 2, 2, 1.0, jobs=1, progress=False)
    assert not (tmp_path / "band").exists()
    monkeypatch.setattr(band, "_save_track", save)
    assert bytes_of(make_band(tmp_path / "band", 2, 2, 1.0, progress=False)) == bytes_of(
        make_band(tmp_path / "other", 2, 2, 1.0, progress=False)
    )
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["band", "other"]


def test_band_that_is_there_is_left_alone(tmp_path, monkeypatch):
    folder = make_band(tmp_path / "band", 2, 1, 1.0, progress=False)
    monkeypatch.setattr(band, "_save_track", lambda *_: pytest.fail("made again"))
    assert make_band(folder, 2, 1, 1.0, progress=False) == folder
    with pytest.raises(ValueError, match="n_tracks"):
        make_band(folder, 2, 2, 1.0, progress=False)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "song.flac").touch()
    with pytest.raises(ValueError, match="choose an empty or new folder"):
        make_band(tmp_path / "mine", 2, 1, 1.0, progress=False)
    assert (tmp_path / "mine" / "song.flac").exists()


@pytest.mark.parametrize(
    "wrong", [dict(n_styles=1), dict(n_styles=11), dict(n_tracks=0), dict(duration_s=0.5), dict(seed=-1)]
)
def test_no_band_can_be_made_of(tmp_path, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        make_band(tmp_path / "band", **wrong)
    assert not (tmp_path / "band").exists()


def test_scales_are_those_of_music():
    by_name = {s.name: s for s in STYLES}
    two_as = [pitch(by_name["march"], step, 9, 4) for step in (0, 7)]
    assert librosa.midi_to_hz(two_as).tolist() == [220, 440]
    assert [pitch(by_name["march"], k, 0, 5) - 60 for k in range(7)] == [0, 2, 4, 5, 7, 9, 11]


@pytest.mark.parametrize("number", range(3))
def test_tempo_can_be_heard(number):
    techno = next(k for k, s in enumerate(STYLES) if s.name == "techno")
    y, track = make_track(techno, number, 20.0)
    found = float(librosa.feature.tempo(y=y, sr=22050, start_bpm=130)[0])
    assert min(abs(found / track.bpm / ratio - 1) for ratio in (0.5, 1, 2)) < 0.04


def test_clips_of_a_track_are_more_alike_than_tracks_of_a_style():
    def spectrum(y):
        return librosa.power_to_db(librosa.feature.melspectrogram(y=y, sr=22050)).mean(1)

    closer = []
    for style in range(4):
        halves = []
        for number in range(4):
            y = make_track(style, number, 8.0)[0]
            halves.append((spectrum(y[: len(y) // 2]), spectrum(y[len(y) // 2 :])))
        for a, (first, second) in enumerate(halves):
            others = [np.linalg.norm(first - halves[b][1]) for b in range(4) if b != a]
            closer.append(np.linalg.norm(first - second) < min(others))
    assert np.mean(closer) > 0.9
