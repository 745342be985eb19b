"""Ensembles: means by hand and against scipy, stacks that learn from held-out clips, differences by hand."""

import json
from functools import partial

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from notebook_job import run_job
from scipy.special import expit, softmax
from scipy.stats import gmean, rankdata

from avianspec.files import write_json, write_table
from avianspec.scoring import metrics as me
from avianspec.scoring.ensembles import (
    FLOOR,
    MEANS,
    REFERENCE,
    all_means,
    best_member,
    combine,
    difference_in_words,
    ensemble_table,
    fit_trust,
    loss_by_c,
    plot_ensemble,
    stack,
    weighted_probabilities,
)
from avianspec.scoring.intervals import holm_intervals, paired_interval

matplotlib.use("agg")


def networks(seed=0, n_groups=40, per_group=5, k=4, strengths=(2.0, 1.0), multi_label=False):
    "Probabilities (n_models, n, k) of networks that see the truth through their own noise, truth, groups."
    rng = np.random.default_rng(seed)
    truth = rng.random((n_groups, k)) < 0.3 if multi_label else np.eye(k, dtype=bool)[rng.integers(k, size=n_groups)]
    groups = np.repeat(np.arange(n_groups), per_group)
    logits = np.stack([s * (2 * truth[groups] - 1) + rng.normal(0, 1, (len(groups), k)) for s in strengths])
    return (expit(logits) if multi_label else softmax(logits, axis=-1)), truth[groups], groups.astype(str)


def test_means_by_hand():
    p = np.array([[[0.5, 0.3, 0.2]], [[0.1, 0.1, 0.8]]])
    assert combine(p, "arithmetic") == pytest.approx(np.array([[0.3, 0.2, 0.5]]))
    roots = np.sqrt([0.05, 0.03, 0.16])
    assert combine(p, "geometric") == pytest.approx(roots[None] / roots.sum())
    assert combine(p, "rank") == pytest.approx(
        np.array([[3 + 1.5, 2 + 1.5, 1 + 3]]) / 12
    )  # the tie shares ranks 1 and 2
    assert combine(p, "arithmetic", [1, 3]) == pytest.approx(np.array([[0.2, 0.15, 0.65]]))
    several = np.array([[[0.9, 0.5]], [[0.4, 0.02]]])  # sigmoids: nothing adds up to one
    assert combine(several, "geometric") == pytest.approx(np.array([[0.6, 0.1]]))
    assert combine(several, "rank") == pytest.approx(np.array([[1, 0.5]]))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(1, 5), st.sampled_from(MEANS), st.booleans())
def test_what_every_mean_must_keep(seed, m, how, multi_label):
    rng = np.random.default_rng(seed)
    p = rng.uniform(1e-4, 1 - 1e-4, (m, 7, 5)) if multi_label else rng.dirichlet(np.ones(5), (m, 7))
    w, order = rng.integers(1, 4, m), rng.permutation(m)
    out = combine(p, how, w)
    assert out.shape == (7, 5) and (out >= 0).all() and (out <= 1 + 1e-12).all()
    assert combine(p[order], how, w[order]) == pytest.approx(out)  # order of the networks does not matter
    assert combine(np.repeat(p, w, axis=0), how) == pytest.approx(out)  # a weight is a network asked that often
    assert combine(p[:, :3], how, w) == pytest.approx(out[:3])  # a clip does not depend on the others
    same = combine(np.repeat(p[:1], 3, axis=0), how)
    assert (np.argsort(same, axis=1) == np.argsort(p[0], axis=1)).all()  # one opinion, repeated, is that opinion
    if how != "rank":
        assert same == pytest.approx(np.maximum(p[0], FLOOR), abs=1e-6)
    if not multi_label:
        assert out.sum(axis=1) == pytest.approx(np.ones(7))
    if how == "geometric" and multi_label:
        assert out == pytest.approx(gmean(p, axis=0, weights=np.broadcast_to(w[:, None, None], p.shape)))


def test_rank_mean_does_not_mind_how_sure_a_network_is():
    p, _, _ = networks(multi_label=True)
    assert combine(p**2, "rank") == pytest.approx(combine(p, "rank"))
    assert combine(p, "rank") == pytest.approx(np.mean([rankdata(q, axis=1) / 4 for q in p], axis=0))


