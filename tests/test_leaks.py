"""Leaks: twins and baselines counted by hand, copies of sounds, the index of the 2020 study."""

import json
import shutil
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from notebook_job import run_job
from scipy.stats import binom

from avianspec.cli import main
from avianspec.data.layouts import load_recordings
from avianspec.data.recordings import validate
from avianspec.data.splits import split_recordings
from avianspec.files import write_table
from avianspec.learning.dataset import open_run
from avianspec.report.leak_fragments import leaks_fragment
from avianspec.scoring import leaks
from avianspec.scoring.duplicates import near_duplicates, store_duplicates
from avianspec.sound.audio import read_audio
from avianspec.sound.features import FeatureConfig
from avianspec.stores.preprocessing import build_store

matplotlib.use("agg")

INDEX = Path(__file__).parents[2] / "shared" / "data" / "ca_nv_index"
needs_index = pytest.mark.skipif(
    not INDEX.is_dir(),
    reason="the index of the CA/NV data set is not beside this checkout (../shared/data/ca_nv_index)",
)


@pytest.fixture
def small():
    """Ten recordings, two sessions and a stranger. In the order of training the hill's tie is met as tit, then owl."""
    rows = [
        ("a", "wren", "Ann", "mill", "train 3"),
        ("b", "wren", "Ann", "mill", "train 4"),
        ("c", "owl", "Ann", "mill", "train 5"),
        ("d", "wren", "Ann", "mill", "test 1"),
        ("e", "owl", "Bo", "hill", "train 2"),
        ("f", "tit", "Bo", "hill", "train 1"),
        ("g", "tit", "Bo", "hill", "test 2"),
        ("h", "owl", "Bo", "hill", "test 3"),
        ("i", "wren", "Cy", "moor", "test 4"),
        ("j", "tit", "Ann", "pond", "test 5"),
    ]
    table = pd.DataFrame(rows, columns=["recording_id", "label", "recordist", "location", "published"]).assign(
        path="x", date="2020-05-01"
    )
    return validate(table)


def test_twins_and_baselines_of_a_small_table(small):
    split = split_recordings(small)[["recording_id", "published"]]
    one = leaks.audit_leaks(small, split, pd.DataFrame({"recording_id": ["a"], "twin_id": ["i"]}), n_seeds=1)["splits"][
        "published"
    ]
    # d has a and b, g has f, h has e: three of five in session; j's person never recorded a tit in training, but other
    # birds; i is a stranger with a's sound
    assert {k: v["n"] for k, v in one["twins"].items()} == {
        "session": 3,
        "recordist": 3,
        "person": 4,
        "audio": 1,
        "either": 4,
    }
    scores = {k: v["accuracy"] for k, v in one["baselines"].items()}
    assert scores["majority"] == 1 / 5  # training: two wrens, two owls, one tit; owl is first by name; h is an owl
    assert scores["no_audio"] == 2 / 5  # d; the tie on the hill goes to tit, met first: g; i and j get no guess
    assert scores["no_audio_by_name"] == 2 / 5  # d; the tie goes to owl: h; i and j are taken for owls
    assert (one["n_train"], one["n_test"], one["grade"]) == (5, 5, "leaky")
    assert (
        "60.0 % of the 5 test recordings were made by the same person" in one["verdict"]
        and "scores 0.400 (chance: 0.333)" in one["verdict"]
    )


def test_the_published_rule_goes_by_the_published_order(small):
    swapped = small.assign(
        published=small.published.replace({"train 1": "train 2", "train 2": "train 1"})
    )  # now the owl is met first on the hill
    swapped = swapped.assign(
        published=swapped.published.where(swapped.recording_id != "g", "")
    )  # and g is not in the partition
    split = split_recordings(swapped)[["recording_id", "published"]]
    one = leaks.audit_leaks(swapped, split, n_seeds=1)["splits"]["published"]
    assert one["n_test"] == 4 and one["baselines"]["no_audio"]["accuracy"] == 2 / 4  # d and h
    reversed_rows = leaks.audit_leaks(swapped, split.iloc[::-1], n_seeds=1)["splits"]["published"]
    assert reversed_rows["baselines"]["no_audio"]["accuracy"] == 2 / 4  # the order of the rows is of no account


