"""An invented study works everywhere, and no study hands out old results for new questions."""

import json
import os
import shutil
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from conftest import ROOT, tone
from filelock import FileLock

from avianspec.cli import main
from avianspec.files import read_json, read_text_table, write_json
from avianspec.runs.catalogue import load_catalogue, load_contract
from avianspec.scoring.comparison import compare
from avianspec.scoring.jobs import run_jobs

MODULE = """
import numpy as np
from sklearn.neighbors import KNeighborsClassifier

from avianspec.data.layouts import load_recordings
from avianspec.files import write_table
from avianspec.learning.dataset import open_run
from avianspec.learning.predictions import predictions_table
from avianspec.stores.preprocessing import prepare_run
from avianspec.studies.contract import Study


def prepare(source, run, stores, parameters, seed, jobs, progress):
    table = load_recordings(source)
    write_table(run / "recordings.csv", table)
    prepare_run(table, run, stores, test_folds=parameters.get("test_folds", 1), seed=seed, jobs=jobs, progress=progress)


def train(job):
    data = open_run(job.data).fold(job.split, job.fold)
    x = np.stack([data.store[i]["mfcc"].mean(axis=0) for i in data.items.recording_id])
    test = data.on_side(job.split, "test")
    model = KNeighborsClassifier(job.parameters["neighbours"]).fit(x[~test], data.items.label[~test])
    return predictions_table(data.items[test], model.classes_, model.predict_proba(x[test])), dict(n_parameters=x.size)


def baselines(job):
    data = open_run(job.data).fold(job.split, job.fold)
    test, share = data.part(job.split, "test"), data.part(job.split, "train").label.value_counts(normalize=True)
    p = np.tile(share.reindex(data.classes, fill_value=0), (len(test), 1))
    return predictions_table(test, data.classes, p, answer="majority"), {}


STUDY = Study("fish", ("recording",), prepare, train, baselines, reference="fish-3")
"""

CATALOGUE = """
study: fish_study:STUDY
defaults: {notebooks: [fish], parameters: {seed: 0}}
experiments:
  fish-1: {purpose: the nearest recording, parameters: {neighbours: 1}}
  fish-3: {purpose: the nearest three recordings, parameters: {neighbours: 3}}
"""

NOTEBOOK = {
    "setup": """
from pathlib import Path
from types import SimpleNamespace
from avianspec.files import write_json
import fish_study""",
    "parameters": 'run_dir = ""\nsource = ""\nfeatures_dir = ""\nneighbours = 1\nseed = 0',
    "job": """
run = Path(run_dir)
fish_study.prepare(source, run, Path(features_dir), {}, seed, 1, False)
job = SimpleNamespace(data=run, split="recording", fold="test", parameters={"neighbours": neighbours})
p, _ = fish_study.train(job)
right = float((p.predicted == p.label).mean())
score = {"accuracy": right, "interval": [0, 1]}
split = {"n_test": len(p), "network": score, "majority": score}
facts = {"network": "nearest", "metric": "accuracy", "main_split": "recording", "classes": sorted(set(p.label))}
write_json(run / "metrics.json", facts | {"splits": {"recording": split}})""",
}


def sounds(folder, labels=("Cod", "Eel", "Ray"), n=6):
    "Recordings of some fish, each kind at a pitch of its own, one subfolder per kind."
    for k, label in enumerate(labels):
        (folder / label).mkdir(parents=True)
        for i in range(n):
            sf.write(folder / label / f"{label}{i}.wav", tone(1.0, hz=1000 * (k + 1) + 40 * i), 22050)
    return folder


@pytest.fixture
def fish(tmp_path, monkeypatch):
    "A project with nothing but an invented study: a module, a file of the catalogue, a notebook."
    project = tmp_path / "project"
    for name in ("nbs", "experiments", "modules"):
        (project / name).mkdir(parents=True)
    (project / "settings.ini").write_text("")
    (project / "modules" / "fish_study.py").write_text(MODULE)
    (project / "experiments" / "fish.yml").write_text(CATALOGUE)
    cells = [
        dict(cell_type="code", id=name, metadata={"tags": [name]}, source=source, outputs=[], execution_count=None)
        for name, source in NOTEBOOK.items()
    ]
    kernel = dict(kernelspec=dict(name="python3", display_name="python3", language="python"))
    book = dict(nbformat=4, nbformat_minor=5, metadata=kernel, cells=cells)
    (project / "nbs" / "fish.ipynb").write_text(json.dumps(book))
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(str(project / "modules"))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{project / 'modules'}")
    yield project
    sys.modules.pop("fish_study", None)


