"""Tagging: networks as published, folds that survive a kill, a column for every class, noisy labels, submissions."""

import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from conftest import at_work, tone, wait_until

from avianspec.learning.tasks import Task
from avianspec.studies.tagging.clips import (
    TaggingConfig,
    author_folds,
    draw_places,
    load_clips,
    mixed_set,
    n_test_folds,
    open_clips,
    prepare_tagging,
    study_task,
    take_fold,
)
from avianspec.studies.tagging.folds import batches_of, fold_tag, taught_clips, taught_task
from avianspec.studies.tagging.study import run_tagging

DRY = TaggingConfig(
    networks=("mfcc_dry",),
    wave_sr=4000,
    mfcc_sr=16000,
    n_mfcc=20,
    duration_s=1.0,
    n_folds=3,
    epochs=2,
    batch_size=16,
    n_crops=2,
)


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    from avianspec.synthetic.soundbox import make_soundbox

    return make_soundbox(tmp_path_factory.mktemp("tagging") / "box", n_clips=40, progress=False)


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def finished(box, features, tmp_path_factory):
    "A run of both dry networks, its settings and its metrics."
    run, cfg = (
        tmp_path_factory.mktemp("runs") / "both",
        replace(DRY, networks=("wave_dry", "mfcc_dry"), n_folds=2, epochs=1),
    )
    prepare_tagging(box, run, cfg, features, progress=False)
    return run, cfg, run_tagging(open_clips(run), cfg, progress=False)


@pytest.mark.parametrize(
    "n_classes, wave, mfcc", [(41, 360_513, 168_745), (80, 400_644, 171_280), (10, 328_614, 166_730)]
)
def test_networks_have_as_many_parameters_as_the_published_layers(n_classes, wave, mfcc):
    from avianspec.studies.tagging.networks import build_tagging_network

    assert wave == 160 + 2320 + 1568 + 3 * 3104 + 24_832 + 196_864 + 256 * 64 + 64 + 64 * 1028 + 1028 + 1029 * n_classes
    assert mfcc == 1312 + 3 * 40_992 + 4 * 4 * 32 + 640 * 64 + 64 + 4 * 64 + 65 * n_classes
    task = Task(tuple(map(str, range(n_classes))), multi_label=True)
    assert build_tagging_network("wave", task, (32000, 1)).count_params() == wave
    net = build_tagging_network("mfcc", task, (173, 40, 1))
    assert net.count_params() - net.get_layer("standardise").count_params() == mfcc
    assert [layer.output.shape[1:] for layer in net.layers if "pooling" in layer.name] == [
        (86, 20, 32),
        (43, 10, 32),
        (21, 5, 32),
        (10, 2, 32),
    ]
    assert net.layers[-1].activation.__name__ == "sigmoid"


def test_the_mfcc_network_scales_by_training_windows_and_keeps_that_when_saved(tmp_path):
    from avianspec.learning.models import keras
    from avianspec.studies.tagging.networks import build_tagging_network, standardise

    windows = np.random.default_rng(0).normal(-300, 40, (30, 173, 40, 1)).astype("float32")
    model = standardise(build_tagging_network("mfcc", Task(("a", "b")), (173, 40, 1)), windows)
    layer = model.get_layer("standardise")
    np.testing.assert_allclose(np.asarray(layer(windows)).std(axis=0), 1, atol=1e-3)
    model.save(tmp_path / "net.keras")
    again = keras.models.load_model(tmp_path / "net.keras")
    np.testing.assert_allclose(np.asarray(again(windows[:3])), np.asarray(model(windows[:3])), atol=1e-6)


KILLED = """
import sys
from pathlib import Path
from avianspec.studies.tagging.clips import TaggingConfig, open_clips, prepare_tagging
from avianspec.studies.tagging.study import run_tagging
import avianspec.studies.tagging.folds as t
run, features, box = map(Path, sys.argv[1:4])
cfg = TaggingConfig(**eval(sys.argv[4]))
if not (run / "tagging.json").exists(): prepare_tagging(box, run, cfg, features, progress=False)
learn = t._learn
def logged(data, cfg, network, fold, *rest):
    with open(run / "trained.txt", "a") as f: f.write(f"{fold}\\n")
    if len(sys.argv) > 5 and fold == 1:
        import time; time.sleep(600)
    return learn(data, cfg, network, fold, *rest)
t._learn = logged
run_tagging(open_clips(run), cfg, progress=False)
"""


