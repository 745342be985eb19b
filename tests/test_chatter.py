"""The chatter: LibriSpeech's layout, one seed, voices whose pitch and throat tell the sex of most, and not of all."""

from dataclasses import asdict

import librosa
import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st

from avianspec.data.known_sets import load_librispeech, read_speakers
from avianspec.data.layouts import load_layout
from avianspec.files import read_json
from avianspec.synthetic import chatter
from avianspec.synthetic.chatter import (
    FRAME,
    FREQS_HZ,
    PITCH_HZ,
    SR,
    Plan,
    draw_talker,
    filtered,
    make_chatter,
    make_sentence,
    plan_sentence,
    pulse_train,
    resonances,
    say,
)
from avianspec.synthetic.seeds import chance


def bytes_of(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_chatter(tmp_path_factory.mktemp("chatter") / "set", n_speakers=5, n_sentences=2, seed=4, progress=False)


def test_layout_is_librispeechs(folder):
    table = load_librispeech(folder)
    assert load_layout(folder).equals(table) and table.synthetic.all()
    assert read_json(folder / "chatter.json")["synthetic"] is True
    assert (folder / "LibriSpeech" / "train-clean-100" / "4" / "1" / "4-1-0001.flac").exists()
    assert table.groupby("group").label.first().to_list() == ["F", "M", "F", "M", "F"]
    seconds = {}
    for path, group in zip(table.path, table.group, strict=True):
        info = sf.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (SR, 1, "PCM_16") and 1 < info.duration < 15
        assert 0.02 < np.abs(sf.read(path)[0]).max() < 1  # heard, and not clipped
        seconds[group] = seconds.get(group, 0) + info.duration
    speakers = read_speakers(folder / "LibriSpeech" / "SPEAKERS.TXT")
    assert speakers.minutes.to_list() == pytest.approx([s / 60 for s in seconds.values()], abs=0.006)
    talkers = pd.read_csv(folder / "talkers.csv")
    assert talkers.sex.to_list() == speakers.sex.to_list()
    assert talkers.pitch_hz.to_list() == [draw_talker(4, k).pitch_hz for k in range(5)]


def test_real_recordings_in_the_layout_are_not_said_to_be_synthetic(shared_data):
    assert not load_librispeech(shared_data / "speech").synthetic.any()


def test_same_seed_same_bytes_and_more_speakers_change_nothing_of_the_first(folder, tmp_path):
    assert bytes_of(make_chatter(tmp_path / "again", 5, 2, 4, jobs=1, progress=False)) == bytes_of(folder)
    larger = bytes_of(make_chatter(tmp_path / "larger", 6, 3, 4, jobs=3, progress=False))
    flac = {n: b for n, b in bytes_of(folder).items() if n.endswith(".flac")}
    assert flac.items() <= larger.items() and len(flac) == 10
    other = bytes_of(make_chatter(tmp_path / "other", 2, 1, 5, progress=False))
    assert not {b for n, b in other.items() if n.endswith(".flac")} & set(flac.values())


def test_chatter_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    save, saved = chatter._save_talker, []

    def breaks(*args):
        saved.append(args)
        if len(saved) == 2:
            raise OSError("disk full")
        return save(*args)

    monkeypatch.setattr(chatter, "_save_talker", breaks)
    with pytest.raises(OSError):
        make_chatter(tmp_path / "set", 3, 1, jobs=1, progress=False)
    assert not (tmp_path / "set").exists()
    monkeypatch.setattr(chatter, "_save_talker", save)
    make_chatter(tmp_path / "set", 2, 1, progress=False)
    monkeypatch.setattr(chatter, "_save_talker", lambda *_: pytest.fail("made again"))
    assert make_chatter(tmp_path / "set", 2, 1, progress=False) == tmp_path / "set"
    with pytest.raises(ValueError, match="n_sentences"):
        make_chatter(tmp_path / "set", 2, 2, progress=False)


@pytest.mark.parametrize("wrong", [dict(n_speakers=1), dict(n_sentences=0), dict(seed=-1)])
def test_no_chatter_can_be_made_of(tmp_path, wrong):
    with pytest.raises(ValueError, match="=".join(map(str, next(iter(wrong.items()))))):
        make_chatter(tmp_path / "set", **wrong)
    assert not (tmp_path / "set").exists()


@given(st.integers(40, 500))
def test_pulses_hold_the_harmonics_below_their_limit_and_nothing_else(hz):
    lines = np.abs(np.fft.rfft(pulse_train(np.full(SR, float(hz))))) / SR * 2  # a line per Hz
    assert np.flatnonzero(lines > 0.01).tolist() == list(range(hz, int(0.47 * SR) + 1, hz))
    assert np.isfinite(lines).all() and (lines**2).sum() / 2 == pytest.approx(1, abs=0.01)


@given(st.integers(0, 2**32), st.integers(20, 60))
def test_a_filter_that_changes_is_linear_and_acts_at_its_moment(seed, n):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, n * FRAME))
    opens = (np.arange(n) >= n // 2)[:, None] * np.ones(len(FREQS_HZ))  # shut, then open
    out = filtered(a, opens)
    assert len(out) == n * FRAME and not out[: (n // 2 - 5) * FRAME].any()
    inside = slice((n // 2 + 5) * FRAME, (n - 4) * FRAME)
    assert np.allclose(out[inside], a[inside], atol=1e-4)
    assert np.allclose(filtered(a + 2 * b, opens), out + 2 * filtered(b, opens), atol=1e-4)


def test_formants_stand_where_they_are_asked_for():
    hz = np.arange(0, 5000.0)
    for formants in ([270, 2290, 3010, 3500, 4500], [730, 1090, 2440, 3500, 4500]):
        gain = np.abs(resonances(np.array([formants], float), hz))[0]
        peaks = np.flatnonzero((gain[1:-1] > gain[:-2]) & (gain[1:-1] > gain[2:])) + 1
        assert np.abs(peaks[:3] - formants[:3]).max() < 25


@pytest.mark.parametrize("number", [0, 1, 4, 7])
def test_the_pitch_that_is_heard_is_the_talkers(number):
    y, talker = make_sentence(0, number, 0)
    f0, voiced, _ = librosa.pyin(y, fmin=60, fmax=400, sr=SR, frame_length=1024, hop_length=512)
    assert abs(12 * np.log2(np.nanmedian(f0) / talker.pitch_hz)) < 2 and 0.4 < voiced.mean() < 0.98
    assert 20 * np.log10(np.sqrt(np.mean(y**2))) == pytest.approx(talker.level_db, abs=0.1)


@pytest.mark.parametrize("seed", range(5))
def test_pitch_alone_tells_the_sex_of_most_talkers_and_not_of_all(seed):
    drawn = pd.DataFrame([asdict(draw_talker(seed, k)) for k in range(200)])
    right = (drawn.pitch_hz > np.sqrt(PITCH_HZ["F"] * PITCH_HZ["M"])) == (drawn.sex == "F")
    assert 0.88 <= right.mean() <= 0.94 and 0.8 <= right[:20].mean() <= 0.95
    both = np.log2(drawn.pitch_hz / 156) / 0.27 + np.log(drawn.throat / 1.08) / 0.045
    assert ((both > 0) == (drawn.sex == "F")).mean() > right.mean()  # the throat tells more
    room = drawn[["noise_db", "level_db", "microphone_db"]]  # and the recording tells nothing
    assert (room.groupby(drawn.sex).mean().diff().iloc[1].abs() < 0.5 * room.std()).all()


def test_a_smaller_throat_sounds_higher_at_the_same_pitch():
    man, n = draw_talker(0, 1), 250
    vowel = np.array([640, 1190, 2390, 3500, 4500.0])

    def brightness(throat):
        held = Plan(np.full(n, 150.0), np.ones(n), np.zeros(n), np.full(n, 1500.0), np.tile(throat * vowel, (n, 1)))
        power = np.abs(np.fft.rfft(say(man, held, chance(0, 1)))) ** 2
        return np.average(np.fft.rfftfreq(n * FRAME, 1 / SR), weights=power)

    assert brightness(1.17) > 1.05 * brightness(1.0)


def test_sentences_have_syllables_and_pauses():
    talker = draw_talker(0, 2)
    plans = [plan_sentence(talker, chance(0, 3, k)) for k in range(12)]
    for plan in plans:
        spoken = plan.voice > 0.5
        runs = np.flatnonzero(np.diff(spoken.astype(int)) == 1)
        assert 2 <= len(runs) <= 24 and max(plan.voice[:20].max(), plan.voice[-20:].max()) < 1e-9
        assert (plan.formants_hz > 0).all() and (plan.hiss > -1e-9).all() and (plan.pitch_hz > 40).all()
    assert len({len(plan.voice) for plan in plans}) > 6
    assert max(plan.hiss.max() for plan in plans) > 0.3  # fricatives