def test_a_table_that_says_nothing_is_said_to_say_nothing():
    table = validate(
        pd.DataFrame({"recording_id": [f"r{i:02d}" for i in range(30)], "label": ["owl", "tit"] * 15, "path": "x"})
    )
    audit = leaks.audit_leaks(table, split_recordings(table), n_seeds=1)
    assert audit["unknown_sessions"] == 30 and set(audit["splits"]) == {"recording", "session", "recordist"}
    assert "nothing can be said about twins" in audit["splits"]["recording"]["verdict"]
    assert {k: v["n"] for k, v in audit["splits"]["recording"]["twins"].items()} == {
        "session": 0,
        "recordist": 0,
        "person": 0,
        "either": 0,
    }
    json.dumps(audit)


def test_the_metadata_baseline_learns_place_hour_and_kind():
    rng = np.random.default_rng(0)
    n = 400
    owl = rng.random(n) < 0.5
    table = validate(
        pd.DataFrame(
            {
                "recording_id": [f"r{i:03d}" for i in range(n)],
                "path": "x",
                "label": np.where(owl, "owl", "wren"),
                "time": np.where(owl, "23:10", "08:05"),
            }
        )
    )
    train = rng.random(n) < 0.6

    def right(t):
        return (leaks.metadata_predict(t, train) == t.label)[~train].mean()

    assert right(table) == 1 and right(table.assign(time="", type=np.where(owl, "call, hoot", "song"))) == 1
    assert 0.3 < right(table.assign(time="", latitude=rng.normal(size=n))) < 0.7  # noise says nothing


def test_metadata_are_counted_in_the_training_part_alone():
    odd = [f"kind {k % 12}" for k in range(60)]  # of the test part: twelve others, each commoner than those of training
    kinds, people = ["call", "song", "call, song", "call", *odd], ["Ann", "Ann", "Bo", "Bo"] + ["Ann"] * 60
    n = len(kinds)
    table = validate(
        pd.DataFrame(
            {
                "recording_id": [f"r{k:02d}" for k in range(n)],
                "path": "x",
                "label": "wren",
                "type": kinds,
                "recordist": people,
                "latitude": np.arange(n),
            }
        )
    )
    train = np.arange(n) < 4
    known = leaks.metadata_features(table, train)
    assert [c for c in known if c.startswith("type")] == ["type: call", "type: song"]
    assert known["type: call"].tolist() == [1, 0, 1, 1] + [0] * 60
    uneven = leaks.metadata_features(table.assign(recordist=["Ann", "Ann", "Ann", "Bo"] + ["Bo"] * 60), train)
    assert uneven["recordings by this person"].tolist() == [3, 3, 3, 1] + [1] * 60
    assert "recordings by this person" not in known  # two each: it tells nothing apart


@needs_index
def test_the_published_split_of_the_2020_study():
    table = load_recordings(INDEX)
    split = split_recordings(table)[["recording_id", "published"]]
    audit = leaks.audit_leaks(table, split)
    one = audit["splits"]["published"]
    assert (audit["n_recordings"], audit["n_species"], one["n_train"], one["n_test"]) == (2730, 91, 1820, 910)
    assert {k: round(v, 1) for k, v in audit["minutes_per_species"].items()} == {"min": 3.1, "mean": 13.5, "max": 31.3}
    assert one["twins"]["session"]["share"] == pytest.approx(0.280, abs=0.0005)
    assert one["baselines"]["no_audio"]["accuracy"] == pytest.approx(0.199, abs=0.0005)
    assert one["baselines"]["no_audio_by_name"]["accuracy"] == pytest.approx(0.213, abs=0.0005)
    assert (
        one["baselines"]["duration"]["accuracy"] == pytest.approx(0.026, abs=0.003)
        and len(one["baselines"]["duration"]["seeds"]) == 5
    )
    assert max(one["baselines"]["duration"]["seeds"]) < 0.04 and one["baselines"]["metadata"]["accuracy"] > 0.25
    assert "28.0 % of the 910" in one["verdict"] and "0.199" in one["verdict"] and one["grade"] == "leaky"