def test_a_rounding_to_zero_can_be_outvoted():
    p = np.array([[[0.0, 1.0]], [[0.999, 0.001]], [[0.999, 0.001]], [[0.9999, 0.0001]]])
    out = combine(p, "geometric")
    assert np.isfinite(out).all() and out.sum() == pytest.approx(1) and (out > 0).all()
    assert combine(np.array([[[1.0, 0.0]], [[0.0, 1.0]]]), "geometric") == pytest.approx(np.array([[0.5, 0.5]]))


@pytest.mark.parametrize(
    "p, options, message",
    [
        (np.ones((2, 3)), {}, "n_models, n, n_classes"),
        (np.full((1, 2, 2), np.nan), {}, "NaN"),
        (np.full((1, 2, 2), -1.0), {}, "not negative"),
        (np.ones((2, 1, 2)), {"how": "median"}, "'median'"),
        (np.ones((2, 1, 2)), {"weights": [1]}, "each of its 2"),
        (np.ones((2, 1, 2)), {"weights": [0, 0]}, "not all zero"),
        (np.ones((2, 1, 2)), {"weights": [2, -1]}, "none negative"),
    ],
)
def test_what_cannot_be_combined(p, options, message):
    with pytest.raises(ValueError, match=message):
        combine(p, **options)


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_stack_trusts_the_one_who_knows(multi_label):
    "One network knows, two invent and boast: every mean suffers, the stack does not."
    p, truth, groups = networks(1, per_group=3, strengths=(2.0, 0.0, 0.0), multi_label=multi_label)
    p[1:] = (
        p[1:] ** 3 / (p[1:] ** 3 + (1 - p[1:]) ** 3)
        if multi_label
        else p[1:] ** 4 / (p[1:] ** 4).sum(-1, keepdims=True)
    )
    learn = groups.astype(int) < 25
    out = stack(p[:, learn], truth[learn], p[:, ~learn], multi_label, groups[learn])
    score = me.lwlrap if multi_label else me.top_k_accuracy
    assert out.shape == truth[~learn].shape and (out > 0).all() and (out < 1).all()
    assert score(out, truth[~learn]) > max(score(combine(p[:, ~learn], how), truth[~learn]) for how in MEANS)
    assert score(out, truth[~learn]) > score(p[0, ~learn], truth[~learn]) - 0.03
    if not multi_label:
        assert out.sum(axis=1) == pytest.approx(np.ones(len(out)))


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_stack_of_noise_says_how_common_each_class_is(multi_label):
    p, truth, groups = networks(2, n_groups=80, per_group=3, strengths=(0.0, 0.0), multi_label=multi_label)
    out = stack(p, truth, p, multi_label, groups)
    assert np.abs(out - truth.mean(axis=0)).mean() < 0.06 < np.abs(combine(p, "geometric") - truth.mean(axis=0)).mean()


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_test_clip_is_judged_alone_and_the_truth_of_others_is_not_seen(multi_label):
    p, truth, groups = networks(3, multi_label=multi_label)
    learn = groups.astype(int) < 20
    out = stack(p[:, learn], truth[learn], p[:, ~learn], multi_label, groups[learn], seed=4)
    assert stack(p[:, learn], truth[learn], p[:, ~learn][:, 3:9], multi_label, groups[learn], seed=4) == pytest.approx(
        out[3:9]
    )
    assert np.array_equal(stack(p[:, learn], truth[learn], p[:, ~learn], multi_label, groups[learn], seed=4), out)


def test_trust_is_that_of_a_logistic_regression():
    "With much freedom each class is scikit-learn's regression without a penalty on the same log-odds."
    from sklearn.linear_model import LogisticRegression

    p, truth, _ = networks(9, strengths=(0.8, 0.5), multi_label=True)
    trust, bias = fit_trust(p, truth, True, c=1e9)
    for k in range(truth.shape[1]):
        theirs = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(
            (np.log(p) - np.log1p(-p))[:, :, k].T, truth[:, k]
        )
        assert trust[:, k] == pytest.approx(theirs.coef_[0], abs=2e-3) and bias[k] == pytest.approx(
            theirs.intercept_[0], abs=2e-3
        )