def test_a_study_killed_in_its_second_fold_goes_on_with_it(box, features, tmp_path):
    from dataclasses import asdict

    run = tmp_path / "run"
    run.mkdir()
    words = [run, features, box, repr(asdict(DRY))]
    with at_work(KILLED, *words, "wait", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: (run / "trained.txt").exists() and "1" in (run / "trained.txt").read_text(), process)
        process.kill()
    assert not (run / "metrics.json").exists()
    first = next(run.glob("folds/*/fold0.parquet"))
    before = first.read_bytes(), first.stat().st_mtime_ns
    subprocess.run([sys.executable, "-c", KILLED, *map(str, words)], check=True, capture_output=True)
    assert (run / "trained.txt").read_text().split() == ["0", "1", "1", "2"]  # the first fold was trained once
    assert (first.read_bytes(), first.stat().st_mtime_ns) == before
    assert (run / "metrics.json").exists() and len(list(run.glob("folds/*/fold*.parquet"))) == 3


def test_places_keep_sources_whole_and_use_the_test_part_of_the_set(box):
    table = load_clips(box)
    task = study_task(table, sorted({c for s in table.label for c in s.split(",")}))
    for clips in (table, table[table.published == "curated"].reset_index(drop=True)):
        places = draw_places(clips, task, DRY)
        side = np.where(places.part == "train", "fold " + places.fold.astype(str), places.part)
        assert pd.Series(side).groupby(clips.group.to_numpy()).nunique().max() == 1
        assert (
            set(places.fold[places.part == "train"]) == {0, 1, 2} and (places.fold[places.part != "train"] == -1).all()
        )
        if "test" in set(clips.published):
            assert (places.part == "test").to_numpy().tolist() == (clips.published == "test").tolist()
        else:
            assert (places.part == "test").any()


def test_every_curated_clip_is_tested_once_over_the_test_folds_of_a_seed(box):
    table = load_clips(box).query("published != 'test'").reset_index(drop=True)
    curated = (table.published == "curated").to_numpy()
    task, parts = study_task(table, sorted({c for s in table.label for c in s.split(",")})), set()
    for seed in range(3):
        drawn = [
            draw_places(table, task, replace(DRY, n_folds=2, test_folds=4, test_fold=k, seed=seed)) for k in range(4)
        ]
        tested = np.array([places.part == "test" for places in drawn])
        assert (tested.sum(axis=0) == curated).all()  # once, and no clip with noisy labels
        for places, test in zip(drawn, tested, strict=True):
            assert not set(table.group[test]) & set(table.group[~test])
            train = places[places.part == "train"]
            assert set(train.fold) == {0, 1} and (places.fold[places.part != "train"] == -1).all()
            assert train.fold.groupby(table.group[train.index]).nunique().max() == 1
            assert 0.15 < test.sum() / curated.sum() < 0.35  # a quarter, as far as sources of two clips allow
        parts |= {tuple(test) for test in tested}
    assert len(parts) == 3 * 4  # every seed tests in other parts


def test_a_test_fold_is_prepared_beside_the_others_and_trains_folds_of_its_own(box, tmp_path):
    import shutil

    shutil.copytree(box, tmp_path / "set", ignore=shutil.ignore_patterns("test*", "train_noisy*", "sample_*"))
    tested, tags, table = [], set(), load_clips(tmp_path / "set")
    for k in (0, 1):
        cfg = replace(DRY, n_folds=2, test_folds=2, test_fold=k)
        prepare_tagging(tmp_path / "set", tmp_path / f"run{k}", cfg, tmp_path / "features", progress=False)
        data = open_clips(tmp_path / f"run{k}")
        tested += data.part("part", "test").recording_id.tolist()
        tags.add(fold_tag(data, cfg, "mfcc_dry"))
        assert fold_tag(data, replace(DRY, n_folds=2), "mfcc_dry") in tags  # the places decide, not how they were asked
    assert n_test_folds(table, cfg) == len(tags) == 2
    assert sorted(tested) == sorted(table.recording_id.drop(table.index[table.recording_id.isin(aside(tmp_path))]))
    for k in (0, 1):  # of the run that was prepared for the second fold, each can be taken
        (tmp_path / f"fold{k}").mkdir()
        taken, own = take_fold(tmp_path / "run1", tmp_path / f"fold{k}", str(k + 1)), open_clips(tmp_path / f"run{k}")
        pd.testing.assert_frame_equal(taken.splits, own.splits)
    assert n_test_folds(load_clips(box), cfg) == 1
    with pytest.raises(ValueError, match="brings its own test part"):
        prepare_tagging(box, tmp_path / "own", cfg, tmp_path / "features", progress=False)


