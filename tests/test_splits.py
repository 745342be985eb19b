"""Splits that keep groups whole, twins counted, too few refused."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avianspec.data.recordings import validate
from avianspec.data.splits import (
    GROUPS,
    SPLITS,
    audit_split,
    clip_folds,
    folds_of,
    grouped_folds,
    groups_of,
    hard_groups,
    set_aside_rare,
    sides_of,
    split_recordings,
    stated_groups,
    twin_share,
    validation_folds,
)


@st.composite
def tables(draw):
    n = draw(st.integers(24, 90))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    people, kinds = draw(st.integers(4, 12)), draw(st.integers(2, 5))
    return validate(
        pd.DataFrame(
            {
                "recording_id": [f"r{i}" for i in range(n)],
                "path": "x",
                "label": rng.integers(0, kinds, n).astype(str),
                "recordist": rng.integers(0, people, n).astype(str),
                "location": rng.integers(0, 2, n).astype(str),
                "date": "2020-01-01",
            }
        )
    )


@settings(max_examples=25, deadline=None)
@given(tables(), st.integers(0, 5), st.integers(2, 5))
def test_every_recording_is_tested_once_and_no_group_is_cut(table, seed, n_folds):
    split = split_recordings(table, n_folds, seed)
    assert list(split.recording_id) == list(table.recording_id)
    for by in GROUPS:
        groups, times = groups_of(table, by), np.zeros(len(table), dtype=int)
        assert 2 <= len(folds_of(split[by])) <= n_folds
        for fold in folds_of(split[by]):
            side = sides_of(split[by], fold)
            assert set(side) == {"train", "test"} and not set(groups[side == "test"]) & set(groups[side == "train"])
            times += side == "test"
        assert (times == 1).all()
    pd.testing.assert_frame_equal(split, split_recordings(table, n_folds, seed))
    audit = audit_split(table, split)
    assert (audit.twin_share[1:] == 0).all() and (audit.n_test == len(table)).all()


@settings(max_examples=10, deadline=None)
@given(tables(), st.integers(0, 5))
def test_a_quick_look_tests_one_part_of_three(table, seed):
    split = split_recordings(table, 1, seed)
    for by in GROUPS:
        assert folds_of(split[by]) == ["test"] and set(split[by]) == {"train", "test"}
        groups, test = groups_of(table, by), split[by] == "test"
        assert not set(groups[test]) & set(groups[~test])


def people(sizes, n_labels=3):
    "Labels and groups of people with so many recordings each, the labels in turn."
    groups = np.repeat(np.arange(len(sizes)), sizes)
    return np.arange(len(groups)) % n_labels, groups


def test_seeds_test_different_parts_and_the_largest_groups_too():
    labels, groups = people([20, 15, 10, 8, 6, 5, *[3] * 10, *[1] * 16])
    deals = [grouped_folds(labels, groups, 4, seed) for seed in range(20)]
    parts = {frozenset(np.flatnonzero(fold == k)) for fold in deals for k in range(4)}
    assert len(parts) >= 76  # of 80
    with_largest = {frozenset(groups[fold == fold[0]]) for fold in deals}
    assert len(with_largest) >= 18  # who shares a fold with the largest group changes with the seed
    for fold in deals:
        assert np.bincount(fold).max() <= 1.25 * len(labels) / 4  # the largest group alone is a fifth
        share = np.array([np.bincount(fold[labels == k], minlength=4) / (labels == k).sum() for k in range(3)])
        assert share.min() > 0.1 and share.max() < 0.45


def test_alike_groups_are_dealt_evenly():
    labels, groups = people([5] * 24, 5)  # each holds every label once
    fold = grouped_folds(labels, groups, 4, seed=3)
    assert np.bincount(fold).tolist() == [30] * 4


def test_labels_are_spread_though_nobody_recorded_two_of_them():
    """Eight people record each of three labels, five times each: two of the eight belong in each of four folds."""
    labels, groups = np.repeat(list("abc"), 40), np.arange(120) // 5
    away = []
    for seed in range(20):
        fold = grouped_folds(labels, groups, 4, seed)
        n_people = np.array([np.bincount(fold[labels == k], minlength=4) // 5 for k in "abc"])
        assert n_people.min() >= 1
        away.append(np.abs(n_people - 2).sum())
    assert np.mean(away) <= 2  # of up to 36; about 8 where only the sizes of folds are evened out


def test_recordings_that_are_groups_of_their_own_are_stratified_exactly():
    fold = grouped_folds(np.repeat(["a", "b"], [12, 30]), np.arange(42), 3, seed=1)
    assert np.bincount(fold[:12]).tolist() == [4] * 3 and np.bincount(fold[12:]).tolist() == [10] * 3
    deals = {tuple(grouped_folds(np.repeat(["a", "b"], [12, 30]), np.arange(42), 3, seed)) for seed in range(10)}
    assert len(deals) == 10  # of about 10 ** 16


def test_groups_that_no_deal_can_spread_are_named():
    table = pd.DataFrame(
        {
            "recording_id": [f"r{k}" for k in range(12)],
            "path": "x",
            "label": ["Owl"] * 2 + ["Tit"] * 10,
            "recordist": ["Ada"] * 2 + ["Bo"] * 6 + ["Cy", "Di", "Ed", "Fay"],
        }
    )
    hard = hard_groups(validate(table), "recordist", 3).set_index("group")
    assert set(hard.index) == {"Ada", "Bo"} and hard.labels.to_dict() == {"Ada": "Owl", "Bo": ""}
    assert hard.why["Bo"] == "holds 6 of 12 recordings, more than one fold in 3" and "without having" in hard.why["Ada"]
    assert (
        audit_split(validate(table), split_recordings(validate(table))).set_index("split").only_in_test["recordist"]
        == 1
    )


def test_groups_are_counted_where_they_are_tested():
    """Ann's recordings are learned from and never tested: of the three people, two are tested."""
    table = pd.DataFrame({"recording_id": list("abcdefgh"), "path": "x", "label": ["Owl", "Tit"] * 4})
    table = validate(table.assign(recordist=["Ann"] * 4 + ["Bo"] * 2 + ["Cy", "Di"]))
    sides = pd.DataFrame({"recording_id": list("abcdefgh"), "recordist": ["train"] * 4 + ["test"] * 3 + ["train"]})
    found = audit_split(table, sides).iloc[0]
    assert (found.n_groups, found.n_train, found.n_test, found.folds) == (2, 5, 3, 1)


