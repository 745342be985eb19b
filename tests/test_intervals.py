"""Intervals by group: against textbooks, brute force and made-up truths; what must not change them; what is refused."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from notebook_job import run_job
from scipy import stats

from avianspec.scoring import few_groups as few
from avianspec.scoring import intervals as iv
from avianspec.scoring import metrics as me

STUDY = Path(__file__).parents[1] / "report" / "benchmarks" / "coverage.json"


def answers(seed, sizes, truth=0.7, correlation=0.2):
    "Right (1) or wrong (0) answers of groups whose answers correlate, and the group of each."
    rng, odds = np.random.default_rng(seed), 1 / correlation - 1
    groups = np.repeat(np.arange(len(sizes)), sizes)
    return (rng.random(len(groups)) < rng.beta(truth * odds, (1 - truth) * odds, len(sizes))[groups]).astype(
        float
    ), groups


def test_equal_groups_get_the_textbook_interval_of_their_means():
    values, groups = np.random.default_rng(0).normal(3, 2, 70), np.arange(70) % 7
    means = [values[groups == g].mean() for g in range(7)]
    low, high = stats.t.interval(0.95, 6, np.mean(means), stats.sem(means))
    found = iv.interval(values, groups, bounded=False)
    assert found.value == pytest.approx(values.mean()) and found.remark == ""
    assert [found.low, found.high] == pytest.approx([low, high], abs=0.03 * (high - low))
    test = stats.ttest_1samp(means, 0)
    assert iv.paired_interval(np.zeros(70), values - 2.4, groups, bounded=False).p == pytest.approx(
        stats.ttest_1samp(np.array(means) - 2.4, 0).pvalue, rel=0.15, abs=2e-3
    )
    assert test.pvalue < 0.05


@pytest.mark.parametrize("sizes", [[10] * 6, [30, 16, 8, 5, 3, 2]], ids=str)
@pytest.mark.parametrize("truth", [0.5, 0.8])
def test_six_groups_cover_the_truth_as_often_as_they_say(sizes, truth):
    """Of many test sets: the interval covers about 95 %, the percentile bootstrap far less."""
    covered = percentile = 0
    for seed in range(400):
        right, groups = answers(seed, sizes, truth)
        _, low, high, _ = iv.interval(right, groups)
        covered += low <= truth <= high
        means, sizes_of = np.bincount(groups, right), np.bincount(groups)
        drawn = np.random.default_rng(seed).integers(0, len(sizes), (200, len(sizes)))
        low, high = np.quantile(means[drawn].sum(axis=1) / sizes_of[drawn].sum(axis=1), [0.025, 0.975])
        percentile += low <= truth <= high
    assert 0.92 <= covered / 400 <= 0.98 and percentile / 400 < 0.91


@pytest.mark.parametrize("sizes", [[10] * 6, [30, 16, 8, 5, 3, 2, 2, 2]], ids=str)
def test_nearly_all_right_is_covered_as_often_as_it_says_whatever_the_skills(sizes):
    """Skills of another distribution than the one that answers are made up with: log-odds that are normal."""
    rng, covered, n = np.random.default_rng(5), 0, 500
    groups, odds = np.repeat(np.arange(len(sizes)), sizes), 2.9 + 0.8 * rng.normal(size=(n, len(sizes)))
    truth = (1 / (1 + np.exp(-2.9 - 0.8 * np.random.default_rng(6).normal(size=100_000)))).mean()  # 0.93
    for skill in 1 / (1 + np.exp(-odds)):
        _, low, high, _ = iv.interval((rng.random(len(groups)) < skill[groups]).astype(float), groups)
        covered += low <= truth <= high
    assert 0.92 <= covered / n <= 0.985


def test_parts_of_an_answer_are_not_taken_for_right_or_wrong():
    """Ranks give 1 or a half: chance has twice as many ways to the same score, so fewer truths are contradicted."""
    groups = np.repeat(np.arange(8), 10)
    parts, whole = np.ones(80), np.ones(80)
    parts[::10], parts[1::10], whole[::10] = 0.5, 0.5, 0.0
    parts[0], parts[1], whole[0] = 1.0, 1.0, 1.0
    first, second = iv.interval(parts, groups), iv.interval(whole, groups)
    assert first.value == second.value and few.item_variance(parts, 0.95, groups) < few.item_variance(
        whole, 0.95, groups
    )
    assert first.low < second.low and first.high > second.high


def test_a_small_gain_near_the_top_is_covered_as_often_as_it_says():
    """Ten groups of ten, 94 and 97 % right on average; both are a little better in the same groups."""
    rng, covered, n, groups = np.random.default_rng(8), 0, 400, np.repeat(np.arange(10), 10)
    for wrong in rng.beta(0.06 * 15, 0.94 * 15, (n, 10)):
        first, second = (rng.random(100) >= share * wrong[groups] for share in (1, 0.5))
        gap = iv.paired_interval(first.astype(float), second.astype(float), groups)
        covered += gap.low <= 0.03 <= gap.high
    assert 0.92 <= covered / n <= 0.985


def test_the_share_of_items_apart_is_that_of_the_answers_also_where_the_scores_are_functions():
    """Of forty answers nine became right and three wrong."""
    first, groups = np.tile([1.0, 0, 0, 1], 10), np.repeat(np.arange(8), 5)
    second = first.copy()
    second[np.flatnonzero(first == 0)[:9]], second[np.flatnonzero(first == 1)[:3]] = 1, 0
    gap = iv.paired_interval(first, second, groups)
    weighed = [lambda w, x=x: w @ x / w.sum(axis=1) for x in (first, second)]
    assert gap.value == pytest.approx(6 / 40) and gap.apart == pytest.approx(12 / 40)
    assert iv.paired_interval(*weighed, groups).apart == pytest.approx(12 / 40)


def test_differences_cover_the_truth_and_find_it():
    covered = found = 0
    for seed in range(200):
        first, groups = answers(seed, [12] * 8, 0.5)
        rng = np.random.default_rng(1000 + seed)
        second = np.where(rng.random(len(first)) < 0.3, 1.0, first)  # three in ten of the wrong ones become right
        gap = iv.paired_interval(first, second, groups)
        covered += gap.low <= 0.15 <= gap.high
        found += gap.p < 0.05
        assert (gap.p < 0.05) == (gap.low > 0 or gap.high < 0)
    assert covered / 200 > 0.92 and found / 200 > 0.75


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 0.95))
def test_what_must_not_change_an_interval(seed, truth):
    right, groups = answers(seed, [9, 7, 6, 4, 4, 3, 1], truth)
    order = np.random.default_rng(seed).permutation(len(right))
    found = iv.interval(right, groups)
    again = iv.interval(right[order], [f"person {9 - groups[k]}" for k in order])
    assert found[:3] == pytest.approx(again[:3]) and 0 <= found.low <= found.value <= found.high <= 1
    mirrored = iv.interval(1 - right, groups)
    assert [1 - mirrored.high, 1 - mirrored.low] == pytest.approx([found.low, found.high])
    assert iv.interval(right, groups, level=0.8).low >= found.low
    other = right[::-1]
    gap, back = iv.paired_interval(right, other, groups), iv.paired_interval(other, right, groups)
    assert [gap.value, gap.low, gap.high] == pytest.approx([-back.value, -back.high, -back.low]) and gap.p == back.p


@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy", "macro_f1", "cmap", "auroc", "lwlrap", "log_loss"])
def test_scores_of_metrics_are_jackknifed_with_weights(name):
    """The score without a group is that of the rows of the others, for every metric."""
    rng = np.random.default_rng(3)
    codes, groups = rng.integers(0, 4, 80), rng.integers(0, 8, 80)
    truth, p = np.eye(4, dtype=bool)[codes], rng.dirichlet(np.ones(4), 80) + 0.5 * np.eye(4)[codes]
    p, metric = p / p.sum(axis=1, keepdims=True), me.METRICS[name]
    value, without = few.leave_one_out(partial(metric, p, truth), few.group_codes(groups)[0], block=3)
    assert value == pytest.approx(metric(p, truth))
    assert without == pytest.approx([metric(p[groups != g], truth[groups != g]) for g in range(8)])
    found = iv.interval(partial(metric, p, truth), groups, bounded=name != "log_loss")
    assert found.low < found.value < found.high and found.remark == ""


def test_too_few_groups_are_said_to_be_too_few():
    for n in range(1, 6):
        found = iv.interval([1, 0] * n, np.repeat(np.arange(n), 2))
        assert found.value == 0.5 and np.isnan([found.low, found.high]).all()
        assert found.remark == f"too few groups for an interval: {n}, at least 6 are needed"
        gap = iv.paired_interval([1, 0] * n, [1, 1] * n, np.repeat(np.arange(n), 2))
        assert gap.value == 0.5 and np.isnan([gap.low, gap.high, gap.p]).all() and gap.remark == found.remark
    assert np.isfinite(iv.paired_interval([1, 0] * 6, [1, 1] * 6, np.repeat(np.arange(6), 2))[:4]).all()


def test_where_all_groups_are_alike():
    groups = np.repeat(np.arange(8), 5)
    assert iv.interval(np.ones(40), groups)[:3] == pytest.approx((1.0, 0.025 ** (1 / 8), 1.0))
    assert iv.interval(np.zeros(40), groups)[:3] == pytest.approx((0.0, 0.0, 1 - 0.025 ** (1 / 8)))
    low, high = iv.interval(np.tile([1, 0, 0, 0, 0], 8), groups)[1:3]
    assert low < 0.2 < high and stats.binom.cdf(1, 8, high) < 0.04  # a fifth of eight groups
    assert "no interval" in iv.interval(np.full(40, 3.0), groups, bounded=False).remark
    assert "no interval" in iv.paired_interval(np.ones(40), np.zeros(40), groups, bounded=False).remark
    same = iv.paired_interval(np.ones(40), np.ones(40), groups)
    assert same.p == 1 and same.low == -same.high < 0


def test_a_score_that_is_not_defined_without_a_group_has_no_interval():
    truth = np.zeros((12, 1), dtype=bool)
    truth[:2] = True  # all of one group
    score = partial(me.auroc, np.random.default_rng(0).random((12, 1)), truth)
    found = iv.interval(score, np.repeat(np.arange(6), 2))
    assert np.isfinite(found.value) and np.isnan(found.low)
    assert found.remark == "the score is not defined without 1 of the 6 groups"
    empty = iv.interval(partial(me.auroc, np.ones((12, 1)), np.zeros((12, 1), dtype=bool)), np.repeat(np.arange(6), 2))
    assert empty.remark == "the score is not defined"


def test_what_is_refused():
    with pytest.raises(ValueError, match="one group for each item"):
        iv.interval([1, 0, 1], list("ab"))
    with pytest.raises(ValueError, match="bounded=False"):
        iv.interval(np.arange(12), np.arange(12) // 2)


def test_holm_by_hand():
    assert iv.holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])  # as R's p.adjust says
    assert iv.holm([0.5, 0.9]) == pytest.approx([1, 1])
    assert iv.holm([0.01]) == pytest.approx([0.01])


def test_corrected_intervals_by_hand():
    """Equal groups, so t is Student's: of four, the first is made for 98.75 %, the next for 98.3 %, the third stops."""
    t = stats.t.isf([0.002 / 2, 0.004 / 2, 0.04 / 2, 0.3 / 2], 9)  # p-values 0.002, 0.004, 0.04, 0.3
    order = [2, 0, 3, 1]
    raw = [iv.tested_difference(t[k], 1.0, [5] * 10) for k in order]
    assert [d.p for d in raw] == pytest.approx([0.04, 0.002, 0.3, 0.004], abs=0.001, rel=0.03)
    found = dict(zip(order, iv.holm_intervals(raw), strict=True))
    assert [found[k].p for k in range(4)] == pytest.approx([0.008, 0.012, 0.08, 0.3], abs=0.003, rel=0.03)
    reach = stats.t.isf([0.05 / 4 / 2, 0.05 / 3 / 2, 0.05 / 2 / 2, 0.05 / 2 / 2], 9)
    assert [found[k].high - found[k].value for k in range(4)] == pytest.approx(reach, rel=0.03)
    assert [found[k].low > 0 for k in range(4)] == [True, True, False, False]
    assert raw[0].low > 0  # which is a difference where nothing else is compared


