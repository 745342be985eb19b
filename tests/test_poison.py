"""The test part poisoned: its labels wrong, its sounds and pictures made absurd. Nothing chosen or fitted may change.

Each study has one function that opens its small run, clean or poisoned, and one or more that say what was chosen and
fitted there: predictions of other parts, curves, weights, temperatures. Clean and poisoned must agree to the last bit.
"""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from avianspec.data.recordings import validate
from avianspec.files import read_json, write_json
from avianspec.learning.dataset import open_run
from avianspec.learning.picture_batches import demo_images, open_images
from avianspec.learning.predictions import probabilities_of
from avianspec.learning.settings import TrainingConfig, WindowConfig
from avianspec.scoring.benchmark import run_baselines
from avianspec.scoring.leaks import metadata_predict
from avianspec.studies.tagging.answers import baselines, clip_summary, combined_answers, naive_bayes
from avianspec.studies.tagging.clips import TaggingConfig, open_clips, prepare_tagging
from avianspec.studies.tagging.folds import taught_clips

ABSURD = 1e4  # far from every sound, and still a number that every baseline takes


def assert_same(clean, poisoned):
    "The same to the last bit: dictionaries of tables, arrays, numbers."
    assert clean.keys() == poisoned.keys() and clean
    for name, value in clean.items():
        if isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(value, poisoned[name], check_exact=True, obj=name)
        else:
            np.testing.assert_array_equal(np.asarray(value), np.asarray(poisoned[name]), err_msg=name)


def own_stores(run, facts_file):
    "Copies of a run's stores inside it, which its own file of facts then names; their folders by kind."
    facts = read_json(run / facts_file)
    places = facts["stores"] if "stores" in facts else {"": facts["folder"]}
    copies = {kind: run / f"store-{kind}" for kind in places}
    for kind, place in places.items():
        shutil.copytree(place, copies[kind])
    named = {kind: str(place) for kind, place in copies.items()}
    write_json(run / facts_file, facts | (dict(stores=named) if "stores" in facts else dict(folder=named[""])))
    return copies


def spoil_store(store, recording_ids, absurd=ABSURD):
    "Write nonsense into the rows of some recordings, and into what is known of them."
    rows = store.index.index.get_indexer(list(recording_ids))
    assert len(rows) and (rows >= 0).all()
    for name, array in store.arrays(store.config).items():
        values = np.load(store.data / f"{name}.npy", mmap_mode="r+")
        for k, recording_id in zip(rows, recording_ids, strict=True):
            values[k if array.one_each else store.span(recording_id)] = absurd
        values.flush()
    index = pd.read_parquet(store.data / "index.parquet")
    index.loc[rows, "duration_s"] = absurd
    index.to_parquet(store.data / "index.parquet")


def wrong_labels(labels):
    "Every label replaced by the next class: none is right any more."
    classes = sorted({c for label in labels for c in label.split(",")})
    following = dict(zip(classes, [*classes[1:], classes[0]], strict=True))
    return [",".join(sorted(following[c] for c in label.split(","))) for label in labels]


def mislabelled(data, split):
    "A dataset whose items to test on all have the label that is rarest in the training part."
    counts, labels = data.part(split, "train").label.value_counts(), data.items.label.copy()
    labels[data.on_side(split, "test")] = max(counts.index[counts == counts.min()])
    return replace(data, items=data.items.assign(label=labels))


def spoil_labels(run, recording_ids):
    "Wrong labels of some recordings in a run's table."
    table = pd.read_csv(run / "recordings.csv", dtype=str, keep_default_na=False)
    here = table.recording_id.isin(list(recording_ids))
    assert here.any()
    table.loc[here, "label"] = wrong_labels(table.label[here])
    table.to_csv(run / "recordings.csv", index=False)


# ---- birds -----------------------------------------------------------------------------------------------------------


def bird_run(source, run, poisoned, by="recordist"):
    "The demonstration run, opened; poisoned: the test part of one way to split."
    shutil.copytree(source, run)
    own_stores(run, "features.json")
    if poisoned:
        data = open_run(run)
        ids = list(data.part(by, "test").recording_id)
        spoil_store(data.store, ids)
        spoil_labels(run, ids)
    return open_run(run)


