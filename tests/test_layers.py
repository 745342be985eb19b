"""Front ends as layers: the numbers of librosa and the house, whatever the settings, the neighbours and the file."""

import importlib.util
import os
import subprocess
import sys

import librosa
import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from avianspec.learning.export import export_model
from avianspec.learning.layers import (
    PCEN,
    Delta,
    MelSpectrogram,
    OverlappingFrames,
    PowerSpectrogram,
    WhitenRecording,
    keras,
)
from avianspec.learning.saved_model import SavedModel
from avianspec.learning.tasks import Task
from avianspec.sound.features import FeatureConfig, log_mel
from avianspec.sound.whitening import whitened
from avianspec.stores.waves import WaveConfig

SR = 22050


def sound(n, seed=0):
    "A tone that rises, with noise of many levels behind it, float32, (n,)."
    rng, t = np.random.default_rng(seed), np.arange(n) / SR
    noise = rng.standard_normal(n) * 10 ** rng.uniform(-4, -1)
    return (0.3 * np.sin(2 * np.pi * (rng.uniform(200, 4000) + 3000 * t) * t) + noise).astype(np.float32)


def seen(layer, x):
    return keras.ops.convert_to_numpy(layer(x))


def decibels(power):
    return librosa.power_to_db(power, amin=1e-30, top_db=None)


def away(found, reference, below=60):
    "The largest difference in dB of what is less than 60 dB below the loudest."
    reference = decibels(reference)
    return np.abs(found - reference)[reference > reference.max() - below].max()


windows = st.fixed_dictionaries(
    dict(
        n_fft=st.sampled_from([64, 100, 256, 400, 1024, 2048]),
        hop_length=st.integers(30, 2500),
        window=st.sampled_from(["hann", "hamming", "blackman", "boxcar"]),
        center=st.booleans(),
    )
)


@settings(max_examples=25)
@given(windows, st.integers(2048, 9000), st.integers(0, 9))
def test_power_is_that_of_librosa(cfg, n_samples, seed):
    y = sound(n_samples, seed)
    reference = np.abs(librosa.stft(y.astype(float), **cfg).T) ** 2
    found = seen(PowerSpectrogram(**cfg), y[None])[0]
    assert found.shape == reference.shape
    np.testing.assert_allclose(found, reference, rtol=1e-4, atol=1e-6 * reference.max())


@pytest.mark.filterwarnings("ignore:Empty filters")
@settings(max_examples=25)
@given(
    windows,
    st.integers(1, 64),
    st.floats(0, 3000),
    st.one_of(st.none(), st.floats(4000, SR / 2)),
    st.booleans(),
    st.integers(0, 9),
)
def test_mel_bands_are_those_of_librosa_above_60_db(cfg, n_mels, fmin, fmax, htk, seed):
    y, bands = sound(6000, seed), dict(n_mels=n_mels, fmin=fmin, fmax=fmax, htk=htk)
    reference = librosa.feature.melspectrogram(y=y.astype(float), sr=SR, **cfg, **bands).T
    found = seen(MelSpectrogram(SR, scale="db", amin=1e-30, **cfg, **bands), y[None])[0]
    assert found.shape == reference.shape
    assert not reference.any() or away(found, reference) < 1e-3


def test_a_minute_of_sound_is_within_a_thousandth_of_a_decibel():
    y = sound(60 * SR)
    y[: 5 * SR] *= 0.01
    reference = librosa.feature.melspectrogram(y=y.astype(float), sr=SR).T
    found = seen(MelSpectrogram(SR, scale="db"), y[None, :, None])[0]
    assert found.shape == (2584, 128)
    assert away(found, reference) < 1e-3


def test_log_mel_is_that_of_the_house():
    cfg = FeatureConfig(sr=32000, n_fft=1024, hop_length=320, n_mels=96, fmin=400, fmax=15000)
    y = sound(20000)
    found = seen(MelSpectrogram(32000, 1024, 320, 96, 400, 15000), y[None])[0]
    np.testing.assert_allclose(found, log_mel(y, cfg), atol=2e-3)


@settings(max_examples=20)
@given(st.integers(1, 4).map(lambda k: 2 * k + 1), st.integers(0, 20), st.integers(0, 9))
def test_slopes_are_those_of_librosa(width, more, seed):
    x = np.random.default_rng(seed).standard_normal((2, width + more, 5)).astype(np.float32)
    np.testing.assert_allclose(seen(Delta(width), x), librosa.feature.delta(x, width=width, axis=1), atol=1e-5)


@settings(max_examples=20)
@given(st.integers(1, 9), st.integers(1, 12), st.integers(0, 20))
def test_pieces_are_slices(length, hop, more):
    x = np.arange(2 * (length + more) * 6, dtype=np.float32).reshape(2, -1, 3, 2)
    starts = range(0, length + more - length + 1, hop)
    np.testing.assert_array_equal(
        seen(OverlappingFrames(length, hop), x), np.stack([x[:, s : s + length] for s in starts], axis=1)
    )


