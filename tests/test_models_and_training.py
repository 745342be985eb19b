"""Published parameter counts; training that is killed and resumed is the same training."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import at_work, wait_until

from avianspec.data.splits import GROUPS
from avianspec.files import read_json, read_text_table
from avianspec.learning.dataset import open_run
from avianspec.learning.generator import Batches, part_generator
from avianspec.learning.settings import TrainingConfig, WindowConfig
from avianspec.learning.tasks import Task

TRAIN = """
import sys
from pathlib import Path
from avianspec.learning.dataset import open_run
from avianspec.learning.generator import part_generator
from avianspec.learning.settings import TrainingConfig, WindowConfig
from avianspec.learning.training import train
from avianspec.studies.birds.networks import bird_network
run = Path(sys.argv[1])
cfg = TrainingConfig(epochs=6, batch_size=8, checkpoint_every=2)
data = open_run(run)
part = data.part("recordist", "train")[:16]
batches = part_generator(data, part, data.statistics(part), WindowConfig(), cfg, shuffle=True)
model, curve = train(bird_network, cfg, batches, batches, Path(sys.argv[2]) / "state.npz", progress=False)
curve.to_csv(Path(sys.argv[2]) / "curve.csv", index=False)
model.save_weights(Path(sys.argv[2]) / "end.weights.h5")
"""


def weights(path):
    "All arrays of a weights file."
    import h5py

    found = {}
    with h5py.File(path) as f:
        f.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def test_published_parameter_counts():
    from avianspec.studies.birds.networks import build_network

    assert build_network("v20", (128, 128, 1), 91).count_params() == 80_411
    assert build_network("v18", (128, 148, 1), 91).count_params() == 80_411
    assert build_network("v17", (128, 148, 1), 91).count_params() == 600 + 2 * 32_460 + 60 * 91 + 91
    assert build_network("v16", (128, 148, 1), 91).count_params() == 320 + 2 * 16_448 + 64 * 91 + 91
    with pytest.raises(ValueError, match="no network 'v99'; there are v16, v17, v18, v20"):
        build_network("v99", (128, 128, 1), 91)
    with pytest.raises(ValueError, match="does not fit windows of 16 frames"):
        build_network("v20", (16, 128, 1), 91)


def test_parameter_counts_of_the_networks_the_study_wished_for():
    from avianspec.studies.birds.networks import build_network

    assert build_network("v20_mfcc", (128, 20, 1), 91).count_params() == 80_411  # v20 with other pools
    # mel 3x3x1x64+64, MFCC 3x20x1x32+32, joined 3x3x96x64+64, 3x3x64x64+64, 64x91+91
    assert build_network("two_branches", (128, 148, 1), 91).count_params() == 640 + 1_952 + 55_360 + 36_928 + 5_915
    assert (
        build_network("two_branches", (128, 141, 1), 91, n_mfcc=13).count_params()
        == 640 + (3 * 13 * 32 + 32) + 55_360 + 36_928 + 5_915
    )
    # first 288; blocks of 32, 64 and 128 filters: 2 x 9,216; 18,432 + 36,864 + 2,048; 73,728 + 147,456 + 8,192;
    # four numbers a channel in seven normalisations; 128x91+91
    assert (
        build_network("deeper", (128, 128, 1), 91).count_params()
        == 288 + 18_432 + 57_344 + 229_376 + 4 * (3 * 32 + 2 * 64 + 2 * 128) + 11_739
        <= 500_000
    )


def test_two_branches_keep_mel_bands_and_mfccs_apart_in_the_first_block():
    from avianspec.learning.models import keras
    from avianspec.studies.birds.networks import build_network

    model = build_network("two_branches", (128, 148, 1), 5)
    first = keras.Model(model.input, [model.get_layer("mel_bands").output, model.get_layer("mfcc").output])
    x = np.random.default_rng(0).standard_normal((2, 128, 148, 1)).astype("float32")
    mel, cepstra = first.predict_on_batch(x)
    np.testing.assert_array_equal(mel, x[:, :, :128])
    np.testing.assert_array_equal(cepstra, x[:, :, 128:])
    other = x.copy()
    other[:, :, 128:] += 1
    assert np.abs(model.predict_on_batch(x) - model.predict_on_batch(other)).max() > 1e-5  # both are heard


@pytest.mark.parametrize("name, combine", [("two_branches", "overwrite"), ("v20_mfcc", "spectrogram")])
def test_a_network_made_for_other_windows_is_refused(demo, tmp_path, name, combine):
    from avianspec.learning.training import train
    from avianspec.studies.birds.networks import bird_network

    data, cfg = open_run(demo), TrainingConfig(name, epochs=1, batch_size=4)
    batches = part_generator(data, data.items[:8], data.statistics(data.items), WindowConfig(combine=combine), cfg)
    with pytest.raises(ValueError, match=f"{name} takes windows with combine=.*got {combine}"):
        train(bird_network, cfg, batches, None, tmp_path / "s.npz", progress=False)


@pytest.mark.parametrize(
    "name, combine", [("v20_mfcc", "mfcc"), ("two_branches", "concatenate"), ("deeper", "overwrite")]
)
def test_wished_for_networks_learn_and_are_loaded_as_they_were(demo, tmp_path, name, combine):
    from avianspec.learning.predictions import predict
    from avianspec.learning.saved_model import SavedModel, load_saved_model, save_model
    from avianspec.learning.training import train
    from avianspec.studies.birds.networks import bird_network

    data = open_run(demo)
    part, statistics = data.items[:16], data.statistics(data.items)
    cfg = TrainingConfig(name, epochs=8, batch_size=8, learning_rate=3e-3, dropout=0.0)
    windows = WindowConfig(64 if combine != "mfcc" else 128, combine)
    batches = part_generator(data, part, statistics, windows, cfg, shuffle=True)
    model, curve = train(bird_network, cfg, batches, None, tmp_path / "s.npz", progress=False)
    assert curve.loss.iloc[-1] < curve.loss.iloc[0]
    facts = dict(statistics=statistics, split="recordist")
    save_model(tmp_path / "m.keras", SavedModel(model, data.task, "spectrogram", data.store.config, windows, **facts))
    x, _ = batches.windows(0)
    again = load_saved_model(tmp_path / "m.keras")
    assert {k: (s.mean, s.std) for k, s in again.statistics.items()} == {
        k: (s.mean, s.std) for k, s in statistics.items()
    }
    np.testing.assert_allclose(predict(again.model, x), predict(model, x), atol=1e-5)
    assert (again.classes, again.windows, again.network, again.split) == (data.classes, windows, name, "recordist")


def test_jax_need_not_compile_a_network_for_every_number_of_windows(monkeypatch):
    from avianspec.learning.models import conv_net, keras
    from avianspec.learning.predictions import predict

    model, asked = conv_net((64, 64, 1), 3), []
    x, ask = np.random.default_rng(0).random((70, 64, 64, 1), np.float32), model.predict_on_batch
    monkeypatch.setattr(model, "predict_on_batch", lambda some: asked.append(len(some)) or ask(some))
    expected = predict(model, x)
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    np.testing.assert_allclose(predict(model, x), expected, atol=1e-6)
    assert predict(model, x[:1]).shape == (1, 3) and asked == [64, 6, 64, 8, 1]
    assert predict(model, x, 48).shape == (70, 3) and asked[5:] == [48, 32]  # no more than was asked for
    assert os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"  # several trainings share a GPU


def networks_of_all_studies():
    "A network of each kind with its window: convolutions, branches, residuals, pictures, waves, standardised MFCCs."
    from avianspec.learning.tasks import Task
    from avianspec.studies.birds.networks import build_network
    from avianspec.studies.music.networks import build_music_network
    from avianspec.studies.tagging.networks import build_tagging_network

    task = Task(("a", "b", "c"), multi_label=True)
    for name, shape in dict(v20=(128, 128, 1), two_branches=(128, 148, 1), deeper=(64, 64, 1)).items():
        yield shape, lambda precision, name=name, shape=shape: build_network(name, shape, 3, precision)
    yield (128, 128, 3), lambda precision: build_music_network("compact", (128, 128, 3), 3, precision)
    for name, shape in dict(wave=(16000, 1), mfcc=(87, 40, 1)).items():
        yield shape, lambda precision, name=name, shape=shape: build_tagging_network(name, task, shape, precision)


def test_a_network_of_any_study_in_float32_is_the_one_that_would_have_been_built_so():
    from avianspec.learning.models import keras
    from avianspec.learning.precision import in_float32

    for shape, build in networks_of_all_studies():
        keras.utils.set_random_seed(1)
        coarse, built = build("mixed_bfloat16"), build("float32")
        coarse.compile("adam", "mse")
        built.set_weights(coarse.get_weights())
        fine, x = in_float32(coarse), np.random.default_rng(0).standard_normal((2, *shape)).astype("float32")
        assert not fine.compiled and {layer.compute_dtype for layer in fine.layers} == {"float32"}
        np.testing.assert_array_equal(fine.predict_on_batch(x), built.predict_on_batch(x))


def test_bias_and_relu_after_pooling_is_the_published_block():
    from avianspec.learning.models import keras
    from avianspec.studies.birds.networks import build_network

    layers = keras.layers
    ours = build_network("v20", (128, 128, 1), 5)
    rng = np.random.default_rng(1)
    ours.set_weights(
        [w + 0.1 * rng.standard_normal(w.shape) * (w.ndim == 1) for w in ours.get_weights()]
    )  # biases that are not zero

    def block():
        return [layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D(3), layers.Dropout(0.2)]

    source = keras.Sequential(
        [
            keras.Input((128, 128, 1)),
            *block(),
            *block(),
            *block(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5, activation="softmax"),
        ]
    )
    source.set_weights(ours.get_weights())
    x = np.random.default_rng(0).standard_normal((3, 128, 128, 1)).astype("float32")
    np.testing.assert_allclose(ours.predict_on_batch(x), source.predict_on_batch(x), atol=1e-6)


def test_killed_training_goes_on_as_if_nothing_had_happened(demo, tmp_path):
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    subprocess.run([sys.executable, "-c", TRAIN, str(demo), str(tmp_path / "whole")], check=True)
    with at_work(TRAIN, demo, tmp_path / "cut") as process:
        wait_until((tmp_path / "cut" / "state.npz").exists, process)
        process.kill()
    assert not (tmp_path / "cut" / "curve.csv").exists()
    subprocess.run([sys.executable, "-c", TRAIN, str(demo), str(tmp_path / "cut")], check=True)
    assert (tmp_path / "whole" / "curve.csv").read_bytes() == (tmp_path / "cut" / "curve.csv").read_bytes()
    a, b = (weights(tmp_path / name / "end.weights.h5") for name in ("whole", "cut"))
    assert a and a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def test_a_state_of_another_training_is_left_alone(demo, tmp_path):
    from avianspec.learning.training import example_network, train

    data = open_run(demo)

    def curve(cfg):
        batches = part_generator(data, data.items[:8], data.statistics(data.items), WindowConfig(), cfg)
        return train(example_network, cfg, batches, None, tmp_path / "state.npz", progress=False)[1]

    first = curve(TrainingConfig(epochs=1, batch_size=4))
    other = curve(TrainingConfig(epochs=1, batch_size=4, seed=9))  # must not take up the first one's state
    assert len(other) == 1 and other.loss[0] != first.loss[0]
    longer = curve(TrainingConfig(epochs=2, batch_size=4, seed=9))  # goes on from the second
    assert longer.loss[0] == other.loss[0] and len(longer) == 2


def test_predictions_cover_every_test_recording_at_every_crop(trained):
    predictions, split = pd.read_parquet(trained / "predictions.parquet"), read_text_table(trained / "split.csv")
    for by in GROUPS:
        mine = predictions[predictions.split == by]
        for _, crop in mine.groupby("crop_seed"):
            assert sorted(crop.recording_id) == sorted(split.recording_id[split[by] == "test"])
    p = predictions.filter(regex=r"^p_\d+$").to_numpy()
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    classes = read_json(trained / "model.json")["classes"]
    assert list(predictions.predicted) == [classes[k] for k in p.argmax(axis=1)] and classes == sorted(classes)


def test_held_out_predictions_are_those_of_the_epoch_with_the_lowest_validation_loss(demo, tmp_path):
    "The best epoch, reached again by training only that long, says the same of the held-out recordings."
    from avianspec.learning.training import cross_validate, example_network

    for name in ("long", "short"):
        shutil.copytree(demo, tmp_path / name)
    settings = dict(batch_size=8, learning_rate=2e-2, seed=1)  # so large that the loss soon goes up again
    history, heard = cross_validate(
        example_network,
        open_run(tmp_path / "long"),
        TrainingConfig(epochs=5, **settings),
        n_folds=1,
        progress=False,
        crop_seeds=2,
    )
    best = int(history.val_loss.idxmin())
    assert best < 4
    _, again = cross_validate(
        example_network,
        open_run(tmp_path / "short"),
        TrainingConfig(epochs=best + 1, **settings),
        n_folds=1,
        progress=False,
        crop_seeds=2,
    )
    pd.testing.assert_frame_equal(heard, again)
    training = set(open_run(demo).part("recordist", "train").recording_id)
    assert (
        set(heard.recording_id) < training
        and heard.groupby(["fold", "crop_seed"]).recording_id.apply(lambda ids: ids.is_unique).all()
    )
    np.testing.assert_allclose(heard.filter(regex=r"^p_\d+$").sum(axis=1), 1, atol=1e-5)


def test_best_weights_survive_an_interruption(demo, tmp_path):
    from avianspec.learning.training import example_network, train

    data = open_run(demo)
    table, statistics = data.items, data.statistics(data.items)

    def end(epochs, state):
        cfg = TrainingConfig(epochs=epochs, batch_size=8, learning_rate=2e-2, seed=1, checkpoint_every=1)
        parts = [
            part_generator(data, part, statistics, WindowConfig(), cfg, shuffle)
            for part, shuffle in ((table[:24], True), (table[24:], False))
        ]
        return train(example_network, cfg, *parts, tmp_path / state, progress=False, best_weights=True)

    model, curve = end(5, "whole.npz")
    best = int(curve.val_loss.idxmin())
    assert best < 4
    end(best + 1, "cut.npz")
    resumed, _ = end(5, "cut.npz")
    for a, b in zip(model.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


class Points(Batches):
    "Points in a plane instead of sounds; which epochs were drawn is written down."

    kind = "wave"

    def __init__(self, x, labels, **more):
        self.x, self.drawn = np.asarray(x, np.float32), []
        super().__init__(labels, Task(("no", "yes")), **more)

    def draw(self, rng):
        self.drawn.append(self.epoch)

    def gather(self, which):
        return self.x[which]

    def inputs(self):
        return (self.x,)


def fitted(place, epochs=6, rate=0.1, patience=0, best_weights=False, known=64, hidden=64):
    "A network of one layer, points to learn from, and others that have the opposite labels: what is learned is wrong."
    from avianspec.learning.models import keras
    from avianspec.learning.training import fit

    rng = np.random.default_rng(0)
    x, other = rng.normal(size=(known, 2)), rng.normal(size=(hidden, 2))
    training = Points(x, np.where(x[:, 0] > 0, "yes", "no"), batch_size=16)
    validation = Points(other, np.where(other[:, 0] > 0, "no", "yes"), batch_size=16, shuffle=False)
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, activation="softmax")])
    cfg = TrainingConfig("points", epochs, learning_rate=rate, patience=patience)
    model, curve = fit(model, cfg, training, validation, place / "s.npz", "", False, best_weights)
    return model, curve, training, validation


def loss_on(model, batches):
    "Mean of -ln p of the true class."
    p = np.asarray(model.predict_on_batch(batches.x), np.float64)
    return -np.log(p[batches.targets > 0]).mean()


def test_best_weights_are_those_of_the_lowest_validation_loss(tmp_path):
    for best, name in ((True, "best"), (False, "last")):
        (tmp_path / name).mkdir()
        model, curve, training, validation = fitted(tmp_path / name, best_weights=best)
        assert curve.val_loss.idxmin() == 0 and curve.val_loss.is_monotonic_increasing and len(curve) == 6
        assert curve.loss.is_monotonic_decreasing  # what is learned helps there and harms here
        wanted = curve.val_loss.min() if best else curve.val_loss.iloc[-1]
        assert loss_on(model, validation) == pytest.approx(wanted, abs=1e-5), name


def test_training_ends_when_patience_with_the_validation_loss_does(tmp_path):
    _, curve, *_ = fitted(tmp_path, epochs=20, patience=2)
    assert len(curve) == 3 and curve.val_loss.idxmin() == 0  # the first epoch is the best; two more are waited for


def test_validation_is_cropped_anew_every_epoch(tmp_path):
    *_, training, validation = fitted(tmp_path, epochs=4)
    assert training.drawn == validation.drawn == [0, 0, 1, 2, 3]  # the first when they were made


def test_a_network_is_trained_with_adam_at_the_rate_asked_for(tmp_path):
    from avianspec.learning.models import keras

    model, *_ = fitted(tmp_path, epochs=1, rate=0.0625)
    assert type(model.optimizer) is keras.optimizers.Adam and float(model.optimizer.learning_rate) == 0.0625
    assert [getattr(model.optimizer, b) for b in ("beta_1", "beta_2", "epsilon")] == [0.9, 0.999, 1e-7]  # as published
    assert model.loss == "categorical_crossentropy" and TrainingConfig().learning_rate == 0.001


def test_a_training_is_named_by_all_that_decides_it_but_its_length(tmp_path):
    from avianspec.learning.training import training_tag

    model, _, training, validation = fitted(tmp_path, epochs=1)
    settings = TrainingConfig("points")

    def tag(**changes):
        return training_tag(model, replace(settings, **changes), training, validation)

    others = dict(learning_rate=0.5, batch_size=3, dropout=0.5, seed=5, precision="mixed_bfloat16", network="other")
    assert len({tag(), *(tag(**{k: v}) for k, v in others.items())}) == 1 + len(others)
    assert tag() == tag(epochs=3) == tag(patience=3) == tag(checkpoint_every=3)
    more = Points(training.x, ["no"] * 64, batch_size=16)
    assert training_tag(model, settings, more, validation) != tag() != training_tag(model, settings, training, None)


def test_classes_are_sorted(demo, tmp_path):
    from avianspec.learning.tasks import task_of

    assert task_of(["wren", "owl", "tit", "owl"]).classes == ("owl", "tit", "wren")
    run = tmp_path / "run"
    shutil.copytree(demo, run)
    split = read_text_table(run / "split.csv")
    table = pd.read_csv(run / "recordings.csv").set_index("recording_id").loc[split.recording_id]
    backwards = split.iloc[np.argsort(table.label.to_numpy(), kind="stable")[::-1]]  # the last by name comes first
    backwards.to_csv(run / "split.csv", index=False)
    data = open_run(run)
    assert data.items.label.iloc[0] == max(data.items.label) and data.classes == sorted(set(data.items.label))


def test_folds_as_published_are_scikit_learns():
    from sklearn.model_selection import StratifiedShuffleSplit

    from avianspec.data.splits import draw_folds

    table = pd.DataFrame(
        {"recording_id": [f"r{i}" for i in range(80)], "label": ["a", "b"] * 40, "recordist": np.arange(80) // 8}
    )
    held = draw_folds(table, n_folds=3, folds="published")
    for mask, (_, test) in zip(
        held, StratifiedShuffleSplit(3, test_size=0.25, random_state=37).split(table, table.label), strict=True
    ):
        assert list(np.flatnonzero(mask)) == sorted(test) and mask.sum() == 20
    with pytest.raises(ValueError, match="folds is one of grouped, published"):
        draw_folds(table, folds="random")


def test_short_recordings_are_left_out_of_training_only_and_one_split_may_do(demo, tmp_path, monkeypatch):
    from avianspec.learning import training

    run = tmp_path / "run"
    shutil.copytree(demo, run)
    data, build = open_run(run), training.example_network
    table, split = data.items, data.splits
    brief = TrainingConfig(epochs=1, batch_size=16)
    limit = float(table[split.recordist == "train"].groupby("label").duration_s.max().min())  # every species keeps one
    monkeypatch.setattr(training, "open_run", None)  # a run is opened once, by whoever wants it trained on
    seen, plain = [], training.train
    monkeypatch.setattr(
        training,
        "train",
        lambda build, cfg, batches, *a, **k: (seen.append(len(batches.targets)), plain(build, cfg, batches, *a, **k))[
            1
        ],
    )
    training.train_run(
        build, data, brief, brief, n_folds=0, crop_seeds=1, progress=False, splits="main", min_duration_s=limit
    )
    assert (
        seen == [int(((split.recordist == "train") & (table.duration_s >= limit)).sum())]
        and seen[0] < (split.recordist == "train").sum()
    )
    predictions = pd.read_parquet(run / "predictions.parquet")
    assert set(predictions.split) == {"recordist"} and set(predictions.recording_id) == set(
        table.recording_id[split.recordist == "test"]
    )
    assert set(pd.read_csv(run / "history.csv").stage) == {"final-recordist"}
    assert not (run / "validation.parquet").exists()  # nothing was held out
    with pytest.raises(ValueError, match="lasts 1000 s"):
        training.train_run(build, data, brief, brief, n_folds=0, progress=False, min_duration_s=1000)


@pytest.mark.parametrize("windows", [WindowConfig(128, short="loop", frames="loud", buffer=2), WindowConfig(128)])
def test_a_new_recording_is_heard_through_the_windows_of_training(demo, windows):
    from avianspec.field.windows import windows_of
    from avianspec.learning.generator import AudioFeatureGenerator
    from avianspec.learning.saved_model import SavedModel

    data = open_run(demo)
    table, store, statistics = data.items, data.store, data.statistics(data.items)
    generator = AudioFeatureGenerator(store, table.recording_id, table.label, data.task, windows, statistics)
    identifier = SavedModel(None, data.task, "spectrogram", store.config, windows, statistics=statistics)
    generator.offset[:] = 0
    x = generator.gather(np.arange(len(table)))
    for k, recording_id in enumerate(table.recording_id[:12]):
        heard, frames = windows_of(store[recording_id], identifier)
        np.testing.assert_array_equal(heard[0], x[k])
        assert (frames[:, 0] <= frames[:, 1]).all() and frames[-1, 1] < store.index.n_frames[recording_id]


def test_the_network_learns_what_can_be_learned(trained):
    history = pd.read_csv(trained / "history.csv")
    for _, curve in history.groupby("stage"):
        assert curve.loss.iloc[-1] < curve.loss.iloc[0]


def test_a_published_partition_is_trained_and_scored_like_any_other_split(demo, tmp_path):
    from avianspec.learning.training import example_network, train_run
    from avianspec.scoring.benchmark import run_baselines
    from avianspec.scoring.evaluation import collect_metrics

    run = tmp_path / "run"
    shutil.copytree(demo, run)
    split = pd.read_csv(run / "split.csv")
    split.assign(published=["test" if k % 3 == 0 else "train" for k in range(len(split))]).to_csv(
        run / "split.csv", index=False
    )
    cfg = TrainingConfig(epochs=1, batch_size=16)
    data = open_run(run)
    train_run(example_network, data, cfg, cfg, main_split="published", n_folds=0, crop_seeds=1, progress=False)
    table, split, store = data.items, data.splits, data.store
    predictions = pd.read_parquet(run / "predictions.parquet")
    assert set(predictions.split) == {"recording", "session", "recordist", "published"}
    heard = set(predictions.recording_id[predictions.split == "published"])
    assert heard == set(split.recording_id[::3])
    scores = collect_metrics(table, split, run_baselines(table, split, store, WindowConfig()), predictions)
    assert scores["published"]["n_test"] == len(heard) and 0 <= scores["published"]["network"]["accuracy"] <= 1
    assert read_json(run / "model.json")["split"] == "published"
