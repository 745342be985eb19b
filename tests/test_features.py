"""Features equal librosa's, however the sound arrives and however long it is."""

import subprocess
import sys

import librosa
import numpy as np
import pytest
import soundfile as sf
from conftest import tone
from hypothesis import given, settings
from hypothesis import strategies as st

from avianspec.data.layouts import load_recordings
from avianspec.sound.audio import AudioStream, UnusableAudio, read_audio
from avianspec.sound.features import (
    FeatureConfig,
    extract,
    log_mel,
    mel_power,
    mfcc,
    power_blocks,
    resample,
    resampled,
    spectrogram,
)


def chirps(n, seed):
    "Falling sweeps in noise that span ninety decibels."
    rng, t = np.random.default_rng(seed), np.arange(n) / 22050
    y = 0.5 * np.sin(2 * np.pi * (4000 * t - 300 * t**2)) * (np.sin(5 * t) > 0) + 10 ** rng.uniform(
        -4.5, -2
    ) * rng.standard_normal(n)
    return y.astype(np.float32)


configs = st.builds(
    FeatureConfig,
    n_fft=st.sampled_from([512, 1024, 2048]),
    hop_length=st.sampled_from([128, 256, 512, 700]),
    window=st.sampled_from(["hann", "hamming", "blackman"]),
    center=st.booleans(),
    n_mels=st.sampled_from([40, 64, 128]),
    fmin=st.sampled_from([0.0, 150.0]),
    fmax=st.sampled_from([None, 8000.0]),
    htk=st.booleans(),
    norm=st.sampled_from(["slaney", None]),
    n_mfcc=st.integers(5, 30),
)


def librosa_mel(y, cfg):
    return librosa.feature.melspectrogram(
        y=y,
        sr=cfg.sr,
        n_fft=cfg.n_fft,
        hop_length=cfg.hop_length,
        window=cfg.window,
        center=cfg.center,
        n_mels=cfg.n_mels,
        fmin=cfg.fmin,
        fmax=cfg.fmax,
        htk=cfg.htk,
        norm=cfg.norm,
    )


@settings(max_examples=30, deadline=None)
@given(configs, st.integers(2048, 60000), st.integers(0, 99))
def test_features_are_librosas(cfg, n, seed):
    y = chirps(n, seed)
    power = librosa_mel(y, cfg)
    np.testing.assert_allclose(mel_power(y, cfg), power.T, rtol=1e-4, atol=1e-12)
    ours = log_mel(y, cfg)
    np.testing.assert_allclose(ours, np.log(np.maximum(power, cfg.amin)).T, atol=1e-4)
    theirs = librosa.feature.mfcc(S=librosa.power_to_db(power), n_mfcc=cfg.n_mfcc).T
    np.testing.assert_allclose(mfcc(ours, cfg), theirs, atol=1e-3)


def test_default_features_are_librosas_defaults():
    y, cfg = chirps(40000, 7), FeatureConfig()
    power = librosa.feature.melspectrogram(y=y, sr=22050)
    np.testing.assert_allclose(log_mel(y), np.log(np.maximum(power, 1e-10)).T, atol=1e-4)  # natural logarithm
    np.testing.assert_allclose(mfcc(log_mel(y)), librosa.feature.mfcc(y=y, sr=22050).T, atol=1e-3)
    assert (cfg.sr, cfg.n_bands, cfg.n_mfcc, cfg.frame_s) == (22050, 128, 20, 512 / 22050)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([512, 2048]), st.sampled_from([256, 512]), st.booleans(), st.integers(0, 99))
def test_other_front_ends_are_librosas(n_fft, hop_length, center, seed):
    y, common = chirps(30000, seed), dict(n_fft=n_fft, hop_length=hop_length, center=center)
    linear = np.abs(librosa.stft(y, **common)).T ** 2
    np.testing.assert_allclose(
        spectrogram(y, FeatureConfig(bands="linear", scale="power", **common)), linear, rtol=1e-3, atol=1e-7
    )
    cfg = FeatureConfig(scale="pcen", **common)
    pcen = librosa.pcen(librosa_mel(y, cfg) * 2**31, sr=cfg.sr, hop_length=hop_length).T
    np.testing.assert_allclose(spectrogram(y, cfg), pcen, rtol=1e-3, atol=1e-4)


def test_features_of_real_recordings_are_librosas(shared_data):
    for path in load_recordings(shared_data / "birds").path[::8]:
        y, sr = librosa.load(path, sr=22050)
        made = extract(path)
        np.testing.assert_allclose(
            made["spectrogram"], np.log(np.maximum(librosa.feature.melspectrogram(y=y, sr=sr), 1e-10)).T, atol=2e-4
        )
        np.testing.assert_allclose(made["mfcc"], librosa.feature.mfcc(y=y, sr=sr).T, atol=1e-3)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 9000), min_size=1, max_size=12), st.sampled_from([128, 512, 700, 3000]), st.booleans())
def test_features_do_not_depend_on_how_the_sound_arrives(sizes, hop_length, center):
    y = chirps(sum(sizes) + 2048, 5)
    pieces = np.split(y, np.cumsum(sizes))
    cfg = FeatureConfig(hop_length=hop_length, center=center)
    whole, in_pieces = (np.concatenate([p.copy() for p in power_blocks(blocks, cfg)]) for blocks in ([y], pieces))
    np.testing.assert_array_equal(whole, in_pieces)
    assert len(whole) == librosa.stft(y, hop_length=hop_length, center=center).shape[1]


