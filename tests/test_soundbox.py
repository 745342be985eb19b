"""The soundbox: Freesound's layout, the same bytes for a seed, known wrong labels; mixes whose sides stay apart."""

import json

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from avianspec.data.known_sets import label_matrix, load_freesound
from avianspec.files import file_sha256, read_text_table
from avianspec.sound.audio import loudness
from avianspec.synthetic.mixes import deal_buckets, mix_pairs, mix_two
from avianspec.synthetic.seeds import chance
from avianspec.synthetic.soundbox import CLASSES, SOUNDS, SR, WRONG_SHARE, corrupt_labels, make_soundbox, noise


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    return make_soundbox(tmp_path_factory.mktemp("box") / "soundbox", n_clips=36, seed=3, progress=False)


def test_layout_is_freesounds(box):
    sizes = {part: len(load_freesound(box, part)) for part in ("train_curated", "train_noisy", "test")}
    assert sizes == {"train_curated": 36, "train_noisy": 18, "test": 18}
    assert (
        list(read_text_table(box / "train_curated.csv"))
        == ["fname", "labels", "source_clip"]
        == list(read_text_table(box / "train_noisy.csv"))
    )
    assert list(read_text_table(box / "test_post_competition.csv")) == ["fname", "labels"]
    submission = read_text_table(box / "sample_submission.csv")
    assert list(submission) == ["fname", *CLASSES] and set(submission.fname) == {
        p.name for p in (box / "test").iterdir()
    }
    assert json.loads((box / "soundbox.json").read_text())["synthetic"] is True and load_freesound(box).synthetic.all()
    for part in ("train_curated", "test"):
        assert set(label_matrix(load_freesound(box, part))[0]) == set(CLASSES)


def test_files_are_16_bit_and_two_of_them_odd(box):
    table = load_freesound(box)
    infos = [sf.info(p) for p in table.path]
    assert {(i.samplerate, i.channels, i.subtype, i.format) for i in infos} == {(44100, 1, "PCM_16", "WAV")}
    seconds = np.array([i.duration for i in infos])
    assert seconds.min() >= 0.3 and (seconds > 10.001).sum() == 1 and seconds.max() == pytest.approx(40)
    silent = [not sf.read(p)[0].any() for p in table.path]
    assert sum(silent) == 1
    assert all(
        0.05 < np.abs(sf.read(p)[0]).max() < 1
        for p, s in zip(table.path, silent, strict=True)
        if not s and sf.info(p).duration > 9
    )


def test_a_source_has_one_set_of_labels_and_a_fifth_have_two(box):
    table = load_freesound(box)
    sources = table.groupby("group").label
    assert sources.nunique().max() == 1 and sources.size().max() >= 2
    assert sources.first().str.contains(",").mean() == pytest.approx(0.2, abs=0.02)
    noisy = load_freesound(box, "train_noisy")
    assert not set(table.group) & set(noisy.group)


def test_wrong_labels_are_known(box):
    noisy, true = read_text_table(box / "train_noisy.csv"), read_text_table(box / "train_noisy_truth.csv")
    assert noisy.fname.tolist() == true.fname.tolist()
    assert (noisy.labels != true.labels).sum() == round(WRONG_SHARE * len(noisy))


def test_same_seed_same_bytes_other_seed_other_sounds(box, tmp_path):
    def sums(folder):
        return {p.relative_to(folder).as_posix(): file_sha256(p) for p in sorted(folder.rglob("*")) if p.is_file()}

    assert sums(make_soundbox(tmp_path / "again", 36, 3, progress=False)) == sums(box)
    other = make_soundbox(tmp_path / "other", 36, 4, progress=False)
    assert not {v for k, v in sums(other).items() if k.endswith(".wav")} & {
        v for k, v in sums(box).items() if k.endswith(".wav")
    } - {file_sha256(p) for p in box.rglob("*.wav") if not sf.read(p)[0].any()}


def test_an_interrupted_soundbox_leaves_nothing_and_is_made_again(tmp_path, monkeypatch):
    import avianspec.synthetic.soundbox as module

    real, calls = module.write_sources, []

    def break_off(*args):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(module, "write_sources", break_off)
    with pytest.raises(KeyboardInterrupt):
        make_soundbox(tmp_path / "box", 24, progress=False)
    assert not (tmp_path / "box").exists()
    monkeypatch.setattr(module, "write_sources", real)
    assert (make_soundbox(tmp_path / "box", 24, progress=False) / "soundbox.json").exists()


