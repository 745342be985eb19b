"""The front end in the network: trained like any other, saved for samples, the same answers wherever it is asked."""

import shutil

import numpy as np
import pandas as pd
import pytest

from avianspec.field.detections import EventConfig
from avianspec.field.inference import identify, load_identifier
from avianspec.field.live import live_answers
from avianspec.field.tag import tag
from avianspec.field.windows import window_answers, window_chunks
from avianspec.learning.dataset import open_run
from avianspec.learning.export import drawn_sound, export_run
from avianspec.learning.in_network import in_network
from avianspec.learning.interpreters import FileNetwork
from avianspec.learning.models import conv_net, keras
from avianspec.learning.saved_model import load_saved_model, model_facts
from avianspec.learning.settings import PLACES, TrainingConfig, WindowConfig
from avianspec.learning.training import example_network, train_run
from avianspec.sound.audio import AudioStream
from avianspec.sound.features import FeatureConfig, spectrogram
from avianspec.stores.preprocessing import Statistics, demo_run

FRAMES = 64  # of a window
SAMPLES = 63 * 512 + 2048


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    "The same small training twice: with stored features, and saved with its front end inside."
    made = {}
    for place in PLACES:
        run = made[place] = shutil.copytree(demo_run(), tmp_path_factory.mktemp(place) / "run")
        brief = TrainingConfig(epochs=2, batch_size=8, learning_rate=3e-3)
        windows = WindowConfig(FRAMES, "spectrogram", front_end=place)
        how = dict(n_folds=0, crop_seeds=1, progress=False, splits="main")
        train_run(example_network, open_run(run), brief, brief, windows, **how)
    return made


@pytest.fixture(scope="module")
def models(runs):
    return {place: load_identifier(run) for place, run in runs.items()}


@pytest.fixture(scope="module")
def paths(runs):
    "The shortest recording of the run, which is shorter than a window or about as long, and the longest."
    items = open_run(runs["stored"]).items.sort_values("duration_s")
    return [items.path.iloc[0], items.path.iloc[len(items) // 2], items.path.iloc[-1]]


def test_what_is_saved_takes_samples(runs, models):
    facts, inside = model_facts(runs["in-network"]), models["in-network"]
    assert facts["windows"]["front_end"] == "in-network"
    assert inside.whole.input_shape == (None, SAMPLES)
    assert models["stored"].whole is None
    weights = (m.model.get_weights() for m in models.values())
    assert all((a == b).all() for a, b in zip(*weights, strict=True))  # trained alike


def test_the_scores_are_those_of_stored_features(runs):
    stored, inside = (pd.read_parquet(runs[place] / "predictions.parquet") for place in PLACES)
    pd.testing.assert_frame_equal(stored, inside)


def test_windows_are_answered_alike(models, paths):
    for path in paths:
        found = {}
        for place, model in models.items():
            chunks = list(window_chunks(model, AudioStream(path)))
            p = np.concatenate([window_answers(model, c.x) for c in chunks])
            found[place] = p, np.concatenate([c.times for c in chunks]), np.concatenate([c.sound for c in chunks])
        for a, b in zip(*found.values(), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-3)


def test_identify_and_tag_say_the_same(runs, models, paths, tmp_path):
    for path in paths:
        stored, inside = (identify(models[place], path, top=4) for place in PLACES)
        pd.testing.assert_frame_equal(stored, inside, atol=1e-3, rtol=0)
    cfg, events = EventConfig(threshold=0.2), []
    for place in PLACES:
        tag(paths, runs[place], tmp_path / place, cfg, progress=False)
        events.append(pd.read_csv(tmp_path / place / "detections.csv"))
    assert len(events[0])
    pd.testing.assert_frame_equal(*events, atol=2e-3, rtol=0)


def test_a_stream_is_answered(models, paths):
    stream = AudioStream(paths[-1])
    y = np.concatenate([block.copy() for block in stream.mono()])
    blocks = [y[k : k + 2000] for k in range(0, len(y), 2000)]
    answers = list(live_answers(models["in-network"], iter(blocks), stream.sr))
    assert stream.sr == models["stored"].front_end.sr
    for end_s, p in answers:
        window = y[round(end_s * stream.sr) - SAMPLES : round(end_s * stream.sr)]
        wanted = models["in-network"].whole.predict_on_batch(window[None])[0] if window.any() else np.zeros(len(p))
        np.testing.assert_allclose(p, wanted, atol=1e-5)
    assert any(p.any() for _, p in answers)


@pytest.mark.parametrize(("precision", "most"), [("float32", 1e-4), ("float16", 1e-2), ("int8", 5e-2)])
def test_a_phone_is_given_samples(runs, models, paths, tmp_path, precision, most):
    path = tmp_path / "birds.tflite"
    facts = export_run(runs["in-network"], path, precision, n=6, progress=False)
    assert facts["agreement"]["largest_difference"] < most
    assert not {"CUSTOM", "RFFT2D"} & set(facts["operations"])
    assert facts["inputs"][0]["name"] == "sound"
    alone = load_saved_model(path)
    assert isinstance(alone.whole, FileNetwork)
    for recording in paths:
        found, wanted = (
            identify(m, recording, top=4).set_index("label").probability for m in (alone, models["stored"])
        )
        assert (found - wanted).abs().max() < most + 1e-3


def test_sound_is_drawn_from_what_can_be_used(models, paths, tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    drawn = drawn_sound(models["in-network"], [str(tmp_path / "bad.wav"), *paths], n=8)["sound"]
    assert len(drawn) <= 8
    assert np.isfinite(drawn[:, 2047]).all()
    with pytest.raises(ValueError, match="None of 1 recordings"):
        drawn_sound(models["in-network"], [str(tmp_path / "bad.wav")])


@pytest.mark.parametrize(
    "cfg", [FeatureConfig(n_fft=512, hop_length=200, bands="linear"), FeatureConfig(scale="power")]
)
def test_other_spectrograms_stand_in_a_network_too(cfg):
    windows = WindowConfig(20, "spectrogram", front_end="in-network")
    net = conv_net((20, cfg.n_bands, 1), 2, filters=4, kernels=((3, 3),), pools=((3, 3),))
    scale = {"spectrogram": Statistics(1, 0.5, 2.0, np.zeros(1), np.ones(1))}
    whole = in_network(net, cfg, windows, scale)
    y = np.random.default_rng(0).standard_normal((1, whole.input_shape[1])).astype(np.float32)
    features = spectrogram(y[0], FeatureConfig(**vars(cfg) | dict(center=False)))
    given = (features[None, ..., None] - 0.5) / 2
    np.testing.assert_allclose(whole.predict_on_batch(y), net.predict_on_batch(given), atol=1e-4)
    assert isinstance(whole.layers[-1], keras.Model)