def test_a_reader_may_use_its_memory_again():
    y, memory = chirps(50_000, 3), np.empty(700, np.float32)

    def reader():
        for start in range(0, len(y), len(memory)):
            some = y[start : start + len(memory)]
            memory[: len(some)] = some
            yield memory[: len(some)]
            memory[:] = np.nan

    for cfg in (FeatureConfig(), FeatureConfig(center=False, hop_length=3000)):
        whole, in_pieces = (np.concatenate([p.copy() for p in power_blocks(b, cfg)]) for b in ([y], reader()))
        np.testing.assert_array_equal(whole, in_pieces)


def test_single_precision_is_off_by_its_rounding_alone():
    y = chirps(60_000, 2)
    single, double = mel_power(y, precision="float32"), mel_power(y)
    assert single.dtype == np.float32 and (single != double).any()
    np.testing.assert_allclose(single, double, rtol=1e-4, atol=1e-10 * double.max())
    np.testing.assert_allclose(single, librosa_mel(y, FeatureConfig()).T, rtol=1e-3, atol=1e-9 * double.max())


@pytest.mark.parametrize("orig_sr", [8000, 16000, 22050, 32000, 44100, 48000, 96000, 192000])
def test_resampling_in_blocks_is_librosas(orig_sr):
    y = tone(1.3, orig_sr, 1000)[:, 0]
    theirs = librosa.resample(y, orig_sr=orig_sr, target_sr=22050)
    np.testing.assert_allclose(np.concatenate(list(resampled(np.array_split(y, 9), orig_sr, 22050))), theirs, atol=1e-6)
    assert len(resample(y[:1], orig_sr, 22050)) == len(librosa.resample(y[:1], orig_sr=orig_sr, target_sr=22050))


def test_too_short_for_one_frame_is_said():
    with pytest.raises(ValueError, match="at least n_fft = 2048 samples .* got 100"):
        log_mel(np.zeros(100, np.float32), FeatureConfig(center=False))


def test_half_precision_costs_what_is_stated(tmp_path):
    sf.write(tmp_path / "a.wav", tone(3.0), 22050)
    full, half = extract(tmp_path / "a.wav"), extract(tmp_path / "a.wav", FeatureConfig(dtype="float16"))
    assert half["spectrogram"].dtype == half["mfcc"].dtype == np.float16
    assert (
        np.abs(half["spectrogram"] - full["spectrogram"]).max() <= 2**-7
        and np.abs(half["mfcc"] - full["mfcc"]).max() <= 2**-2
    )


def test_wrong_settings_are_named():
    for name, choices in (("bands", "mel, linear"), ("scale", "log, power, pcen"), ("dtype", "float32, float16")):
        with pytest.raises(ValueError, match=f"{name} is one of {choices}; got 'x'"):
            FeatureConfig(**{name: "x"})


def test_a_stream_gives_the_samples_of_the_whole(odd_files):
    folder, expected = odd_files
    for name, (verdict, _) in expected.items():
        if verdict != "usable":
            continue
        with sf.SoundFile(folder / name) as f:
            whole = f.read(dtype="float32", always_2d=True)  # as librosa does
        stream = AudioStream(folder / name)
        np.testing.assert_array_equal(np.concatenate([b.copy() for b in stream.blocks()]), whole)
        np.testing.assert_array_equal(read_audio(folder / name).y, whole)
        assert (stream.n_samples, stream.channels) == whole.shape


def test_channels_that_cancel_are_not_mixed_and_constant_ones_are_silence(tmp_path):
    y = tone(1.0)[:, 0]
    sf.write(tmp_path / "a.wav", np.stack([y, -y], axis=1), 22050)
    sf.write(tmp_path / "one.wav", y, 22050)
    opposed, one = (extract(tmp_path / name) for name in ("a.wav", "one.wav"))
    np.testing.assert_array_equal(opposed["spectrogram"], one["spectrogram"])
    sf.write(tmp_path / "b.wav", np.full((22050, 2), [0.25, -0.5]), 22050)  # constant offsets are no sound
    with pytest.raises(UnusableAudio, match="silent"):
        read_audio(tmp_path / "b.wav")


PEAK = """
import resource, sys
from avianspec.sound.features import FeatureConfig, extract_into
for path in sys.argv[2:]:
    with open(sys.argv[1], "w+b") as spectrogram, open(sys.argv[1] + ".mfcc", "w+b") as mfcc:
        facts = extract_into(path, FeatureConfig(), spectrogram, mfcc)["facts"]
    print(facts["n_frames"], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def test_memory_does_not_grow_with_the_recording(tmp_path):
    sr, noise = 8000, (30 * np.random.default_rng(0).standard_normal(8000 * 60)).astype(np.int16) * 100
    for minutes in (1, 90):
        sf.write(tmp_path / f"{minutes}.wav", np.tile(noise, minutes), sr)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path / "out"), str(tmp_path / "1.wav"), str(tmp_path / "90.wav")],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    (_, short), (n_frames, long) = (map(float, line.split()) for line in done.stdout.splitlines())
    assert n_frames == 1 + 90 * 60 * 22050 // 512
    assert long < short + 60, (
        f"{short:.0f} MB for a minute, {long:.0f} MB for 90"
    )  # its spectrogram alone has 119 MB, its samples 476


@pytest.mark.parametrize(
    "wrong, said",
    [
        (dict(n_mels=20, n_mfcc=40), "n_mfcc"),
        (dict(fmin=12000.0), "fmin"),
        (dict(fmin=3000.0, fmax=2000.0), "fmin"),
        (dict(scale="power", dtype="float16"), "float16"),
    ],
    ids=str,
)
def test_settings_that_make_rubbish_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        FeatureConfig(**wrong)
