"""Mixtures of voices: exact length, no clipping, the same bytes, speakers of one side only, whatever stops the work."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from avianspec.data.known_sets import load_librispeech
from avianspec.data.splits import sides_of
from avianspec.files import file_sha256, read_text_table
from avianspec.sound.audio import UnusableAudio
from avianspec.studies.speech import mixtures
from avianspec.studies.speech.mixtures import (
    PEAK,
    MixtureConfig,
    make_mixtures,
    plan_mixture,
    plan_mixtures,
    read_mixtures,
    speaker_sides,
)
from avianspec.synthetic.chatter import make_chatter
from avianspec.synthetic.seeds import chance

THREE = ("F", "M", "mixed")
SHORT = MixtureConfig(duration_s=3, pauses_s=(0.1, 0.4), classes=THREE)


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    return load_librispeech(make_chatter(tmp_path_factory.mktemp("chatter") / "set", 8, 2, seed=2, progress=False))


@pytest.fixture(scope="module")
def made(speech, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixtures") / "made"
    return make_mixtures(speech, speaker_sides(speech, n_folds=4), folder, SHORT, 24, seed=1, progress=False)


def sounds(table):
    return [file_sha256(path) for path in table.path]


def invented(n_women, n_men):
    "A table of speakers with one recording each."
    names = [f"speaker {k}" for k in range(1, n_women + n_men + 1)]
    labels = ["F"] * n_women + ["M"] * n_men
    return pd.DataFrame(dict(recording_id=names, label=labels, group=names, recordist="", path=names))


def test_mixtures_have_their_length_and_do_not_clip(made):
    for path in made.path:
        info = sf.info(path)
        assert (info.frames, info.samplerate, info.channels, info.subtype) == (3 * 22050, 22050, 1, "PCM_16")
        y = sf.read(path, dtype="int16")[0].astype(int)
        assert 500 < np.abs(y).max() <= np.ceil(PEAK * 32767)
    assert (made.duration_s == 3).all() and made.synthetic.all()


def test_the_studys_own_length_is_1_323_000_samples(speech, tmp_path):
    table = make_mixtures(speech, speaker_sides(speech, n_folds=2), tmp_path / "m", n=4, progress=False)
    assert [sf.info(p).frames for p in table.path] == [1_323_000] * 4
    loud = MixtureConfig(duration_s=2, layout="crowd", voices=(9, 9), loudness_db=(-1, 0))
    table = make_mixtures(speech, speaker_sides(speech, n_folds=2), tmp_path / "loud", loud, 4, progress=False)
    peaks = [np.abs(sf.read(p)[0]).max() for p in table.path]
    assert peaks == pytest.approx([PEAK] * 4, abs=1e-3)  # nine shout at once: all are turned down together


def test_speakers_of_one_side_are_on_no_other(made, speech):
    sides, labels = speaker_sides(speech, n_folds=4), speech.groupby("group").label.first()
    by_id = speech.set_index("recording_id")
    for row in made.itertuples():
        heard = row.speakers.split(" + ")
        assert {sides[s] for s in heard} == {row.side}
        assert set(by_id.group[row.recordings.split(" + ")]) == set(heard)  # what is heard is of those who are named
        assert {labels[s] for s in heard} == ({"F", "M"} if row.label == "mixed" else {row.label})
    assert pd.crosstab(made.side, made.label).to_numpy().tolist() == [[2, 2, 2]] * 4
    assert set(made.layout) == {"crowd", "sequence"}
    table = read_text_table(Path(made.path[0]).parents[1] / "mixtures.csv")
    assert list(table)[:2] == ["path", "label"] and (table.path.str.fullmatch(r"audio/mixture-\d{6}\.wav")).all()


def test_same_seed_same_bytes_whatever_the_threads(made, speech, tmp_path):
    sides = speaker_sides(speech, n_folds=4)
    again = make_mixtures(speech[::-1], sides[::-1], tmp_path / "again", SHORT, 24, 1, jobs=3, progress=False)
    assert sounds(again) == sounds(made) and len(set(sounds(made))) == 24
    drop = ["path"]
    pd.testing.assert_frame_equal(again.drop(columns=drop), made.drop(columns=drop))
    other = make_mixtures(speech, sides, tmp_path / "other", SHORT, 24, 2, progress=False)
    assert not set(sounds(other)) & set(sounds(made))


def test_work_that_was_stopped_goes_on(made, speech, tmp_path, monkeypatch):
    mix, calls = mixtures.mix_turns, []

    def stops(*args):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return mix(*args)

    monkeypatch.setattr(mixtures, "mix_turns", stops)
    arguments = (speech, speaker_sides(speech, n_folds=4), tmp_path / "m", SHORT, 24, 1, 1, False)
    with pytest.raises(KeyboardInterrupt):
        make_mixtures(*arguments)
    with pytest.raises(FileNotFoundError, match="no finished mixtures"):
        read_mixtures(tmp_path / "m")
    there = len(list((tmp_path / "m" / "audio").iterdir()))
    assert there >= 5
    table = make_mixtures(*arguments)
    assert len(calls) == 6 + 24 - 5 and sounds(table) == sounds(made)
    make_mixtures(*arguments)
    assert len(calls) == 6 + 24 - 5  # all are there


@pytest.mark.parametrize("how", ["gone", "cut", "other rate"])
def test_a_file_that_is_not_whole_is_made_again_and_no_other(made, speech, tmp_path, how):
    arguments = (speech, speaker_sides(speech, n_folds=4), tmp_path / "m", SHORT, 24, 1, 2, False)
    table = make_mixtures(*arguments)
    path, before = tmp_path / "m" / "audio" / "mixture-000007.wav", {p: Path(p).stat().st_mtime_ns for p in table.path}
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-1000])
    else:
        sf.write(path, np.zeros(SHORT.n_samples), 8000, subtype="PCM_16")
    assert sounds(make_mixtures(*arguments)) == sounds(made)
    assert [p for p in table.path if Path(p).stat().st_mtime_ns != before[p]] == [str(path.resolve())]


def test_what_is_in_the_way_is_refused(made, speech, tmp_path):
    folder, sides = Path(made.path[0]).parents[1], speaker_sides(speech, n_folds=4)
    with pytest.raises(ValueError, match="'seed': 1"):
        make_mixtures(speech, sides, folder, SHORT, 24, seed=9, progress=False)
    with pytest.raises(ValueError, match="'sentences'"):
        make_mixtures(speech, speaker_sides(speech, n_folds=4, shuffle=True), folder, SHORT, 24, 1, progress=False)
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(ValueError, match="is not empty and has no mixtures.json"):
        make_mixtures(speech, sides, tmp_path, SHORT, 24)
    assert (tmp_path / "mine.txt").read_text() == "x" and not (tmp_path / "audio").exists()


def test_a_base_lies_beneath_the_voices(speech, tmp_path):
    sr, base = 16000, tmp_path / "hum.wav"
    sf.write(base, 0.2 * np.sin(2 * np.pi * 60 * np.arange(sr) / sr), sr)
    softly = dict(duration_s=3, layout="crowd", loudness_db=(-60, -60))
    sides = speaker_sides(speech, n_folds=2)
    table = make_mixtures(
        speech, sides, tmp_path / "hum", MixtureConfig(base=str(base), **softly), 4, seed=5, progress=False
    )
    silent = make_mixtures(speech, sides, tmp_path / "silent", MixtureConfig(**softly), 4, seed=5, progress=False)
    for with_base, without in zip(table.path, silent.path, strict=True):
        y, voices = sf.read(with_base)[0], sf.read(without)[0]
        assert np.sqrt(np.mean(y**2)) == pytest.approx(0.2 / np.sqrt(2), rel=0.02) and np.abs(voices).max() < 0.05
        lines = np.abs(np.fft.rfft(y)) / len(y) * 2
        assert lines.argmax() == 180 and lines[180] == pytest.approx(0.2, rel=0.05)  # 60 Hz for 3 s, all the time
    sf.write(base, 0.2 * np.sin(2 * np.pi * 70 * np.arange(sr) / sr), sr)
    with pytest.raises(ValueError, match="was made with"):  # another base under the same name
        make_mixtures(speech, sides, tmp_path / "hum", MixtureConfig(base=str(base), **softly), 4, 5, progress=False)
    with pytest.raises(FileNotFoundError, match="nowhere.wav does not exist"):
        make_mixtures(speech, sides, tmp_path / "none", MixtureConfig(base=str(tmp_path / "nowhere.wav")), 4)
    base.write_text("no sound")
    with pytest.raises(UnusableAudio, match="hum.wav"):
        make_mixtures(speech, sides, tmp_path / "none", MixtureConfig(base=str(base)), 4)
    assert not (tmp_path / "none").exists()


def test_a_recording_that_cannot_be_used_is_set_aside_and_stops_nothing(speech, tmp_path):
    (tmp_path / "text.flac").write_text("no sound")
    sf.write(tmp_path / "silent.flac", np.zeros(16000), 16000)
    table = speech.copy()
    table.loc[[0, 3], "path"] = [str(tmp_path / "text.flac"), str(tmp_path / "silent.flac")]
    sides = speaker_sides(table, n_folds=2)
    made = make_mixtures(table, sides, tmp_path / "m", SHORT, 12, progress=False)
    aside = read_text_table(tmp_path / "m" / "quarantine.csv")
    assert dict(zip(aside.recording_id, aside.verdict, strict=True)) == {
        table.recording_id[0]: "unusable",
        table.recording_id[3]: "silent",
    }
    heard = set(" + ".join(made.recordings).split(" + "))
    assert len(made) == 12 and not heard & set(aside.recording_id)
    table.loc[1, "path"] = str(tmp_path / "text.flac")  # now speaker 1 has none
    with pytest.raises(ValueError, match="None of the 2 recordings .*text.flac: unusable"):
        make_mixtures(table, sides, tmp_path / "none", SHORT, 12, progress=False)


@given(st.integers(3, 60), st.integers(3, 60), st.booleans(), st.integers(0, 5))
@settings(max_examples=30)
def test_sides_share_out_each_sex(n_women, n_men, shuffle, seed):
    table = invented(n_women, n_men)
    sides = speaker_sides(table, shuffle=shuffle, seed=seed)
    assert list(sides.index) == list(table.group)
    for label, n in (("F", n_women), ("M", n_men)):
        dealt = sides[table.group[table.label == label]]
        held_out = max(1, round(n / 10))
        assert dealt.value_counts().to_dict() == dict(train=n - 2 * held_out, validation=held_out, test=held_out)
        if not shuffle:
            assert list(dealt) == sorted(dealt, key=["train", "validation", "test"].index)
    folds = speaker_sides(table, n_folds=3, shuffle=shuffle, seed=seed)
    assert set(folds) == {"1", "2", "3"} and pd.crosstab(folds.to_numpy(), table.label).min().min() >= min(
        n_women // 3, n_men // 3
    )
    column = list(folds[table.group])
    assert set(sides_of(column, "2", validation=True)) == {"train", "validation", "test"}


def test_numbers_of_speakers_are_taken_in_their_order():
    sides = speaker_sides(invented(10, 10))
    assert list(sides.index[sides == "test"]) == ["speaker 10", "speaker 20"]


@given(st.integers(1, 3), st.integers(2, 12), st.integers(2, 12), st.booleans())
@settings(max_examples=30)
def test_groups_say_which_mixtures_share_speakers(cast, n_women, n_men, mixed):
    cfg = MixtureConfig(duration_s=30, cast=cast, classes=THREE if mixed else ("F", "M"))
    table = invented(n_women, n_men)
    plan = plan_mixtures(table, speaker_sides(table, n_folds=2), cfg, 60)
    groups = {}
    for row in plan.itertuples():
        for turn in row.turns:
            assert groups.setdefault(turn.speaker, row.group) == row.group  # a speaker is in one group
    assert set(groups.values()) == set(plan.group)


@given(st.integers(0, 1000), st.sampled_from(["", "crowd", "sequence"]))
@settings(max_examples=40)
def test_times_and_levels_are_the_same_for_every_class(seed, layout):
    cfg, cast = MixtureConfig(layout=layout, classes=THREE), dict(F=["a", "b"], M=["c"])
    plans = [plan_mixture(cast, label, cfg, chance(seed, 1)) for label in THREE]
    assert len({(kind, tuple(turn[1:] for turn in turns)) for kind, turns in plans}) == 1
    assert [{t.speaker in "ab" for t in turns} for _, turns in plans] == [{True}, {False}, {True, False}]
    for turn in plans[0][1]:
        assert 0 <= turn.start and turn.start + turn.n <= cfg.n_samples and turn.n >= 132300
        assert turn.n <= 661500 and -30 <= turn.level_db <= -18


@pytest.mark.parametrize(
    "wrong, word",
    [
        (dict(n=5), "of 5 mixtures"),
        (dict(sides=pd.Series(dtype=str)), "not 'speaker 1'"),
        (dict(sides="women only"), "1 has no M"),
        (dict(sides="one has two sexes"), "'speaker 1' has F, M"),
        (dict(cfg=MixtureConfig(classes=("F", "X"))), "1 has no X"),
    ],
)
def test_no_mixtures_can_be_made_of(speech, tmp_path, wrong, word):
    table, sides = speech, speaker_sides(speech, n_folds=2)
    if wrong.get("sides") is not None and isinstance(wrong["sides"], str):
        if wrong["sides"] == "women only":
            table = speech[speech.label == "F"]
        else:
            table = speech.assign(label=["M", *speech.label[1:]])
    else:
        sides = wrong.get("sides", sides)
    with pytest.raises(ValueError, match=word):
        make_mixtures(table, sides, tmp_path / "m", wrong.get("cfg", SHORT), wrong.get("n", 12))
    assert not (tmp_path / "m").exists()


def test_speakers_may_be_left_out(speech, tmp_path):
    sides = speaker_sides(speech, n_folds=2)
    sides[["speaker 1", "speaker 2"]] = ""
    made = make_mixtures(speech, sides, tmp_path / "m", SHORT, 12, progress=False)
    assert not made.speakers.str.contains(r"speaker [12]\b").any()


def test_mixtures_of_real_voices(shared_data, tmp_path):
    table = load_librispeech(shared_data / "speech")
    cfg = MixtureConfig(classes=THREE)
    made = make_mixtures(table, speaker_sides(table, n_folds=4), tmp_path / "m", cfg, 12, progress=False)
    assert [sf.info(p).frames for p in made.path] == [1_323_000] * 12 and not made.synthetic.any()
    assert len(read_text_table(tmp_path / "m" / "quarantine.csv")) == 0 and made.group.nunique() == 4
