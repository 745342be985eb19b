"""Augmentation, each kind counted by hand."""

import itertools

import numpy as np
import pytest

from avianspec.sound.augmentation import Augmentation, augment, parse_augmentation
from avianspec.sound.transforms import (
    BACKGROUNDS,
    KINDS,
    change_level,
    change_wave,
    mask_spans,
    pressure_ratio,
    shift_bands,
    stretch_frames,
)

ONE_EACH = (
    "mixup=0.4",
    "mixing=1",
    "time_mask=0.3",
    "frequency_mask=0.3",
    "stretch=0.3",
    "pitch=3",
    "noise=10",
    "noise=10 background=pink",
    "noise=10 background=clips",
    "gain=6",
)
TOGETHER = "mixing=0.5 time_mask=0.2 frequency_mask=0.2 masks=2 stretch=0.2 pitch=2 noise=15 gain=6 share=0.5"


def batch(kind, n=12, seed=0):
    "Noise of a kind, three classes."
    rng = np.random.default_rng(seed)
    x = {
        "spectrogram": rng.standard_normal((n, 60, 32, 1)),
        "image": rng.random((n, 32, 60, 3)),
        "wave": 0.1 * rng.standard_normal((n, 8000, 1)),
    }[kind]
    return x.astype(np.float32), np.eye(3, dtype=np.float32)[np.arange(n) % 3]


def go(kind, text, x=None, y=None, seed=0, **more):
    made = batch(kind)
    return augment(
        made[0] if x is None else x,
        made[1] if y is None else y,
        kind,
        parse_augmentation(text),
        np.random.default_rng(seed),
        **more,
    )


@pytest.mark.parametrize("kind,text", list(itertools.product(KINDS, (*ONE_EACH, TOGETHER))))
def test_a_new_batch_of_the_same_form_the_same_for_the_same_seed(kind, text):
    x, y = batch(kind)
    before = x.copy(), y.copy()
    (a, b), (again, _), (other, _) = (go(kind, text, x, y, seed) for seed in (1, 1, 2))
    assert a.shape == x.shape and b.shape == y.shape and a.dtype == b.dtype == np.float32 and np.isfinite(a).all()
    assert np.array_equal(a, again) and not np.array_equal(a, x) and not np.array_equal(a, other)
    assert np.array_equal(x, before[0]) and np.array_equal(y, before[1]) and not np.shares_memory(a, x)
    np.testing.assert_allclose(b.sum(1), 1, atol=1e-6)
    if "mix" not in text:
        assert np.array_equal(b, y)
    if kind == "image":
        assert a.min() >= 0 and a.max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_happens_until_it_is_asked_for(kind):
    x, y = batch(kind)
    for cfg in (Augmentation(), Augmentation(gain=6, noise=0, share=0)):
        assert not cfg
        a, b = augment(x, y, kind, cfg, np.random.default_rng(0))
        assert np.array_equal(a, x) and np.array_equal(b, y) and not np.shares_memory(a, x)
    assert len(augment(x[:0], y[:0], kind, Augmentation(mixup=1, noise=3), np.random.default_rng(0))[0]) == 0
    assert all(np.isfinite(go(kind, text, x[:1], y[:1])[0]).all() for text in ONE_EACH)  # a batch of one


def test_text_and_back():
    cfg = Augmentation(mixup=0.2, time_mask=0.1, masks=2, noise=0.0, background="pink")
    assert (
        parse_augmentation(str(cfg)) == cfg and str(cfg) == "mixup=0.2 time_mask=0.1 masks=2 noise=0.0 background=pink"
    )
    assert parse_augmentation("") == parse_augmentation("  ") == Augmentation() and str(Augmentation()) == ""
    assert parse_augmentation("gain=6  mixing=1").mixing == 1


@pytest.mark.parametrize(
    "text,said",
    [
        ("rain=3", "one of mixup.*got 'rain=3'"),
        ("mixup", "name=value"),
        ("mixup=", "is a number; got ''"),
        ("mixup=a", "mixup of an augmentation is a number"),
        ("gain=1 gain=2", "stands twice"),
        ("mixup=-1", "between 0 and 100; got -1"),
        ("time_mask=1.5", "time_mask.*between 0 and 1"),
        ("noise=nan", "between -60 and 120"),
        ("stretch=inf", "stretch"),
        ("masks=0", "masks.*between 1"),
        ("masks=1.5", "is a number"),
        ("background=rain", "white, pink, clips; got 'rain'"),
        ("mixup=1 mixing=1", "not both"),
    ],
)
def test_wrong_text_is_named(text, said):
    with pytest.raises(ValueError, match=said):
        parse_augmentation(text)


