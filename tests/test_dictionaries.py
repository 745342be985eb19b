"""Dictionaries of sound: what they learn, and that they are kept and used like any network."""

import errno
import os
import warnings
from dataclasses import replace
from functools import partial

import librosa
import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from conftest import tone

from avianspec.field.inference import identify, load_identifier, window_probabilities
from avianspec.files import Note, scratch_array
from avianspec.learning import linear, unsupervised
from avianspec.learning.dataset import open_run
from avianspec.learning.listener_runs import learn_items, predict_items
from avianspec.learning.listeners import Listener, ListenerConfig
from avianspec.learning.saved_model import SavedModel, load_saved_model, save_model
from avianspec.learning.settings import front_end
from avianspec.learning.tasks import Task
from avianspec.learning.unsupervised import DictionaryConfig, encode, learn_dictionary, patches, seen, train_dictionary
from avianspec.runs.catalogue import load_catalogue
from avianspec.sound.audio import UnusableAudio
from avianspec.sound.features import log_mel
from avianspec.sound.whitening import FINE, coarser, whitened
from avianspec.studies.birds.contract import final_settings

SMALL = DictionaryConfig(lengths=(8,), n_atoms=24, n_patches=1500, n_dims=32, shifts=(-1, 0, 1), window_s=2.0)


def whistle(hz, seed, seconds=4.0, gain=0.3):
    "A quarter of a second of a pure tone in every second, in soft noise."
    rng, t = np.random.default_rng(seed), np.arange(int(seconds * FINE.sr)) / FINE.sr
    tones = gain * np.sin(2 * np.pi * hz * t) * ((t + rng.random()) % 1 < 0.25)
    return (tones + 0.003 * rng.standard_normal(len(t))).astype(np.float32)


@pytest.fixture(scope="module")
def whistlers():
    "A model of two whistlers, and what it learnt from."
    heard = [log_mel(whistle((2000, 5000)[k % 2], k), FINE) for k in range(12)]
    return train_dictionary(heard, ["low", "high"] * 6, SMALL, progress=False), heard


def alone(model):
    "A listener that is a dictionary and nothing else."
    return Listener(ListenerConfig(model.cfg, None), model.classes, (model,))


def test_the_front_end_is_librosas():
    y = whistle(3000, 0)
    mel = librosa.feature.melspectrogram(y=y, sr=32000, n_fft=1024, hop_length=320, n_mels=96, fmin=400, fmax=15000)
    by_two = mel.T[: len(mel.T) // 2 * 2].reshape(-1, 2, 48, 2).mean(axis=(1, 3))
    wanted = np.log(np.maximum(by_two, 1e-10))
    found = coarser(log_mel(y, FINE))
    np.testing.assert_allclose(found, wanted, atol=2e-3)
    rise = np.clip(wanted - np.quantile(wanted, 0.6, axis=0), 0, 7)
    np.testing.assert_allclose(whitened(found), rise, atol=4e-3)


def test_what_a_microphone_adds_to_every_frame_is_not_seen():
    y = log_mel(whistle(3000, 1), FINE)
    coloured = y + np.repeat(np.linspace(-3, 3, 48), 2).astype(np.float32)
    np.testing.assert_allclose(seen(coloured), seen(y), atol=1e-4)


def test_components_are_those_of_an_eigenvalue_problem_and_codes_are_cosines():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 12)).astype(np.float32) * np.arange(1, 13, dtype=np.float32)
    cfg = DictionaryConfig(lengths=(3,), n_atoms=5, n_dims=12, floor=0.0)
    one = learn_dictionary(x, 3, cfg)
    projected = x @ one.projection + one.offset
    np.testing.assert_allclose(np.cov(projected.T, bias=True), np.eye(12), atol=1e-2)  # white
    np.testing.assert_allclose(np.linalg.norm(one.atoms, axis=1), 1, rtol=1e-5)
    long = rng.normal(size=(40, 4)).astype(np.float32)
    codes = encode(long, one)
    p = patches(long, 3) @ one.projection + one.offset
    cosines = [[p[i] @ a / np.linalg.norm(p[i]) for a in one.atoms] for i in range(len(p))]
    np.testing.assert_allclose(codes, np.maximum(cosines, 0), atol=1e-5)
    assert codes.shape == (38, 5) and codes.max() <= 1 + 1e-6