def test_an_invented_study_is_listed_run_compared_and_reported(fish, tmp_path, capsys):
    from avianspec.report.staging import stage

    data, out = sounds(tmp_path / "sounds"), tmp_path / "out"
    assert main(["list"]) == 0 and capsys.readouterr().out.startswith("fish-1 ")
    assert main(["run", "fish-*", "--data", str(data), "--quiet"]) == 0
    assert main(["leaderboard"]) == 0
    board = capsys.readouterr().out
    assert "fish-1-" in board and "fish-3-" in board and "majority" in board
    words = ["versions", "fish-*", "--data", str(data), "--seeds", "2", "--folds", "2", "--output", str(out), "--quiet"]
    assert main(words) == 0
    rows = {r["version"]: r for r in read_json(out / "versions.json")["result"]}
    assert set(rows) == {"fish-1", "fish-3", "majority"} and rows["fish-1"]["value"] > rows["majority"]["value"]
    assert rows["fish-1"]["n_seeds"] == 2 and rows["fish-1"]["reference"] == "fish-3"
    labels = (out / "_labels.md").read_text(encoding="utf-8")
    said = "@tbl-out-labels holds the share of right answers for each label."
    assert labels.startswith(f"\n\n{said}\n\n| label | recordings | groups | ")
    page = (out / "_versions.md").read_text(encoding="utf-8")
    assert "2 deals (seeds 0, 1) into 2 folds" in page and "4 different test parts" in page
    assert "| **1** |" in page and "18 recordings, 3 classes;" in page and r"\n" not in page
    stamps = {p: p.stat().st_mtime_ns for p in (fish / "runs").rglob("done.json")}
    assert main(words) == 0 and stamps == {p: p.stat().st_mtime_ns for p in stamps} and len(stamps) == 12
    assert main([*words, "--against", "fish-1"]) == 0
    turned = {r["version"]: r for r in read_json(out / "versions.json")["result"]}
    assert {v: r["reference"] for v, r in turned.items()} == {"fish-1": None, "fish-3": "fish-1", "majority": "fish-1"}
    lost = turned["majority"]["value"] - turned["fish-1"]["value"]
    assert turned["majority"]["difference"] == pytest.approx(lost, abs=1e-5) and lost < 0
    assert "--against fish-1" in (out / "_versions.md").read_text(encoding="utf-8")
    run = next(p.parent for p in (fish / "runs").glob("fish-1-*/manifest.json"))
    assert read_json(run / "manifest.json")["contract"] == "fish_study:STUDY"
    book = stage(run, tmp_path / "book", ROOT)
    assert (book / "index.qmd").exists() and (book / "nbs" / "fish.ipynb").exists()


def test_a_training_that_fails_is_named_and_the_others_go_on(fish, tmp_path):
    trials = [
        SimpleNamespace(name=f"fish-{k}", purpose="", parameters=dict(neighbours=k), published={}, family="")
        for k in (1, 99)
    ]
    study = load_contract("fish_study:STUDY")
    data = sounds(tmp_path / "sounds")
    options = dict(folds=2, progress=False, out=tmp_path / "out", jobs=2)
    outcome, failed, _ = compare(study, trials, data, tmp_path / "c", [0], **options)
    assert list(failed) == [("fish-99", "recording", 0, fold) for fold in "12"] and set(outcome.table.index) == {
        "fish-1",
        "majority",
    }
    page = (tmp_path / "out/_versions.md").read_text(encoding="utf-8")
    assert "- Not done: 99 by recording, all seeds: Expected n\\_neighbors" in page


def test_two_comparisons_in_one_place_do_not_deal_into_each_others_folds(fish, tmp_path):
    trial = SimpleNamespace(name="fish-1", purpose="", parameters=dict(neighbours=1), published={}, family="")
    study, data = load_contract("fish_study:STUDY"), sounds(tmp_path / "sounds")
    (tmp_path / "c").mkdir()
    said = "c: another comparison is at work here; wait for it, or name another --runs"
    with FileLock(tmp_path / "c" / ".lock"), pytest.raises(ValueError, match=said):
        compare(study, [trial], data, tmp_path / "c", [0], folds=2, progress=False, out=tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / "c" / "data").exists()