def test_wrong_batches_are_named():
    (x, y), cfg, rng = batch("wave"), Augmentation(gain=1), np.random.default_rng(0)
    with pytest.raises(ValueError, match="kind is one of spectrogram, image, wave; got 'sound'"):
        augment(x, y, "sound", cfg, rng)
    with pytest.raises(ValueError, match=r"kind image has 4 axes, the last of length 3; got the shape \(12, 8000, 1\)"):
        augment(x, y, "image", cfg, rng)
    with pytest.raises(ValueError, match="12 clips, 5 rows"):
        augment(x, y[:5], "wave", cfg, rng)


@pytest.mark.parametrize("kind", KINDS)
def test_mixup_is_the_weighted_mean_of_two_and_of_their_labels(kind):
    x = np.ones_like(batch(kind, 3)[0]) * np.array([0, 0.25, 1]).reshape(
        -1, *[1] * (3 if kind != "wave" else 2)
    ).astype(np.float32)
    a, b = go(kind, "mixup=1", x, np.eye(3, dtype=np.float32), seed=2)
    np.testing.assert_allclose(
        a.reshape(3, -1), np.repeat((b @ [0, 0.25, 1])[:, None], a[0].size, 1), atol=1e-6
    )  # value and label tell the same weight
    assert ((b > 0).sum(1) == 2).any()


def test_mixup_of_several_labels_and_of_weights():
    x, _ = batch("wave", 2)
    y = np.float32([[1, 1, 0], [0, 1, 1]])
    for seed in range(20):
        a, b, w = go("wave", "mixup=1", x, y, seed, weights=np.array([1.0, 0.0]))
        np.testing.assert_allclose(b[:, 1], 1, atol=1e-6)  # both have it
        np.testing.assert_allclose(b[:, 0] + b[:, 2], 1, atol=1e-6)
        np.testing.assert_allclose(w, b[:, 0], atol=1e-6)
        np.testing.assert_allclose(a[0, :, 0], b[0, 0] * x[0, :, 0] + b[0, 2] * x[1, :, 0], atol=1e-6)
    assert 0 < b[0, 0] < 1


def test_between_class_mixing_of_waves_follows_the_paper():
    x, y = batch("wave", 2)
    x[0] *= 5  # 14 dB louder
    rms = np.sqrt((x.astype(np.float64) ** 2).mean((1, 2)))
    a, b = go("wave", "mixing=1", x, y, seed=3)
    for k in (0, 1):
        r, g = b[k, k], 20 * np.log10(rms[k] / rms[1 - k])
        p = 1 / (1 + 10 ** (g / 20) * (1 - r) / r)  # Tokozume et al. 2018, equation 2
        np.testing.assert_allclose(a[k], (p * x[k] + (1 - p) * x[1 - k]) / np.sqrt(p**2 + (1 - p) ** 2), atol=1e-5)
        assert np.isclose(pressure_ratio(rms[[k]] ** 2, rms[[1 - k]] ** 2, np.array([r]))[0], p)


def test_between_class_mixing_of_spectrograms_adds_power():
    x = np.log(np.float32([4, 9]))[:, None, None, None] * np.ones((2, 5, 3, 1), np.float32)  # powers 4 and 9
    a, b = go("spectrogram", "mixing=1", x, np.eye(3, dtype=np.float32)[:2], seed=2)
    for k, (mine, other) in enumerate(((4, 9), (9, 4))):
        r = b[k, k]
        p = r * np.sqrt(other) / (r * np.sqrt(other) + (1 - r) * np.sqrt(mine))
        np.testing.assert_allclose(
            np.exp(a[k]), (p**2 * mine + (1 - p) ** 2 * other) / (p**2 + (1 - p) ** 2), rtol=1e-5
        )