def test_trust_of_one_network_mends_its_temperature():
    from avianspec.scoring.calibration import at_temperature, fit_temperature

    p, truth, _ = networks(10, n_groups=200, strengths=(1.5,))
    boastful = at_temperature(p[0], 0.4)
    trust, bias = fit_trust(boastful[None], truth, False, c=1e6)
    assert 1 / trust[0, 0] == pytest.approx(fit_temperature(boastful, truth), rel=0.03)
    assert (
        me.log_loss(weighted_probabilities(boastful[None], trust, bias, False), truth)
        <= me.log_loss(at_temperature(boastful, fit_temperature(boastful, truth)), truth) + 1e-6
    )


@pytest.mark.parametrize("multi_label", [False, True])
def test_without_freedom_a_stack_is_the_geometric_mean_of_the_odds(multi_label):
    p, truth, _ = networks(11, multi_label=multi_label)
    trust, bias = fit_trust(p, truth, multi_label, c=1e-10)
    assert trust == pytest.approx(np.full(trust.shape, 0.5), abs=1e-4) and bias == pytest.approx(np.zeros(4), abs=1e-4)
    odds = p / (1 - p)
    mean = gmean(odds, axis=0) / (1 + gmean(odds, axis=0)) if multi_label else combine(p, "geometric")
    assert weighted_probabilities(p, trust, bias, multi_label) == pytest.approx(mean, abs=1e-3)


def test_regularisation_is_chosen_with_sources_whole():
    "Labels that belong to sources, features that only name the source: by source nothing can be learned, by clip all."
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 10)
    names = rng.random((1, 12, 4))[:, groups]  # what the network says of a source, the same for all of its clips
    truth = (rng.random((12, 4)) < 0.5)[groups]
    by_source, by_clip = (loss_by_c(names, truth, True, g.astype(str)) for g in (groups, np.arange(120)))
    assert by_source.idxmin() <= by_clip.idxmin() and by_source.min() > by_clip.min()
    assert by_source[10.0] > by_source.min()


def test_classes_without_clips_or_without_others():
    p, truth, groups = networks(5, multi_label=True)
    truth[:, 0], truth[:, 1] = False, True
    out = stack(p, truth, p[:, :6], True, groups)
    plain = combine(p[:, :6], "geometric")
    assert (out[:, 0] < plain[:, 0]).all() and (out[:, 1] > plain[:, 1]).all() and np.isfinite(out).all()
    single, truth, groups = networks(5)
    kept = truth[:, 3] == 0
    out = stack(single[:, kept], truth[kept], single[:, ~kept], False, groups[kept])
    assert (
        out.sum(axis=1) == pytest.approx(np.ones(len(out))) and (out.argmax(axis=1) == 3).mean() > 0.9
    )  # trust learned on other classes holds for it


def test_what_cannot_be_stacked():
    p, truth, groups = networks(0)
    with pytest.raises(ValueError, match="the same networks and classes"):
        stack(p, truth, p[:1], False, groups)
    with pytest.raises(ValueError, match="199 groups"):
        stack(p, truth, p, False, groups[1:])
    with pytest.raises(ValueError, match="two or more; got 1"):
        stack(p, truth, p, False, np.zeros(len(truth)))
    with pytest.raises(ValueError, match="multi_label=True"):
        stack(p, truth | np.eye(4, dtype=bool)[0], p, False, groups)


@pytest.mark.parametrize("metric", ["accuracy", "log_loss", "cmap", "lwlrap"])
def test_the_table_agrees_with_scores_and_comparisons_of_metrics(metric):
    p, truth, groups = networks(6, strengths=(0.6, 0.5))
    members = {"a": p[0], "b": p[1]}
    score = partial(partial, me.METRICS[metric])
    kept = {"a": 1.0, "b": 0.9}  # of validation: a is better, or b where a lower score is
    table = ensemble_table(members, all_means(members), truth, groups, kept, metric).set_index("name")
    answers = {**members, **all_means(members)}
    assert list(table.index) == list(answers) and table.kind.tolist() == ["member"] * 2 + ["combination"] * 3
    for name, q in answers.items():
        row = me.score_table(q, truth, groups, metrics={metric: me.METRICS[metric]}).loc[metric]
        assert tuple(table.loc[name, ["value", "low", "high", "remark"]]) == tuple(row)
    best = "b" if metric == "log_loss" else "a"
    assert table.index[table.says == REFERENCE].tolist() == [best]
    others = [name for name in answers if name != best]
    bounded = metric != "log_loss"
    gaps = [paired_interval(score(answers[best], truth), score(answers[n], truth), groups, bounded) for n in others]
    columns = ["difference", "difference_low", "difference_high", "p_holm"]
    for name, gap in zip(others, holm_intervals(gaps), strict=True):
        assert tuple(table.loc[name, columns]) == gap[:4]
        told = not table.says[name].startswith("no difference can be told")
        assert told == (table.p_holm[name] < 0.05)