def test_what_the_others_are_compared_with_is_one_of_them(fish, tmp_path):
    trial = SimpleNamespace(name="fish-1", purpose="", parameters=dict(neighbours=1), published={}, family="")
    study, data = load_contract("fish_study:STUDY"), sounds(tmp_path / "sounds")
    with pytest.raises(ValueError, match="compared with trout, which is none of them: fish-1"):
        compare(study, [trial], data, tmp_path / "c", [0], folds=2, progress=False, against="trout")
    apart, other = replace(study, data_name=lambda p: str(p["neighbours"])), SimpleNamespace(**vars(trial))
    other.name, other.parameters = "fish-3", dict(neighbours=3)
    with pytest.raises(ValueError, match="about 2 sets of data, so not all can be compared with fish-1"):
        compare(apart, [trial, other], data, tmp_path / "c", [0], folds=2, progress=False, against="fish-1")


def test_where_nothing_can_be_prepared_the_reason_is_said(fish, tmp_path):
    trial = SimpleNamespace(name="fish-1", purpose="", parameters=dict(neighbours=1), published={}, family="")
    study, data = load_contract("fish_study:STUDY"), sounds(tmp_path / "sounds")

    def cannot(*_):
        raise ValueError("Every recording is of one label.")

    with pytest.raises(ValueError, match=r"^Nothing can be compared: Every recording is of one label\.$"):
        compare(replace(study, prepare=cannot), [trial], data, tmp_path / "c", [0, 1], folds=2, progress=False)


def test_every_recording_is_tested_once_per_repeat_and_half_a_repeat_is_not_scored(fish, tmp_path):
    from avianspec.scoring.jobs import Comparison, comparison_jobs, prepare_data, read_answers

    study, data = load_contract("fish_study:STUDY"), sounds(tmp_path / "sounds")
    trials = tuple(load_catalogue(fish / "experiments").values())
    c = Comparison(study, trials, str(data), tmp_path / "c", tmp_path / "stores", (0, 1), ("recording",), 3)
    prepare_data(c, progress=False)
    jobs = comparison_jobs(c)
    assert len(jobs) == 3 * 2 * 3 and run_jobs(study, jobs, progress=False) == ({}, [])
    answers = read_answers(study, jobs)
    for _, rows in answers.groupby(["version", "seed"]):
        assert len(rows) == 18 == rows.recording_id.nunique() and rows.groupby("fold").size().tolist() == [6, 6, 6]
    (jobs[-1].out / "done.json").unlink()  # the last fold of fish-3 at seed 1
    left = read_answers(study, jobs)
    assert set(left.seed[left.version == "fish-3"]) == {0} and set(left.seed[left.version == "fish-1"]) == {0, 1}


def bird_folder(place):
    from avianspec.data.recordings import read_table
    from avianspec.stores.preprocessing import demo_run

    for row in read_table(demo_run() / "recordings.csv").groupby("label").head(6).itertuples():
        (place / row.label).mkdir(parents=True, exist_ok=True)
        shutil.copy(row.path, place / row.label / Path(row.path).name)
    return place, sorted(place.iterdir())[0] / "new.wav"


def music_folder(place):
    from avianspec.synthetic.band import make_band

    make_band(place, n_styles=2, n_tracks=5, duration_s=6.0, seed=1, progress=False)
    style = sorted((place / "genres").iterdir())[0]
    return place, style / f"{style.name}.00099.wav"


def tagging_folder(place):
    from avianspec.synthetic.soundbox import make_soundbox

    make_soundbox(place, n_clips=24, progress=False)
    return place, place / "train_curated" / "new.wav"


def speech_folder(place):
    from avianspec.synthetic.chatter import make_chatter

    make_chatter(place, n_speakers=8, n_sentences=1, progress=False)
    first = sorted(place.rglob("*.flac"))[0]
    return place, first.with_name("new.flac")


QUICK = {
    "birds": (bird_folder, "birds-v20", dict(final_epochs=1, batch_size=16, crop_seeds=1)),
    "music": (music_folder, "music-1", dict(epochs=1, batch_size=8, precision="float32", shares="0.6 0.2 0.2")),
    "transfer": (
        bird_folder,
        "transfer-random",
        dict(input_size=64, first_epochs=1, fine_epochs=0, batch_size=8, only_song=False),
    ),
    "speech": (
        speech_folder,
        "speech-short",
        dict(epochs=1, n_mixtures=24, duration_s=3.0, sr=8000, pauses_s=[0.0, 0.3], fmax=4000.0, piece_frames=16),
    ),
    "tagging": (
        tagging_folder,
        "tagging-mfcc",
        dict(mfcc_sr=16000, n_mfcc=20, duration_s=1.0, n_folds=2, epochs=1, batch_size=16, n_crops=1),
    ),
}