@pytest.mark.parametrize("kind", KINDS)
def test_between_class_mixing_leaves_clips_alone_where_all_are_of_one_class(kind):
    x, y = batch(kind)
    a, b = go(kind, "mixing=1", x, np.tile(y[:1], (len(y), 1)))
    assert np.array_equal(a, x) and (b == y[0]).all()
    mixed = [(go(kind, "mixing=0.3", seed=s)[1].max(1) < 1).sum() for s in range(40)]
    assert 0.2 < np.sum(mixed) / (40 * len(y)) < 0.4  # its share of clips
    assert ((go(kind, "mixing=1")[1] > 0).sum(1) == 2).all()  # always two different ones


@pytest.mark.parametrize("kind,axis", [("spectrogram", 1), ("image", 2), ("wave", 1)])
def test_time_masks_are_one_span_no_wider_than_asked(kind, axis):
    widths = []
    for seed in range(30):
        x, y = batch(kind)
        a, _ = go(kind, "time_mask=0.25", x, y, seed)
        changed = np.moveaxis(a != x, axis, 1).reshape(len(x), x.shape[axis], -1)
        assert (changed.any(2) == changed.all(2)).all() or kind == "image"
        masked = changed.any(2)
        assert (np.abs(np.diff(masked.astype(int), axis=1, prepend=0, append=0)).sum(1) <= 2).all()
        fill = x.mean((1, 2), keepdims=True) if kind == "image" else np.zeros((len(x), *[1] * (x.ndim - 1)))
        np.testing.assert_allclose(
            a[changed.reshape(a.shape) if kind == "wave" else a != x], np.broadcast_to(fill, a.shape)[a != x], atol=1e-5
        )
        widths.append(masked.sum(1))
    n = x.shape[axis]
    assert (
        np.max(widths) <= n // 4
        and np.max(widths) > 0.22 * n
        and np.min(widths) < 0.03 * n
        and abs(np.mean(widths) - n / 8) < 0.02 * n
    )


def test_frequency_masks_of_spectrogram_and_image_are_whole_bands_of_the_spectrogram():
    x, y = batch("spectrogram")
    a, _ = go("spectrogram", "frequency_mask=0.5 masks=2", x, y, 1, bands=slice(8, None))
    masked = (a == 0).all((1, 3))
    assert (
        np.array_equal((a != x).any((1, 3)), masked)
        and not masked[:, :8].any()
        and masked[:, 8:].any()
        and masked.sum(1).max() <= 24
    )
    x, y = batch("image")
    a, _ = go("image", "frequency_mask=0.5", x, y)
    assert ((a != x).any((2, 3)) == (a != x).all((2, 3))).all() and (a != x).any((2, 3)).sum(1).max() <= 16


def test_a_frequency_mask_of_a_wave_removes_a_range_of_frequencies():
    x, y = batch("wave", 20)
    a, _ = go("wave", "frequency_mask=0.3", x, y)
    level = np.abs(np.fft.rfft(a[..., 0])) / np.abs(np.fft.rfft(x[..., 0]))
    gone = level < 0.01
    assert np.all(gone | (np.abs(level - 1) < 0.01)) and gone.any() and gone.mean(1).max() <= 0.3
    assert (np.abs(np.diff(gone.astype(int), axis=1, prepend=0, append=0)).sum(1) <= 2).all()


@pytest.mark.parametrize("background", BACKGROUNDS[:2])
@pytest.mark.parametrize("decibels", [-5, 0, 20])
def test_noise_has_the_ratio_that_was_asked_for(background, decibels):
    x, y = batch("wave")
    noise = go("wave", f"noise={decibels} background={background}", x, y)[0] - x
    np.testing.assert_allclose(10 * np.log10((x**2).mean((1, 2)) / (noise**2).mean((1, 2))), decibels, atol=0.01)
    power = (np.abs(np.fft.rfft(noise[..., 0])) ** 2).mean(0)
    octaves = np.array([power[2**k : 2 ** (k + 1)].mean() for k in range(5, 11)])
    fall = np.polyfit(range(6), 10 * np.log10(octaves), 1)[0]
    assert abs(fall - (-3.01 if background == "pink" else 0)) < 0.4  # dB an octave
    x, y = batch("spectrogram")
    a, _ = go("spectrogram", f"noise={decibels} background={background}", x, y, unit=2.0)
    added = np.exp(2.0 * a.astype(np.float64)) - np.exp(2.0 * x.astype(np.float64))
    np.testing.assert_allclose(
        10 * np.log10(np.exp(2.0 * x).mean((1, 2, 3)) / added.mean((1, 2, 3))), decibels, atol=0.02
    )