@pytest.fixture(scope="module")
def birds(demo, tmp_path_factory):
    "Both runs, and what must differ between them where the poison has come in."
    folder = tmp_path_factory.mktemp("birds")
    both = [bird_run(demo, folder / name, name == "poisoned") for name in ("clean", "poisoned")]
    test = both[0].on_side("recordist", "test")
    assert (both[0].items.label[test] != both[1].items.label[test]).all()
    assert (both[0].items.label[~test] == both[1].items.label[~test]).all()
    assert (both[1].store[both[1].items.recording_id[test].iloc[0]]["mfcc"] == ABSURD).all()
    return both


def learned_baselines(data, by):
    found = run_baselines(data.items, data.splits[["recording_id", by]], data.store, WindowConfig())
    return found[["baseline", "recording_id", "set", "predicted"]]


def test_birds_baselines(birds):
    clean, poisoned = (learned_baselines(data, "recordist").query("set == 'train'") for data in birds)
    assert set(clean.baseline) >= {"majority", "no_audio", "duration", "naive_bayes"}
    assert_same(dict(answers=clean), dict(answers=poisoned))


@pytest.mark.parametrize("by", ["recording", "recordist"])
def test_birds_baselines_whatever_the_labels_to_be_guessed(birds, by):
    data = birds[0]
    assert_same(*(dict(answers=learned_baselines(d, by)) for d in (data, mislabelled(data, by))))


def test_birds_cross_validation(birds):
    from avianspec.learning.training import cross_validate, example_network
    from avianspec.scoring.calibration import class_thresholds, fit_temperature
    from avianspec.scoring.metrics import one_hot

    def learned(data):
        cfg = TrainingConfig(epochs=2, batch_size=16, learning_rate=3e-3)
        history, hidden = cross_validate(example_network, data, cfg, n_folds=1, progress=False)
        p, truth = probabilities_of(hidden), one_hot(hidden.label, data.classes)
        thresholds = class_thresholds(p, truth, data.classes, 0.5)
        return dict(history=history, hidden=hidden, temperature=fit_temperature(p, truth), thresholds=thresholds)

    assert_same(*map(learned, birds))


def test_birds_final_network(birds):
    from avianspec.learning.saved_model import load_saved_model
    from avianspec.learning.training import example_network, train_final

    def learned(data):
        cfg = TrainingConfig(epochs=2, batch_size=16, learning_rate=3e-3)
        history, _ = train_final(example_network, data, cfg, crop_seeds=1, progress=False)
        saved = load_saved_model(data.run / "models" / "recordist.keras")
        scale = {f"{k} {what}": getattr(s, what) for k, s in saved.statistics.items() for what in ("mean", "std")}
        weights = {f"weights {k}": w for k, w in enumerate(saved.model.get_weights())}
        return dict(history=history, classes=saved.classes, **scale, **weights)

    assert_same(*map(learned, birds))


def small_listener(whitening="quantile", background=0.0):
    "Settings of both members, so small that they learn in a second."
    from avianspec.learning.listeners import ListenerConfig
    from avianspec.learning.residual import ResidualConfig
    from avianspec.learning.unsupervised import DictionaryConfig

    patches = dict(lengths=(8,), n_atoms=16, n_patches=800, n_dims=16, shifts=(0,), whitening=whitening)
    network = dict(filters=(4, 4, 4, 4), n_head=4, steps=3, batch_size=4, background=background)
    return ListenerConfig(DictionaryConfig(**patches, window_s=1.0), ResidualConfig(**network, window_s=1.0))


def all_learnt(listener):
    return {f"{m.name} {name}": a for m in listener.members for name, a in m.arrays().items()}


@pytest.mark.parametrize("per_label, background, whitening", [(0, 0.0, "quantile"), (3, 0.5, "pcen")])
def test_birds_listeners(birds, per_label, background, whitening):
    from avianspec.learning.listener_runs import learn_items

    def learned(data):
        items = replace(data, per_label=per_label).fold("recordist", "test").part("recordist", "train")
        model = learn_items(data, items, small_listener(whitening, background), progress=False)
        return all_learnt(model) | dict(items=items.recording_id)

    assert_same(*map(learned, birds))