def test_new_recordings_of_both_are_told_apart_whatever_their_level_and_length(whistlers):
    model, _ = whistlers
    assert model.classes == ("high", "low")
    for k, (hz, seconds, gain) in enumerate([(2000, 9, 0.3), (5000, 1.2, 0.1), (2000, 1.0, 0.6), (5000, 4, 0.02)]):
        p = model.predict_recording(log_mel(whistle(hz, 50 + k, seconds, gain), FINE))
        assert model.classes[p.argmax()] == ("low" if hz == 2000 else "high"), (hz, seconds, gain)
        assert p.sum() == pytest.approx(1, abs=1e-6)


def test_noise_and_silence_get_no_name(whistlers):
    rng, (model, heard) = np.random.default_rng(5), whistlers
    asked = [np.zeros(100_000)]
    for power, level in ((0, 0.1), (0, 1e-4), (1, 1e-3), (2, 0.3)):  # white, hardly heard, pink, red
        spectrum = np.fft.rfft(rng.standard_normal(160_000))
        spectrum[1:] /= np.arange(1, len(spectrum)) ** (power / 2)
        asked.append(level * np.fft.irfft(spectrum) / np.fft.irfft(spectrum).std())
    unaware = train_dictionary(heard, ["low", "high"] * 6, replace(SMALL, noise_weight=0), progress=False)
    for y in asked:
        spectrogram = log_mel(y.astype(np.float32), FINE)
        assert model.predict_recording(spectrogram).max() < 0.6 < 0.7 < unaware.predict_recording(spectrogram).max()
    for k in range(4):  # as sure as before of what is heard
        spectrogram = log_mel(whistle((2000, 5000)[k % 2], 80 + k), FINE)
        assert model.predict_recording(spectrogram).max() > unaware.predict_recording(spectrogram).max() - 0.02


def test_what_does_not_fit_into_memory_lies_in_a_file_and_gives_the_same(whistlers, monkeypatch, tmp_path):
    model, heard = whistlers
    monkeypatch.setenv("AVIANSPEC_CACHE", str(tmp_path))
    for module in (unsupervised, linear):
        monkeypatch.setattr(module, "scratch_array", partial(scratch_array, limit=1000))
    again = train_dictionary(heard, ["low", "high"] * 6, SMALL, jobs=1, progress=False)
    for ours, other in zip(model.classifier, again.classifier, strict=True):
        np.testing.assert_array_equal(ours, other)
    assert not list(tmp_path.iterdir())  # the file had no name

    def full(fd, start, n):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="The disk is full"):
        train_dictionary(heard, ["low", "high"] * 6, SMALL, progress=False)


def test_every_recording_counts_the_same_within_its_class_and_every_class_the_same(monkeypatch):
    fitted = []

    class Watched(linear.LogisticRegression):
        def fit(self, x, y, sample_weight):
            fitted.extend(zip(y, sample_weight, strict=True))
            return super().fit(x, y, sample_weight=sample_weight)

    monkeypatch.setattr(linear, "LogisticRegression", Watched)
    heard = [
        log_mel(whistle(hz, k, seconds), FINE) for k, (hz, seconds) in enumerate([(2000, 2), (2000, 8), (5000, 4)])
    ]
    train_dictionary(heard, ["low", "low", "high"], replace(SMALL, shifts=(0,)), progress=False)
    weights = pd.DataFrame(fitted[-11:], columns=["label", "weight"])  # before that, some were held out
    owner = np.repeat([0, 1, 2], [1, 7, 3])  # windows of two seconds, half overlapping
    assert weights.groupby(owner).weight.sum().tolist() == pytest.approx([0.75, 0.75, 1.5])  # three in all


def test_a_classifier_that_has_not_settled_says_so_once_and_in_our_words(monkeypatch):
    heard = [log_mel(whistle(hz, k), FINE) for k, hz in enumerate((2000, 5000))]
    monkeypatch.setattr(linear, "ROUNDS", 2)
    with pytest.warns(Note, match=r"had not settled after 2 rounds; a smaller C \(0.003 here\) settles") as said:
        train_dictionary(heard, ["low", "high"], SMALL, progress=False)
    assert len(said) == 1
    monkeypatch.undo()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train_dictionary(heard, ["low", "high"], SMALL, progress=False)