def aside(folder):
    "Clips that could not be used."
    return pd.read_csv(folder / "run0" / "quarantine.csv").recording_id


def test_folds_of_the_author_are_stratified_by_label_and_cut_sources_apart(box):
    table = load_clips(box)
    task = study_task(table, sorted({c for s in table.label for c in s.split(",")}))
    cfg = replace(DRY, n_folds=2, labels="single", folds="author")
    ours, authors = draw_places(table, task, replace(cfg, folds="source")), draw_places(table, task, cfg)
    assert (ours.part == authors.part).all()  # tested alike
    train = authors.part == "train"
    assert set(authors.fold[train]) == {0, 1} and (authors.fold[~train] == -1).all()
    single = train & ~table.label.str.contains(",")
    counts = pd.crosstab(table.label[single], authors.fold[single])
    assert (counts[0] - counts[1]).abs().max() <= 1
    n_cut = {
        name: (p.fold[train].groupby(table.group[train]).nunique() > 1).sum()
        for name, p in [("a", authors), ("o", ours)]
    }
    assert n_cut["a"] > 0 == n_cut["o"]
    several = pd.Series(["Bark"] * 9 + ["Bark,Rain"] * 7)
    assert sorted(author_folds(several, 3, 0)[9:]) == [0, 0, 0, 1, 1, 2, 2]
    assert len({tuple(author_folds(several, 3, seed)) for seed in range(5)}) == 5


def test_predictions_have_all_classes_and_submissions_the_required_form(finished, box):
    run, cfg, metrics = finished
    sample, out = pd.read_csv(box / "sample_submission.csv"), pd.read_csv(run / "submission.csv")
    assert (
        list(out) == list(sample)
        and set(out.fname) == set(sample.fname)
        and np.isfinite(out.drop(columns="fname").to_numpy()).all()
    )
    three = pd.read_csv(run / "submission_top3.csv").set_index("fname").label.str.split()
    best = out.set_index("fname").loc[three.index].to_numpy()
    assert [
        labels == [sample.columns[1:][k] for k in np.argsort(-row, kind="stable")[:3]]
        for labels, row in zip(three, best, strict=True)
    ] == [True] * len(three)
    hidden, train = pd.read_parquet(run / "out_of_fold.parquet"), open_clips(run).part("part", "train")
    assert sorted(hidden[hidden.answer == "mfcc_dry"].recording_id) == sorted(train.recording_id)
    assert (
        metrics["n_classes"] == len(sample.columns) - 1
        and metrics["metric"] == "lwlrap"
        and metrics["main_split"] == "test"
    )
    for split in metrics["splits"].values():
        assert split["n_groups"] >= 6
        assert split["network"]["interval"][0] <= split["network"]["lwlrap"] <= split["network"]["interval"][1]


def test_test_predictions_are_means_over_folds_and_networks(finished):
    run, cfg, _ = finished
    data, predictions = open_clips(run), pd.read_parquet(run / "predictions.parquet")

    def answer(name):
        return predictions[predictions.answer == name].filter(regex="^p_").to_numpy()

    folds = {
        n: [
            pd.read_parquet(run / "folds" / fold_tag(data, cfg, n) / f"fold{k}.parquet")
            .query("part == 'test'")
            .filter(regex="^p_")
            .to_numpy()
            .astype(float)
            for k in (0, 1)
        ]
        for n in cfg.networks
    }
    geometric = {n: np.sqrt(a * b) for n, (a, b) in folds.items()}
    for n, (a, b) in folds.items():
        np.testing.assert_allclose(answer(n), geometric[n], atol=1e-6)
        np.testing.assert_allclose(answer(f"{n}, arithmetic"), (a + b) / 2, atol=1e-6)
    np.testing.assert_allclose(
        answer("wave_dry + mfcc_dry"), np.sqrt(geometric["wave_dry"] * geometric["mfcc_dry"]), atol=1e-6
    )
    assert {"wave_dry + mfcc_dry, stack", "wave_dry + mfcc_dry, rank", "majority", "naive_bayes"} <= set(
        predictions.answer
    )