def test_image_noise_is_grey_and_has_the_ratio_of_variances():
    x = (0.5 + 0.1 * (batch("image")[0] - 0.5)).astype(np.float32)  # far from black and white, so nothing is clipped
    noise = go("image", "noise=6", x)[0].astype(np.float64) - x
    np.testing.assert_allclose(10 * np.log10(x.astype(np.float64).var((1, 2, 3)) / noise.var((1, 2, 3))), 6, atol=0.02)
    assert np.ptp(noise, axis=3).max() < 1e-6
    pink = go("image", "noise=6 background=pink", x)[0].astype(np.float64) - x
    assert pink[:, -4:].std() > 3 * pink[:, :4].std()  # the bottom row is the lowest band


def test_a_background_is_another_clip_and_the_label_stays():
    x = np.zeros((3, 3000, 1), np.float32)
    for k in range(3):
        x[k, 1000 * k : 1000 * k + 1000] = (-1.0) ** np.arange(1000)[:, None]
    a, b = go("wave", "noise=20 background=clips", x, np.eye(3, dtype=np.float32))
    assert np.array_equal(b, np.eye(3))
    for k in range(3):
        levels = np.abs(a[k].reshape(3, 1000)).mean(1)
        assert levels[k] == 1 and sorted(np.round(levels, 4)) == [0, 0.1, 1]  # 20 dB below


def test_gain_is_a_level():
    x, y = batch("wave")
    change = 20 * np.log10((go("wave", "gain=6", x, y)[0] / x).reshape(len(x), -1))
    assert np.ptp(change, axis=1).max() < 1e-3 and change.min() >= -6 and change.max() <= 6 and np.ptp(change) > 3
    x, y = batch("spectrogram")
    change = (go("spectrogram", "gain=6", x, y, unit=2.0)[0] - x).reshape(len(x), -1) * 2 * 10 / np.log(10)
    assert np.ptp(change, axis=1).max() < 1e-3 and np.abs(change).max() <= 6 and np.ptp(change) > 3
    assert (go("wave", "gain=6 share=0.25", *batch("wave", 400))[0] != batch("wave", 400)[0]).any(
        (1, 2)
    ).mean() == pytest.approx(0.25, abs=0.06)


def test_a_click_train_is_stretched():
    clicks = np.zeros((3, 120, 4, 1), np.float32)
    clicks[:, ::12] = 1
    slow, same, fast = stretch_frames(clicks, [0.5, 1, 2])[..., 0, 0]
    assert (
        list(np.flatnonzero(slow == 1)) == list(range(0, 120, 24))
        and np.array_equal(same, clicks[0, :, 0, 0])
        and list(np.flatnonzero(fast)) == list(range(0, 120, 6))
    )
    ramp = np.tile(np.arange(60, dtype=np.float32)[:, None, None], (50, 1, 8, 1))
    a, _ = go("spectrogram", "stretch=0.5", ramp, np.ones((50, 1), np.float32))
    tempo = a[:, 10, 0, 0] / 10
    assert tempo.min() >= 1 / 1.5 and tempo.max() <= 1.5 and (tempo < 0.75).any() and (tempo > 1.4).any()
    picture, _ = go(
        "image", "stretch=0.5", np.repeat(ramp.transpose(0, 2, 1, 3), 3, 3) / 60, np.ones((50, 1), np.float32)
    )
    np.testing.assert_allclose(
        picture[:, :, :, 1].transpose(0, 2, 1) * 60, a[..., 0], atol=1e-3
    )  # an image along its width, alike