@needs_index
def test_the_tracked_audit_is_that_of_the_index():
    from conftest import ROOT

    kept = json.loads((ROOT / "report/results/studies/ca_nv.json").read_text())["splits"]["published"]
    assert (
        round(kept["twins"]["session"]["share"], 3) == 0.280
        and round(kept["baselines"]["no_audio"]["accuracy"], 3) == 0.199
    )


# ---- the same sound -----------------------------------------------------------------------------------------

SR = 22050


def bird(seed, seconds, song):
    "Phrases of one song at random times, in noise of its own."
    rng, y = np.random.default_rng(seed), None
    y = 0.003 * rng.standard_normal(int(seconds * SR))
    for start in np.arange(0.3, seconds - 1, 1.7) + rng.uniform(0, 0.6, len(np.arange(0.3, seconds - 1, 1.7))):
        at = int(start * SR)
        y[at : at + len(song)] += song
    return y


def a_song(seed):
    "Eight notes, each gliding from one pitch to another."
    rng, notes = np.random.default_rng(seed), []
    for low, high in rng.uniform(1500, 7500, (8, 2)):
        t = np.arange(int(0.09 * SR)) / SR
        notes.append(0.2 * np.hanning(len(t)) * np.sin(2 * np.pi * (low * t + (high - low) * t**2 / 0.18)))
    return np.concatenate(notes)


