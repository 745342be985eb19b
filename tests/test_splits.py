"""Splits that keep groups whole, twins counted, too few refused."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avianspec.data.recordings import validate
from avianspec.data.splits import (
    GROUPS,
    audit_split,
    groups_of,
    set_aside_rare,
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
@given(tables(), st.integers(0, 5))
def test_splits_never_cut_a_group(table, seed):
    split = split_recordings(table, 1 / 3, seed)
    assert list(split.recording_id) == list(table.recording_id)
    for by in GROUPS:
        test = (split[by] == "test").to_numpy()
        groups = groups_of(table, by)
        assert 0 < test.sum() < len(table)
        assert not set(groups[test]) & set(groups[~test])
    pd.testing.assert_frame_equal(split, split_recordings(table, 1 / 3, seed))
    assert (audit_split(table, split).twin_share[1:] == 0).all()


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
                "date": ["1", "1", "1", "2"],
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
    test = (split.recordist == "test").to_numpy()
    assert test.any() and not set(table.date[test]) & set(table.date[~test])
    anonymous = split_recordings(table.assign(recordist="", date=""))
    assert anonymous.recordist.equals(anonymous.recording) and (anonymous.recording == "test").any()
    assert len(validation_folds(table[:12], n_folds=3)) <= 3


@settings(max_examples=10, deadline=None)
@given(tables(), st.integers(0, 5))
def test_a_stated_group_is_kept_whole_whoever_recorded_it(table, seed):
    clips = table.assign(group=[f"clip {k // 3}" for k in range(len(table))])
    split = split_recordings(clips, 1 / 3, seed)
    test = (split.recordist == "test").to_numpy()
    assert not set(clips.group[test]) & set(clips.group[~test]) and (stated_groups(clips) == clips.group).all()
    for part in validation_folds(clips):
        assert not set(clips.group[part]) & set(clips.group[~part])
    partly = clips.assign(group=clips.group.where(np.arange(len(clips)) % 2 == 0, ""))
    assert (stated_groups(partly)[1::2] == partly.recordist[1::2]).all()
