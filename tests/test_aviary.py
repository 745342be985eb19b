"The aviary: same bytes whatever the number of processes, resumable, true to its truth table, fair in its plan."

import hashlib
import os
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from conftest import at_work, wait_until

from avianspec.data.layouts import load_recordings
from avianspec.data.recordings import validate
from avianspec.data.splits import session, split_recordings, twin_share
from avianspec.synthetic import scene, syrinx
from avianspec.synthetic.aviary import box_contrast_db, make_aviary, plan_aviary
from avianspec.synthetic.seeds import chance
from avianspec.synthetic.syrinx import SPECIES

SMALL = dict(n_species=4, n_recordings=8, seed=3, progress=False)
COLUMNS = "id gen sp ssp en rec cnt loc lat lon alt type q date time lic url also rmk file length_s sha256".split()


def contents(folder):
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(Path(folder).rglob("*"))
        if p.is_file()
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_aviary(tmp_path_factory.mktemp("aviary") / "small", jobs=1, **SMALL)


def planned_table(plan, seed=0):
    sites = syrinx.make_sites(seed)
    return validate(
        pd.DataFrame(
            dict(
                recording_id=plan.recording_id,
                label=[SPECIES[i].english for i in plan.species],
                path="planned",
                recordist=[scene.NAMES[i] for i in plan.recordist_number],
                location=[sites[i]["location"] for i in plan.site],
                date=plan.date,
            )
        )
    )


def test_same_bytes_whatever_the_processes(folder, tmp_path):
    assert contents(make_aviary(tmp_path / "two", jobs=2, **SMALL)) == contents(folder)


def test_another_seed_gives_other_sounds(folder, tmp_path):
    other = make_aviary(tmp_path / "other", jobs=1, **{**SMALL, "seed": 4, "n_recordings": 4})
    assert not {v for k, v in contents(folder).items()} & {v for k, v in contents(other).items()}


def test_folder_holds_what_it_promises(folder):
    assert set(contents(folder)) == {"aviary.json", "recordings.csv", "truth.csv"} | {
        f"audio/AV{i:04d}.mp3" for i in range(1, 9)
    }
    raw = pd.read_csv(folder / "recordings.csv", keep_default_na=False)
    assert list(raw.columns) == COLUMNS
    assert (raw.url == "").all() and (raw.rmk == "synthetic: avianspec aviary").all()
    assert raw.lic.eq("https://creativecommons.org/publicdomain/zero/1.0/").all() and raw.q.isin(list("ABCDE")).all()
    for row in raw.itertuples():
        info = sf.info(folder / row.file)
        assert info.duration == pytest.approx(row.length_s, abs=0.002)
        assert hashlib.sha256((folder / row.file).read_bytes()).hexdigest() == row.sha256


def test_table_loads(folder):
    table = load_recordings(folder)
    assert len(table) == 8 and table.synthetic.all() and table.label.nunique() == 4
    assert (table[["recordist", "location", "date", "time", "type"]] != "").all().all()
    assert all(Path(p).exists() for p in table.path)


def test_truth_boxes_hold_the_sound(folder):
    table, truth = load_recordings(folder), pd.read_csv(folder / "truth.csv")
    assert set(truth.layer) <= {"foreground", "background"}
    front = truth[truth.layer == "foreground"].merge(table[["recording_id", "label", "duration_s"]], on="recording_id")
    assert set(front.recording_id) == set(table.recording_id) and (front.species == front.label).all()
    assert (
        (front.onset_s >= 0).all()
        and (front.onset_s < front.offset_s).all()
        and (front.offset_s <= front.duration_s).all()
    )
    assert (0 < truth.low_hz).all() and (truth.low_hz < truth.high_hz).all()
    contrast = []
    for recording in table[table.quality.isin(["A", "B"])].itertuples():
        y, sr = sf.read(recording.path, dtype="float32", always_2d=True)
        contrast += list(box_contrast_db(y[:, 0], sr, truth[truth.recording_id == recording.recording_id]))
    assert np.median(contrast) > 10 and np.quantile(contrast, 0.1) > 3


