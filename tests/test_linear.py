"""The linear classifier: what it does with features that vary together, how sure it is, what it takes of memory."""

import tracemalloc
import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from avianspec.learning.linear import folds_to_hold_out, linear_classifier

AB = np.array(["a", "b"], dtype=object)


def windows(n, seed, step=1.0, classes=AB):
    "Three windows of each of n recordings of each class: twelve features that vary together, the first tells."
    rng = np.random.default_rng(seed)
    places = np.repeat(np.arange(len(classes)), 3 * n)
    x = rng.normal(size=(len(places), 12)) + 3 * rng.normal(size=(len(places), 1))
    x[:, 0] += step * places
    return x.astype(np.float32), classes[places], np.repeat(np.arange(n * len(classes)), 3)


def standardised(x):
    return np.clip((x - x.mean(axis=0)) / x.std(axis=0), -5, 5)


def test_a_strict_one_has_the_directions_of_a_linear_discriminant():
    classes = np.array(["a", "b", "c"], dtype=object)
    x, labels, owners = windows(20, 0, 4.0, classes)
    x[labels == "c", 1] += 9
    made = linear_classifier(x.copy(), labels, owners, classes, 1e-7, shrinkage=0.3)
    z = standardised(x.astype(float))
    means = np.stack([z[labels == name].mean(axis=0) for name in classes])
    within = np.mean([np.cov(z[labels == name].T, bias=True) for name in classes], axis=0)
    within = 0.7 * within + 0.3 * np.trace(within) / 12 * np.eye(12)
    fisher = np.linalg.solve(within, (means - means.mean(axis=0)).T)
    ours = made.weights - made.weights.mean(axis=1, keepdims=True)
    assert (ours * fisher).sum() / np.linalg.norm(ours) / np.linalg.norm(fisher) > 0.9999


def test_with_a_shrinkage_of_one_it_is_the_plain_regression():
    classes = np.array(["a", "b", "c"], dtype=object)
    x, labels, owners = windows(10, 1, classes=classes)
    made = linear_classifier(x.copy(), labels, owners, classes, 0.1)
    plain = LogisticRegression(C=0.1 / 3, max_iter=2000, tol=1e-6).fit(standardised(x), labels)  # three windows each
    np.testing.assert_allclose(np.exp(made.log_probabilities(x)), plain.predict_proba(standardised(x)), atol=2e-3)


def test_what_varies_together_no_longer_leads_astray():
    (x, labels, owners), (asked, truth, _) = windows(15, 2), windows(300, 3)
    right = []
    for shrinkage in (1.0, 0.2):
        made = linear_classifier(x.copy(), labels, owners, AB, 0.003, shrinkage)
        right.append((AB[made.log_probabilities(asked).argmax(axis=1)] == truth).mean())
    assert right[0] < 0.6 and right[1] > 0.64  # 0.67 for who knows the two clouds


@pytest.mark.parametrize("step", [0.0, 1.0, 3.0])
def test_it_is_as_sure_as_it_is_right(step):
    (x, labels, owners), (asked, truth, _) = windows(60, 4, step), windows(500, 5, step)
    folds = folds_to_hold_out(labels[::3], owners[::3])
    loss, sure, right = [], [], []
    for given in (None, folds):
        log_p = linear_classifier(x.copy(), labels, owners, AB, 0.003, 0.2, given).log_probabilities(asked)
        loss.append(-log_p[np.arange(len(truth)), np.searchsorted(AB, truth)].mean())
        sure.append(np.exp(log_p).max(axis=1).mean())
        right.append((AB[log_p.argmax(axis=1)] == truth).mean())
    assert right[0] == right[1]  # the order of the answers does not change
    assert sure[1] == pytest.approx(right[1], abs=0.05)
    assert loss[1] < loss[0] + 1e-3 and (step == 0 or loss[1] < loss[0] - 0.03)


def test_where_everything_is_right_it_is_not_certain():
    x, labels, owners = windows(2, 6, step=500.0)  # four recordings
    made = linear_classifier(x, labels, owners, AB, 0.003, 0.5, np.array([0, 1, 0, 1]))
    p = np.exp(made.log_probabilities(windows(50, 7, step=500.0)[0])).max(axis=1)
    assert 0.7 < np.median(p) < 0.99  # (4 + 1) / (4 + 2) = 0.83 of what two of them taught; four teach more