def test_the_fold_after_the_tested_one_is_validated_on():
    column = ["1", "2", "3", "", "10"]
    assert folds_of(column) == ["1", "2", "3", "10"]
    assert list(sides_of(column, "1", validation=True)) == ["test", "validation", "train", "", "train"]
    assert list(sides_of(column, "10", validation=True)) == ["validation", "train", "train", "", "test"]
    assert list(sides_of(["1", "2"], "2", validation=True)) == ["train", "test"]  # of two none can be spared


def test_twins_are_counted_fold_by_fold():
    table = validate(
        pd.DataFrame(
            {
                "recording_id": list("abcd"),
                "path": "x",
                "label": "Wren",
                "recordist": "Ada",
                "location": "H",
                "date": "2020-05-01",
            }
        )
    )
    assert twin_share(table, ["1", "1", "2", ""]) == 1  # a and b have c, c has both; d is not in the split
    assert twin_share(table.assign(date=["1", "1", "2", "2"]), ["1", "1", "2", ""]) == 0


def test_clips_are_tested_once_and_tracks_stay_whole():
    tracks = pd.DataFrame({"recording_id": [f"t{k:02d}" for k in range(30)], "label": ["a", "b", "c"] * 10})
    clips = pd.DataFrame([dict(clip_id=f"{t}.{k}", recording_id=t) for t in tracks.recording_id for k in range(4)])
    split = clip_folds(clips, tracks, n_folds=5, seed=2)
    assert (
        split.groupby("recording_id").track.nunique().max() == 1
        and split.groupby("recording_id").clip.nunique().max() > 1
    )
    for way in SPLITS:
        assert (split.groupby("label")[way].value_counts() == 8).all()
        sides = [sides_of(split[way], fold, validation=True) for fold in folds_of(split[way])]
        for side in ("validation", "test"):
            assert (np.sum([s == side for s in sides], axis=0) == 1).all()