def test_the_author_learns_from_single_labels_and_leaves_other_columns_empty(features, tmp_path):
    rng = np.random.default_rng(0)
    labels = [["Dog", "Cat", "Rain"][k % 3] for k in range(24)] + [
        "Cat,Wind",
        "Rain,Wind",
        "Dog,Wind",
    ] * 2  # wind is never alone
    for part, of_part in (("train_curated", labels), ("test", labels[:3] + labels[-3:])):
        (tmp_path / part).mkdir()
        names = [f"{part}{k:02d}.wav" for k in range(len(of_part))]
        for name in names:
            sf.write(tmp_path / part / name, tone(1.2, 16000, rng.uniform(300, 5000)), 16000)
        pd.DataFrame({"fname": names, "labels": of_part}).to_csv(tmp_path / f"{part}.csv", index=False)
    both = replace(DRY, networks=("wave_dry", "mfcc_dry"))
    cfg, run = replace(both, labels="single", folds="author", n_folds=2, epochs=1), tmp_path / "run"
    prepare_tagging(tmp_path, run, cfg, tmp_path / "features", progress=False)
    data = open_clips(run)
    assert taught_task(data, cfg) == Task(("Cat", "Dog", "Rain"))
    assert data.task == Task(("Cat", "Dog", "Rain", "Wind"), True)
    assert not any("," in s for s in taught_clips(data, cfg, 0)[0].taught)
    metrics = run_tagging(data, cfg, progress=False)
    p = pd.read_parquet(run / "predictions.parquet").query("answer == 'mfcc_dry'").filter(regex="^p_").to_numpy()
    assert p.shape == (6, 4) and (p[:, 3] == 0).all() and np.allclose(p.sum(axis=1), 1, atol=1e-4)
    assert (metrics["n_taught"], metrics["n_classes"]) == (3, 4)
    assert list(metrics["gains"]) == ["folds of wave_dry", "folds of mfcc_dry", "networks"]
    check_submissions(data, cfg, run)


def check_submissions(data, cfg, run):
    "One of each fold, each network, and of all; their contents are those of the folds, and their geometric means."
    wanted = {f"{n}{part}{end}.csv" for n in cfg.networks for part in ("", "_fold0", "_fold1") for end in ("", "_top3")}
    assert {p.name for p in (run / "submissions").iterdir()} == wanted
    names, by_network = [f"test{k:02d}.wav" for k in range(6)], []

    def written(name):
        table, three = pd.read_csv(run / f"{name}.csv"), pd.read_csv(run / f"{name}_top3.csv")
        assert list(table) == ["fname", "Cat", "Dog", "Rain", "Wind"] and list(three) == ["fname", "label"]
        assert table.fname.tolist() == three.fname.tolist() == names and (table.Wind == 0).all()
        for row, labels in zip(table.to_dict("records"), three.label, strict=True):
            assert labels.split() == sorted(["Cat", "Dog", "Rain"], key=row.get, reverse=True)
        return table[["Cat", "Dog", "Rain"]].to_numpy()

    for n in cfg.networks:
        folds = []
        for k in (0, 1):
            kept = pd.read_parquet(run / "folds" / fold_tag(data, cfg, n) / f"fold{k}.parquet").query("part == 'test'")
            folds.append(written(f"submissions/{n}_fold{k}"))
            np.testing.assert_allclose(folds[-1], kept.filter(regex="^p_").to_numpy()[:, :3], atol=1e-6)
        by_network.append(written(f"submissions/{n}"))
        np.testing.assert_allclose(by_network[-1], geometric_mean(*folds), atol=1e-6)
    np.testing.assert_allclose(written("submission"), geometric_mean(*by_network), atol=1e-6)