def test_the_best_member_is_chosen_by_validation_and_not_by_the_test_part():
    """The second network is the better one on these clips; whatever they hold, validation decides."""
    p, truth, groups = networks(9, strengths=(0.5, 2.0))
    members = {"weak": p[0], "strong": p[1]}
    for metric, lower in (("accuracy", False), ("log_loss", True)):
        for kept, best in ((dict(weak=0.9, strong=0.2), "weak"), (dict(strong=0.9, weak=0.2), "strong")):
            if lower:
                best = {"weak": "strong", "strong": "weak"}[best]
            for t in (truth, truth[::-1]):
                table = ensemble_table(members, {}, t, groups, kept, metric).set_index("name")
                assert table.index[table.says == REFERENCE].tolist() == [best]
    assert best_member(dict(b=0.5, a=0.5)) == "b"  # of equal ones, the first
    with pytest.raises(ValueError, match="a validation score is needed for each of weak, strong; got weak"):
        ensemble_table(members, {}, truth, groups, {"weak": 1.0}, "accuracy")
    with pytest.raises(ValueError, match="none for \\['weak'\\]"):
        ensemble_table(members, {}, truth, groups, {"weak": np.nan, "strong": 1.0}, "accuracy")


def test_words_follow_the_interval_and_the_sign():
    assert difference_in_words(0.02, 0.01, 0.03).startswith("helps: +0.020 (+0.010 to +0.030)") and difference_in_words(
        -0.02, -0.03, -0.01
    ).startswith("harms")
    assert difference_in_words(-0.02, -0.03, -0.01, lower_is_better=True).startswith("helps") and difference_in_words(
        0.02, -0.01, 0.03
    ).startswith("no difference can be told")
    p, truth, groups = networks(7, n_groups=150, strengths=(1.0, 1.0, 1.0))
    members = {str(k): q for k, q in enumerate(p)}
    kept = dict.fromkeys(members, 0.5)
    for metric in (
        "accuracy",
        "log_loss",
    ):  # three independent networks, each as good as the others: together they know more
        said = ensemble_table(members, all_means(members), truth, groups, kept, metric).set_index("name").says
        assert said["geometric mean"].startswith("helps"), metric
    guesses = {"guesses": np.full_like(p[0], 0.25)}
    harmed = ensemble_table({"knows": p[0]}, guesses, truth, groups, {"knows": 0.5}, "accuracy")
    assert harmed.says.iloc[1].startswith("harms")


def test_many_equal_combinations_do_not_help_by_chance():
    """A difference that would be told alone is not told as one of twenty."""
    p, truth, groups = networks(12, n_groups=40, per_group=3, strengths=(1.0, 1.0))
    kept, answers = {"a": 0.5}, {"mean": combine(p, "geometric")}
    gap = paired_interval(*(partial(me.METRICS["accuracy"], q, truth) for q in (p[0], answers["mean"])), groups)
    same = {f"copy {k}": p[0] for k in range(19)}
    alone = ensemble_table({"a": p[0]}, answers, truth, groups, kept, "accuracy").set_index("name")
    many = ensemble_table({"a": p[0]}, answers | same, truth, groups, kept, "accuracy").set_index("name")
    assert alone.p_holm["mean"] == gap.p and many.p_holm["mean"] == pytest.approx(min(1, 20 * gap.p))
    assert many.difference_low["mean"] < alone.difference_low["mean"] == pytest.approx(gap.low)