def test_bands_shift_whole_and_images_with_them():
    ladder = np.tile(np.arange(32, dtype=np.float32)[None, None, :, None], (40, 7, 1, 1))
    np.testing.assert_array_equal(
        shift_bands(ladder[:2], [3, -2])[:, 0, :, 0],
        [np.clip(np.arange(32) - 3, 0, 31), np.clip(np.arange(32) + 2, 0, 31)],
    )
    a, _ = go("spectrogram", "pitch=3", ladder, np.ones((40, 1), np.float32))
    assert set((16 - a[:, 0, 16, 0]).astype(int)) == {-3, -2, -1, 0, 1, 2, 3}
    picture, _ = go(
        "image", "pitch=3", np.repeat(ladder.transpose(0, 2, 1, 3)[:, ::-1], 3, 3) / 32, np.ones((40, 1), np.float32)
    )
    np.testing.assert_allclose(picture[:, ::-1, :, 0].transpose(0, 2, 1) * 32, a[..., 0], atol=1e-4)
    cepstra, _ = go("spectrogram", "pitch=3", ladder, np.ones((40, 1), np.float32), bands=slice(5, None))
    assert np.array_equal(cepstra[:, :, :5], ladder[:, :, :5]) and not np.array_equal(
        cepstra[:, :, 5:], ladder[:, :, 5:]
    )


@pytest.mark.parametrize("tempo", [0.7, 0.8, 1.25, 1.5])
def test_a_wave_is_stretched_and_keeps_its_pitch(tempo):
    sr, t = 16000, np.arange(32000) / 16000
    tones = (np.sin(2 * np.pi * 700 * t) * (np.floor(t / 0.1) % 5 == 0)).astype(np.float32)  # 0.1 s of tone every 0.5 s
    a = change_wave(tones, tempo)
    assert a.shape == tones.shape and abs(np.abs(np.fft.rfft(a)).argmax() / 2 - 700) <= 10
    level = np.convolve(a**2, np.ones(160) / 160, "same") > 0.1
    onsets = np.flatnonzero(np.diff(level.astype(int), prepend=0) == 1) / sr
    wanted = np.arange(0, 2, 0.5 / tempo)
    inside = wanted[wanted < min(2, 2 / tempo) - 0.1]
    for w in inside:
        assert np.abs(onsets - w).min() < 0.048  # half a piece and the search for its place


@pytest.mark.parametrize("semitones", [-12, -5, 3, 12])
def test_a_wave_is_shifted_and_keeps_its_tempo(semitones):
    t = np.arange(32000) / 16000
    tones = (np.sin(2 * np.pi * 700 * t) * (np.floor(t / 0.1) % 5 == 0)).astype(np.float32)
    a = change_wave(tones, semitones=semitones)
    assert abs(np.abs(np.fft.rfft(a)).argmax() / 2 / (700 * 2 ** (semitones / 12)) - 1) < 0.02
    level = np.convolve(a**2, np.ones(320) / 320, "same") > 0.1
    onsets = np.flatnonzero(np.diff(level.astype(int), prepend=0) == 1) / 16000
    for w in (0.5, 1.0, 1.5):
        assert np.abs(onsets - w).min() < 0.048


def test_an_unchanged_wave_and_a_very_short_one():
    x = batch("wave")[0][0, :, 0]
    np.testing.assert_allclose(change_wave(x), x, atol=1e-6)
    for n in (1, 5, 700):
        assert change_wave(x[:n], 1.3, 4).shape == (n,) and np.isfinite(change_wave(x[:n], 1.3, 4)).all()


@pytest.mark.parametrize("text", ONE_EACH)
def test_silence_stays_a_number(text):
    for kind, value in (("wave", 0), ("spectrogram", -5), ("image", 0.2)):
        x = np.full_like(batch(kind)[0], value)
        assert np.isfinite(go(kind, text, x)[0]).all()


def test_masks_fill_what_they_are_told():
    x = np.zeros((4, 20, 2), np.float32)
    mask_spans(x, 1.0, 1, np.random.default_rng(0), np.float32([[1], [2], [3], [4]]), share=1)
    assert all(set(np.unique(clip)) <= {0, k + 1} for k, clip in enumerate(x)) and x.any()


def test_ten_decibels_are_ten_times_the_power():
    decibels = np.array([10.0, -20.0])
    spectrogram = change_level(np.zeros((2, 3, 4, 1), np.float32), "spectrogram", decibels, unit=2.0)
    np.testing.assert_allclose(spectrogram[:, 0, 0, 0], [np.log(10) / 2, -np.log(100) / 2], rtol=1e-6)
    wave = change_level(np.ones((2, 5, 1), np.float32), "wave", decibels, unit=1.0)
    np.testing.assert_allclose(wave[:, 0, 0] ** 2, [10, 0.01], rtol=1e-5)