def geometric_mean(a, b):
    "Of probabilities of one label: they add up to 1 again."
    return np.sqrt(a * b) / np.sqrt(a * b).sum(axis=1, keepdims=True)


def test_noisy_labels_change_what_is_learned_and_how_much_it_counts_and_nothing_else(finished):
    run, cfg, _ = finished
    data = open_clips(run)
    without, none = taught_clips(data, replace(cfg, noisy="without"), 0)
    with_, equal = taught_clips(data, replace(cfg, noisy="with"), 0)
    down, weights = taught_clips(data, replace(cfg, noisy="down", noisy_weight=0.25), 0)
    train, noisy = (set(data.part("part", part).recording_id) for part in ("train", "noisy"))
    first_fold = set(data.part("fold", 0).recording_id)
    assert none is None and equal is None and set(without.recording_id) == train - first_fold
    assert with_.recording_id.tolist() == down.recording_id.tolist()
    assert set(with_.recording_id) == train - first_fold | noisy
    assert weights.tolist() == np.where(down.recording_id.isin(noisy), 0.25, 1).tolist()
    a = batches_of(data, with_, with_.taught, "mfcc_dry", cfg, data.task, shuffle=True)[0]
    b = batches_of(data, down, down.taught, "mfcc_dry", cfg, data.task, shuffle=True, weights=weights)[0]
    assert len(a) == 2 and len(b) == 3 and (a[0] == b[0]).all() and (a[1] == b[1]).all()
    assert set(np.unique(b[2])) <= {np.float32(0.25), np.float32(1)}
    assert len({fold_tag(data, replace(cfg, noisy=n), "mfcc_dry") for n in ("without", "with", "down")}) == 3


def test_wrong_labels_are_taught_but_never_validated_or_tested_on(box):
    table = load_clips(box).query("published == 'curated'").reset_index(drop=True)
    task = study_task(table, sorted({c for s in table.label for c in s.split(",")}))
    clean, spoilt = draw_places(table, task, DRY), draw_places(table, task, replace(DRY, corrupted_share=0.4))
    assert (clean[["part", "fold"]] == spoilt[["part", "fold"]]).all(axis=None)
    wrong = (spoilt.taught != table.label).to_numpy()
    assert (
        wrong.sum() == round(0.4 * (clean.part == "train").sum())
        and (spoilt.part[wrong] == "train").all()
        and (spoilt.noisy == wrong).all()
    )


def test_clips_to_validate_on_stay_clean(box, features, tmp_path, monkeypatch):
    "What a fold hands to training: taught labels, weights and changes to learn from, and the fold as it is to watch."
    from avianspec.learning import training as learning
    from avianspec.studies.tagging.folds import train_folds

    clips = tmp_path / "curated"
    shutil.copytree(box, clips, ignore=shutil.ignore_patterns("train_noisy*"))
    wrong = dict(corrupted_share=0.5, noisy="down", noisy_weight=0.25, augmentation="mixup=1")
    cfg, run, handed = replace(DRY, n_folds=2, **wrong), tmp_path / "run", []

    def stop(model, settings, training, validation, *rest, **more):
        handed.append((training, validation))
        raise KeyboardInterrupt

    monkeypatch.setattr(learning, "fit", stop)
    prepare_tagging(clips, run, cfg, features, progress=False)
    data = open_clips(run)
    with pytest.raises(KeyboardInterrupt):
        train_folds(data, cfg, run / "folds", run / "states", progress=False)
    (training, validation), hidden = handed[0], data.part("fold", 0)
    assert (hidden.taught != hidden.label).any() and validation.weights is None and not validation.shuffle
    for epoch in (0, 1):
        validation.set_epoch(epoch)
        x, y = (np.concatenate(z) for z in zip(*(validation[i] for i in range(len(validation))), strict=True))
        np.testing.assert_array_equal(y, data.task.targets(hidden.label))
        np.testing.assert_array_equal(x, validation.windows(epoch)[0])
    rows, weights = taught_clips(data, cfg, 0)
    np.testing.assert_array_equal(training.targets, data.task.targets(rows.taught))
    np.testing.assert_array_equal(training.weights, weights)
    assert set(weights) == {0.25, 1} and training.shuffle and training.augmentation


