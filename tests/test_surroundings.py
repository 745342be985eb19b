"""What windows of the residual network are laid over, and the rooms that they are heard in."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.fft import irfft
from scipy.signal import fftconvolve
from test_listeners import UNCHANGED

from avianspec.learning.residual import MixedBatches, ResidualConfig
from avianspec.learning.surroundings import added, in_room, room_tail, soundscapes
from avianspec.sound.features import log_mel
from avianspec.sound.whitening import FINE, FRAME_S, coarser
from avianspec.synthetic.scene import room

ALONE = replace(UNCHANGED, batch_size=200, mixup=0, smoothing=0)


def windows(x, **changes):
    "A batch of windows of one recording, (200, 50, 96), and what they are called."
    x, y = MixedBatches([x], np.array([0]), np.array([1.0]), replace(ALONE, **changes)).next()
    return x[..., 0], y


@pytest.mark.parametrize("distance_m", [10.0, 80.0])
def test_a_room_does_to_a_spectrogram_what_it_does_to_the_sound(distance_m):
    rng, hiss = np.random.default_rng(1), 1e-3
    y = hiss * rng.standard_normal(3 * FINE.sr)
    y[FINE.sr : round(1.2 * FINE.sr)] *= 300  # a burst of noise, in all bands
    response = irfft(room(FINE.sr, FINE.sr, distance_m, np.random.default_rng(5)), FINE.sr)
    far = fftconvolve(y, response)[: len(y)]
    dry, wet = (coarser(log_mel(some.astype(np.float32), FINE), 2, 1) for some in (y, far))
    background = np.median(dry[10:40], axis=0)
    said = in_room(np.maximum(dry - background, 0), room_tail(np.random.default_rng(5), distance_m), 99.0)
    power, expected = (np.exp(x).mean(axis=1) for x in (said, wet - background))
    np.testing.assert_allclose(10 * np.log10(power[45:95]), 10 * np.log10(expected[45:95]), atol=2.0)  # dB
    tail = slice(round(1.3 / FRAME_S), round(1.4 / FRAME_S))  # a tenth of a second after its end
    left_db = 10 * np.log10(expected[tail].mean() / expected[52:58].mean())
    assert (left_db > -20) == (distance_m > 50)  # near by it is over, far off it is not


def test_a_room_is_that_of_the_aviary_for_a_share_of_the_windows():
    x = np.zeros((400, 96), np.float32)
    x[::40] = 3
    alone, (far, y) = windows(x)[0], windows(x, rooms=0.5)
    untouched = [np.count_nonzero(w.any(axis=1)) <= 2 for w in far]
    assert 0.38 < np.mean(untouched) < 0.62 and (alone.any(axis=2).sum(axis=1) <= 2).all()
    assert all(w.max() == 3 for w, plain in zip(far, untouched, strict=True) if plain) and (y == 1).all()
    assert far.max(axis=(1, 2)).min() > 2.5  # the direct sound is there


def test_a_scene_of_invented_birds_is_added_to_a_share_of_the_windows_at_most_20_db_softer(monkeypatch):
    scene = np.full((400, 96), -5.0, np.float32)
    scene[::20] = scene[1::20] = 0.0  # a tenth of it is five above its background
    monkeypatch.setattr("avianspec.learning.residual.soundscapes", lambda seed, n_bands: [scene])
    among, y = windows(np.zeros((400, 96), np.float32), soundscapes=0.5)
    peaks = np.expm1(among.max(axis=(1, 2)))
    quiet = peaks == 0
    assert 0.38 < quiet.mean() < 0.62 and (y == 1).all()
    gains = 10 * np.log10(peaks[~quiet] / peaks.max())
    assert gains.min() < -17 and np.abs(np.median(gains) + 10) < 3  # even in decibels


def test_scenes_hold_birds_and_are_those_of_their_seed():
    some, again, other = (list(soundscapes(16, seed))[:2] for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(some, again, strict=True))
    assert not np.array_equal(some[0][:50], other[0][:50])
    assert all(x.shape[1] == FINE.n_mels and np.isfinite(x).all() and len(x) > 200 for x in some)
    loud = [np.quantile(x, 0.999) - np.median(x) for x in some]
    assert min(loud) > 3  # something stands out of its background
    with pytest.raises(ValueError, match="n_recordings must be at least n_species"):
        list(soundscapes(3))


def test_what_is_behind_is_added_in_power_up_to_the_ceiling():
    x, behind = np.log([[1.0, 4.0, 1000.0]]), np.log([[3.0, 3.0, 1000.0]])
    np.testing.assert_allclose(np.exp(added(x, behind, 7.0)), [[3, 6, np.exp(7)]], rtol=1e-5)
    np.testing.assert_allclose(np.exp(added(x, behind, 7.0, 0.1)), [[1.2, 4.2, np.exp(7)]], rtol=1e-5)


@pytest.mark.parametrize("name", ["background", "soundscapes", "rooms"])
def test_shares_of_windows_are_shares(name):
    with pytest.raises(ValueError, match="background, soundscapes and rooms are shares of the windows, 0 to 1; got"):
        ResidualConfig(**{name: 1.5})
