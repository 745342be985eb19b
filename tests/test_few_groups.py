"""Few groups: how far a score strays by chance, against textbooks and exact distributions of few answers."""

import numpy as np
import pytest
from notebook_job import run_job
from scipy import stats

from avianspec.scoring import few_groups as few


@pytest.mark.parametrize("n_groups", [6, 10, 30])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_t_of_equal_groups_is_students(n_groups, level):
    expected = stats.t.ppf((1 + level) / 2, n_groups - 1)
    assert few.t_quantile([4] * n_groups, level) == pytest.approx(expected, rel=0.06)
    assert few.t_p_value([4] * n_groups, expected) == pytest.approx(1 - level, abs=0.005)


@pytest.mark.parametrize("sizes", [[60, 10, 10, 10, 10, 10, 10], [1, 2, 4, 8, 16, 32, 64]])
@pytest.mark.parametrize("correlation", [0.0, 0.1, 1.0])
def test_means_of_unequal_groups_are_covered(sizes, correlation):
    "Normal means of other draws: an interval of that many standard errors covers at least as often as it says."
    sizes, rng = np.array(sizes), np.random.default_rng(99)
    means = rng.normal(size=(6000, len(sizes))) * np.sqrt(correlation + (1 - correlation) / sizes)
    value = means @ sizes / sizes.sum()
    without = (value[:, None] * sizes.sum() - means * sizes) / (sizes.sum() - sizes)
    covered = (np.abs(value) <= few.t_quantile(sizes) * few.jackknife_se(value, without)).mean()
    assert 0.942 < covered < 0.985


def test_t_does_not_depend_on_the_order_of_groups_and_is_the_same_each_time():
    assert few.t_quantile([5, 1, 9, 2, 2, 3]) == few.t_quantile([1, 2, 2, 3, 5, 9])
    few._normal_draws.cache_clear()
    first = few.t_quantile([7, 1, 1, 1, 1, 1, 1])
    few._normal_draws.cache_clear()
    assert few.t_quantile([7, 1, 1, 1, 1, 1, 1]) == first > few.t_quantile([1] * 7)


def test_many_groups_are_left_out_in_blocks():
    values, groups = np.random.default_rng(0).random(1200), np.repeat(np.arange(600), 2)
    value, without = few.leave_one_out(lambda w: w @ values / w.sum(axis=1), groups)
    assert without == pytest.approx((values.sum() - values.reshape(600, 2).sum(axis=1)) / 1198)
    assert few.leave_one_out(values, groups)[1] == pytest.approx(without) and value == pytest.approx(values.mean())


@pytest.mark.parametrize("truth", [0.5, 0.8])
def test_limits_of_single_answers_are_those_of_the_binomial_distribution(truth):
    """Groups of one answer each: sets of answers differ by how many are right, whatever the correlation."""
    n, right = 12, np.arange(13)
    rows = (np.arange(n) < right[:, None]).astype(float)
    t = few.share_t(truth, *few.means_without(rows, np.ones(n, dtype=int)), n)
    chance, order = stats.binom.pmf(right, n, truth), np.argsort(t)
    below = np.cumsum(chance[order])
    expected = t[order][np.searchsorted(below, 0.95)]
    truths, limits = few.share_limits([1] * n)
    assert limits[np.argmin(np.abs(truths - truth))] == pytest.approx(expected)


def test_chance_of_a_difference_of_single_answers_is_that_of_the_sign_test():
    """Twenty items of twenty groups, all apart: 16 for the second and 4 for the first, or even more one-sided."""
    rows = np.where(np.arange(20) < 16, 1.0, -1.0)[None]
    value, without = few.means_without(rows, np.ones(20, dtype=int))
    t = value[0] / few.difference_se(value, without, [1] * 20)[0]
    assert few.difference_p_value([1] * 20, 1.0, t) == pytest.approx(stats.binomtest(16, 20).pvalue, abs=0.002)


def test_limits_near_one_are_lower_and_alike_near_nought():
    truths, limits = few.share_limits([12, 10, 9, 9, 8, 4])
    assert truths == pytest.approx(1 - truths[::-1]) and (limits == limits[::-1]).all()
    assert few.share_limits([4, 8, 9, 9, 10, 12])[1] == pytest.approx(limits)
    assert limits[-3:].max() < 0.7 * limits[15]
    gaps, of_gaps = few.difference_limits([10] * 8, 0.05)
    assert gaps == pytest.approx(-gaps[::-1]) and of_gaps == pytest.approx(of_gaps[::-1])


@pytest.mark.parametrize("spread", [0.0, -1.0, float("nan")])
def test_a_spread_that_cannot_be_is_refused(spread):
    with pytest.raises(ValueError, match="must lie above 0"):
        few.share_limits([4, 5, 6], spread)


