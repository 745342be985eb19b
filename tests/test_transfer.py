"""Transfer learning: pictures as librosa and Pillow make them, bases as published, weights from where they are said."""

import re
from dataclasses import replace

import keras
import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from PIL import Image

from avianspec.files import read_json
from avianspec.scoring.metrics import METRICS
from avianspec.sound.pictures import clip_power, pictures, recording_pictures
from avianspec.studies.transfer import networks, study
from avianspec.studies.transfer.networks import LAST, base_weights, build_transfer, set_trainable
from avianspec.studies.transfer.recordings import GREY, TransferConfig, demo_transfer, open_transfer

QUICK = TransferConfig("mobilenet_v3", "random", input_size=64, first_epochs=1, fine_epochs=0, batch_size=8)


def test_pictures_are_librosas_spectrogram_resized_by_pillow(tmp_path):
    import librosa

    rng, t = np.random.default_rng(0), np.arange(9 * 44100) / 44100
    y = (0.3 * np.sin(2 * np.pi * (3000 + 2000 * np.sin(t)) * t) + 0.02 * rng.normal(size=len(t))).astype(np.float32)
    sf.write(tmp_path / "song.wav", y, 44100, subtype="FLOAT")
    facts, made = recording_pictures(tmp_path / "song.wav", GREY)
    ours = np.concatenate(made)
    assert facts["n_clips"] == 2 and ours.shape == (2, 224, 341, 1)
    for clip, picture in zip(y[: 2 * GREY.n_samples].reshape(2, -1), ours, strict=True):
        power = np.abs(librosa.stft(clip, n_fft=512, hop_length=256, window="hamming")) ** 2
        db = librosa.power_to_db(power, ref=np.max, top_db=80)
        grey = np.minimum(256 * (db - db.min()) / (db.max() - db.min()), 255).astype(np.uint8)[::-1]
        expected = np.asarray(Image.fromarray(grey).resize((341, 224), Image.Resampling.BICUBIC))
        assert np.abs(picture[:, :, 0].astype(int) - expected).max() <= 2


def test_a_tone_lies_at_its_height_and_the_top_is_half_the_sampling_rate():
    for hz in (1000.0, 11025.0, 20000.0):
        y = np.sin(2 * np.pi * hz * np.arange(GREY.n_samples) / GREY.sr).astype(np.float32)[None]
        row = pictures(clip_power(y, GREY), GREY)[0, :, :, 0].mean(axis=1).argmax()
        assert abs((224 - row - 0.5) / 224 * 22050 - hz) < 150


def test_inception_is_as_published_and_stage_one_trains_the_last_layer_only():
    model = build_transfer(TransferConfig(), 48)
    last = model.get_layer(LAST)
    assert model.count_params() - last.count_params() == 21_802_784
    assert model.get_layer("scale").output.shape[1:] == (299, 299, 3) and last.input.shape == (None, 2048)
    assert set_trainable(model, False) == last.count_params() == 2048 * 48 + 48
    assert {id(v) for v in model.trainable_variables} == {id(v) for v in last.variables}
    assert set_trainable(model, True) > 21_700_000 and all(layer.trainable for layer in model.layers)


@pytest.mark.parametrize("base, low, high", [("inception_v3", -1, 1), ("mobilenet_v3", 0, 255)])
def test_three_equal_channels_in_the_range_that_the_base_wants(base, low, high):
    model = build_transfer(TransferConfig(base, input_size=96), 3)
    x = np.linspace(0, 1, 224 * 224, dtype=np.float32).reshape(1, 224, 224, 1)
    given = keras.Model(model.input, model.get_layer("scale").output).predict_on_batch(x)
    assert given.shape == (1, 96, 96, 3) and (given == given[..., :1]).all()
    assert low <= given.min() < low + 0.01 * (high - low) and high - 0.01 * (high - low) < given.max() <= high


def test_mean_average_precision_is_scikit_learns():
    from sklearn.metrics import average_precision_score, label_ranking_average_precision_score

    rng = np.random.default_rng(3)
    p = rng.dirichlet(np.ones(6), 50)
    truth = np.eye(6, dtype=bool)[np.concatenate([np.arange(6), rng.integers(0, 6, 44)])]
    assert METRICS["cmap"](p, truth) == pytest.approx(average_precision_score(truth, p, average="macro"))
    assert METRICS["lwlrap"](p, truth) == pytest.approx(label_ranking_average_precision_score(truth, p))
    classes = list("abcdef")
    rows = pd.DataFrame(p, columns=[f"p_{k}" for k in range(6)]).assign(label=[classes[k] for k in truth.argmax(1)])
    scores = study.transfer_scores(rows, classes, np.arange(50))
    assert (
        set(study.SCORES) <= set(scores)
        and scores["lwlrap_interval"][0] < scores["lwlrap"] < scores["lwlrap_interval"][1]
    )
    assert scores["cmap"] == pytest.approx(average_precision_score(truth, p, average="macro"))


def test_weights_of_imagenet_that_cannot_be_fetched_are_one_sentence(monkeypatch):
    def no_network(weights, **how):
        raise Exception("URL fetch failure on https://weights.example: None")

    monkeypatch.setattr(keras.applications, "MobileNetV3Small", no_network)
    with pytest.raises(ValueError, match=r"No weights imagenet for mobilenet_v3: URL fetch failure.*weights=aviary"):
        base_weights(replace(QUICK, weights="imagenet"))