def test_metadata_baseline():
    rng = np.random.default_rng(0)
    n = 60
    table = validate(
        pd.DataFrame(
            {
                "recording_id": [f"r{k:02d}" for k in range(n)],
                "path": "x",
                "label": rng.choice(["owl", "tit", "wren"], n),
                "recordist": rng.choice(["Ann", "Bo", "Cy"], n),
                "type": rng.choice(["call", "song", "call, hoot"], n),
                "latitude": rng.normal(size=n),
            }
        )
    )
    train = np.arange(n) < 40
    odd = dict(label=wrong_labels(table.label[~train]), type="drumming", recordist="Bo", latitude=ABSURD)
    poisoned = table.copy()
    for column, value in odd.items():
        poisoned.loc[~train, column] = value
    clean, other = (metadata_predict(t, train)[train] for t in (table, poisoned))
    assert clean.tolist() == other.tolist()
    labels = table.label.where(train, "wren")
    assert metadata_predict(table, train).tolist() == metadata_predict(table.assign(label=labels), train).tolist()


# ---- music -----------------------------------------------------------------------------------------------------------


def job(study, run, out, parameters, split):
    "A training of a study on a prepared run."
    from avianspec.scoring.jobs import Job

    out.mkdir(parents=True)
    return Job(f"{study}-poison", parameters, 0, split, "test", run, out, out / "shared")


def music_run(run, poisoned):
    "Pictures of a small band; poisoned: those of the test tracks, and their labels."
    shutil.copytree(demo_images(), run, ignore=shutil.ignore_patterns("training"))
    own_stores(run, "images.json")
    if poisoned:
        ids = list(open_images(run).part("track", "test").recording_id.unique())
        spoil_store(open_images(run).store, ids, 255)
        spoil_labels(run, ids)
    data = open_images(run)
    test = data.part("track", "test")
    assert ((data.store.images[data.store.rows(test.clip_id)] == 255).all()) == poisoned
    return run


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    folder = tmp_path_factory.mktemp("music")
    return [music_run(folder / name, name == "poisoned") for name in ("clean", "poisoned")]


def test_music_baselines(music):
    from avianspec.studies.music.study import baseline_labels

    def learned(data):
        return baseline_labels(data, "track").drop(columns="label")

    clean, poisoned = (learned(open_images(run)).query("part != 'test'") for run in music)
    assert_same(dict(answers=clean), dict(answers=poisoned))
    data = open_images(music[0])
    assert_same(*(dict(answers=learned(d)) for d in (data, mislabelled(data, "track"))))


def test_music_network(music):
    from avianspec.studies.music.contract import STUDY

    quick = dict(network="1", epochs=4, batch_size=32, patience=1, learning_rate=3e-3, precision="float32")

    def learned(run):
        one = job("music", run, run / "out", quick, "track")
        predictions, facts = STUDY.train(one)
        kept = predictions[predictions.part == "validation"].reset_index(drop=True)
        assert len(kept)
        return dict(validation=kept, history=pd.read_csv(one.out / "history.csv"), epochs=facts["epochs"])

    assert_same(*map(learned, music))


def test_music_listeners(music):
    from avianspec.learning.listener_runs import listen
    from avianspec.studies.music.listeners import open_heard, prepare_heard

    def learned(run):
        prepare_heard(run, run / "stores", progress=False)
        data = open_heard(run)
        if run.name == "poisoned":
            spoil_store(data.stores["spectrogram"], list(data.part("track", "test").recording_id.unique()))
            data = open_heard(run)
        model, predictions, _ = listen(data, "track", small_listener(), progress=False)
        return dict(all_learnt(model), known=predictions[predictions.part != "test"].reset_index(drop=True))

    assert_same(*map(learned, music))


# ---- speech ----------------------------------------------------------------------------------------------------------


