"""Calibration: temperature against scikit-learn, ranking kept, thresholds by brute force."""

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from notebook_job import run_job
from scipy.special import softmax
from test_evaluation import NAMES, write_finished_run

from avianspec.files import read_json
from avianspec.learning.predictions import kept_predictions
from avianspec.scoring import calibration as ca
from avianspec.scoring.metrics import expected_calibration_error, log_loss


@pytest.fixture
def finished_run(tmp_path):
    return write_finished_run(tmp_path)


@settings(max_examples=300, deadline=None)
@given(arrays(np.float32, (3, 6), elements=st.floats(0, 1, width=32)), st.floats(*ca.T_LIMITS))
def test_calibration_never_changes_the_ranking_within_a_window(p, temperature):
    """The network's float32 probabilities, zeros and ties among them: order, ties and answers stay."""
    assume((p.max(axis=1) > 0.01).all())
    q = ca.at_temperature(p, temperature)
    np.testing.assert_allclose(q.sum(axis=1), 1)
    np.testing.assert_array_equal(np.sign(p[:, :, None] - p[:, None]), np.sign(q[:, :, None] - q[:, None]))
    np.testing.assert_array_equal(np.argsort(-p, axis=1, kind="stable"), np.argsort(-q, axis=1, kind="stable"))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.floats(0.5, 4), st.floats(0.5, 4))
def test_temperatures_multiply(seed, first, second):
    p = softmax(np.random.default_rng(seed).normal(size=(4, 5)), axis=1)
    np.testing.assert_allclose(
        ca.at_temperature(ca.at_temperature(p, first), second), ca.at_temperature(p, first * second), rtol=1e-9
    )
    np.testing.assert_allclose(ca.at_temperature(p, 1), p)


def test_temperature_agrees_with_scikit_learn():
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 12))
    y = (x[:, :3] + rng.normal(0, 1.5, (600, 3))).argmax(axis=1)
    network = LogisticRegression(C=1e6, max_iter=2000).fit(x[:60], y[:60])  # few recordings: too sure
    theirs = CalibratedClassifierCV(FrozenEstimator(network), method="temperature").fit(x[60:], y[60:])
    p, truth = network.predict_proba(x[60:]), np.eye(3, dtype=bool)[y[60:]]
    temperature = ca.fit_temperature(p, truth)
    assert temperature > 1.5
    np.testing.assert_allclose(ca.at_temperature(p, temperature), theirs.predict_proba(x[60:]), atol=2e-3)
    assert log_loss(ca.at_temperature(p, temperature), truth) <= log_loss(theirs.predict_proba(x[60:]), truth) + 1e-6


def test_no_temperature_nearby_is_better():
    rng = np.random.default_rng(1)
    p, truth = rng.dirichlet(np.ones(4), 200), np.eye(4, dtype=bool)[rng.integers(0, 4, 200)]
    found = ca.fit_temperature(p, truth)
    loss = log_loss(ca.at_temperature(p, found), truth)
    nearby = np.clip(found * np.array([0.7, 0.98, 1.02, 1.5]), *ca.T_LIMITS)
    assert all(loss <= log_loss(ca.at_temperature(p, t), truth) + 1e-9 for t in nearby)


@pytest.mark.parametrize("temperature", [0, -1, 0.1, 50, float("nan")])
def test_temperatures_out_of_reach_are_refused(temperature):
    with pytest.raises(ValueError, match="between 0.2 and 20"):
        ca.at_temperature(np.full((1, 2), 0.5), temperature)


def test_a_sure_and_right_network_meets_the_limit():
    p = np.tile([0.6, 0.4], (20, 1))
    assert ca.fit_temperature(p, np.tile([True, False], (20, 1))) == ca.T_LIMITS[0]
    assert ca.fit_temperature(p, np.tile([False, True], (20, 1))) == ca.T_LIMITS[1]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 100_000), st.sampled_from([0.5, 0.75, 0.9, 1.0]))
def test_thresholds_agree_with_trying_them_all(seed, precision):
    rng = np.random.default_rng(seed)
    score, present = rng.integers(0, 8, 15) / 8, rng.random(15) < 0.4
    tried = []
    for t in np.unique(score):
        noted = score >= t
        if present[noted].any() and present[noted].mean() >= precision:
            tried.append((t, present[noted].mean(), present[noted].sum() / present.sum()))
    found = ca.threshold_for(score, present, precision)
    assert (found is None) == (not tried)
    if tried:
        assert found == pytest.approx(min(tried)) and found[2] == pytest.approx(max(t[2] for t in tried))


def test_an_unreachable_threshold_notes_nothing():
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    truth = np.array([[0, 1], [0, 1], [1, 0]], dtype=bool)
    chosen = ca.class_thresholds(p, truth, ["owl", "tit"], 0.9)
    assert chosen.threshold.isna().all() and chosen.notes.tolist() == [0, 0] and chosen.windows.tolist() == [1, 2]
    kept = ca.threshold_scores(p, truth, chosen)
    assert kept.notes.tolist() == [0, 0] and kept[["precision", "recall"]].isna().all(axis=None)
    with pytest.raises(ValueError, match="at most 1"):
        ca.threshold_for(p[:, 0], truth[:, 0], 1.5)


