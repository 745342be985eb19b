"""Regions: boxes of tones that were put there, and blocks that make no difference."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avianspec.sound.features import log_mel
from avianspec.sound.regions import REGION, RegionConfig, RegionFinder, band_edges_hz, band_range, find_regions
from avianspec.sound.whitening import FINE


def searched(x, cuts, cfg):
    finder = RegionFinder(cfg, x.shape[1])
    parts = [finder.add(block) for block in np.split(x, cuts)] + [finder.finish()]
    return pd.concat([p for p in parts if len(p)] or parts[:1], ignore_index=True)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 400), max_size=12), st.sampled_from([0.0, 0.06, 0.5]))
def test_blocks_make_no_difference_to_the_last_bit(seed, cuts, gap_s):
    rng = np.random.default_rng(seed)
    x = (rng.random((400, 48)) * np.repeat(rng.random((40, 1)) < 0.4, 10, axis=0) * 6).astype(np.float32)
    cfg = RegionConfig(threshold=3.0, gap_s=gap_s, least_s=0.04)
    whole = searched(x, [], cfg)
    pd.testing.assert_frame_equal(searched(x, sorted(cuts), cfg), whole, check_exact=True)
    assert list(whole.columns) == REGION and (whole.end_s - whole.start_s > cfg.least_s - 0.01).all()
    assert (whole.start_s.to_numpy()[1:] - whole.end_s.to_numpy()[:-1] > gap_s - 1e-9).all()


@pytest.mark.parametrize("hz", [700.0, 3000.0, 12_000.0])
def test_a_tone_in_noise_is_one_box_round_it(hz):
    t = np.arange(5 * FINE.sr) / FINE.sr
    y = 0.003 * np.random.default_rng(1).standard_normal(len(t))
    y += 0.1 * np.clip(np.minimum(t - 2, 2.7 - t) / 0.02, 0, 1) * np.sin(2 * np.pi * hz * t)
    found = find_regions(log_mel(y.astype(np.float32), FINE), RegionConfig(threshold=2.5))
    assert len(found) == 1
    box = found.iloc[0]
    assert abs(box.start_s - 2) < 0.03 and abs(box.end_s - 2.7) < 0.03
    assert box.low_hz < hz < box.high_hz < 1.35 * box.low_hz


def test_gap_and_least_length_count_in_frames_of_20_ms():
    x = np.zeros((60, 96), np.float32)
    x[10:15] = x[20:25] = x[40:42] = 5.0  # 5 frames on, 5 off, 5 on, 15 off, 2 on
    number = {
        (g, m): len(searched(x, [], RegionConfig(gap_s=g, least_s=m))) for g in (0.08, 0.1, 0.3) for m in (0.04, 0.1)
    }
    assert number == {(0.08, 0.04): 3, (0.08, 0.1): 2, (0.1, 0.04): 2, (0.1, 0.1): 1, (0.3, 0.04): 1, (0.3, 0.1): 1}


def test_an_open_region_is_given_at_the_end_and_once():
    finder = RegionFinder(RegionConfig())
    x = np.zeros((50, 96), np.float32)
    x[30:] = 5.0
    assert not len(finder.add(x))
    end = finder.finish()
    np.testing.assert_allclose(end[["start_s", "end_s"]], [[0.595, 0.995]])
    assert not len(finder.finish()) and not len(find_regions(np.zeros((3, 96), np.float32)))


def test_bands_are_those_of_librosa():
    from librosa import mel_frequencies

    middles = mel_frequencies(98, fmin=FINE.fmin, fmax=FINE.fmax)[1:-1]
    edges = band_edges_hz()
    assert (edges[:-1] < middles).all() and (middles < edges[1:]).all()
    assert band_range(np.array([5.0, 90.0, 5.0]), 0.8) == (1, 1)
    with pytest.raises(ValueError, match="cannot be joined"):
        band_edges_hz(50)


@pytest.mark.parametrize("wrong", [dict(way="loud"), dict(gap_s=-1.0), dict(n_bands=0), dict(band_share=0.0)])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError):
        RegionConfig(**wrong)