@settings(max_examples=20)
@given(
    st.integers(1, 300),
    st.sampled_from([128, 512, 1000]),
    st.floats(0.05, 2),
    st.floats(0.1, 0.99),
    st.floats(0.5, 4),
    st.booleans(),
)
def test_pcen_is_that_of_librosa(n_frames, hop_length, time_constant, gain, bias, learned):
    rng = np.random.default_rng(n_frames)
    power = (rng.standard_exponential((2, n_frames, 3)) * 10 ** rng.uniform(-9, 0, (1, 1, 3))).astype(np.float32)
    given = dict(sr=SR, hop_length=hop_length, time_constant=time_constant, gain=gain, bias=bias)
    reference = [librosa.pcen(p * 2.0**31, axis=0, **given) for p in power.astype(float)]
    np.testing.assert_allclose(seen(PCEN(learned=learned, **given), power), reference, rtol=1e-3, atol=1e-3)


def test_a_learned_pcen_learns():
    power = np.random.default_rng(0).standard_exponential((8, 40, 4)).astype(np.float32)
    window = keras.Input((40, 4))
    net = keras.Model(window, keras.layers.GlobalAveragePooling1D()(PCEN(learned=True)(window)))
    net.compile("adam", "mse")
    before = [w.copy() for w in net.get_weights()]
    net.fit(power, np.zeros((8, 4)), epochs=2, verbose=0)
    assert len(before) == 3
    assert all((a != b).all() and np.isfinite(b).all() for a, b in zip(before, net.get_weights(), strict=True))


@settings(max_examples=20)
@given(st.integers(1, 90), st.floats(0, 1), st.floats(0.1, 9))
def test_a_recording_is_whitened_like_the_house_does_it(n_frames, quantile, ceiling):
    x = np.random.default_rng(n_frames).normal(-5, 3, (2, n_frames, 4)).astype(np.float32)
    found = seen(WhitenRecording(quantile, ceiling), x)
    np.testing.assert_allclose(found, [whitened(one, quantile, ceiling) for one in x], atol=1e-5)


# ---- all of them together
N = 8192


def network(batch_size=None):
    "Every layer at once: sound in, two probabilities out."
    given = keras.Input((N, 1), batch_size=batch_size, name="sound")
    mel = MelSpectrogram(SR, 512, 200, 24, 100.0, 9000.0, center=False)(given)
    normal = PCEN(hop_length=200, learned=True)(
        MelSpectrogram(SR, 512, 200, 24, 100.0, 9000.0, "power", center=False)(given)
    )
    linear = keras.layers.Dense(24)(PowerSpectrogram(512, 200, center=False, scale="log")(given))
    channels = [mel, Delta()(mel), WhitenRecording()(mel), normal, linear]
    x = keras.layers.Concatenate()([keras.layers.Reshape((-1, 24, 1))(c) for c in channels])
    x = keras.layers.TimeDistributed(keras.layers.Conv2D(4, 3))(OverlappingFrames(16, 8)(x))
    x = keras.layers.Reshape((-1, 4))(x)
    return keras.Model(given, keras.layers.Dense(2, activation="softmax")(keras.layers.GlobalMaxPooling1D()(x)))


@pytest.fixture(scope="module")
def net():
    keras.utils.set_random_seed(1)
    return network()


@pytest.fixture(scope="module")
def clips():
    return np.stack([sound(N, seed) for seed in range(4)])[..., None]


def test_no_clip_depends_on_its_neighbours(clips):
    layer = MelSpectrogram(SR, 512, 200, 24, scale="db")
    alone, beside = seen(layer, clips[:1]), seen(layer, np.concatenate([clips[:1], 1e4 * clips[1:]]))
    np.testing.assert_allclose(beside[:1], alone, atol=1e-4)


def test_a_saved_network_gives_the_same(tmp_path, net, clips):
    net.save(tmp_path / "net.keras")
    again = keras.models.load_model(tmp_path / "net.keras")
    np.testing.assert_array_equal(again.predict_on_batch(clips), net.predict_on_batch(clips))


OTHERS = [name for name in ("jax", "torch") if importlib.util.find_spec(name)]
READER = """
import sys
import numpy as np
import avianspec.learning.layers as ours
net = ours.keras.models.load_model(sys.argv[1])
np.save(sys.argv[3], net.predict(np.load(sys.argv[2]), verbose=0))
print(ours.keras.backend.backend(), "tensorflow" in sys.modules)
"""


@pytest.mark.skipif(not OTHERS, reason="neither JAX nor PyTorch is installed")
def test_another_backend_reads_the_same_file(tmp_path, net, clips):
    net.save(tmp_path / "net.keras")
    np.save(tmp_path / "clips.npy", clips)
    files = [str(tmp_path / name) for name in ("net.keras", "clips.npy", "found.npy")]
    out = subprocess.run(
        [sys.executable, "-c", READER, *files],
        env=os.environ | {"KERAS_BACKEND": OTHERS[0]},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert out.returncode == 0, out.stderr
    assert out.stdout.split() == [OTHERS[0], "False"]
    np.testing.assert_allclose(np.load(files[2]), net.predict_on_batch(clips), atol=1e-4)


def test_a_phone_needs_no_other_operations(tmp_path, net, clips):
    saved = SavedModel(net, Task(("a", "b")), "wave", WaveConfig(SR), window_s=N / SR)
    facts = export_model(saved, tmp_path / "net.tflite", check={"sound": clips})
    assert not {"CUSTOM", "WHILE", "RFFT2D"} & set(facts["operations"])
    assert not [name for name in facts["operations"] if "FLEX" in name.upper()]
    assert facts["agreement"]["largest_difference"] < 1e-4
