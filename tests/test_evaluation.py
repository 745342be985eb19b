"""Evaluation: scores against hand counts, the published jackknife, scikit-learn and scipy."""

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
from avianspec.scoring.few_groups import share_limits
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


def four_people(right_of):
    "Predictions of six people's recordings, four each, of which so many are right; and the person of each recording."
    ids = [f"{person}{k}" for person in right_of for k in range(4)]
    right = np.concatenate([np.arange(4) < n for n in right_of.values()])
    rows = pd.DataFrame(
        {"recording_id": ids, "label": "owl", "predicted": np.where(right, "owl", "tit"), "set": "test"}
    )
    return rows.assign(crop_seed=0), pd.Series([i[0] for i in ids], index=ids)


def test_scores_have_the_interval_of_their_groups():
    """On the log-odds, by hand from the published jackknife: all truths up to the first whose limit is passed."""
    right_of = dict(a=4, b=3, c=2, d=1, e=3, f=2)
    rows, groups = four_people(right_of)
    found = ev.network_scores(rows, groups)
    assert found["accuracy"] == 15 / 24 and "remark" not in found

    def odds(share):
        return np.log((share + 0.5 / 24) / (1 - share + 0.5 / 24))

    without = np.array([odds((15 - n) / 20) for n in right_of.values()])
    se = np.sqrt(5 / 6 * np.sum((without - odds(15 / 24)) ** 2))
    truths, limits = share_limits([4] * 6)
    far = np.linspace(0, 4, 40_001)
    passed = [far > np.interp(odds(15 / 24) + side * se * far, odds(truths), limits) for side in (-1, 1)]
    ends = odds(15 / 24) + np.array([-1, 1]) * se * np.array([far[p.argmax()] for p in passed])
    expected = (1 + 1 / 24) / (1 + np.exp(-ends)) - 0.5 / 24
    assert found["interval"] == pytest.approx(expected, abs=1e-3)
    both = pd.concat([rows.assign(set="train", predicted="tit"), rows])
    baseline = ev.baseline_scores(both, groups)
    assert baseline["interval"] == found["interval"] and baseline["train_accuracy"] == 0


def test_a_score_on_five_people_has_no_interval_and_says_so():
    rows, groups = four_people(dict(a=4, b=3, c=2, d=1, e=3))
    found = ev.network_scores(rows, groups)
    assert found["accuracy"] == 13 / 20 and np.isnan(found["interval"]).all()
    assert found["remark"] == "too few groups for an interval: 5, at least 6 are needed"
    splits = {"recordist": {"n_train": 9, "n_test": 20, "n_groups": 5, "twin_share": 0.0, "network": found}}
    assert ev.headline_table(splits).loc["recordist", "network"] == "0.650"
    ax = ev.plot_headline(splits)
    assert ax.get_xlabel().splitlines()[1] == f"split by recordist: {found['remark']}"
    assert [line.get_xdata()[0] for line in ax.lines] == [0.65]  # the point alone
    assert all(np.ptp(path.vertices[:, 0]) == 0 for c in ax.collections for path in c.get_paths())
    plt.close("all")


def test_a_baseline_that_is_never_right_is_not_sure_to_be_never_right():
    rows, groups = four_people(dict(zip("abcdefgh", [0] * 8, strict=True)))
    assert ev.baseline_scores(pd.concat([rows, rows.assign(set="train")]), groups)["interval"] == pytest.approx(
        [0, 1 - 0.025 ** (1 / 8)]
    )


def test_species_have_intervals_where_six_people_or_more_were_tested():
    rows, groups = four_people(dict(a=4, b=4, c=4, d=4, e=4, f=4, g=2))
    rows.loc[rows.recording_id.str[0].isin(["f", "g"]), "label"] = "tit"  # five people's owls; two people's tits
    found = ev.label_intervals(rows, groups)
    assert found.remark.to_dict() == {
        "owl": "too few groups for an interval: 5, at least 6 are needed",
        "tit": "too few groups for an interval: 2, at least 6 are needed",
    }
    rows["label"] = "owl"
    found = ev.label_intervals(rows, groups).loc["owl"]
    assert found.low < 26 / 28 < found.high and found.remark == ""
    assert found.low == ev.network_scores(rows, groups)["interval"][0]
    shown = pd.DataFrame({"label": ["owl"], "n_test": 28, "accuracy": 26 / 28, "precision": 1.0, **found.to_dict()})
    (line,) = ev.plot_species(shown).collections[0].get_segments()
    assert line[:, 0].tolist() == [found.low, found.high]
    plt.close("all")


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
    rows = ev.species_scores(counts, table, ["train", "test", "train", "train", "train"])
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


def test_sizes_of_training_parts_are_means_over_folds():
    """Three owls of a minute each, one in each of three folds: two of them are learned from at a time."""
    table = pd.DataFrame({"label": ["owl"] * 3 + ["tit"] * 2, "scientific_name": "", "duration_s": 60.0})
    counts = pd.DataFrame([[3, 0], [0, 1]], index=["owl", "tit"], columns=["owl", "tit"])
    rows = ev.species_scores(counts, table, ["1", "2", "3", "1", ""])  # the second tit is in no fold
    assert rows.n_train.tolist() == [2, 1] and rows.minutes_train.tolist() == pytest.approx([2, 2 / 3])
    assert rows.n_test.tolist() == [3, 1]


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


def test_nothing_to_fit_gives_nan():
    assert all(np.isnan(v) for v in ev.fit_line([5.0], [0.3]).values())
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
    found = ev.collect_metrics(table, split, majority, predictions)["recordist"]
    assert found["n_groups"] == 4 and found["twin_share"] == 0  # of the test part: Bo and three unknown; Ann is learnt
    assert found["network"]["accuracy"] == 0.5 and found["network"]["balanced_accuracy"] == 0.5
    assert found["network"]["remark"] == "too few groups for an interval: 4, at least 6 are needed"
    assert (found["majority"]["accuracy"], found["majority"]["train_accuracy"]) == (0.5, 0.5)


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
    run_job("scoring/evaluation", run_dir=str(finished_run))
    first = {name: (finished_run / name).read_bytes() for name in written}
    run_job("scoring/evaluation", run_dir=str(finished_run))
    assert first == {name: (finished_run / name).read_bytes() for name in written}


def test_the_job_keeps_what_the_report_quotes(finished_run):
    run_job("scoring/evaluation", run_dir=str(finished_run))
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
        2,
        0.0,
    )
    assert set(by_person) == {
        "n_train",
        "n_test",
        "folds",
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
    assert by_person["network"]["interval"] == [None, None]
    assert by_person["network"]["remark"].startswith("too few groups for an interval: 2")
    low, high = metrics["splits"]["recording"]["network"]["interval"]  # every recording for itself: twelve
    assert 0 < low < metrics["splits"]["recording"]["network"]["accuracy"] < high < 1
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
    assert species.low.eq("").all() and species.remark.str.startswith("too few groups").all()  # two people each
    assert (
        species.n_train.sum() == 16
        and species.n_test.sum() == 8
        and species.minutes_train.sum() == pytest.approx((16 * 30 + 120) / 60, abs=1e-5)
    )


def test_the_job_takes_another_main_split(finished_run):
    run_job("scoring/evaluation", run_dir=str(finished_run), main_split="recording")
    assert pd.read_csv(finished_run / "confusion.csv", index_col=0).to_numpy().sum() == 24
    assert read_json(finished_run / "metrics.json")["cross_validation"]["split"] == "recording"