def test_what_cannot_be_compared():
    p, truth, groups = networks(0)
    with pytest.raises(ValueError, match="other names"):
        ensemble_table({"a": p[0]}, {"a": p[1]}, truth, groups, {"a": 1.0})
    with pytest.raises(ValueError, match="at least one member"):
        ensemble_table({}, {"a": p[1]}, truth, groups, {})
    with pytest.raises(ValueError, match="Unknown score 'f2'"):
        ensemble_table({"a": p[0]}, {}, truth, groups, {"a": 1.0}, "f2")


def test_plot_shows_every_row():
    p, truth, groups = networks(0)
    members, kept = {"a": p[0], "b": p[1]}, {"a": 0.7, "b": 0.6}
    table = ensemble_table(members, all_means(members), truth, groups, kept, "log_loss")
    ax = plot_ensemble(table, "log_loss")
    assert [t.get_text() for t in ax.get_yticklabels()] == table.name.tolist() and "lower is better" in ax.get_xlabel()
    assert sorted(x for line in ax.lines[:2] for x in line.get_xdata()) == pytest.approx(sorted(table.value))
    plt.close("all")


def fake_run(folder, p, truth, groups, held_out, classes):
    "A run folder with the predictions of one network, two windows a recording."
    folder.mkdir()
    ids = [f"r{k:03d}" for k in range(len(truth))]
    table = pd.DataFrame(
        {"recording_id": ids, "label": [classes[k] for k in truth.argmax(1)], "recordist": groups, "path": "x.wav"}
    )
    write_table(folder / "recordings.csv", table)
    write_json(folder / "model.json", {"classes": classes})
    rows = pd.DataFrame(p, columns=[f"p_{k}" for k in range(len(classes))]).assign(recording_id=ids, label=table.label)
    twice = pd.concat([rows.assign(crop_seed=k) for k in (0, 1)], ignore_index=True)
    test = twice[~np.tile(held_out, 2)]
    pd.concat([test.assign(split="recordist"), test.assign(split="recording")]).to_parquet(
        folder / "predictions.parquet"
    )
    twice[np.tile(held_out, 2)].assign(fold=0).to_parquet(folder / "validation.parquet")
    return folder


def test_job_puts_runs_together(tmp_path):
    p, truth, groups = networks(8)
    held_out, classes = groups.astype(int) < 20, list("abcd")
    runs = [fake_run(tmp_path / f"run {k}", q, truth, groups, held_out, classes) for k, q in enumerate(p)]
    run_job("scoring/ensembles", run_dir=str(runs[0]), other_runs=str(runs[1]), metric="cmap")
    told = json.loads((runs[0] / "ensemble.json").read_text())
    values = {r["name"]: r["value"] for r in told["rows"]}
    assert told["members"] == ["run 0", "run 1"] and set(values) == {
        "run 0",
        "run 1",
        *(f"{how} mean" for how in MEANS),
        "stack",
    }
    assert values["geometric mean"] == pytest.approx(
        me.cmap(combine(p[:, ~held_out], "geometric"), truth[~held_out]), abs=1e-6
    )
    kept = [me.cmap(q[held_out], truth[held_out]) for q in p]
    assert [r["name"] for r in told["rows"] if r["says"] == REFERENCE] == [f"run {int(np.argmax(kept))}"]
    assert values["stack"] == pytest.approx(
        me.cmap(stack(p[:, held_out], truth[held_out], p[:, ~held_out], False, groups[held_out]), truth[~held_out]),
        abs=1e-6,
    )
    run_job("scoring/ensembles", run_dir=str(runs[0]))  # alone: its windows are put together
    told = json.loads((runs[0] / "ensemble.json").read_text())
    assert told["members"] == ["window 1", "window 2"] and len(told["rows"]) == 5
    np.testing.assert_allclose(
        [r["value"] for r in told["rows"]], np.mean(p[0, ~held_out].argmax(1) == truth[~held_out].argmax(1)), atol=1e-6
    )  # both windows alike
    (runs[1] / "validation.parquet").unlink()
    run_job("scoring/ensembles", run_dir=str(runs[0]), other_runs=str(runs[1]))
    assert "stack" not in {r["name"] for r in json.loads((runs[0] / "ensemble.json").read_text())["rows"]}
    stranger = fake_run(tmp_path / "stranger", p[0], truth, groups, ~held_out, classes)
    with pytest.raises(ValueError, match="other test recordings"):
        run_job("scoring/ensembles", run_dir=str(runs[0]), other_runs=str(stranger))
