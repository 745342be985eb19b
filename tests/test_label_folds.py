"""Folds of several labels: sources whole, every clip once, rare labels spread, and what cannot be done said."""

import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avianspec.data.label_folds import group_labels, label_folds, label_shares, label_split, unevenness


def tagging_set(rng, n_sources=90, n_classes=6, most=3):
    "Clips of sources of unequal size; the labels of a source are those of its clips, the last class is rare."
    rate = np.linspace(0.5, 0.08, n_classes)
    labels = rng.random((n_sources, n_classes)) < rate
    labels[np.arange(n_sources), rng.integers(n_classes - 1, size=n_sources)] = True
    groups = np.repeat(np.arange(n_sources), rng.integers(1, most + 1, n_sources))
    return labels[groups], groups.astype(str)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(2, 6), st.integers(1, 4))
def test_every_clip_is_in_one_fold_and_every_source_is_whole(seed, n_folds, most):
    truth, groups = tagging_set(np.random.default_rng(seed), n_sources=30, most=most)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folds = label_folds(truth, groups, n_folds, seed)
    assert folds.shape == (len(truth),) and set(folds) == set(range(n_folds))
    assert pd.Series(folds).groupby(groups).nunique().max() == 1


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31 - 1), st.sampled_from([0.1, 0.25, 0.5]))
def test_a_split_keeps_sources_whole_and_its_size(seed, test_size):
    truth, groups = tagging_set(np.random.default_rng(seed))
    test = label_split(truth, groups, test_size, seed)
    assert test.dtype == bool and not set(groups[test]) & set(groups[~test])
    assert abs(test.mean() - test_size) < 0.06
    common = group_labels(truth, groups)[0].sum(axis=0) >= 2 / test_size
    assert truth[test][:, common].any(axis=0).all() and truth[~test][:, common].any(axis=0).all()


def test_stratified_folds_are_more_even_than_random_ones():
    from sklearn.model_selection import GroupKFold

    gains = []
    for seed in range(5):
        truth, groups = tagging_set(np.random.default_rng(seed))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the rare class of one draw is in four sources
            ours = label_folds(truth, groups, 5, seed)
        plain = np.empty(len(truth), dtype=int)
        for k, (_, held) in enumerate(GroupKFold(5, shuffle=True, random_state=seed).split(truth, groups=groups)):
            plain[held] = k
        gains.append(unevenness(truth, plain, [0.2] * 5) / unevenness(truth, ours, [0.2] * 5))
    assert min(gains) > 1.5


def test_shares_that_can_be_counted():
    "Two labels, eight clips of their own source each: folds of two can hold exactly half of both."
    truth = np.repeat([[1, 0], [0, 1], [1, 1], [1, 0]], 2, axis=0).astype(bool)
    folds = label_folds(truth, np.arange(8), 2, seed=3)
    assert label_shares(truth, folds, ["a", "b"]).to_numpy() == pytest.approx(np.full((2, 2), 0.5))
    split = label_split(truth, np.arange(8), 0.25, seed=3)
    assert truth[split].sum(axis=0).tolist() in ([2, 1], [1, 1]) and split.sum() == 2  # a quarter of 6 and of 4


def test_labels_of_a_source_are_those_of_any_of_its_clips():
    union, codes = group_labels(np.array([[1, 0], [0, 1], [0, 0]]), ["x", "x", "y"])
    assert union.tolist() == [[True, True], [False, False]] and codes.tolist() == [0, 0, 1]


def test_one_class_and_clips_without_labels_are_dealt_out_evenly():
    folds = label_folds(np.ones((10, 1), dtype=bool), np.arange(10), 5, seed=0)
    assert np.bincount(folds).tolist() == [2] * 5
    assert np.bincount(label_folds(np.zeros((9, 3), dtype=bool), np.arange(9), 3, seed=0)).tolist() == [3, 3, 3]


def test_too_few_sources_are_refused_and_rare_labels_named():
    truth, groups = np.eye(4, dtype=bool)[[0, 0, 0, 0, 1, 1, 1, 1, 2, 2]], list("abcdefghhh")
    with pytest.raises(ValueError, match="10 clips of 8 sources"):
        label_folds(truth, groups, 9, 0)
    with pytest.raises(ValueError, match="at least 2"):
        label_folds(truth, groups, 1, 0)
    with pytest.warns(UserWarning, match="1 classes .*: Siren$"):
        folds = label_folds(truth, groups, 4, 0, classes=["Rain", "Bell", "Siren", "Owl"])
    assert (
        len(set(folds[8:])) == 1 and np.bincount(folds, minlength=4).min() >= 1
    )  # the work goes on; a class without any clip is no trouble
    with pytest.warns(UserWarning, match="columns 2"):
        label_folds(truth, groups, 4, 0)
    for size in (0, 1, 0.99):
        pytest.raises(ValueError, label_split, truth, groups, size, 0)
    with pytest.raises(ValueError, match="one group for each"):
        label_folds(truth, groups[1:], 2, 0)


def test_a_label_of_the_test_part_alone_is_named():
    truth, groups = np.column_stack([np.ones(8, dtype=bool), np.arange(8) >= 6]), list("abcdeexx")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for size in (0.3, 0.5):
            assert not any(
                label_split(truth, groups, size, seed)[6] for seed in range(6)
            )  # where it can be learned, it is
    with pytest.warns(UserWarning, match="1 classes .* nothing can be learned of them: (Rain|Bell)$"):
        label_split(np.eye(2, dtype=bool), ["a", "b"], 0.5, 0, classes=["Rain", "Bell"])


def test_same_seed_same_folds_in_another_process():
    code = (
        "import numpy as np; from avianspec.data.label_folds import label_folds; r = np.random.default_rng(0); "
        "print(label_folds(r.random((60, 5)) < 0.3, r.integers(0, 25, 60), 4, 7).tolist())"
    )
    first, second = (
        subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    assert first == second
    r = np.random.default_rng(0)
    truth, groups = r.random((60, 5)) < 0.3, r.integers(0, 25, 60)
    assert first.strip() == str(label_folds(truth, groups, 4, 7).tolist())
    assert any((label_folds(truth, groups, 4, s) != label_folds(truth, groups, 4, 7)).any() for s in range(3))


def test_real_clips_of_one_source_stay_together(shared_data):
    from avianspec.data.known_sets import label_matrix, load_freesound

    table = load_freesound(shared_data / "environment")
    names, truth = label_matrix(table)
    folds = label_folds(truth, table.group, 3, 0, names)
    assert pd.Series(folds).groupby(table.group).nunique().max() == 1
    assert label_shares(truth, folds, names).to_numpy() == pytest.approx(np.full((10, 3), 1 / 3), abs=0.1)