def test_a_test_part_without_labels_is_predicted_and_not_scored(box, features, tmp_path):
    secret = tmp_path / "secret"
    shutil.copytree(box, secret, ignore=shutil.ignore_patterns("test_post_competition.csv", "train_noisy*"))
    cfg, run = replace(DRY, n_folds=2, epochs=1), tmp_path / "run"
    prepare_tagging(secret, run, cfg, tmp_path / "features", progress=False)
    metrics = run_tagging(open_clips(run), cfg, progress=False)
    assert set(metrics["splits"]) == {"out_of_fold"} and metrics["main_split"] == "out_of_fold"
    assert set(pd.read_csv(run / "submission.csv").fname) == set(pd.read_csv(secret / "sample_submission.csv").fname)


def test_mixtures_have_two_labels_and_sources_on_one_side(box, tmp_path):
    mixed = mixed_set(box, tmp_path / "mixed", 24, 6, 0, progress=False)
    table = load_clips(mixed)
    assert mixed_set(box, tmp_path / "mixed", 0, 6, 0) == str(box) and (table.label.str.count(",") == 1).all()
    task = study_task(table, sorted({c for s in table.label for c in s.split(",")}))
    places, parents = (
        draw_places(table, task, replace(DRY, n_folds=2)),
        pd.read_csv(tmp_path / "mixed/train_curated.csv"),
    )
    side = dict(zip(places.recording_id, places.part, strict=True))
    source = pd.read_csv(box / "train_curated.csv").assign(i=lambda t: t.fname.str[:-4]).set_index("i").source_clip
    used = {
        part: {
            source[p]
            for name, both in zip(parents.fname, parents.parents, strict=True)
            if side[name[:-4]] == part
            for p in both.split(" + ")
        }
        for part in ("train", "test")
    }
    assert used["test"] and not used["train"] & used["test"]


def test_what_is_wrong_is_said(box, tmp_path):
    for bad, word in (
        (dict(networks=("resnet",)), "wave, mfcc"),
        (dict(noisy="maybe"), "without, with, down"),
        (dict(labels="few"), "all, single"),
        (dict(folds="label"), "source, author"),
        (dict(folds="author"), "labels=single"),
        (dict(test_fold=1), "0 to test_folds - 1"),
        (dict(test_folds=3, test_fold=3), "0 to test_folds - 1"),
        (dict(test_folds=3, test_fold=-1), "0 to test_folds - 1"),
        (dict(n_folds=1), "2 folds"),
        (dict(noisy_weight=2.0), "between 0 and 1"),
        (dict(augmentation="mixup"), "name=value"),
    ):
        with pytest.raises(ValueError, match=word):
            replace(DRY, **bad)
    (tmp_path / "empty").mkdir()
    with pytest.raises((ValueError, FileNotFoundError), match="empty"):
        prepare_tagging(tmp_path / "empty", tmp_path / "run", DRY, progress=False)
    with pytest.raises(ValueError, match="several labels"):
        prepare_tagging(box, tmp_path / "run", replace(DRY, task="single"), tmp_path / "features", progress=False)


def test_every_experiment_of_the_catalogue_has_settings():
    from avianspec.runs.catalogue import load_catalogue
    from avianspec.studies.tagging.contract import settings_of

    tagging = {name: e for name, e in load_catalogue().items() if name.startswith("tagging-")}
    wanted = (
        "wave mfcc dry author multi noisy-without noisy-with noisy-down augment between-class ensemble dictionary ours"
    )
    assert {f"tagging-{name}" for name in wanted.split()} == set(tagging)
    full = {name: settings_of(e.parameters) for name, e in tagging.items()}
    assert (
        full["tagging-wave"].n_folds == 10
        and full["tagging-dry"].n_folds == 2
        and full["tagging-ensemble"].networks == ("wave", "mfcc")
        and full["tagging-author"].networks == ("wave", "mfcc")
        and (full["tagging-author"].labels, full["tagging-author"].folds) == ("single", "author")
    )