def test_what_could_not_be_compared_is_neither_counted_nor_corrected():
    few = iv.paired_interval([1, 0] * 3, [1, 1] * 3, np.repeat(np.arange(3), 2))
    alone = iv.tested_difference(0.3, 0.1, [4] * 12)
    left, found = iv.holm_intervals([few, alone])
    assert left.remark == few.remark and np.isnan([left.low, left.high, left.p]).all()
    assert found == alone


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(-6, 6), st.sampled_from([6, 9, 20])), min_size=1, max_size=9))
@example([(2.5, 9), (2.5, 20)])  # corrected to the same p
def test_a_corrected_interval_excludes_zero_where_its_p_is_small(drawn):
    raw = [iv.tested_difference(t, 1.0, [3] * n) for t, n in drawn]
    for alone, found in zip(raw, iv.holm_intervals(raw), strict=True):
        assert (found.low > 0 or found.high < 0) == (found.p < 0.05)
        assert (alone.low > 0 or alone.high < 0) == (alone.p < 0.05)
        assert found.p >= alone.p and found.low <= alone.low and found.high >= alone.high


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 100_000), st.floats(0.3, 0.97), st.floats(0.0, 0.5))
def test_the_interval_and_the_p_value_say_the_same(seed, truth, gain):
    """Of two versions with few or many items apart: zero lies outside where p is below 0.05, and only there."""
    first, groups = answers(seed, [6, 4, 4, 3, 2, 2, 1], truth)
    rng = np.random.default_rng(seed + 1)
    second = np.where(rng.random(len(first)) < gain, 1.0, first)
    gap = iv.paired_interval(first, second, groups)
    assert (gap.p < 0.05) == (gap.low > 0 or gap.high < 0) and gap.low <= gap.value <= gap.high
    others = [iv.paired_interval(first, second[rng.permutation(len(second))], groups) for _ in range(3)]
    for alone, found in zip([gap, *others], iv.holm_intervals([gap, *others]), strict=True):
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0)
        assert found.p >= alone.p and found.low <= alone.low and found.high >= alone.high


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_raises_no_less_than_nothing_and_no_more_than_bonferroni(p):
    p, found = np.array(p), iv.holm(p)
    assert (found >= p - 1e-12).all() and (found <= np.minimum(1, p * len(p)) + 1e-12).all()
    assert (np.diff(found[np.argsort(p, kind="stable")]) >= -1e-12).all()


def test_the_tracked_study_covers():
    """What the report shows: from six groups up 93 to 97 % nearly everywhere; with a bootstrap, hardly anywhere."""
    cells = [c for c in json.loads(STUDY.read_text())["cells"] if c["groups"] >= iv.MIN_GROUPS]
    used = np.array([c["methods"]["avianspec"]["coverage"] for c in cells])
    assert len(cells) == 720 and used.min() > 0.9
    asked_at_all = np.array([c["score"] == "no difference" for c in cells])
    within = (used >= 0.93) & (used <= 0.97)
    assert within[~asked_at_all].mean() > 0.91 and used[~asked_at_all].max() < 0.985 and used[asked_at_all].min() > 0.93
    assert max(c["told_of_twenty"] for c in cells if c["score"] == "no difference") < 0.1
    methods = [c["methods"] for c in cells if "percentile bootstrap" in c["methods"]]
    assert np.mean([m["percentile bootstrap"]["coverage"] < 0.93 for m in methods]) > 0.5


def test_the_job_counts(capsys):
    run_job("scoring/intervals", n_sets=80)
    assert "the interval: covers the truth in" in capsys.readouterr().out