def test_weights_of_a_file_are_those_that_the_base_begins_with(tmp_path):
    net = networks._application(QUICK, weights=None)
    path = str(tmp_path / "base.weights.h5")
    net.save_weights(path)
    model = build_transfer(QUICK, 4, start=base_weights(replace(QUICK, weights=path)))
    for a, b in zip(net.get_weights(), model.get_weights()[:-2], strict=True):
        np.testing.assert_array_equal(a, b)
    (tmp_path / "text.h5").write_text("no weights")
    with pytest.raises(ValueError, match=re.escape("text.h5 for mobilenet_v3")):
        base_weights(replace(QUICK, weights=str(tmp_path / "text.h5")))
    before = study.weights_facts(path)
    net.set_weights([w + 1 for w in net.get_weights()])
    net.save_weights(path)
    assert study.weights_facts(path) != before  # what is in the file decides, not its name


@pytest.fixture(scope="module")
def inception_run(tmp_path_factory):
    "A dry run of the study: Inception-v3, small, an epoch of each stage."
    cfg = TransferConfig("inception_v3", "random", input_size=75, first_epochs=1, fine_epochs=1, batch_size=8)
    data = replace(open_transfer(demo_transfer()), run=tmp_path_factory.mktemp("inception") / "run")
    return data, study.train_transfer_run(data, cfg, progress=False)


def test_a_dry_run_says_that_its_weights_are_random_and_trains_in_two_stages(inception_run):
    data, metrics = inception_run
    assert metrics["weights"] == study.weights_facts("random") and "warning" in metrics["weights"]["note"]
    n_last = 2048 * len(data.classes) + len(data.classes)
    history = pd.read_csv(data.run / "history.csv")
    assert list(history.stage) == list(study.STAGES) and history.n_trained[0] == n_last < history.n_trained[1]
    assert metrics["n_parameters"] == 21_802_784 + n_last
    scores = read_json(data.run / "metrics.json")["splits"]["recordist"]
    assert set(study.SCORES) <= set(scores["network"]) and {"majority", "no_audio", "naive_bayes"} <= set(scores)


def test_the_base_from_the_aviary_hears_no_species_of_the_study_and_is_made_once(monkeypatch):
    data, folder = open_transfer(demo_transfer()), demo_transfer().parent / "bases"
    cfg = replace(QUICK, weights="aviary", base_recordings=48, base_epochs=1)
    run = study.aviary_base(cfg, folder, data.classes, progress=False)
    assert not set(open_transfer(run).items.label) & set(data.classes)
    monkeypatch.setattr(study, "_learn_base", None)  # not asked again, for another seed or other stages either
    assert study.aviary_base(replace(cfg, seed=4, first_epochs=9), folder, data.classes, progress=False) == run


def test_pixels_below_a_share_are_black_in_training_and_in_tests(tmp_path, monkeypatch):
    data, seen = replace(open_transfer(demo_transfer()), run=tmp_path), []
    cut = study.cut_crops
    monkeypatch.setattr(study, "cut_crops", lambda *words: seen.append(cut(*words)) or seen[-1])

    class Says:
        def predict_on_batch(self, x):
            return np.ones((len(x), 3)) / 3

    for share in (0.0, 0.5):
        study.predict_transfer(Says(), data, data.items[:2], replace(QUICK, zero_below=share))
    assert ((seen[0] > 0) & (seen[0] < 0.5)).any() and not ((seen[-1] > 0) & (seen[-1] < 0.5)).any()
    np.testing.assert_array_equal(seen[0][seen[0] >= 0.5], seen[-1][seen[-1] >= 0.5])


def test_every_base_is_in_the_catalogue_and_inception_is_as_published():
    from avianspec.runs.catalogue import load_catalogue
    from avianspec.studies.transfer.recordings import BASES, transfer_settings

    own = {name: e for name, e in load_catalogue().items() if e.study == "transfer"}
    assert {e.parameters["base"] for e in own.values()} == set(BASES)
    cfg = transfer_settings(own["transfer-inception"].parameters)
    assert (cfg.base, cfg.weights, cfg.side, cfg.crop, cfg.zero_below) == ("inception_v3", "imagenet", 299, 224, 0.0)
    assert cfg.first_epochs and cfg.fine_epochs and cfg.fine_rate < cfg.first_rate
    assert own["transfer-inception"].parameters["n_labels"] == 48 and own["transfer-inception"].parameters["only_song"]


def test_the_published_training_reaches_the_optimizer_and_the_48_species_are_named(tmp_path, monkeypatch):
    from avianspec.learning.training import compiled
    from avianspec.runs.catalogue import load_catalogue
    from avianspec.studies.transfer.recordings import chosen_recordings, transfer_settings

    published, asked = load_catalogue()["transfer-published"].parameters, []

    def fit(model, cfg, batches, *words):
        asked.append((cfg.epochs, compiled(model, cfg, batches.task).optimizer.get_config()))
        return model, pd.DataFrame(dict(epoch=[1], loss=[1.0], accuracy=[0.0]))

    monkeypatch.setattr("avianspec.learning.training.fit", fit)
    data = replace(open_transfer(demo_transfer()), run=tmp_path)
    study.train_transfer(data, replace(transfer_settings(published), base="mobilenet_v3", input_size=64))
    rates = [(epochs, adam["learning_rate"], adam["epsilon"]) for epochs, adam in asked]
    np.testing.assert_allclose(rates, [(200, 6.1e-3, 0.93), (750, 7.8e-4, 0.67)])
    names = [name.strip() for name in published["only"].split(",")]
    assert (
        len(set(names)) == len(names) == 48 and names[0] == "Tufted Titmouse" and names[-1] == "American Tree Sparrow"
    )
    table = pd.DataFrame(dict(label=["Ovenbird", "Eurasian Wren"], type=["song", "song"]))
    assert list(chosen_recordings(table, only=published["only"]).label) == ["Ovenbird"]
    with pytest.raises(ValueError, match="None of the 48 labels"):
        chosen_recordings(table[1:], only=published["only"])