def test_a_wrong_table_of_recordings_is_refused():
    with pytest.raises(ValueError, match="at least two classes; got low"):
        train_dictionary([np.zeros((99, 96))], ["low"], SMALL, progress=False)
    with pytest.raises(ValueError, match="97 bands cannot be joined by 2"):
        seen(np.zeros((9, 97)))


def test_saved_loaded_and_asked_about_a_file(whistlers, tmp_path):
    model, heard = whistlers
    saved = SavedModel(alone(model), Task(model.classes), "listener", FINE, network="dictionary", split="recordist")
    save_model(tmp_path / "model.npz", saved)
    again = load_identifier(tmp_path)
    np.testing.assert_array_equal(again.model.predict_recording(heard[0]), model.predict_recording(heard[0]))
    y = np.concatenate([whistle(2000, 70, 6.0), whistle(5000, 71, 6.0)])
    sf.write(tmp_path / "both.wav", y, FINE.sr)
    windows, note = window_probabilities(again, tmp_path / "both.wav")
    assert windows.start_s.tolist() == pytest.approx(np.arange(11.0), abs=0.03)
    assert windows.end_s.iloc[-1] == pytest.approx(12.0, abs=0.03) and note == ""
    first = identify(again, tmp_path / "both.wav", top=2).set_index("label")
    assert first.spans["low"].startswith("0.0-") and first.spans["high"].endswith("-12.0")
    sf.write(tmp_path / "nothing.wav", np.zeros(64000, np.float32), FINE.sr)
    with pytest.raises(UnusableAudio):
        identify(again, tmp_path / "nothing.wav")


def test_a_damaged_model_says_so(whistlers, tmp_path):
    saved = SavedModel(alone(whistlers[0]), Task(("high", "low")), "listener", FINE)
    save_model(tmp_path / "model.npz", saved)
    whole = (tmp_path / "model.npz").read_bytes()
    (tmp_path / "model.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="model.npz or the .json beside it is damaged"):
        load_saved_model(tmp_path)


def test_an_experiment_names_its_front_end_and_its_dictionaries():
    entry = load_catalogue()["birds-dictionary"].parameters
    assert front_end(entry) == FINE
    settings = final_settings(entry, 4)
    found = ListenerConfig(**settings["listener"])
    assert found == ListenerConfig(DictionaryConfig(seed=4), None)  # what is measured is the default
    assert settings["front_end"]["sr"] == 32000
    assert final_settings(load_catalogue()["birds-v20"].parameters).keys() >= {"training", "windows"}


def test_a_class_without_training_recordings_gets_no_probability(demo):
    data = open_run(demo)
    train = data.part("recordist", "train")
    lost = data.classes[0]
    model = learn_items(
        data, train[train.label != lost], ListenerConfig(replace(SMALL, shifts=(0,)), None), progress=False
    )
    said = predict_items(model, data, data.part("recordist", "test"))
    assert (said.p_0 == 0).all() and lost not in set(said.predicted)
    assert said.filter(like="p_").sum(axis=1).to_numpy() == pytest.approx(np.ones(len(said)))
    assert isinstance(said, pd.DataFrame)


def test_a_tone_of_another_rate_is_heard_too(whistlers, tmp_path):
    saved = SavedModel(alone(whistlers[0]), Task(("high", "low")), "listener", FINE)
    save_model(tmp_path / "model.npz", saved)
    sf.write(tmp_path / "at 16 kHz.wav", tone(3.0, hz=5000), 16000)
    windows, note = window_probabilities(load_identifier(tmp_path), tmp_path / "at 16 kHz.wav")
    assert len(windows) and "16" in note  # half of the bands hold nothing, which is said


def test_a_long_recording_is_described_as_its_parts_are(monkeypatch):
    x = seen(log_mel(whistle(2000, 3, 12.0), FINE), SMALL)
    one = learn_dictionary(unsupervised.draw_patches(x, 8, 400, np.random.default_rng(0)), 8, SMALL)
    whole, frames = unsupervised.describe_windows(x, [one], SMALL)
    assert len(whole) == 11
    monkeypatch.setattr(unsupervised, "WINDOWS_AT_ONCE", 3)
    in_parts, again = unsupervised.describe_windows(x, [one], SMALL)
    np.testing.assert_allclose(in_parts, whole, atol=1e-5)
    np.testing.assert_array_equal(again, frames)
