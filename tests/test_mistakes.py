"""Mistakes: the windows tested, the network at other lengths, noise of known strength, the job on a trained run."""

from dataclasses import replace

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from notebook_job import run_job

from avianspec.learning.dataset import open_run
from avianspec.learning.predictions import predict, probabilities_of
from avianspec.scoring import mistakes as mi
from avianspec.scoring.intervals import interval
from avianspec.sound.features import FeatureConfig, log_mel


@pytest.fixture(scope="module")
def part(trained):
    return mi.TestPart(open_run(trained))


@pytest.fixture(scope="module")
def said(trained):
    return pd.read_parquet(trained / "predictions.parquet").query("split == 'recordist'")


def test_the_last_layer_makes_the_stored_probabilities_of_embeddings(part, said):
    inner = mi.embeddings(part, crop_seeds=1)
    weight, bias = (np.asarray(v) for v in part.saved.model.layers[-1].get_weights())
    odds = np.exp(inner @ weight + bias)
    stored = said[said.crop_seed == 0]
    assert stored.recording_id.to_list() == part.table.recording_id.to_list()
    np.testing.assert_allclose(odds / odds.sum(1, keepdims=True), probabilities_of(stored), atol=1e-4)
    both = mi.embeddings(part, crop_seeds=2)
    alone = [
        predict(
            mi.keras.Model(part.saved.model.inputs[0], part.saved.model.layers[-1].input), part.batches(k).windows(0)[0]
        )
        for k in (0, 1)
    ]
    np.testing.assert_allclose(both, np.mean(alone, axis=0), atol=1e-5)


def test_the_window_shown_is_the_window_tested(part):
    row = part.table.recording_id.iloc[2]
    x = part.batches(1).windows(0)[0][2, :, :, 0]
    start = mi.window_start(part, row, 1)
    frames = np.asarray(part.data.store[row]["spectrogram"])[start : start + len(x)]
    mean, std = part.saved.statistics["spectrogram"].mean, part.saved.statistics["spectrogram"].std
    n_mfcc = part.data.store.config.n_mfcc
    np.testing.assert_allclose(
        x[: len(frames), n_mfcc:], ((frames - mean) / std)[:, n_mfcc:], atol=1e-3
    )  # the lowest bands hold MFCCs


def test_surest_mistakes_are_wrong_and_in_order(part, said):
    found = mi.surest_mistakes(said, part.data.classes, n=5)
    assert (
        (found.label != found.taken_for).all()
        and found.probability.is_monotonic_decreasing
        and (found.probability > found.probability_true).all()
    )
    for row in found.itertuples():
        p = said[said.recording_id == row.recording_id].set_index("crop_seed")[
            f"p_{part.data.classes.index(row.taken_for)}"
        ]
        assert row.probability == pytest.approx(p.mean()) and row.crop_seed == p.idxmax()
    assert mi.surest_mistakes(
        said.assign(label=[part.data.classes[k] for k in probabilities_of(said).argmax(1)]).query("crop_seed == 0"),
        part.data.classes,
    ).empty


@settings(max_examples=30, deadline=None)
@given(st.integers(5, 40), st.floats(-20, 20), st.integers(20, 70))
def test_noise_of_known_strength(snr_db, loudness, loud):
    """Frames of noise, `loud` of a hundred with a song that is snr_db above them."""
    S = np.full((100, 16), loudness)
    S[:loud] += snr_db * np.log(10) / 10
    assert mi.snr_estimate(S) == pytest.approx(snr_db, abs=1e-6)


def test_noise_of_real_samples():
    """White noise with a tone for a third of the time: louder tones, higher estimates, about as many dB."""
    rng, sr = np.random.default_rng(0), 22050
    t = np.arange(6 * sr) / sr
    estimates = []
    for level in (0.05, 0.5):
        y = 0.01 * rng.standard_normal(len(t)) + np.where(t % 3 < 1, level, 0) * np.sin(2 * np.pi * 3000 * t)
        estimates.append(mi.snr_estimate(log_mel(y.astype(np.float32), FeatureConfig())))
    assert 5 < estimates[0] < estimates[1] and estimates[1] - estimates[0] == pytest.approx(20, abs=2)
    assert mi.snr_estimate(np.full((50, 8), -np.inf)) == 0