@pytest.mark.parametrize("name", QUICK)
def test_a_comparison_is_made_anew_when_data_or_code_change_and_only_then(name, tmp_path, monkeypatch):
    from avianspec.learning import reuse

    make, experiment, changes = QUICK[name]
    source, new = make(tmp_path / "sounds")
    one = load_catalogue()[experiment]
    study = load_contract(one.contract)
    n = 2 * len(study.splits)  # the experiment and the baselines

    def again():
        out = tmp_path / "out"
        return compare(study, [one], source, tmp_path / "c", [0], folds=1, changes=changes, progress=False, out=out)

    first, failed, reused = again()
    assert failed == {} and reused == [] and experiment in first.table.index
    second, _, reused = again()
    assert len(reused) == n and second.table.equals(first.table)  # nothing was trained
    sf.write(new, tone(6.0 if name == "music" else 2.0, hz=3000), 22050)
    if name == "tagging":
        table = pd.read_csv(source / "train_curated.csv")
        table.loc[len(table)] = {**table.iloc[0].to_dict(), "fname": new.name}
        table.to_csv(source / "train_curated.csv", index=False)
    assert again()[2] == []  # a recording more
    assert len(again()[2]) == n
    digest = reuse.file_sha256
    monkeypatch.setattr(reuse, "file_sha256", lambda p: digest(p) + ("x" if Path(p).name == "training.py" else ""))
    done = []
    monkeypatch.setattr("avianspec.scoring.jobs.carry_out", lambda work, job, key: done.append(job.version) or "stop")
    assert again()[2] == [] and len(done) == n  # an edited module
    monkeypatch.setattr(reuse, "file_sha256", lambda p: digest(p) + ("x" if Path(p).parent.name == "report" else ""))
    done.clear()
    assert len(again()[2]) == n and not done  # a module that no training leads through


@pytest.fixture
def cluster():
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as one:
        yield one.scheduler_address


def test_jobs_in_processes_of_their_own_or_on_a_cluster_come_to_the_same(fish, tmp_path, cluster):
    from avianspec.scoring.jobs import Comparison, comparison_jobs, prepare_data, read_answers

    study, data = load_contract("fish_study:STUDY"), sounds(tmp_path / "sounds")
    tables = []
    for n, scheduler in ((1, ""), (2, ""), (3, cluster)):
        trials = tuple(load_catalogue(fish / "experiments").values())
        c = Comparison(study, trials, str(data), tmp_path / f"c{n}", tmp_path / "stores", (0, 1), ("recording",), 2)
        prepare_data(c, progress=False)
        jobs = comparison_jobs(c)
        assert run_jobs(study, jobs, n, False, scheduler=scheduler) == ({}, [])
        tables.append(read_answers(study, jobs))
    pd.testing.assert_frame_equal(*tables[:2])
    pd.testing.assert_frame_equal(*tables[1:])


def test_a_key_changes_with_settings_data_code_and_backend(tmp_path, monkeypatch):
    from avianspec.learning.reuse import data_key, is_done, work_key

    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    run = tmp_path / "run"
    run.mkdir()
    rows = pd.DataFrame({"recording_id": ["a", "b"], "label": ["cod", "eel"], "path": ["a.wav", "b.wav"]})
    split = pd.DataFrame({"recording_id": ["a", "b"], "recording": ["train", "test"]})
    audio = "0" * 64

    def key(rows=rows, split=split, audio=audio, settings=0.1, code="c"):
        rows.to_csv(run / "recordings.csv", index=False)
        split.to_csv(run / "split.csv", index=False)
        write_json(run / "data.json", dict(sha256=audio))
        return work_key(dict(rate=settings), data_key(run), code)

    same = [key(), key(), key(rows=rows.assign(path=["elsewhere/a.wav", "elsewhere/b.wav"]))]
    other_labels, other_sides = rows.assign(label=["cod", "ray"]), split.assign(recording=["test", "train"])
    changed = [dict(rows=other_labels), dict(split=other_sides), dict(audio="1" * 64), dict(settings=0.2)]
    keys = [same[0], *(key(**change) for change in [*changed, dict(code="d")])]
    assert same[0] == same[1] == same[2] and all(a != b for k, a in enumerate(keys) for b in keys[:k])
    write_json(tmp_path / "done.json", dict(key=same[0]))
    assert is_done(tmp_path / "done.json", same[1]) and not is_done(tmp_path / "none.json", same[0])
    assert not any(is_done(tmp_path / "done.json", k) for k in keys[1:])
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert key()["backend"] == "jax" and not is_done(tmp_path / "done.json", key())


def replace_by_noise(path):
    "Another sound under the same name, of the same length, that pretends to be as old."
    before, (y, sr) = path.stat(), sf.read(path)
    sf.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, len(y)), sr, subtype=sf.info(path).subtype)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size and path.stat().st_mtime_ns == before.st_mtime_ns