def test_what_an_item_moves():
    """Of mean recall over a common and a rare label: each answer of the rare one moves it as much as four others."""
    labels, right = np.array([0] * 8 + [1] * 2), np.array([1, 1, 1, 1, 0, 0, 0, 0, 1, 0], dtype=float)

    def recall(weights):
        of_label = [weights[:, labels == k] @ right[labels == k] / weights[:, labels == k].sum(axis=1) for k in (0, 1)]
        return np.mean(of_label, axis=0)

    common = ((1 - 0.5) / 7 / 2 * 9) ** 2  # left out of eight: 4 / 7 - 1 / 2 of half the score
    rare = (0.5 / 2 * 9) ** 2  # left out of two
    assert few.item_variance(recall, 0.5, 10) == pytest.approx((8 * common + 2 * rare) / 10)
    assert few.item_variance(right, 0.5, 10) == pytest.approx(0.25)
    assert few.item_variance(lambda w: np.full(len(w), np.nan), 0.5, 10) == 0


@pytest.mark.parametrize("seed", range(5))
def test_what_an_item_moves_does_not_depend_on_where_the_wrong_answers_lie(seed):
    """Two in a hundred of 3,000 answers wrong, all in a row or shuffled; a hundred blocks of them are left out."""
    rng = np.random.default_rng(seed)
    right = (np.arange(3000) >= 60)[rng.permutation(3000) if seed else slice(None)].astype(float)
    found = few.item_variance(lambda w: w @ right / w.sum(axis=1), right.mean(), 3000)
    assert found == pytest.approx(0.02 * 0.98, rel=0.5)


@pytest.mark.parametrize("n_groups, level", [(6, 0.9999), (300, 0.999), (300, 0.99999)])
def test_far_levels_have_limits_too(n_groups, level):
    """Where fewer than twenty draws lie beyond, limits go on as Student's, and are as many draws would give them."""
    limits = few.share_limits([4] * n_groups, level=level)[1]
    of_gaps = few.difference_limits([4] * n_groups, 0.3, level)[1]
    expected = stats.t.ppf((1 + level) / 2, n_groups - 1)
    assert np.isfinite(limits).all() and np.isfinite(of_gaps).all()
    assert of_gaps[len(of_gaps) // 2] == pytest.approx(expected, rel=0.2)
    assert few.difference_p_value([4] * n_groups, 0.3, of_gaps[len(of_gaps) // 2]) == pytest.approx(1 - level, rel=0.05)


@pytest.mark.parametrize("apart, correlation", [(0.05, 0.0), (0.1, 0.0), (0.1, 0.05), (0.3, 0.3)])
def test_equal_networks_are_seldom_told_apart_however_few_items_tell(apart, correlation):
    """Unequal groups, few items on which one of the two is right: at 5 %, and as one of twenty comparisons."""
    sizes = np.array([20, 16, 13, 11, 9, 8, 7, 6, 5, 4, 4, 3, 2, 1, 1])
    drawn = few.made_up_differences(np.random.default_rng(3), sizes, apart, 0.0, correlation, 4000)
    value, without = few.means_without(drawn * sizes, sizes)
    t = np.abs(value) / few.difference_se(value, without, sizes)
    of_set = np.array([few.difference_p_value(sizes, apart, one) for one in t])
    assert (of_set < 0.05).mean() < 0.066 and (of_set < 0.05 / 20).mean() < 0.005


def test_the_job_draws_limits(capsys):
    run_job("scoring/few_groups", n_groups=[6, 8], n_items=4)
    assert capsys.readouterr().out.count(" groups: limit ") == 2


def test_limits_are_those_of_answers_that_correlate_as_said():
    """Made up once more, by other draws: one group of 120 beside twenty of six, for a truth of a half."""
    sizes, rng = np.array([120] + [6] * 20), np.random.default_rng(77)
    skill = np.concatenate([rng.beta((1 / c - 1) / 2, (1 / c - 1) / 2, (3000, 21)) for c in few.CORRELATIONS])
    right = rng.binomial(sizes, skill)
    score, without = right.sum(axis=1) / 240, (right.sum(axis=1, keepdims=True) - right) / (240 - sizes)

    def odds(share):
        return np.log((240 * share + 0.5) / (240 - 240 * share + 0.5))

    se = np.sqrt(20 / 21 * ((odds(without) - odds(score)[:, None]) ** 2).sum(axis=1))
    truths, limits = few.share_limits(sizes)
    assert limits[np.argmin(np.abs(truths - 0.5))] == pytest.approx(
        np.quantile(np.abs(odds(score)) / se, 0.95), rel=0.05
    )


def test_a_truth_at_its_very_limit_is_not_contradicted():
    """Two errors from 2 with a limit of two, and on to 5, where a limit of five is reached."""
    assert few.ends_within(0.0, 1.0, np.array([1.0, 2, 3, 10]), np.array([2.0, 2, 5, 5]))[1] == pytest.approx(5)
