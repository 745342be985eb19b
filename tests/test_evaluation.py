"""Evaluation: scores against hand counts, enumeration, scikit-learn and scipy."""

import itertools

import matplotlib
import numpy as np
import pandas as pd
import pytest
from scipy.stats import linregress
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, precision_score, recall_score

matplotlib.use("agg")
import matplotlib.pyplot as plt
from notebook_job import run_job

from avianspec.files import read_json, write_json, write_table
from avianspec.scoring import evaluation as ev
from avianspec.scoring.metrics import METRICS

NAMES = ["owl", "tit", "wren", "yaffle"]


@pytest.fixture
def answers():
    rng = np.random.default_rng(1)
    true = rng.choice(NAMES[:3], 200)
    return true, np.where(rng.random(200) < 0.5, true, rng.choice(NAMES, 200))


@pytest.mark.filterwarnings("ignore:y_pred contains classes")
def test_accuracies_agree_with_scikit_learn(answers):
    true, predicted = answers
    assert ev.accuracy(true, predicted) == pytest.approx((true == predicted).mean())
    assert ev.balanced_accuracy(true, predicted) == pytest.approx(balanced_accuracy_score(true, predicted))


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="got 1 and 2"):
        ev.accuracy(["owl", "tit"], ["owl"])


def test_bootstrap_agrees_with_enumeration():
    """Three groups of 1, 2 and 4 recordings with 1, 0 and 3 right: all 27 equally likely draws."""
    correct, groups = [1, 0, 0, 1, 1, 1, 0], ["a", "b", "b", "c", "c", "c", "c"]
    right, size = [1, 0, 3], [1, 2, 4]
    outcomes = np.sort(
        [sum(right[g] for g in draw) / sum(size[g] for g in draw) for draw in itertools.product(range(3), repeat=3)]
    )
    for level in (0.5, 0.7, 0.9):
        low, high = ev.bootstrap_interval(correct, groups, n=40_000, level=level)
        expected = np.quantile(outcomes, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
        np.testing.assert_allclose([low, high], expected, atol=1e-9)


def test_bootstrap_is_the_same_for_the_same_seed_and_any_order_of_rows():
    rng = np.random.default_rng(0)
    correct, groups, order = rng.random(60) < 0.4, rng.integers(0, 12, 60).astype(str), rng.permutation(60)
    one = ev.bootstrap_interval(correct, groups, seed=5)
    assert (
        one
        == ev.bootstrap_interval(correct[order], groups[order], seed=5)
        != ev.bootstrap_interval(correct, groups, seed=6)
    )


def test_bootstrap_covers_the_truth_as_often_as_it_says():
    """Forty people whose recordings share their luck: about 95 % of 300 such intervals cover the truth."""
    rng, covered, alone = np.random.default_rng(2), 0, 0
    groups = np.repeat(np.arange(40), 6)
    for k in range(300):
        skill = np.repeat(rng.beta(2, 2, 40), 6)  # mean 1/2
        correct = rng.random(240) < skill
        low, high = ev.bootstrap_interval(correct, groups, n=300, seed=k)
        covered += low <= 0.5 <= high
        low, high = ev.bootstrap_interval(correct, np.arange(240), n=300, seed=k)
        alone += low <= 0.5 <= high
    assert 0.89 < covered / 300 < 0.98 and alone < covered


@pytest.mark.parametrize("correct, groups", [([], []), ([1, 0], ["a"])])
def test_bootstrap_says_what_is_missing(correct, groups):
    with pytest.raises(ValueError, match="one group for each answer"):
        ev.bootstrap_interval(correct, groups)


def test_confusion_agrees_with_scikit_learn(answers):
    true, predicted = answers
    ours = ev.confusion_counts(true, predicted, NAMES)
    np.testing.assert_array_equal(ours.to_numpy(), confusion_matrix(true, predicted, labels=NAMES))
    assert list(ours.index) == list(ours.columns) == NAMES and ours.index.name == "label"


def test_confusion_refuses_species_that_the_network_does_not_know():
    with pytest.raises(ValueError, match="emu"):
        ev.confusion_counts(["emu"], ["owl"], NAMES)


@pytest.mark.parametrize("n", [1, 2, 3, 12, 91])
def test_similarity_order_keeps_every_species_once_and_pairs_together(n):
    names = [f"s{k:02d}" for k in range(n)]
    twin = {k: (k + n // 2) % n if n % 2 == 0 else k for k in range(n)}
    counts = pd.DataFrame(0, index=names, columns=names)
    for k in range(n):
        counts.iloc[k, k] += 5
        counts.iloc[k, twin[k]] += 5
    order = ev.similarity_order(counts)
    assert sorted(order) == names
    if n == 12:
        assert all(abs(order.index(names[k]) - order.index(names[twin[k]])) == 1 for k in range(n))


@pytest.mark.parametrize("n", [1, 12, 91])
def test_confusion_picture_names_every_row_at_a_readable_size(n):
    names = [f"Somewhat Long-named Warbler {k}" for k in range(n)]
    ax = ev.plot_confusion(pd.DataFrame(np.eye(n, dtype=int) * 3, index=names, columns=names))
    ax.figure.canvas.draw()
    rows = ax.get_yticklabels()
    assert len(rows) == n and rows[0].get_fontsize() >= 7
    boxes = [t.get_window_extent() for t in rows]
    assert all(
        upper.y0 >= lower.y1 - 1 for upper, lower in zip(boxes[:-1], boxes[1:], strict=True)
    )  # no two names on top of each other
    assert ax.figure.get_figwidth() <= 9
    plt.close("all")


def test_species_scores_agree_with_scikit_learn(answers):
    true, predicted = answers
    counts = ev.confusion_counts(true, predicted, NAMES)
    table = pd.DataFrame(
        {"label": ["owl", "owl", "tit", "wren", "wren"], "scientific_name": "", "duration_s": [60.0, 30, 30, 120, 60]}
    )
    rows = ev.species_scores(counts, table, np.array([1, 0, 1, 1, 1], dtype=bool))
    assert list(rows.columns) == [
        "label",
        "scientific_name",
        "n_train",
        "n_test",
        "minutes_train",
        "accuracy",
        "precision",
        "confused_with",
        "confused_share",
    ]
    np.testing.assert_allclose(rows.accuracy[:3], recall_score(true, predicted, labels=NAMES[:3], average=None))
    np.testing.assert_allclose(rows.precision, precision_score(true, predicted, labels=NAMES, average=None))
    assert np.isnan(rows.accuracy[3])  # the yaffle was never tested
    assert (
        rows.n_train.tolist() == [1, 1, 2, 0]
        and rows.n_test.tolist() == [1, 0, 0, 0]
        and rows.minutes_train.tolist() == [1, 0.5, 3, 0]
    )
    assert rows.confused_with[3] == "" and rows.confused_share[3] == 0


def test_ties_between_confusions_go_to_the_first_by_name():
    counts = pd.DataFrame(
        [[2, 1, 1], [0, 4, 0], [1, 1, 0]], index=["wren", "owl", "tit"], columns=["wren", "owl", "tit"]
    )
    found = ev.confused_with(counts)
    assert found.confused_with.to_dict() == {"wren": "owl", "owl": "", "tit": "owl"}
    assert found.confused_share.to_dict() == {"wren": 0.25, "owl": 0.0, "tit": 0.5}
    assert counts.loc["owl", "owl"] == 4  # the table handed in is left as it was


def test_line_agrees_with_scipy_and_leaves_out_the_untested():
    rng = np.random.default_rng(0)
    x = rng.uniform(3, 31, 20)
    y = 0.4 - 0.005 * x + rng.normal(0, 0.05, 20)
    theirs = linregress(x, y)
    ours = ev.fit_line(np.append(x, 99), np.append(y, np.nan))
    assert [ours["slope"], ours["intercept"], ours["r"]] == pytest.approx(
        [theirs.slope, theirs.intercept, theirs.rvalue]
    )
    low, high = ev.line_band(x, y, at=[x.mean()], n=4000)
    assert low[0] < y.mean() < high[0]
    assert (high - low)[0] / 2 == pytest.approx(
        1.96 * np.std(y - theirs.intercept - theirs.slope * x) / np.sqrt(20), rel=0.15
    )


def test_nothing_to_fit_gives_nan():
    assert all(np.isnan(v) for v in ev.fit_line([5.0], [0.3]).values())
    assert np.isnan(ev.line_band([1, 1, 1], [0.1, 0.2, 0.3], [1])).all()
    assert np.isnan(ev.fit_line([1, 2], [0.5, 0.5])["r"]) and ev.fit_line([1, 2], [0.5, 0.5])["slope"] == 0


def test_unknown_recordists_are_groups_of_their_own():
    table = pd.DataFrame(
        {
            "recording_id": list("abcdef"),
            "label": ["owl", "tit"] * 3,
            "group": "",
            "recordist": ["Ann", "Ann", "", "", "Bo", ""],
            "location": "",
            "date": "",
        }
    )
    split = pd.DataFrame(
        {"recording_id": list("abcdef")}
        | {by: ["train", "train", "test", "test", "test", "test"] for by in ("recording", "session", "recordist")}
    )
    majority = table[["recording_id", "label"]].assign(
        split="recordist", baseline="majority", set=split.recordist, predicted="owl"
    )
    predictions = majority[majority.set == "test"].assign(crop_seed=0, predicted=["owl", "owl", "owl", "owl"])
    found = ev.collect_metrics(table, split, majority, predictions, n=2000)["recordist"]
    assert found["n_groups"] == 5 and found["twin_share"] == 0  # Ann, Bo and three unknown
    assert found["network"]["accuracy"] == 0.5 and found["network"]["balanced_accuracy"] == 0.5
    assert found["network"]["interval"] == [0.0, 1.0]  # four groups of one: all wrong once in 16, all right once in 16
    assert found["majority"] == {"accuracy": 0.5, "interval": [0.0, 1.0], "train_accuracy": 0.5}


def write_finished_run(folder):
    """A run folder as training leaves it: 24 recordings by six people, three species, two crop seeds on two splits."""
    rng, ids = np.random.default_rng(0), [f"r{i:02d}" for i in range(24)]
    table = pd.DataFrame(
        {
            "recording_id": ids,
            "label": NAMES[:3] * 8,
            "path": [f"{i}.mp3" for i in ids],
            "recordist": np.repeat(list("ABCDEF"), 4),
            "location": "mill",
            "date": "2020-05-01",
            "duration_s": 30.0 + np.arange(24),
        }
    )
    split = pd.DataFrame(
        {"recording_id": ids, "recording": ["train", "test"] * 12, "session": ["train"] * 16 + ["test"] * 8}
    )
    split["recordist"] = split.session
    baselines = [
        table[["recording_id", "label"]].assign(
            split=by, baseline=name, set=split[by], predicted=rng.choice(NAMES[:3], 24)
        )
        for by in ("recording", "session", "recordist")
        for name in ("majority", "no_audio", "naive_bayes")
    ]
    predictions = []
    for by, seed in itertools.product(("recording", "recordist"), (0, 1)):
        rows = table[(split[by] == "test").to_numpy()][["recording_id", "label"]]
        p = rng.dirichlet([1, 1, 1], len(rows))
        predictions.append(
            rows.assign(
                split=by,
                crop_seed=seed,
                predicted=np.array(NAMES)[p.argmax(1)],
                **{f"p_{k}": p[:, k] for k in range(3)},
            )
        )
    write_table(folder / "recordings.csv", table)
    write_table(folder / "split.csv", split)
    write_table(folder / "baselines.csv", pd.concat(baselines))
    pd.concat(predictions).to_parquet(folder / "predictions.parquet")
    write_table(
        folder / "history.csv",
        pd.DataFrame(
            {
                "stage": ["fold0", "fold0", "fold1", "final-recordist"],
                "epoch": [0, 1, 0, 0],
                "loss": 1.0,
                "accuracy": 0.5,
                "val_loss": [1.2, 1.1, 1.3, np.nan],
                "val_accuracy": [0.3, 0.4, 0.6, np.nan],
            }
        ),
    )
    write_json(folder / "model.json", {"network": "v20", "n_parameters": 74_691, "classes": NAMES[:3]})
    write_json(folder / "manifest.json", {"experiment": "birds-v20", "started": "2026-01-01"})
    return folder


@pytest.fixture
def finished_run(tmp_path):
    return write_finished_run(tmp_path)


def test_the_job_writes_the_same_bytes_twice(finished_run, capsys):
    written = ("metrics.json", "per_species.csv", "confusion.csv")
    run_job("scoring/evaluation", run_dir=str(finished_run), n_bootstrap=200)
    first = {name: (finished_run / name).read_bytes() for name in written}
    run_job("scoring/evaluation", run_dir=str(finished_run), n_bootstrap=200)
    assert first == {name: (finished_run / name).read_bytes() for name in written}


def test_the_job_keeps_what_the_report_quotes(finished_run):
    run_job("scoring/evaluation", run_dir=str(finished_run), n_bootstrap=200)
    metrics = read_json(finished_run / "metrics.json")
    assert set(metrics) == {
        "experiment",
        "network",
        "n_parameters",
        "n_recordings",
        "n_species",
        "hours",
        "chance",
        "main_split",
        "classes",
        "splits",
        "cross_validation",
        "minutes_fit",
    }
    assert (metrics["experiment"], metrics["network"], metrics["n_parameters"]) == ("birds-v20", "v20", 74_691)
    assert (
        metrics["hours"] == round((24 * 30 + 276) / 3600, 6)
        and metrics["chance"] == 0.333333
        and "started" not in str(metrics)
    )
    assert list(metrics["splits"]) == ["recording", "recordist"]  # those that were predicted
    assert metrics["cross_validation"] == {
        "split": "recordist",
        "accuracy_mean": 0.5,
        "accuracy_sd": 0.1,
        "folds": [
            {"fold": 0, "best_epoch": 2, "val_loss": 1.1, "val_accuracy": 0.4},
            {"fold": 1, "best_epoch": 1, "val_loss": 1.3, "val_accuracy": 0.6},
        ],
    }
    by_person = metrics["splits"]["recordist"]
    assert (by_person["n_train"], by_person["n_test"], by_person["n_groups"], by_person["twin_share"]) == (
        16,
        8,
        6,
        0.0,
    )
    assert set(by_person) == {
        "n_train",
        "n_test",
        "n_groups",
        "twin_share",
        "majority",
        "no_audio",
        "naive_bayes",
        "network",
    }
    predictions = pd.read_parquet(finished_run / "predictions.parquet").query("split == 'recordist'")
    each = [(rows.label == rows.predicted).mean() for _, rows in predictions.groupby("crop_seed")]
    assert by_person["network"]["crop_accuracies"] == pytest.approx(each) and by_person["network"][
        "accuracy"
    ] == pytest.approx(np.mean(each))
    low, high = by_person["network"]["interval"]
    assert low <= by_person["network"]["accuracy"] <= high
    scores = by_person["network"]["scores"]
    assert set(scores) == {"windows", "mean", "max", "log_mean_exp"} and all(
        set(s) == set(METRICS) for s in scores.values()
    )
    assert scores["windows"]["accuracy"]["value"] == pytest.approx(by_person["network"]["accuracy"], abs=1e-6)
    assert scores["windows"]["balanced_accuracy"]["value"] == pytest.approx(
        by_person["network"]["balanced_accuracy"], abs=1e-6
    )

    confusion = pd.read_csv(finished_run / "confusion.csv", index_col="label")
    assert (
        confusion.to_numpy().sum() == 16 and list(confusion.columns) == list(confusion.index) == NAMES[:3]
    )  # 8 recordings, 2 crop seeds
    species = pd.read_csv(finished_run / "per_species.csv", keep_default_na=False)
    assert (
        species.n_train.sum() == 16
        and species.n_test.sum() == 8
        and species.minutes_train.sum() == pytest.approx((16 * 30 + 120) / 60, abs=1e-5)
    )


def test_the_job_takes_another_main_split(finished_run):
    run_job("scoring/evaluation", run_dir=str(finished_run), n_bootstrap=50, main_split="recording")
    assert pd.read_csv(finished_run / "confusion.csv", index_col=0).to_numpy().sum() == 24
    assert read_json(finished_run / "metrics.json")["cross_validation"]["split"] == "recording"