def test_speech_listeners(tmp_path):
    from avianspec.learning.listener_runs import listen
    from avianspec.sound.whitening import FINE
    from avianspec.stores.preprocessing import build_store
    from avianspec.studies.speech.recordings import demo_speech, open_speech

    def learned(poisoned):
        data = open_speech(demo_speech())
        store = build_store(data.items, FINE, tmp_path / f"poisoned-{poisoned}", progress=False)
        if poisoned:
            spoil_store(store, list(data.part("speaker", "test").recording_id))
            data = mislabelled(data, "speaker")
        model, said, _ = listen(
            replace(data, stores={"spectrogram": store}), "speaker", small_listener(), progress=False
        )
        return dict(all_learnt(model), known=said[said.part != "test"].reset_index(drop=True))

    assert_same(*map(learned, (False, True)))


# ---- transfer --------------------------------------------------------------------------------------------------------


def transfer_run(run, poisoned):
    "Pictures of a few synthetic birds; poisoned: those of the test part, and their labels."
    from avianspec.studies.transfer.recordings import demo_transfer, open_transfer

    shutil.copytree(demo_transfer(), run)
    own_stores(run, "images.json")
    if poisoned:
        data = open_transfer(run)
        ids = list(data.part("recordist", "test").recording_id)
        spoil_store(data.store, ids, 255)
        spoil_labels(run, ids)
    data = open_transfer(run)
    assert (
        (data.store.images[data.store.span(data.part("recordist", "test").recording_id.iloc[0])] == 255).all()
    ) == poisoned
    return data


@pytest.fixture(scope="module")
def transfer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("transfer")
    return [transfer_run(folder / name, name == "poisoned") for name in ("clean", "poisoned")]


def test_transfer_baselines(transfer):
    from avianspec.studies.transfer.study import transfer_baselines

    def learned(data):
        train = data.on_side("recordist", "train")
        return {name: np.asarray(labels, str)[train] for name, labels in transfer_baselines(data).items()}

    assert_same(*map(learned, transfer))
    data = transfer[0]
    assert_same(*(transfer_baselines(d) for d in (data, mislabelled(data, "recordist"))))


def test_transfer_network(transfer):
    from avianspec.studies.transfer.recordings import TransferConfig
    from avianspec.studies.transfer.study import train_transfer

    def learned(data):
        cfg = TransferConfig("mobilenet_v3", "random", input_size=64, first_epochs=0, fine_epochs=2, batch_size=8)
        model, history = train_transfer(data, cfg, progress=False)
        return dict(history=history, **{f"weights {k}": w for k, w in enumerate(model.get_weights())})

    assert_same(*map(learned, transfer))


# ---- tagging ---------------------------------------------------------------------------------------------------------

SMALL = TaggingConfig(
    networks=("wave_dry", "mfcc_dry"),
    wave_sr=4000,
    mfcc_sr=16000,
    n_mfcc=20,
    duration_s=1.0,
    n_folds=2,
    epochs=2,
    patience=1,
    batch_size=16,
    n_crops=1,
    precision="float32",
)


def tagging_run(source, run, poisoned):
    "A run of a small soundbox; poisoned: its test clips."
    shutil.copytree(source, run)
    own_stores(run, "tagging.json")
    if poisoned:
        data = open_clips(run)
        ids = list(data.part("part", "test").recording_id)
        for store in data.stores.values():
            spoil_store(store, ids)
        spoil_labels(run, ids)
        split = pd.read_csv(run / "split.csv", dtype=str, keep_default_na=False)
        split.loc[split.part == "test", "taught"] = wrong_labels(split.taught[split.part == "test"])
        split.to_csv(run / "split.csv", index=False)
    return run


@pytest.fixture(scope="module")
def tagging(tmp_path_factory):
    from avianspec.synthetic.soundbox import make_soundbox

    folder = tmp_path_factory.mktemp("tagging")
    box = make_soundbox(folder / "box", n_clips=36, progress=False)
    prepare_tagging(box, folder / "source", SMALL, progress=False)
    both = [tagging_run(folder / "source", folder / name, name == "poisoned") for name in ("clean", "poisoned")]
    test = [open_clips(run).part("part", "test") for run in both]
    assert len(test[0]) and (test[0].label != test[1].label).all()
    return both


