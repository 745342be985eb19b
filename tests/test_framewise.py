"""The framewise network: what it is given, blocks, events by hand, and what it learns of times nobody told it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from avianspec.learning import framewise as fw
from avianspec.learning.residual import ResidualConfig, finely_seen
from avianspec.sound.features import log_mel
from avianspec.sound.regions import REGION, RegionConfig
from avianspec.sound.whitening import FINE

SMALL = ResidualConfig(
    window_s=4.0, filters=(4, 4, 4, 8), n_head=8, steps=60, batch_size=8, learning_rate=0.01, loss="binary", n_masks=1
)


def whistles(rng, hz, begins, seconds=8):
    t = np.arange(seconds * FINE.sr) / FINE.sr
    y = 0.003 * rng.standard_normal(len(t))
    for begin in begins:
        y += 0.1 * np.clip(np.minimum(t - begin, begin + 0.5 - t) / 0.02, 0, 1) * np.sin(2 * np.pi * hz * t)
    return log_mel(y.astype(np.float32), FINE)


@pytest.fixture(scope="module")
def trained():
    rng = np.random.default_rng(0)
    birds = [whistles(rng, hz, rng.permutation(np.arange(0.5, 7, 1.2))[:2]) for hz in (2000, 5000) * 6]
    return fw.train_framewise(birds, [{"low"}, {"high"}] * 6, SMALL, progress=False)


def test_it_learns_when_from_labels_of_whole_recordings(trained):
    heard = fw.framewise_events(
        trained, whistles(np.random.default_rng(9), 5000, [2.0, 5.0]), RegionConfig(threshold=2.5)
    )
    high = heard[heard.label == "high"]
    assert len(high) == 2 and not len(heard[heard.label == "low"])
    assert np.abs(high.start_s.to_numpy() - [2.0, 5.0]).max() < 0.05
    assert (high.low_hz < 5000).all() and (high.high_hz > 5000).all() and (high.high_hz < 1.3 * high.low_hz).all()


def test_blocks_make_no_difference_and_arrays_bring_it_back(trained):
    x = finely_seen(whistles(np.random.default_rng(1), 2000, [1.0, 4.0])[:707], SMALL)
    whole = trained.moments(x)
    assert whole.shape == (-(-len(x) // 2), 2)
    for block in (2, 50, 128):
        np.testing.assert_allclose(trained.moments(x, block), whole, atol=1e-5)
    again = fw.framewise_of(trained.arrays(), SMALL, trained.classes)
    np.testing.assert_allclose(again.moments(x), whole, atol=1e-6)


def test_the_seed_decides_and_nothing_else():
    rng = np.random.default_rng(3)
    birds = [whistles(rng, hz, [1.0], 5) for hz in (2000, 5000)]
    few = replace(SMALL, steps=2)
    one, two = (fw.train_framewise(birds, [{"a"}, {"b"}], few, progress=False) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one.weights, two.weights, strict=True))
    seen, there = [finely_seen(x, few) for x in birds], fw.weak_targets([{"a"}, {"b"}])[1]
    same, again, other = (fw.WeakBatches(seen, there, replace(few, seed=seed)).next() for seed in (0, 0, 1))
    assert np.array_equal(same[0], again[0]) and not np.array_equal(same[0], other[0])


def test_a_sum_of_two_windows_holds_the_birds_of_both():
    seen = [np.full((200, 96), v, np.float32) for v in (1.0, 2.0)]
    plain = replace(SMALL, equaliser=0.0, gain=0.0, shift=0, tempo=0.0, n_masks=0, batch_size=64)
    x, y = fw.WeakBatches(seen, fw.weak_targets([{"a"}, {"b"}])[1], plain).next()
    level = {(1, 0): {1.0, np.log(2 * np.e - 1)}, (0, 1): {2.0, np.log(2 * np.e**2 - 1)}}
    level[1, 1] = {np.log(np.e + np.e**2 - 1)}
    for window, target in zip(x[..., 0], y, strict=True):
        wanted = level[tuple(int(v) for v in target)]
        assert np.ptp(window) < 1e-5 and min(abs(window[0, 0] - v) for v in wanted) < 1e-5
    assert {tuple(int(v) for v in t) for t in y} == set(level)


def test_events_are_counted_in_moments_of_40_ms():
    p = np.zeros((60, 2))
    p[10:20, 0] = p[24:30, 0] = 0.8
    p[40:42, 1] = 0.6
    found = fw.moment_events(p, ["a", "b"], fw.EventConfig(median_s=0.0, gap_s=0.1, least_s=0.08))
    np.testing.assert_allclose(found.start_s, np.array([10, 24, 40]) * 0.04 - 0.005)
    np.testing.assert_allclose(found.end_s, np.array([20, 30, 42]) * 0.04 - 0.005)
    assert found.label.tolist() == ["a", "a", "b"] and found.score.tolist() == pytest.approx([0.8, 0.8, 0.6])
    for cfg, n in [
        (fw.EventConfig(median_s=0.0, gap_s=0.16), 1),  # bridged; b is too short
        (fw.EventConfig(median_s=0.2, gap_s=0.1, least_s=0.04), 2),  # the median takes b away
        (fw.EventConfig(threshold=0.7, median_s=0.0, gap_s=0.1, least_s=0.04), 2),
        (fw.EventConfig(threshold=0.9), 0),
    ]:
        assert len(fw.moment_events(p, ["a", "b"], cfg)) == n


def test_a_region_bears_the_name_that_is_likeliest_in_it_and_the_recording_has_a_say():
    boxes = pd.DataFrame([(0.395, 0.795, 900.0, 1200.0, 0.6), (1.595, 1.635, 500.0, 600.0, 0.6)], columns=REGION)
    p = np.zeros((50, 2))
    p[10:20] = 0.8, 0.2
    p[40] = 0.3, 0.31  # nearly alike; the recording holds far more of the first
    named = fw.name_regions(boxes, p, ["a", "b"])
    assert named.label.tolist() == ["a", "a"] and named.score.tolist() == pytest.approx([0.8, 0.3])
    assert named[["low_hz", "high_hz"]].equals(boxes[["low_hz", "high_hz"]])
    assert not len(fw.name_regions(boxes.iloc[:0], p, ["a", "b"]))


def test_what_cannot_be_learned_or_set_is_refused():
    with pytest.raises(ValueError, match="no recording has any"):
        fw.weak_targets([set(), set()])
    with pytest.raises(ValueError, match="such as {'wren'}; got a text"):
        fw.weak_targets(["wren", "tit"])
    for wrong in (dict(threshold=1.0), dict(gap_s=-0.1)):
        with pytest.raises(ValueError, match="The threshold lies between 0 and 1"):
            fw.EventConfig(**wrong)