CHANGES = {
    "audio replaced by noise": lambda data: replace_by_noise(data / "Cod" / "Cod2.wav"),
    "a class renamed": lambda data: (data / "Cod").rename(data / "Dab"),
    "five recordings removed": lambda data: [path.unlink() for path in sorted(data.rglob("*.wav"))[::4]],
}


@pytest.mark.parametrize("change", CHANGES)
def test_old_answers_are_never_given_for_other_data(change, fish, tmp_path, capsys):
    from avianspec.runs.runner import changed_steps

    data, study = sounds(tmp_path / "sounds"), load_contract("fish_study:STUDY")
    words = ["run", "fish-1", "--data", str(data), "--quiet"]
    trials = [load_catalogue(fish / "experiments")["fish-1"]]

    def versions(**how):
        return compare(study, trials, data, tmp_path / "c", [0], folds=2, progress=False, out=tmp_path / "out", **how)

    assert main(words) == 0 and capsys.readouterr().out.endswith(" done\n") and versions()[2] == []
    today = datetime.now(UTC).date().isoformat()
    assert main(words) == 0
    assert capsys.readouterr().out.endswith(f" was done already: on {today}, nothing has changed since\n")
    assert versions()[2] == [today] * 4
    (run,) = (fish / "runs").glob("fish-1-*")
    assert changed_steps(run) == []
    CHANGES[change](data)
    assert changed_steps(run) == ["fish"]
    outcome, failed, reused = versions()
    assert failed == {} and reused == []
    names = {label for _, table in outcome.tables.items() for label in table.index}
    assert names == {"fish-1", "majority"}
    assert main(words) == 0 and capsys.readouterr().out.endswith(" done\n") and changed_steps(run) == []


def test_old_answers_are_never_given_for_other_settings_or_code_and_again_makes_anew(
    fish, tmp_path, capsys, monkeypatch
):
    from avianspec.learning import reuse
    from avianspec.report.staging import publish
    from avianspec.runs.runner import changed_steps

    data, study = sounds(tmp_path / "sounds"), load_contract("fish_study:STUDY")
    words = ["run", "fish-1", "--data", str(data), "--quiet"]
    trials = [load_catalogue(fish / "experiments")["fish-1"]]

    def versions(**how):
        return compare(study, trials, data, tmp_path / "c", [0], folds=2, progress=False, out=tmp_path / "out", **how)[
            2
        ]

    assert main(words) == 0 and versions() == [] and len(versions()) == 4
    assert len(versions(changes=dict(neighbours=2))) == 2  # the baselines do not depend on it
    assert len(versions()) == 2 and len(versions()) == 4 and versions(again=True) == []
    (run,) = (fish / "runs").glob("fish-1-*")
    before = read_json(run / "manifest.json")["steps"][0]["finished"]
    capsys.readouterr()
    assert main([*words, "--again"]) == 0 and capsys.readouterr().out.endswith(" done\n")
    assert read_json(run / "manifest.json")["steps"][0]["finished"] > before
    digest = reuse.file_sha256
    for module, changes in {"splits.py": True, "cli.py": False}.items():  # a module that leads there, and none
        monkeypatch.setattr(
            reuse, "file_sha256", lambda p, module=module: digest(p) + ("x" if Path(p).name == module else "")
        )
        assert changed_steps(run) == (["fish"] if changes else [])
    monkeypatch.setattr(reuse, "file_sha256", digest)
    assert len(versions()) == 4
    with open(fish / "modules" / "fish_study.py", "a", encoding="utf-8") as module:
        module.write("\n# a line more\n")
    assert changed_steps(run) == ["fish"] and versions() == []
    with pytest.raises(ValueError, match="run it again, then publish it"):
        publish(run, fish)


@pytest.mark.parametrize("keep, labels", [(False, {"Tit", "Wren"}), (True, {"Soundscape", "Tit", "Wren"})])
def test_what_is_no_species_is_compared_on_request(tmp_path, keep, labels):
    from avianspec.studies.birds.contract import prepare_birds

    data, run = sounds(tmp_path / "sounds", ("Soundscape", "Tit", "Wren"), n=4), tmp_path / "run"
    run.mkdir()
    parameters = dict(test_folds=1, keep_unnamed=keep)
    prepare_birds(str(data), run, tmp_path / "stores", parameters, seed=0, jobs=1, progress=False)
    assert set(read_text_table(run / "split.csv").recording_id.str.partition("/")[0]) == labels