def test_a_copy_is_found_and_two_songs_of_one_bird_are_not(tmp_path):
    rows = []

    def save(name, y, sr=SR, **kwargs):
        sf.write(tmp_path / name, y, sr, **kwargs)
        rows.append({"recording_id": name.split(".")[0], "label": "wren", "path": str(tmp_path / name)})

    for k in range(12):
        save(
            f"r{k:02d}.wav", bird(k, 20 + k, a_song(k // 4))
        )  # three birds, four recordings each, of the very same song
    original = bird(3, 23, a_song(0))
    save(
        "cut.mp3", 0.3 * original[int(10.013 * SR) :], format="MP3", compression_level=0.9
    )  # of r03: from ten seconds on, quieter, encoded hard
    save("excerpt.ogg", np.tanh(2 * bird(9, 29, a_song(2))[6 * SR : 12 * SR]), format="OGG", subtype="VORBIS")
    table = validate(pd.DataFrame(rows))
    store = build_store(table, FeatureConfig(), tmp_path / "features", progress=False)
    found = store_duplicates(store, table.recording_id)
    assert {frozenset(p) for p in found[["recording_id", "twin_id"]].itertuples(index=False)} == {
        frozenset(("cut", "r03")),
        frozenset(("excerpt", "r09")),
    }
    offsets = {
        frozenset(p[:2]): abs(p[2]) for p in found[["recording_id", "twin_id", "offset_s"]].itertuples(index=False)
    }
    assert offsets[frozenset(("cut", "r03"))] == pytest.approx(10, abs=0.1) and offsets[
        frozenset(("excerpt", "r09"))
    ] == pytest.approx(6, abs=0.1)


def test_odd_recordings_match_nothing_and_stop_nothing():
    rng = np.random.default_rng(0)
    silent, brief, tiny = np.full((200, 128), -18.0, np.float32), rng.normal(size=(20, 128)), rng.normal(size=(1, 128))
    found = near_duplicates(
        {"silent": silent, "still": silent, "brief": brief, "tiny": tiny, "coarse": rng.normal(size=(100, 128))}
    )
    assert found.empty and list(found.columns) == [
        "recording_id",
        "twin_id",
        "likeness",
        "steadiness",
        "offset_s",
        "shared_s",
    ]
    assert near_duplicates({}).empty and near_duplicates({"one": brief}).empty


def test_real_recordings_encoded_again_are_found(shared_data, tmp_path):
    table = load_recordings(shared_data / "birds")
    table = table[table.duration_s.between(14, 40)].head(12)
    rows = []
    for row in table.iloc[::3].itertuples():
        audio = read_audio(row.path)
        sf.write(
            tmp_path / f"{row.recording_id}.mp3",
            0.4 * audio.y[int(10.007 * audio.sr) :],
            audio.sr,
            format="MP3",
            compression_level=0.9,
        )
        rows.append(
            {
                "recording_id": f"copy-{row.recording_id}",
                "label": row.label,
                "path": str(tmp_path / f"{row.recording_id}.mp3"),
            }
        )
    both = validate(pd.concat([table, pd.DataFrame(rows)], ignore_index=True))
    store = build_store(both, FeatureConfig(), tmp_path / "features", progress=False)
    found = store_duplicates(store, both.recording_id)
    assert {frozenset(p) for p in found[["recording_id", "twin_id"]].itertuples(index=False)} == {
        frozenset((r["recording_id"], r["recording_id"][5:])) for r in rows
    }


# ---- the job and the command ----------------------------------------------------------------------


def test_the_job_writes_an_audit_that_the_report_shows(demo, tmp_path):
    shutil.copytree(demo, tmp_path / "run")
    run_job("scoring/leaks", run_dir=str(tmp_path / "run"), audit_seeds=2)
    audit = json.loads((tmp_path / "run" / "audit.json").read_text())
    dataset = open_run(demo)
    table = dataset.items
    assert set(audit["splits"]) == {"recording", "session", "recordist"} and audit["n_recordings"] == len(table)
    assert (
        audit["splits"]["session"]["twins"]["session"]["n"] == audit["splits"]["recordist"]["twins"]["person"]["n"] == 0
    )
    text = leaks_fragment(audit)
    assert (
        f"{100 * audit['splits']['recording']['twins']['session']['share']:.1f}\u00a0%" in text and "Same sound" in text
    )


def test_the_command_audits_any_table_with_any_split(small, tmp_path, capfd):
    out = small.rename(columns={"recordist": "rec", "location": "loc", "label": "en", "recording_id": "id"})[
        ["id", "en", "rec", "loc", "date"]
    ]
    write_table(tmp_path / "recordings.csv", out)
    write_table(tmp_path / "split.csv", pd.DataFrame({"id": list("fabcedghij"), "mine": ["train"] * 5 + ["test"] * 5}))
    assert (
        main(["audit", str(tmp_path), "--split", str(tmp_path / "split.csv"), "--write", str(tmp_path / "audit.json")])
        == 0
    )
    printed = capfd.readouterr().out
    assert (
        "mine: This split is leaky. 60.0 % of the 5 test recordings" in printed
        and "10 recordings of 3 species" in printed
    )
    assert (
        json.loads((tmp_path / "audit.json").read_text())["splits"]["mine"]["baselines"]["no_audio"]["accuracy"] == 0.4
    )  # rows in training order: tit first
    (tmp_path / "bad.csv").write_text("id,side\na,left\n")
    assert main(["audit", str(tmp_path), "--split", str(tmp_path / "bad.csv")]) == 1
    assert "words train and test" in capfd.readouterr().err


@pytest.mark.parametrize("kept", [dict(scale="power"), dict(bands="linear"), dict(scale="pcen")], ids=str)
def test_a_copy_is_found_whatever_the_store_keeps(kept, demo, tmp_path):
    table = open_run(demo).items.iloc[::3]
    copies = table.iloc[:6].assign(
        recording_id=[f"copy{k}" for k in range(6)], path=[str(tmp_path / f"copy{k}.wav") for k in range(6)]
    )
    for original, path in zip(table.path[:6], copies.path, strict=True):
        audio = read_audio(original)
        sf.write(path, 0.3 * audio.y[len(audio.y) // 10 :], audio.sr)
    both = pd.concat([table, copies], ignore_index=True)
    found = store_duplicates(
        build_store(both, FeatureConfig(**kept), tmp_path / "store", progress=False), both.recording_id
    )
    assert {(r.recording_id, r.twin_id) for r in found.itertuples()} == set(
        zip(table.recording_id[:6], copies.recording_id, strict=True)
    )


def test_the_command_audits_a_table_with_a_path_that_cannot_be_looked_at(tmp_path, capfd):
    sf.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, 22050), 22050)
    rows = [f"{k},Parus,{'major' if k % 2 else 'minor'},{'a.wav' if k < 8 else 'x' * 300 + '.wav'}" for k in range(9)]
    (tmp_path / "birds.csv").write_text("\n".join(["id,gen,sp,file", *rows]))
    assert main(["audit", str(tmp_path / "birds.csv")]) == 0
    assert "1 of 9 recordings have no audio file" in capfd.readouterr().err


def test_people_are_what_the_data_state_and_a_baseline_that_is_never_right_is_given_room():
    """Twelve test recordings by two recordists, of six flights that must stay whole: six groups, all wrong."""
    ids = [f"r{k:02d}" for k in range(24)]
    table = pd.DataFrame({"recording_id": ids, "label": ["owl"] * 12 + ["tit"] * 12, "path": "x"})
    table = validate(table.assign(recordist=["Ann", "Bo"] * 12, group=[f"flight {k // 2}" for k in range(24)]))
    audit = leaks.audit_leaks(
        table, pd.DataFrame({"recording_id": ids, "x": ["train"] * 12 + ["test"] * 12}), n_seeds=1
    )
    one = audit["splits"]["x"]
    assert one["n_groups"] == 6 and one["baselines"]["majority"]["accuracy"] == 0
    assert one["baselines"]["majority"]["interval"] == pytest.approx([0, 1 - 0.025 ** (1 / 6)])
    assert "too few" not in leaks.audit_text(audit)
    people = leaks.audit_leaks(
        table.assign(group=""), pd.DataFrame({"recording_id": ids, "x": ["train"] * 12 + ["test"] * 12}), n_seeds=1
    )
    assert (
        people["splits"]["x"]["n_groups"] == 2
        and np.isnan(people["splits"]["x"]["baselines"]["majority"]["interval"]).all()
    )
    assert "too few groups for an interval: 2" in leaks.audit_text(people)


def test_the_interval_of_a_forest_belongs_to_its_mean_over_seeds(monkeypatch):
    """A forest that is all wrong with one seed and always right with three, on two folds of twenty people."""
    truth = np.array(["a", "b"] * 20, dtype=object)
    table = pd.DataFrame({"recording_id": [f"r{k:02d}" for k in range(40)], "label": truth, "path": "x"})
    table = validate(table.assign(recordist=table.recording_id))

    def said(table, train, seed):
        return truth if seed else np.full(40, "c", dtype=object)

    monkeypatch.setattr(leaks, "metadata_predict", said)
    sides = [np.where(np.arange(40) // 20 == k, "test", "train") for k in range(2)]
    scored = leaks.audit_scores(table, sides, n_seeds=4)["metadata"]
    assert scored["accuracy"] == 0.75 and scored["seeds"] == [0, 1, 1, 1]
    low, high = scored["interval"]  # all alike, so the exact binomial interval of 30 of 40
    assert binom.sf(29, 40, low) == pytest.approx(0.025) and binom.cdf(30, 40, high) == pytest.approx(0.025)


def test_an_audit_of_folds_counts_every_recording_once():
    """Six people with two wrens each on one day: by recording each has a twin in another fold, by recordist none."""
    ids = [f"r{k:02d}" for k in range(12)]
    table = pd.DataFrame({"recording_id": ids, "label": ["wren", "wren", "tit", "tit"] * 3, "path": "x"})
    people = [f"person {k // 2}" for k in range(12)]
    table = validate(table.assign(recordist=people, location="hill", date="2020-05-01"))
    folds = pd.DataFrame({"recording_id": ids, "recording": ["1", "2"] * 6, "recordist": list("111122223333")})
    audit = leaks.audit_leaks(table, folds, n_seeds=1)["splits"]
    assert [audit[by]["n_folds"] for by in ("recording", "recordist")] == [2, 3]
    assert [audit[by]["twins"]["session"]["n"] for by in ("recording", "recordist")] == [12, 0]
    assert audit["recording"]["baselines"]["no_audio"]["accuracy"] == 1  # the twin has the label
    assert all(one["n_test"] == 12 and one["n_groups"] == 6 for one in audit.values())


def test_a_split_of_folds_is_read_as_a_run_has_it(tmp_path):
    table = validate(pd.DataFrame({"recording_id": list("abcd"), "label": "wren", "path": "x"}))
    split = pd.DataFrame({"recording_id": list("abcd"), "recordist": list("1212"), "year": ["2020"] * 4})
    write_table(tmp_path / "split.csv", split)
    read = leaks.read_split(tmp_path / "split.csv", table)
    assert read.columns.tolist() == ["recording_id", "recordist"] and read.recordist.tolist() == list("1212")