def test_bins_hold_every_recording_once():
    ids = [f"r{k}" for k in range(50)]
    rng = np.random.default_rng(0)
    values, right = pd.Series(rng.random(50), index=ids), pd.Series(rng.random(50), index=ids)
    groups = pd.Series(np.arange(50) % 7, index=ids).astype(str)
    found = mi.accuracy_by(values, right.sample(frac=1, random_state=1), groups, n_bins=4)
    assert found.recordings.sum() == 50 and (found.bin_low.to_numpy()[1:] > found.bin_high.to_numpy()[:-1]).all()
    here = values.between(found.bin_low[2], found.bin_high[2])
    assert found.accuracy[2] == pytest.approx(right[here].mean())
    assert tuple(found.loc[2, ["accuracy", "low", "high"]]) == pytest.approx(interval(right[here], groups[here])[:3])
    few = mi.accuracy_by(values, right, groups.where(groups < "5", "4"), n_bins=2)  # five groups
    ax = mi.plot_accuracy_by(few, "middle", "a number")
    assert ax.get_xlabel() == "a number\ntoo few groups for an interval: 5, at least 6 are needed"
    plt.close("all")


def test_a_network_at_another_length_keeps_its_weights(part):
    other = mi.at_length(part.saved.model, 200)
    assert other.input_shape[1] == 200 and other.count_params() == part.saved.model.count_params()
    x = np.random.default_rng(0).normal(size=(3, *part.saved.model.input_shape[1:])).astype(np.float32)
    same = mi.at_length(part.saved.model, part.saved.windows.n_frames)
    np.testing.assert_allclose(predict(same, x), predict(part.saved.model, x), atol=1e-6)
    with pytest.raises(ValueError, match="does not take windows of 4 frames"):
        mi.at_length(part.saved.model, 4)


def test_a_map_needs_a_few_recordings_and_is_the_same_twice():
    x = np.random.default_rng(0).normal(size=(20, 8))
    np.testing.assert_array_equal(mi.embedding_map(x, 3), mi.embedding_map(x, 3))
    with pytest.raises(ValueError, match="at least 5 recordings, got 4"):
        mi.embedding_map(x[:4])


@pytest.mark.parametrize("n", [4, 91])
def test_every_species_on_the_map_has_its_own_look(n):
    names = [f"Somewhat Long-named Warbler {k}" for k in range(n)]
    ax = mi.plot_embeddings(np.random.default_rng(0).normal(size=(n, 2)), names, np.ones(n, dtype=bool))
    legend = ax.get_legend()
    looks = {(tuple(h.get_facecolor()[0]), h.get_paths()[0].vertices.tobytes()) for h in legend.legend_handles}
    assert len(looks) == n and [t.get_text() for t in legend.get_texts()] == sorted(names)
    plt.close("all")


def test_a_run_without_a_network_is_named(tmp_path, trained):
    with pytest.raises(FileNotFoundError, match="recordist.keras does not exist; give the folder of a finished run"):
        assert mi.TestPart(replace(open_run(trained), run=tmp_path)).saved


def test_the_job_keeps_what_a_report_needs(trained):
    space = run_job("scoring/mistakes", run_dir=str(trained), window_frames=[64], n_mistakes=2, demo=trained)
    mistakes = pd.read_csv(trained / "mistakes.csv", keep_default_na=False)
    assert len(mistakes) <= 2 and {"recordist", "license", "url", "taken_for", "probability"} <= set(mistakes.columns)
    places = pd.read_csv(trained / "embedding.csv")
    assert len(places) == len(space["part"].table) and places.recognised.sum() == space["recognised"].sum()
    assert pd.read_csv(trained / "accuracy_by_snr.csv").recordings.sum() == len(places)
    assert pd.read_csv(trained / "accuracy_by_window_length.csv").n_frames.tolist() == [64, 128]