def test_clean_song_lies_in_its_box():
    sr, n = 32000, 32000 * 8
    for number in range(0, 16, 3):
        track, events = scene.perform(SPECIES[number], "song", n, sr, chance(0, number), 0.3)
        for onset_s, offset_s, low_hz, high_hz in events:
            y = track[round(onset_s * sr) : round(offset_s * sr)]
            power, f = np.abs(np.fft.rfft(y)) ** 2, np.fft.rfftfreq(len(y), 1 / sr)
            assert power[(f >= low_hz) & (f <= high_hz)].sum() / power.sum() == pytest.approx(0.99, abs=0.005)
        sung = np.concatenate([track[round(a * sr) : round(b * sr)] for a, b, _, _ in events])
        assert np.sum(sung**2, dtype=float) == pytest.approx(np.sum(track**2, dtype=float), rel=1e-3)


def test_levels_are_sane(folder):
    for path in load_recordings(folder).path:
        y, _ = sf.read(path)
        assert 0.01 < np.abs(y).max() < 0.99 and abs(y.mean()) < 0.01


def test_complete_folder_is_returned_at_once(folder):
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    make_aviary(folder, jobs=1, **SMALL)
    assert before == {p: p.stat().st_mtime_ns for p in folder.rglob("*")}


def test_missing_recordings_are_made_again(folder, tmp_path):
    whole = contents(folder)
    for gone in ("audio/AV0002.mp3", "audio/AV0005.mp3"):
        (folder / gone).unlink()
    assert contents(make_aviary(folder, jobs=1, **SMALL)) == whole


def test_killed_then_called_again(folder, tmp_path):
    target = tmp_path / "killed"
    code = f"from avianspec.synthetic.aviary import make_aviary; make_aviary({str(target)!r}, jobs=1, **{SMALL!r})"
    with at_work(code, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: len(list(target.glob("parts/AV*.json"))) >= 3, process)
        process.kill()
    assert not (target / "aviary.json").exists()
    (target / "audio" / ".AV0008-1-dead.mp3").write_bytes(b"half a recording")
    kept = {
        p: p.stat().st_mtime_ns for p in target.glob("audio/AV*.mp3") if (target / "parts" / f"{p.stem}.json").exists()
    }
    with pytest.raises(ValueError, match="'seed': 3.*'seed': 9"):
        make_aviary(target, jobs=1, **{**SMALL, "seed": 9})
    assert contents(make_aviary(target, jobs=1, **SMALL)) == contents(folder)
    assert len(kept) >= 3 and all(p.stat().st_mtime_ns == t for p, t in kept.items())


def test_other_arguments_or_other_files_are_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="'n_recordings': 8.*'n_recordings': 9"):
        make_aviary(folder, jobs=1, **{**SMALL, "n_recordings": 9})
    (tmp_path / "recordings.csv").write_text("id,gen,sp\n1,Turdus,merula\n")
    with pytest.raises(ValueError, match="neither empty nor an aviary"):
        make_aviary(tmp_path, jobs=1, **SMALL)
    assert os.listdir(tmp_path) == ["recordings.csv"]


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(n_species=1), "2 to 16"),
        (dict(n_species=17), "2 to 16"),
        (dict(n_recordings=3), "at least n_species"),
        (dict(seed=-1), "0 or more"),
        (dict(jobs=0), "1 or more"),
        (dict(n_recordings=8.5), "whole number, got 8.5"),
        (dict(n_species="12"), "whole number, got '12'"),
    ],
)
def test_wrong_arguments(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        make_aviary(tmp_path / "none", **{**SMALL, "jobs": 1, **wrong})
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_plan_lets_every_split_mean_something(seed):
    plan = plan_aviary(seed=seed)
    table = planned_table(plan, seed)
    assert plan.recording_id.is_unique and (table.label.value_counts() == 25).all()
    assert table.groupby("label").recordist.nunique().min() >= 6
    assert 15 <= table.recordist.nunique() <= 25
    assert session(table).groupby(plan.individual.to_numpy()).nunique().max() == 1
    minutes = plan.groupby("species").duration_s.sum()
    assert 7 < minutes.max() / minutes.min() < 14
    split = split_recordings(table)
    assert 0.15 < twin_share(table, split.recording) < 0.4
    for by in ("session", "recordist"):
        assert twin_share(table, split[by]) == 0
        assert table.groupby(split[by]).label.nunique().tolist() == [12, 12, 12]


def test_sister_species_differ_and_names_are_unique():
    assert len({s.english for s in SPECIES}) == len({s.scientific for s in SPECIES}) == 16
    assert all(a.genus == b.genus and a.song != b.song for a, b in zip(SPECIES[::2], SPECIES[1::2], strict=True))