def test_the_held_out_are_asked_of_what_has_not_seen_them():
    x, labels, owners = windows(30, 8, step=0.0)  # nothing to learn, so to be sure is to have seen the answers
    rng = np.random.default_rng(0)
    x = np.concatenate([x, np.repeat(rng.normal(size=(60, 200)), 3, axis=0)], axis=1).astype(np.float32)
    sure = []
    for folds in (None, folds_to_hold_out(labels[::3], owners[::3])):
        made = linear_classifier(x.copy(), labels, owners, AB, 1.0, 0.2, folds)
        sure.append(np.exp(made.log_probabilities(x)).max(axis=1).mean())
    assert sure[0] > 0.95 and sure[1] < 0.7


def test_makers_are_held_out_whole_unless_a_label_has_one_only():
    labels, makers = ["a"] * 6 + ["b"] * 6, ["x", "x", "x", "y", "y", "z"] * 2
    folds = folds_to_hold_out(labels, makers)
    assert all(len(set(folds[np.array(makers) == one])) == 1 for one in "xyz") and len(set(folds)) == 3
    alone = folds_to_hold_out(labels, ["x"] * 6 + makers[6:])
    assert len(set(alone[:6])) == 4  # recordings of "a" in all folds


def test_one_recording_of_a_class_and_one_window_of_all_are_enough():
    x, classes = np.eye(3, 5, dtype=np.float32), np.array(["a", "b", "c"], dtype=object)
    folds = folds_to_hold_out(classes, ["x", "y", "z"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = linear_classifier(x.copy(), classes, np.arange(3), classes, 0.003, 0.2, folds)
    assert (made.log_probabilities(x).argmax(axis=1) == [0, 1, 2]).all()


@pytest.mark.parametrize("shrinkage", [1.0, 0.2])
def test_a_classifier_needs_no_second_table(shrinkage):
    rng, n = np.random.default_rng(0), 20_000
    x = rng.standard_normal((n, 64)).astype(np.float32)  # 5 MB
    labels, expected = np.where(x[:, 0] > 0, "a", "b").astype(object), (x.mean(axis=0), x.std(axis=0))
    tracemalloc.start()
    made = linear_classifier(x, labels, np.arange(n), AB, 0.01, shrinkage)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.nbytes  # of numbers by window there are a few, against 64 of the table
    np.testing.assert_allclose(made.centre, expected[0], atol=1e-6)
    np.testing.assert_allclose(made.scale, expected[1], rtol=1e-5)


def test_a_direction_in_which_nothing_lies_tells_nothing():
    x, labels, owners = windows(40, 9, step=0.0)
    x[labels == "b", 1] += 2  # the second feature tells, and so does the third, in which nothing lies far out
    x[labels == "b", 2] += 2
    nothing = np.tile(x.mean(axis=0), (5, 1))
    nothing[:, 2] += 20
    surest = []
    for given, weight in ((None, 0.1), (nothing, 0.0), (nothing, 100.0)):
        made = linear_classifier(x.copy(), labels, owners, AB, 0.1, 0.2, nothing=given, nothing_weight=weight)
        surest.append(np.exp(made.log_probabilities(nothing)).max())
        assert (AB[made.log_probabilities(x).argmax(axis=1)] == labels).mean() > 0.75
    assert surest[0] == surest[1] > 0.9 and surest[2] < 0.6


def test_nothing_is_looked_at_where_the_covariance_is_not():
    x, labels, owners = windows(40, 9, step=2.0)
    nothing = np.tile(x.mean(axis=0), (5, 1))
    nothing[:, 1] += 50
    made = [linear_classifier(x.copy(), labels, owners, AB, 0.1, 1.0, nothing=given) for given in (None, nothing)]
    plain, told = (one.weights[:, 0] / np.linalg.norm(one.weights[:, 0]) for one in made)
    assert abs(told[1]) < 0.6 * abs(plain[1]) and np.argmax(abs(told)) == 0


@pytest.mark.parametrize(
    "nothing, weight, says",
    [
        (None, -1.0, "is 0 or more; got -1"),
        (None, np.inf, "is 0 or more; got inf"),
        (np.zeros((3, 5)), 0.1, "have 12 features like all; got 3 × 5"),
    ],
)
def test_nothing_that_cannot_be_is_refused(nothing, weight, says):
    x, labels, owners = windows(3, 10)
    with pytest.raises(ValueError, match=says):
        linear_classifier(x, labels, owners, AB, 0.1, 0.2, nothing=nothing, nothing_weight=weight)


def test_nothing_counts_the_same_however_many_windows_it_has():
    x, labels, owners = windows(10, 10)
    nothing = np.random.default_rng(1).normal(size=(4, 12)).astype(np.float32)
    few, many = (
        linear_classifier(x.copy(), labels, owners, AB, 0.1, 0.2, nothing=np.tile(nothing, (n, 1))) for n in (1, 50)
    )
    np.testing.assert_allclose(few.weights, many.weights, atol=1e-4)