def test_what_is_in_the_way_is_refused(box, tmp_path):
    with pytest.raises(ValueError, match="'seed': 3"):
        make_soundbox(box, 36, seed=5)
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(ValueError, match="is not empty and has no soundbox.json"):
        make_soundbox(tmp_path)
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == ["mine.txt"]
    with pytest.raises(ValueError, match="got 5"):
        make_soundbox(tmp_path / "few", 5)


@pytest.mark.parametrize("name", CLASSES)
def test_every_sound_is_finite_seeded_and_of_the_asked_length(name):
    make = SOUNDS[name][0]
    for n in (13231, SR // 2, SR):
        y = make(n, np.random.default_rng(n))
        assert y.shape == (n,) and np.isfinite(y).all() and np.array_equal(y, make(n, np.random.default_rng(n)))
    assert np.abs(y).max() > 0.01 and not np.array_equal(y, make(SR, np.random.default_rng(1)))


def test_noise_keeps_to_its_band():
    power = np.abs(np.fft.rfft(noise(SR, np.random.default_rng(0), 1000, 2000))) ** 2  # a bin per Hz
    assert power[700:2900].sum() / power.sum() > 0.95


def test_corruption_changes_one_label_in_exactly_the_share():
    table = pd.DataFrame(
        {
            "recording_id": [f"c{k}" for k in range(50)],
            "label": ["Rain", "Bell,Siren", "Knock", "Rain,Bell,Knock", "Siren"] * 10,
        }
    )
    for share in (0, 0.1, 0.5, 1):
        out = corrupt_labels(table, share, seed=1)
        sets = [(set(a.split(",")), set(b.split(","))) for a, b in zip(table.label, out.label, strict=True)]
        changed = [(a, b) for a, b in sets if a != b]
        assert len(changed) == 50 * share and all(len(a) == len(b) and len(a - b) == 1 for a, b in changed)
        assert set().union(*(b for _, b in sets)) <= {"Rain", "Bell", "Siren", "Knock"}
    assert table.label.iloc[0] == "Rain" and corrupt_labels(table, 0.5, 1).equals(corrupt_labels(table, 0.5, 1))
    assert not corrupt_labels(table, 0.5, 1).equals(corrupt_labels(table, 0.5, 2))
    with pytest.raises(ValueError, match="got -0.1"):
        corrupt_labels(table, -0.1, 0)
    with pytest.raises(ValueError, match="has all 2"):
        corrupt_labels(table[:1].assign(label="Rain,Bell"), 1, 0)


def test_buckets_hold_sources_whole_and_classes_evenly():
    table = pd.DataFrame(
        {
            "recording_id": [f"c{k}" for k in range(60)],
            "label": np.repeat(["Bell", "Knock", "Rain"], 20),
            "group": [f"s{k // 2}" for k in range(60)],
            "recordist": "",
        }
    )
    buckets = deal_buckets(table, 5, seed=0)
    assert pd.Series(buckets).groupby(table.group).nunique().max() == 1
    assert (
        pd.crosstab(table.label, buckets).to_numpy().tolist() == [[4] * 5] * 3
    )  # ten sources of two clips, dealt to five
    assert (deal_buckets(table, 5, 1) != buckets).any()


def test_mix_is_the_sum_at_a_place():
    "A long hum and a short one of another pitch: outside the short one only the long one is heard."
    sr, rng = 1000, np.random.default_rng(0)
    long, short = np.sin(np.arange(4000) * 0.3), 0.01 * np.sin(np.arange(1000) * 1.1)
    y = mix_two(short, long, sr, rng)
    assert len(y) == 4000 and np.abs(y).max() == pytest.approx(0.9)
    rest = y - long * (y @ long) / (long @ long)
    level = np.convolve(rest**2, np.ones(1000), "valid")
    at = level.argmax()
    piece = y[at : at + 1000] - long[at : at + 1000] * (y[:at] @ long[:at] + y[at + 1000 :] @ long[at + 1000 :]) / (
        long[:at] @ long[:at] + long[at + 1000 :] @ long[at + 1000 :]
    )
    assert abs(np.corrcoef(piece, short)[0, 1]) > 0.99  # the short one, however soft it was, is brought up
    assert -7 < 20 * np.log10(loudness(piece, sr) / loudness(y[: max(at, 1)] if at > 500 else y[at + 1000 :], sr)) < 7


def test_mixes_keep_their_parents_in_one_bucket(box, tmp_path):
    table = load_freesound(box)
    folder = mix_pairs(table, tmp_path / "mixes", 25, 2, seed=1, progress=False)
    csv, by_id = read_text_table(folder / "train_curated.csv"), table.set_index("recording_id")
    parents = csv.parents.str.split(" \\+ ", expand=True)
    assert (
        len(csv) == 25
        and csv.parents.is_unique
        and csv.source_clip.value_counts().to_dict() == {"bucket 0": 13, "bucket 1": 12}
    )
    assert [",".join(sorted(by_id.label[list(p)])) for p in parents.to_numpy()] == csv.labels.tolist()
    sources = pd.concat(
        [pd.DataFrame({"source": by_id.group[parents[k]].to_numpy(), "bucket": csv.source_clip}) for k in (0, 1)]
    )
    assert sources.groupby("source").bucket.nunique().max() == 1
    mixed = load_freesound(folder)
    assert mixed.synthetic.all() and {sf.info(p).samplerate for p in mixed.path} == {SR}
    longest = [max(sf.info(by_id.path[i]).frames for i in p) for p in parents.to_numpy()]
    assert [sf.info(folder / "train_curated" / f).frames for f in csv.fname] == longest
    again = mix_pairs(table, tmp_path / "again", 25, 2, seed=1, progress=False)
    assert [file_sha256(p) for p in sorted(again.rglob("*.wav"))] == [
        file_sha256(p) for p in sorted(folder.rglob("*.wav"))
    ]
    with pytest.raises(ValueError, match="'n': 25"):
        mix_pairs(table, folder, 26, 2, seed=1)


def test_bad_clips_are_set_aside_and_stop_no_mix(box, tmp_path):
    table = load_freesound(box)
    table = table[~table.label.str.contains(",")].reset_index(drop=True)
    silent = {i for i, p in zip(table.recording_id, table.path, strict=True) if not sf.read(p)[0].any()}
    (tmp_path / "text.wav").write_text("this is not music")
    table.loc[table.recording_id == sorted(set(table.recording_id) - silent)[0], "path"] = str(tmp_path / "text.wav")
    folder = mix_pairs(table, tmp_path / "mixes", 60, 2, seed=0, progress=False)
    quarantine = read_text_table(folder / "quarantine.csv")
    used = set(" + ".join(read_text_table(folder / "train_curated.csv").parents).split(" + "))
    assert len(list((folder / "train_curated").iterdir())) == 60 and not used & set(quarantine.recording_id)
    assert set(quarantine.verdict) <= {"unusable", "silent"} and len(quarantine)
    with pytest.raises(ValueError, match="lacks .* pairs"):
        mix_pairs(table, tmp_path / "many", 10**6, 40, seed=0, progress=False)
    with pytest.raises(ValueError, match="two buckets; got 5 and 1"):
        mix_pairs(table, tmp_path / "many", 5, 1, seed=0)
    assert not (tmp_path / "many").exists()


def test_mixes_of_real_clips(shared_data, tmp_path):
    table = load_freesound(shared_data / "environment")
    mixed = load_freesound(mix_pairs(table, tmp_path / "mixes", 20, 4, seed=0, progress=False))
    assert len(mixed) == 20 and not mixed.synthetic.any() and mixed.group.nunique() == 4
    assert all(sf.info(p).samplerate == SR for p in mixed.path)


def test_chance_of_one_purpose_is_not_that_of_another():
    keys = [(3, 1), (3, 2), (3, 1, 0), (4, 1)]
    drawn = {key: tuple(chance(*key).random(4)) for key in keys}
    assert len(set(drawn.values())) == len(keys) and drawn == {key: tuple(chance(*key).random(4)) for key in keys}
