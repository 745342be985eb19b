"""What windows of the residual network are laid over, and the rooms that they are heard in."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from librosa import mel_frequencies
from scipy.fft import irfft
from scipy.signal import fftconvolve
from test_listeners import NET, UNCHANGED

from avianspec.learning.dataset import open_run
from avianspec.learning.framewise import FRAMEWISE, train_framewise
from avianspec.learning.listener_runs import learn_items
from avianspec.learning.listeners import ListenerConfig
from avianspec.learning.residual import MixedBatches, ResidualConfig
from avianspec.learning.surroundings import added, in_room, quietest, room_tail, soundscapes
from avianspec.sound.features import log_mel
from avianspec.sound.whitening import FINE, coarser
from avianspec.synthetic.aviary import plan_aviary, record
from avianspec.synthetic.scene import room

ALONE = replace(UNCHANGED, batch_size=200, mixup=0, smoothing=0)


def windows(x, **changes):
    "A batch of windows of one recording, (200, 50, 96), and what they are called."
    x, y = MixedBatches([x], np.array([0]), np.array([1.0]), replace(ALONE, **changes)).next()
    return x[..., 0], y


def smeared(distance_m, seed):
    "Decibels over a burst of noise and a second after it: said of a room by its tail, and heard in the room."
    y = 1e-3 * np.random.default_rng(seed).standard_normal(3 * FINE.sr)
    y[FINE.sr : round(1.2 * FINE.sr)] *= 300
    response = irfft(room(FINE.sr, FINE.sr, distance_m, np.random.default_rng(seed)), FINE.sr)
    far = fftconvolve(y, response)[: len(y)]
    dry, wet = (coarser(log_mel(some.astype(np.float32), FINE), 2, 1) for some in (y, far))
    background = np.median(dry[10:40], axis=0)
    said = in_room(np.maximum(dry - background, 0), room_tail(np.random.default_rng(seed), distance_m), 99.0)
    return [10 * np.log10(np.exp(x).mean(axis=1)[50:110]) for x in (said, wet - background)]


@pytest.mark.parametrize("distance_m", [10.0, 80.0])
def test_a_room_does_to_a_spectrogram_what_it_does_to_the_sound(distance_m):
    said, heard = np.array([smeared(distance_m, seed) for seed in range(12)]).transpose(1, 0, 2)
    assert np.abs(said - heard).mean() < 1.5 and np.abs(said - heard).max() < 5  # dB; a response is no smooth decay
    np.testing.assert_allclose(said.mean(axis=0), heard.mean(axis=0), atol=2.0)  # over twelve rooms it nearly is
    left_db = heard[:, 15:20].mean() - heard[:, 2:8].mean()  # a tenth of a second after the end of the burst
    assert (left_db > -20) == (distance_m > 50)  # near by it is over, far off it is not


def test_a_share_of_the_windows_is_in_a_room():
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


def test_scenes_are_those_of_their_seed():
    some, again, other = soundscapes(16, 0), soundscapes(16, 0), soundscapes(16, 1)
    assert len(some) == len(other) == 16 and all(np.array_equal(a, b) for a, b in zip(some, again, strict=True))
    assert not np.array_equal(some[0][:50], other[0][:50])
    assert all(x.shape[1] == FINE.n_mels and np.isfinite(x).all() and len(x) > 150 for x in some)
    assert soundscapes(16, 0, 48)[0].shape == (len(some[0]), 48)
    with pytest.raises(ValueError, match="Scenes are made of all 16 invented species, so of as many or more; got 3"):
        soundscapes(3)


def test_in_a_scene_its_birds_sing():
    "Where the aviary says that its nearest bird sings, more is heard than in the same band at other times."
    plan, centres, higher = plan_aviary(16, 16, 0), mel_frequencies(FINE.n_mels + 2, fmin=400, fmax=15000)[1:-1], []
    for row, x in zip(plan.to_dict("records"), soundscapes(16, 0), strict=True):
        on, bands = np.zeros(len(x), bool), np.zeros(FINE.n_mels, bool)
        for sung in record(row, 0)[2]:
            if sung["layer"] == "foreground":
                on[round(100 * sung["onset_s"]) : round(100 * sung["offset_s"])] = True
                bands |= (centres > sung["low_hz"]) & (centres < sung["high_hz"])
        rest = np.exp(x[:, bands][~on]).mean() if bands.any() and not on.all() else np.nan
        higher.append(10 * np.log10(np.exp(x[:, bands][on]).mean() / rest))
    assert np.nanmedian(higher) > 10 and np.mean(np.array(higher) > 3) > 0.8  # dB; the wind blows in some


def test_scenes_are_refused_where_they_would_hold_what_is_to_be_learnt_or_other_bands(demo):
    data = open_run(demo)
    among = ListenerConfig(None, replace(NET, soundscapes=0.5))
    with pytest.raises(ValueError, match="soundscapes are of invented birds, and so are these to be learnt: "):
        learn_items(data, data.items, among, progress=False)
    real = data.items.assign(label=data.items.label.map(lambda name: f"real {name}"))
    store = SimpleNamespace(config=replace(FINE, fmax=8000.0))
    with pytest.raises(ValueError, match="soundscapes are heard as FINE hears them; fmax of this run differ"):
        learn_items(replace(data, stores=dict(spectrogram=store)), real, among, progress=False)


def test_a_quiet_stretch_takes_a_recording_of_two(monkeypatch):
    x = np.zeros((99, 96), np.float32)
    with pytest.raises(ValueError, match="background takes a recording of 2 s or more; there is none"):
        windows(x, background=0.5)
    with pytest.raises(ValueError, match="A quiet stretch of 50 frames is taken out of twice as many; got 99"):
        quietest(x, 50)


@pytest.mark.parametrize("name", ["background", "soundscapes", "rooms"])
def test_a_framewise_network_takes_none_of_them(name):
    with pytest.raises(ValueError, match="Windows of a framewise network are laid over each other alone"):
        train_framewise([np.zeros((400, 96))], [{"wren"}], replace(FRAMEWISE, **{name: 0.5}), progress=False)


def test_what_is_behind_is_added_in_power_up_to_the_ceiling():
    x, behind = np.log([[1.0, 4.0, 1000.0]]), np.log([[3.0, 3.0, 1000.0]])
    np.testing.assert_allclose(np.exp(added(x, behind, 7.0)), [[3, 6, np.exp(7)]], rtol=1e-5)
    np.testing.assert_allclose(np.exp(added(x, behind, 7.0, 0.1)), [[1.2, 4.2, np.exp(7)]], rtol=1e-5)


@pytest.mark.parametrize("name", ["background", "soundscapes", "rooms"])
def test_shares_of_windows_are_shares(name):
    with pytest.raises(ValueError, match="background, soundscapes and rooms are shares of the windows, 0 to 1; got"):
        ResidualConfig(**{name: 1.5})