def test_tagging_teaches_neither_the_hidden_fold_nor_test_clips(tagging):
    for data in map(open_clips, tagging):
        for fold in range(SMALL.n_folds):
            rows, _ = taught_clips(data, SMALL, fold)
            hidden, test = data.part("fold", fold), data.part("part", "test")
            others = data.items[data.on_side("part", "train") & ~data.on_side("fold", fold)]
            assert set(rows.recording_id) == set(others.recording_id) and len(hidden)
            assert not set(rows.recording_id) & (set(hidden.recording_id) | set(test.recording_id))
            assert not set(rows.group) & set(hidden.group)


def test_tagging_baselines_of_a_fold_do_not_know_it(tagging):
    data = open_clips(tagging[0])
    train, hidden = data.part("part", "train"), data.on_side("fold", 0)
    wrong = data.items.label.to_numpy(dtype=object)
    wrong[hidden] = wrong_labels(wrong[hidden])
    here = hidden[data.on_side("part", "train")]
    clean, spoilt = (
        baselines(replace(data, items=data.items.assign(label=labels)), "out_of_fold", SMALL.n_folds)
        for labels in (data.items.label, wrong)
    )
    for name in ("majority", "naive_bayes"):
        np.testing.assert_array_equal(clean[name][here], spoilt[name][here], err_msg=name)
    share = (data.task.targets(train.label[~here]) > 0).mean(axis=0)
    np.testing.assert_allclose(clean["majority"][here][0], share)


def test_tagging_baselines(tagging):
    assert_same(*(baselines(open_clips(run), "out_of_fold", SMALL.n_folds) for run in tagging))


def test_tagging_clips_are_judged_alone(tagging):
    data = open_clips(tagging[0])
    train, test = data.part("part", "train"), data.part("part", "test")
    x, others = (clip_summary(data.stores["mfcc"], part.recording_id) for part in (train, test))
    truth = data.task.targets(train.label) > 0
    together, absurd = (naive_bayes(x, truth, rows, data.task) for rows in (others, np.vstack([others, 1e4 * others])))
    np.testing.assert_array_equal(together, absurd[: len(others)])


def test_tagging_stack(tagging):
    "Labels of the test clips decide nothing: even the answers for those clips stay as they are."

    def learned(run):
        data, rng = open_clips(run), np.random.default_rng(0)
        n_train, n_test, k = len(data.part("part", "train")), len(data.part("part", "test")), len(data.classes)
        members = {n: (rng.random((n_train, k)), rng.random((SMALL.n_folds, n_test, k))) for n in SMALL.networks}
        test, hidden = combined_answers(data, members)
        assert "wave_dry + mfcc_dry, stack" in test
        return {f"test {n}": p for n, p in test.items()} | {f"out of fold {n}": p for n, p in hidden.items()}

    assert_same(*map(learned, tagging))


def test_tagging_networks(tagging):
    from avianspec.studies.tagging.contract import STUDY

    facts = {name: getattr(SMALL, name) for name in SMALL.__dataclass_fields__ if name not in ("networks", "seed")}

    def learned(run):
        one = job("tagging", run, run / "out", facts | dict(networks=" ".join(SMALL.networks)), "source")
        answers, _ = STUDY.train(one)
        hidden = answers[answers.part == "validation"].reset_index(drop=True)
        assert {"", *SMALL.networks} <= set(hidden.answer)
        return dict(hidden=hidden, history=pd.read_csv(one.out / "history.csv"))

    assert_same(*map(learned, tagging))


def test_tagging_listeners(tagging):
    from avianspec.sound.whitening import FINE
    from avianspec.stores.preprocessing import build_store
    from avianspec.studies.tagging.listeners import listen_to_clips

    def learned(run):
        data = open_clips(run)
        store = build_store(data.items, FINE, run / "heard", progress=False)
        if run.name == "poisoned":
            spoil_store(store, list(data.part("part", "test").recording_id))
        data = replace(data, stores=dict(data.stores, spectrogram=store))
        return all_learnt(listen_to_clips(data, small_listener(), progress=False)[0])

    assert_same(*map(learned, tagging))