def test_clips_need_a_fold_to_validate_on():
    tracks = pd.DataFrame({"recording_id": list("abcdef"), "label": list("xyxyxy")})
    with pytest.raises(ValueError, match="at least 3 folds"):
        clip_folds(tracks.assign(clip_id=tracks.recording_id), tracks, n_folds=2)


def test_a_fold_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="has the folds 1, 2; got '3'"):
        sides_of(["1", "2", ""], "3")


@settings(max_examples=10, deadline=None)
@given(tables())
def test_validation_folds_never_cut_a_group(table):
    for held in validation_folds(table, "recordist"):
        assert not set(table.recordist[held]) & set(table.recordist[~held]) and held.any()


def test_twins_counted_by_hand():
    table = validate(
        pd.DataFrame(
            {
                "recording_id": list("abcd"),
                "path": "x",
                "label": ["Wren", "Wren", "Tit", "Tit"],
                "recordist": "Ada",
                "location": "Hill",
                "date": ["2020-05-01"] * 3 + ["2020-05-02"],
            }
        )
    )
    assert (
        twin_share(table, pd.Series(["train", "test", "train", "test"])) == 0.5
    )  # b has a twin in a; d was another day
    unknown = table.assign(recordist="")
    assert (
        twin_share(unknown, pd.Series(["train", "test", "train", "test"])) == 0
    )  # nothing says that two belong together


def test_too_few_labels_is_an_error_that_says_what_was_found():
    table = validate(
        pd.DataFrame({"recording_id": list("abcd"), "path": "x", "label": ["Wren", "Wren", "Wren", "Tit"]})
    )
    with pytest.raises(ValueError, match="at least two labels.*'Wren': 3"):
        set_aside_rare(table)


def test_as_many_recordings_as_are_needed_are_enough():
    labels = ["Wren"] * 3 + ["Tit"] * 4 + ["Owl"] * 2
    table = validate(pd.DataFrame({"recording_id": [f"r{k}" for k in range(9)], "path": "x", "label": labels}))
    kept, aside = set_aside_rare(table, 3)
    assert kept.label.value_counts().to_dict() == {"Tit": 4, "Wren": 3}
    assert aside.recording_id.tolist() == ["r7", "r8"] and set(aside.reason) == {"only 2 of Owl; 3 are needed"}


def test_recordings_of_few_people_are_held_apart_as_far_as_they_go():
    days = [f"2020-05-{d:02d}" for d in range(1, 11)]
    table = validate(
        pd.DataFrame(
            {
                "recording_id": [f"r{i:02d}" for i in range(40)],
                "path": "x",
                "label": ["Wren", "Tit"] * 20,
                "recordist": "Ada",
                "location": "Hill",
                "date": [d for d in days for _ in range(4)],
            }
        )
    )
    split = split_recordings(table)  # one recordist: the split by recordist is one by session
    test = (split.recordist == "1").to_numpy()
    assert test.any() and not set(table.date[test]) & set(table.date[~test])
    anonymous = split_recordings(table.assign(recordist="", date=""))
    assert anonymous.recordist.equals(anonymous.recording) and set(anonymous.recording) == {"1", "2", "3"}
    assert len(validation_folds(table[:12], n_folds=3)) <= 3


@settings(max_examples=10, deadline=None)
@given(tables(), st.integers(0, 5))
def test_a_stated_group_is_kept_whole_whoever_recorded_it(table, seed):
    clips = table.assign(group=[f"clip {k // 3}" for k in range(len(table))])
    split = split_recordings(clips, 3, seed)
    test = (split.recordist == "1").to_numpy()
    assert not set(clips.group[test]) & set(clips.group[~test]) and (stated_groups(clips) == clips.group).all()
    for part in validation_folds(clips):
        assert not set(clips.group[part]) & set(clips.group[~part])
    partly = clips.assign(group=clips.group.where(np.arange(len(clips)) % 2 == 0, ""))
    assert (stated_groups(partly)[1::2] == partly.recordist[1::2]).all()
