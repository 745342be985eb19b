"""None of these: AUROC against scikit-learn, thresholds by hand, a stand-in for the unknown, settings beside models."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from notebook_job import run_job
from scipy.special import softmax

from avianspec.files import read_json, write_json, write_table
from avianspec.learning.predictions import ByWindows, predictions_table, probabilities_of, write_predictions
from avianspec.scoring import open_set as op
from avianspec.scoring.metrics import one_hot

NAMES = ["lark", "owl", "tit", "wren"]


def made_up(n=240, n_folds=3, sure=1.5, seed=0, columns=4):
    "Probabilities, labels drawn from them, folds and people."
    rng = np.random.default_rng(seed)
    p = softmax(sure * rng.normal(size=(n, columns)), axis=1)
    labels = [NAMES[k] for k in (rng.random((n, 1)) < p.cumsum(axis=1)).argmax(axis=1)]
    return p, labels, np.array([str(1 + k % n_folds) for k in range(n)]), [f"person {k // 12}" for k in range(n)]


def finished(folder, windows=0, **how):
    "A run folder as training leaves it, three parts tested in turn; with rows of windows where they are wanted."
    p, labels, fold, people = made_up(**how)
    ids = [f"r{k:03d}" for k in range(len(p))]
    table = pd.DataFrame({"recording_id": ids, "label": labels, "path": "x.mp3", "recordist": people})
    items, classes = table[["recording_id", "label"]], NAMES[: p.shape[1]]
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "recordings.csv", table.assign(location="mill", date="2020-05-01", duration_s=30.0))
    write_table(folder / "split.csv", pd.DataFrame({"recording_id": ids, "recordist": fold}))
    said = predictions_table(items, classes, p, split="recordist", fold=fold, crop_seed=0)
    write_predictions(folder / "predictions.parquet", said)
    if windows:
        blurred = softmax(np.log(np.repeat(p, windows, axis=0)) / 2, axis=1)
        each = items.iloc[np.repeat(np.arange(len(p)), windows)]
        rows = predictions_table(each, classes, blurred, split="recordist", fold=np.repeat(fold, windows), crop_seed=0)
        write_predictions(folder / "windows.parquet", rows)
    write_json(folder / "model.json", dict(network="dictionary", multi_label=False, classes=classes))
    (folder / "model.npz").write_bytes(b"what was learnt")
    return folder


def calibrated(folder, keep=0.9):
    table = pd.read_csv(folder / "recordings.csv")
    groups = pd.Series(table.recordist.to_numpy(), table.recording_id.to_numpy())
    classes = read_json(folder / "model.json")["classes"]
    return op.calibrate_open_set(folder, "recordist", classes, groups, keep)


# ---- scores ------------------------------------------------------------------------------------------------


def test_known_from_unknown_is_the_auroc_of_scikit_learn():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(1)
    for n, m in ((5, 3), (40, 60), (100, 7)):
        known, unknown = rng.normal(0.5, 1, n).round(1), rng.normal(0, 1, m).round(1)  # with ties
        expected = roc_auc_score(np.arange(n + m) < n, np.concatenate([known, unknown]))
        people = [f"{k % 9}" for k in range(n + m)]
        assert op.known_from_unknown(known, unknown, people).value == pytest.approx(expected)


def test_the_auroc_of_few_people_has_no_interval_and_says_why():
    found = op.known_from_unknown([0.9, 0.8], [0.1], list("abc"))
    assert found.value == 1 and np.isnan(found.low) and "too few groups" in found.remark
    alone = op.known_from_unknown([0.9] * 6, [0.1], list("abcdefg"))  # without the last there is nothing unknown
    assert np.isnan(alone.low) and "not defined without 1 of the 7" in alone.remark


def test_sureness_by_hand():
    one = op.sureness(np.log([[0.5, 0.25, 0.25]]))
    assert one["largest"] == pytest.approx(0.5) and one["agreement"] == pytest.approx(1)
    assert one["certainty"] == pytest.approx(1 - 1.5 * np.log(2) / np.log(3))
    two = op.sureness(np.log([[0.8, 0.2], [0.2, 0.8]]))
    assert two["agreement"] == pytest.approx(0.8) and two["largest"] == pytest.approx(0.5)
    sure = op.sureness(np.log(np.maximum([[1.0, 0, 0]], 1e-30)))
    assert sure["certainty"] == pytest.approx(1)


# ---- the stand-in ------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(arrays(np.float64, (4, 5), elements=st.floats(0, 1)), st.lists(st.integers(0, 4), min_size=4, max_size=4))
def test_the_stand_in_never_sees_the_struck_column(p, own):
    truth = np.eye(5, dtype=bool)[own]
    struck = op.struck_out(p, truth)
    assert struck.shape == (4, 4)
    np.testing.assert_allclose(struck.sum(axis=1), 1)
    for absurd in (0, 1, 1e6, np.nan):
        np.testing.assert_array_equal(op.struck_out(np.where(truth, absurd, p), truth), struck)


def test_the_others_keep_their_order_and_their_ratios():
    struck = op.struck_out([[0.5, 0.1, 0.1, 0.3]], one_hot(["lark"], NAMES))
    np.testing.assert_allclose(struck, [[0.2, 0.2, 0.6]])


@pytest.mark.parametrize("p, truth", [([[0.5, 0.5]], [[True, False]]), ([[0.2, 0.3, 0.5]], [[True, True, False]])])
def test_what_cannot_be_struck_out_is_refused(p, truth):
    with pytest.raises(ValueError, match="exactly one, among three classes or more"):
        op.struck_out(p, truth)


# ---- thresholds --------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0.01, 1), st.floats(0.01, 1))
def test_the_threshold_keeps_what_it_promises_no_more_and_falls_as_more_is_to_be_kept(score, keep, more):
    score = np.array(score)
    threshold = op.threshold_keeping(score, keep)
    assert (score >= threshold).mean() >= keep - 1e-9 and threshold in score
    if (higher := score[score > threshold]).size:
        assert (score >= higher.min()).mean() < keep
    low, high = sorted((keep, more))
    assert op.threshold_keeping(score, high) <= op.threshold_keeping(score, low)


def test_shares_by_hand():
    p = [[0.9, 0.05, 0.05, 0], [0.4, 0.3, 0.2, 0.1], [0.7, 0.1, 0.1, 0.1], [0.1, 0.7, 0.1, 0.1]]
    shares = op.named_shares(p, one_hot(["lark", "lark", "owl", "owl"], NAMES), list("abcd"), 0.5)
    assert [(shares[k]["share"], shares[k]["n"]) for k in ("right", "wrong")] == [(2 / 3, 3), (1, 1)]
    assert shares["unknown"]["share"] == 3 / 4  # 1/2 of two, 3/6 of three, 7/9; and 1/3 of three


def test_the_rule_looks_at_what_is_named_rightly():
    p, labels, _, people = made_up()
    facts, right = op.open_set_facts(p, labels, NAMES, people), np.array(NAMES)[p.argmax(1)] == labels
    assert facts["threshold"] == op.threshold_keeping(p.max(axis=1)[right])
    assert facts["right"]["n"] == right.sum() and facts["right"]["share"] == pytest.approx(0.9, abs=0.01)
    assert facts["wrong"]["share"] < facts["right"]["share"] and 0 < facts["auroc"]["value"] < 1


# ---- beside a model ----------------------------------------------------------------------------------------


def test_a_setting_lies_beside_its_model_and_says_what_it_is_worth(tmp_path):
    run = finished(tmp_path / "run", windows=3)
    kept = calibrated(run)
    assert op.read_open_set(run) == op.read_open_set(run / "model.npz") == kept
    assert kept["recording"]["n"] == 160 and kept["window"]["n"] == 480 and kept["keep"] == 0.9
    assert kept["window"]["threshold"] < kept["recording"]["threshold"]  # windows are less sure
    tested = kept["recording"]["tested"]
    assert tested["right"]["n"] + tested["wrong"]["n"] == tested["unknown"]["n"] == 80
    before = (run / "open_set.json").read_bytes()
    calibrated(run)
    assert (run / "open_set.json").read_bytes() == before


def test_a_setting_of_another_model_is_passed_over_and_a_damaged_one_is_named(tmp_path):
    run = finished(tmp_path / "run")
    calibrated(run)
    (run / "model.npz").write_bytes(b"learnt again")
    assert op.read_open_set(run) is None
    (run / "open_set.json").write_text("{}")
    with pytest.raises(ValueError, match=r"open_set.json is damaged or of another version; delete it"):
        op.read_open_set(run)


def test_a_model_without_a_setting_names_whatever_it_hears(tmp_path):
    assert op.read_open_set(tmp_path) is None
    assert not op.is_unknown([[0.3, 0.3, 0.4]], None).any()
    run = finished(tmp_path / "run", n_folds=1)  # one part tested, nothing else held out
    (run / "open_set.json").write_text("{}")  # of an earlier model
    assert calibrated(run) is None and not (run / "open_set.json").exists()
    write_json(run / "model.json", dict(multi_label=True, classes=NAMES))
    assert calibrated(run) is None


def test_one_tested_part_takes_what_the_cross_validation_held_out(tmp_path):
    run = finished(tmp_path / "run", n_folds=1)
    rows = pd.read_parquet(run / "predictions.parquet")
    write_predictions(run / "validation.parquet", rows.iloc[:60].assign(fold=0))
    assert calibrated(run)["recording"]["n"] == 60


def test_a_network_of_two_classes_has_a_threshold_and_no_stand_in(tmp_path):
    kept = calibrated(finished(tmp_path / "run", columns=2))
    assert kept["recording"]["auroc"] is None and kept["recording"]["unknown"]["n"] == 0
    said = op.why_unknown(kept)
    assert said == (
        "none of the 2 species it knows, as far as it can tell "
        "(of recordings it would name rightly it still names 90 %)"
    )


def test_what_the_kept_model_was_tested_on_has_no_part_in_its_setting(tmp_path):
    """Its test part poisoned, labels and answers: nothing that is chosen changes, only what it is worth there."""
    clean = calibrated(finished(tmp_path / "clean", windows=2))
    run = finished(tmp_path / "poisoned", windows=2)
    for name in ("predictions.parquet", "windows.parquet"):
        rows = pd.read_parquet(run / name)
        test = (rows.fold == "1").to_numpy()
        rows.loc[test, "label"] = "wren"
        rows.loc[test, [f"p_{k}" for k in range(4)]] = [1.0, 0, 0, 0]
        write_predictions(run / name, rows)
    poisoned = calibrated(run)
    for level in ("recording", "window"):
        a, b = clean[level], poisoned[level]
        assert a.pop("tested") != b.pop("tested") and a == b


def test_it_says_so_in_words(tmp_path):
    setting = calibrated(finished(tmp_path / "run", windows=2))
    setting["recording"]["unknown"]["share"] = 0.238
    assert op.why_unknown(setting) == (
        "none of the 4 species it knows, as far as it can tell (of recordings it would name rightly it still names "
        "90 %; of those of species it does not know, about 24 % get a name all the same)"
    )
    assert "of windows it would name" in op.why_unknown(setting, "window")
    threshold = setting["recording"]["threshold"]
    rows = [[threshold, 1 - threshold, 0, 0], [threshold - 1e-6] + [(1 - threshold + 1e-6) / 3] * 3]
    assert op.is_unknown(rows, setting).tolist() == [False, True]  # the threshold itself is still a name


class Parrot(ByWindows):
    "Says what it is given, of two classes of three."

    classes = ("lark", "tit")

    def log_windows(self, sound):
        return np.log(np.asarray(sound, dtype=np.float32))


def test_windows_are_kept_beside_the_recordings_that_they_are_of():
    from avianspec.learning.listener_runs import answers_table

    items = pd.DataFrame({"recording_id": ["a", "b"], "label": ["tit", "owl"]})
    sounds, windows = [[[0.2, 0.8], [0.6, 0.4], [0.5, 0.5]], [[0.9, 0.1]]], []
    said = answers_table(Parrot(), sounds, NAMES[:3], items, windows, split="recordist", fold="2")
    pd.testing.assert_frame_equal(said, answers_table(Parrot(), sounds, NAMES[:3], items, split="recordist", fold="2"))
    (rows,) = windows
    assert list(rows.recording_id) == ["a", "a", "a", "b"] and set(rows.fold) == {"2"} and list(rows) == list(said)
    p = probabilities_of(rows)
    np.testing.assert_allclose(p, [[0.2, 0, 0.8], [0.6, 0, 0.4], [0.5, 0, 0.5], [0.9, 0, 0.1]], rtol=1e-6)
    together = softmax(np.log(p[:3, [0, 2]]).mean(axis=0))
    np.testing.assert_allclose(probabilities_of(said)[0, [0, 2]], together, rtol=1e-6)


def test_the_job_writes_a_setting_for_the_network_and_for_the_listener_beside_it(tmp_path, capsys):
    run = finished(tmp_path / "run")
    finished(run / "listener", windows=2, seed=1)
    for name in ("recordings.csv", "split.csv"):
        (run / "listener" / name).unlink()
    table = pd.read_csv(run / "recordings.csv")  # the labels of the run are those of both
    rows = pd.read_parquet(run / "listener/predictions.parquet").assign(label=table.label)
    write_predictions(run / "listener/predictions.parquet", rows)
    run_job("scoring/open_set", run_dir=str(run), keep_right=0.8)
    for folder in (run, run / "listener"):
        assert op.read_open_set(folder)["keep"] == 0.8
    assert capsys.readouterr().out.count("still names 80 %") == 2
