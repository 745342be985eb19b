"""Scores of events: counted by hand, and equal to what sed_eval 0.2.1 gives for the same tables."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avianspec.scoring import events as ev
from avianspec.scoring.intervals import interval, paired_interval

COLUMNS = ["path", "start_s", "end_s", "label"]


def table(*rows):
    return pd.DataFrame(rows, columns=COLUMNS)


def total(counts):
    return counts[ev.COUNTS].sum().tolist()


MARKED = table(
    ("a", 0.36, 0.92, "y"),
    ("a", 0.43, 3.04, "y"),
    ("a", 2.29, 3.42, "y"),
    ("b", 3.07, 3.42, "x"),
    ("a", 3.27, 4.22, "x"),
    ("b", 4.12, 4.62, "y"),
    ("b", 6.44, 7.13, "x"),
    ("a", 6.46, 7.21, "x"),
)
FOUND = table(
    ("a", 0.461, 1.13, "y"),
    ("a", 0.021, 2.98, "y"),
    ("a", 2.041, 3.38, "y"),
    ("b", 2.751, 3.43, "x"),
    ("a", 3.261, 4.14, "x"),
    ("b", 3.861, 4.52, "y"),
    ("b", 6.171, 6.79, "x"),
    ("a", 6.521, 6.93, "x"),
    ("a", 0.461, 1.13, "x"),
    ("b", 2.751, 3.43, "x"),
)


def test_scores_are_those_of_sed_eval():
    "Overall F, precision, recall and class-wise average F; t_collar 0.2, percentage_of_length 0.5, segments of 1 s."
    scores = ev.event_scores(ev.event_counts(MARKED, FOUND, ["a", "b"])).value
    np.testing.assert_allclose(scores, [1 / 3, 0.3, 0.375, 0.325])
    scores = ev.event_scores(ev.segment_counts(MARKED, FOUND, ["a", "b"])).value
    np.testing.assert_allclose(scores, [0.7692307692307692, 0.7142857142857143, 0.8333333333333334, 0.7878787878787878])


def test_an_end_may_be_off_by_the_collar_or_half_of_the_mark():
    for start, end, late, hit in [
        (0.0, 0.2, 0.2, 1),  # short: the collar counts
        (0.0, 0.2, 0.21, 0),
        (0.0, 2.0, 1.0, 1),  # long: half of the mark
        (0.0, 2.0, 1.01, 0),
    ]:
        counts = ev.event_counts(table(("a", start, end, "x")), table(("a", start, end + late, "x")), ["a"])
        assert total(counts) == [hit, 1 - hit, 1 - hit]
    # half of the detection's length would let this one pass
    assert total(ev.event_counts(table(("a", 0, 1, "x")), table(("a", 0, 1.6, "x")), ["a"])) == [0, 1, 1]


def test_labels_and_recordings_do_not_mix_and_pairs_are_one_to_one():
    truth = table(("a", 1, 2, "x"))
    for found, wanted in [
        (table(("a", 1, 2, "y")), [0, 1, 1]),
        (table(("b", 1, 2, "x")), [0, 1, 1]),
        (table(("a", 1, 2, "x"), ("a", 1.1, 2, "x")), [1, 1, 0]),
        (table(("a", 1, 1.45, "x"), ("a", 1.5, 2, "x")), [0, 2, 1]),  # in two halves: no hit
        (table(), [0, 0, 1]),
    ]:
        assert total(ev.event_counts(truth, found, ["a", "b"])) == wanted


def test_as_many_pairs_as_can_be_whatever_the_order():
    truth, found = [[1.0, 2.0], [1.3, 2.3]], [[1.15, 2.1], [0.9, 2.0]]
    for a in (truth, truth[::-1]):
        for b in (found, found[::-1]):
            assert sorted(ev.match_events(a, b)) == [0, 1]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 0.6))
def test_counts_add_up_and_swapping_marks_and_detections_of_equal_length_swaps_them(seed, jitter):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 12))
    start = rng.uniform(0, 10, n)
    truth = pd.DataFrame(dict(path="a", start_s=start, end_s=start + 1, label=rng.choice(["x", "y"], n)))
    found = truth.assign(start_s=start + jitter, end_s=start + 1 + jitter)
    counts, back = (ev.event_counts(*pair, ["a"]) for pair in ((truth, found), (found, truth)))
    assert (counts.hits + counts.missed).sum() == n == (counts.hits + counts.false).sum()
    assert total(back) == total(counts)[:1] + total(counts)[:0:-1]
    assert counts.hits.sum() == n if jitter <= 0.2 else True


def test_segments_are_those_an_event_reaches_into():
    truth = table(("a", 0.9, 2.0, "x"))  # seconds 0 and 1
    assert total(ev.segment_counts(truth, table(("a", 1.0, 2.001, "x")), ["a"])) == [1, 1, 1]
    assert total(ev.segment_counts(truth, table(("a", 1.2, 1.3, "x"), ("a", 1.5, 1.6, "x")), ["a"])) == [1, 0, 1]
    assert total(ev.segment_counts(truth, table(), ["a"], segment_s=0.1)) == [0, 0, 11]


def test_an_interval_leaves_out_recordings_and_a_group_of_them():
    names = [str(k) for k in range(8)]
    truth = table(*((name, 0, 1, "x") for name in names))
    found = table(*((name, 0, 1, "x") for name in names[:6]))
    counts = ev.event_counts(truth, found, names)
    recall = ev.event_scores(counts).loc["recall"]
    assert recall.value == 6 / 8
    expected = interval([1.0] * 6 + [0.0] * 2, names)  # recall of one mark in each is the mean of hits
    np.testing.assert_allclose([recall.low, recall.high], [expected.low, expected.high])
    people = {name: name if name < "3" else "one person" for name in names}
    assert ev.event_scores(counts, people).remark["f1"] == "too few groups for an interval: 4, at least 6 are needed"
    better = ev.event_counts(truth, truth, names)
    difference = paired_interval(ev.event_score(counts), ev.event_score(better), ev.recording_groups(counts))
    assert difference.value == pytest.approx(1 - 12 / 14)


def test_a_recording_without_marks_counts_what_is_found_in_it():
    counts = ev.event_counts(table(), table(("quiet", 0, 1, "x")), ["quiet", "empty"])
    assert total(counts) == [0, 1, 0] and list(dict.fromkeys(counts.path)) == ["quiet", "empty"]
    with pytest.raises(ValueError, match="nothing to score"):
        ev.event_scores(ev.event_counts(table(), table(), ["quiet"]))


@pytest.mark.parametrize(
    "found, recordings, said",
    [
        (table(("z", 0, 1, "x")), ["a"], "name every recording"),
        (table(("a", 2, 1, "x")), ["a"], "end before they begin"),
        (table(("a", np.nan, 1, "x")), ["a"], "have no times"),
        (table()[["path", "label"]], ["a"], "need the column start_s, end_s"),
        (table(), ["a", "a"], "named twice"),
    ],
)
def test_tables_that_cannot_be_counted_are_refused_by_name(found, recordings, said):
    for counts in (ev.event_counts, ev.segment_counts):
        with pytest.raises(ValueError, match=said):
            counts(table(), found, recordings)


def test_a_score_of_no_name_is_refused():
    with pytest.raises(ValueError, match="one of f1, precision"):
        ev.event_score(ev.event_counts(MARKED, FOUND, ["a", "b"]), "f2")