def test_the_reliability_table_adds_up_to_the_calibration_error():
    rng = np.random.default_rng(0)
    p, truth = rng.dirichlet(np.full(6, 0.4), 300), np.eye(6, dtype=bool)[rng.integers(0, 6, 300)]
    table = ca.reliability_table(p, truth, rng.integers(0, 30, 300), n_bins=15)
    error = (table.answers / 300 * (table.confidence - table.accuracy).abs()).sum()
    assert error == pytest.approx(expected_calibration_error(p, truth, n_bins=15))
    assert ((table.bin_low <= table.confidence) & (table.confidence <= table.bin_high)).all()
    ax = ca.plot_reliability(table)
    assert ax.lines[-1].get_xydata() == pytest.approx(table[["confidence", "accuracy"]].to_numpy())
    plt.close("all")


def test_each_bin_has_the_interval_of_its_own_answers():
    """Two bins: eight people, whose answers are all right, and five, too few for an interval."""
    p = np.array([[0.95, 0.05]] * 16 + [[0.55, 0.45]] * 10)
    truth = np.eye(2, dtype=bool)[np.zeros(26, dtype=int)]
    truth[16::2] = truth[16::2, ::-1]
    groups = [*np.repeat(list("abcdefgh"), 2), *np.repeat(list("abcde"), 2)]
    table = ca.reliability_table(p, truth, groups).set_index("answers")
    assert table.loc[16, ["accuracy", "low", "high"]].tolist() == pytest.approx([1, 0.025 ** (1 / 8), 1])
    assert table.accuracy[10] == 0.5 and np.isnan(table.low[10])
    assert table.remark[10] == "too few groups for an interval: 5, at least 6 are needed"
    ax = ca.plot_reliability(table.reset_index())
    assert "1 of 2 have no interval" in ax.get_xlabel()
    plt.close("all")


def test_the_job_without_validation_says_so(finished_run, capsys):
    run_job("scoring/calibration", run_dir=str(finished_run))
    kept = read_json(finished_run / "calibration.json")
    assert kept["temperature"] is None and set(kept["scores"]) == {"before"} and kept["thresholds"] == {}
    assert "validation.parquet" in capsys.readouterr().out and not (finished_run / "thresholds.csv").exists()


def in_turn(run):
    "Test recordings of the main split in two folds, the network right in the first of them and wrong in the second."
    rows = pd.read_parquet(run / "predictions.parquet")
    second = rows.recording_id > "r19"  # r16 to r19 and r20 to r23 were tested
    right = rows.label.map({name: k for k, name in enumerate(NAMES)})
    for k in range(3):
        rows[f"p_{k}"] = np.where(right == k, 0.8, 0.1)
    columns = [f"p_{k}" for k in range(3)]
    rows.loc[second, columns] = np.roll(rows.loc[second, columns].to_numpy(), 1, axis=1)
    rows["predicted"] = np.array(NAMES)[rows[columns].to_numpy().argmax(axis=1)]
    rows.assign(fold=np.where(second, "10", "2")).to_parquet(run / "predictions.parquet")


def test_what_was_fitted_to_one_network_is_tried_on_what_that_network_was_tested_on(finished_run):
    in_turn(finished_run)
    kept = kept_predictions(finished_run, "recordist")
    assert set(kept.fold) == {"2"} and sorted(set(kept.recording_id)) == ["r16", "r17", "r18", "r19"]
    run_job("scoring/calibration", run_dir=str(finished_run))
    before = read_json(finished_run / "calibration.json")["scores"]["before"]
    assert before["accuracy"]["value"] == 1


def test_the_job_fits_on_validation_and_scores_on_test(finished_run):
    rng = np.random.default_rng(3)
    p = rng.dirichlet([1, 1, 1], 40)
    pd.DataFrame(
        {
            "fold": 0,
            "crop_seed": 0,
            "recording_id": [f"r{k % 8:02d}" for k in range(40)],
            "label": [NAMES[k] for k in p.argmax(1)],
            **{f"p_{k}": p[:, k] for k in range(3)},
        }
    ).to_parquet(finished_run / "validation.parquet")
    run_job("scoring/calibration", run_dir=str(finished_run), wanted_precision=0.8)
    kept = read_json(finished_run / "calibration.json")
    assert (
        kept["temperature"] == ca.T_LIMITS[0] and kept["validation_recordings"] == 8
    )  # always right: as sure as may be
    before, after = kept["scores"]["before"], kept["scores"]["after"]
    assert (
        before["accuracy"] == after["accuracy"] and before["log_loss"]["value"] < after["log_loss"]["value"]
    )  # at random, sureness costs
    assert set(kept["thresholds"]) == set(NAMES[:3])
    assert pd.read_csv(finished_run / "thresholds.csv").precision.ge(0.8).all()
