"""Comparisons: what may be said of one version beside another, and on which answers that rests."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from avianspec.learning.tasks import Task
from avianspec.scoring.comparison_table import (
    best_version,
    comparison_table,
    label_markdown,
    score_interval,
    validation_scores,
)

TASK = Task(("a", "b"))


def answers(version, n_right, seeds=(0,), split="track", part="test"):
    "Answers for forty tracks, each of a group of its own and of the label a; the first so many are right."
    tracks = [f"t{k:02d}" for k in range(40)]
    p = np.where(np.arange(40) < n_right, 0.8, 0.3)
    rows = dict(version=version, split=split, part=part, recording_id=tracks, item=tracks, group=tracks, label="a")
    rows = pd.DataFrame(rows | dict(predicted=np.where(p > 0.5, "a", "b"), p_0=p, p_1=1 - p))
    return pd.concat([rows.assign(seed=seed) for seed in seeds])


def compared(*parts, splits=("track",), to="old", families=None):
    "The table of some answers, each version compared with one of them."
    rows = pd.concat(parts, ignore_index=True)
    return comparison_table(rows, TASK, splits, dict.fromkeys(rows.version.unique(), to), families=families)


@pytest.mark.parametrize("n_seeds, says", [(1, "fewer than 3 repeats"), (2, "fewer than 3 repeats"), (3, None)])
def test_nothing_is_better_or_worse_on_fewer_than_three_repeats(n_seeds, says):
    seeds = range(n_seeds)
    table = compared(answers("old", 20, seeds), answers("good", 40, seeds), answers("bad", 0, seeds))
    assert table.difference[["good", "bad"]].tolist() == [0.5, -0.5]
    assert table.verdict[["good", "bad"]].tolist() == [says or "better", says or "worse"]


def test_a_difference_is_one_of_the_seeds_of_both():
    """The new version has a fourth seed, which went wrong: the three that both have differ by ten tracks of forty."""
    table = compared(answers("old", 20, range(3)), answers("new", 30, range(3)), answers("new", 0, [3]))
    assert table.value["new"] == pytest.approx(90 / 160) and table.n_seeds["new"] == 4
    assert table.difference["new"] == pytest.approx(10 / 40) and table.n_matched["new"] == 3


def test_a_gap_between_splits_is_one_of_the_seeds_of_both():
    by_track = [answers("old", 20, [0]), answers("old", 40, [1])]
    table = compared(*by_track, answers("old", 40, [0], split="clip"), splits=("track", "clip"))
    assert table["value"]["old"] == 0.75 and table["clip"]["old"] == 1 and table.gap["old"] == 0.5


def test_what_is_told_alone_is_not_told_as_one_of_twenty():
    """Seven tracks of forty more, t = 2.8: a p-value under 0.01 alone, and over 0.05 as the smallest of twenty."""
    seeds, old, new = range(3), answers("old", 20, range(3)), answers("new", 27, range(3))
    others = [answers(f"as old {k}", 20, seeds) for k in range(19)]
    alone, many = compared(old, new), compared(old, new, *others)
    p = {len(table): table.p_holm["new"] for table in (alone, many)}
    assert p[2] < 0.01 and p[21] > 0.05 and p[21] == pytest.approx(20 * p[2])
    assert alone.verdict["new"] == "better" and many.verdict["new"] == "cannot be told"
    assert many.difference_low["new"] < 0 < alone.difference_low["new"]
    apart = compared(old, new, *others, families=dict(old="family", new="family"))  # a table of its own
    told = ["difference_low", "difference_high", "p_holm", "verdict"]
    assert apart.loc["new", told].tolist() == alone.loc["new", told].tolist()
    assert apart.p_holm["as old 0"] == many.p_holm["as old 0"] == 1


def test_a_gap_told_alone_is_not_told_as_one_of_twenty():
    wide = [answers("old", 20), answers("old", 27, split="clip")]
    others = [answers(f"as {k}", 20, split=split) for k in range(19) for split in ("track", "clip")]
    alone, many = (compared(*parts, splits=("track", "clip")) for parts in (wide, [*wide, *others]))
    assert alone.gap["old"] == many.gap["old"] == pytest.approx(7 / 40)
    assert many.gap_low["old"] < 0 < alone.gap_low["old"]


def turned(rows, step):
    "The same answers for other tracks at each seed: every seed says the same of as many tracks, of each of others."
    names = sorted(rows["item"].unique())
    after = {seed: dict(zip(names, np.roll(names, step * seed), strict=True)) for seed in rows.seed.unique()}
    moved = [after[seed][name] for seed, name in zip(rows.seed, rows["item"], strict=True)]
    return rows.assign(recording_id=moved, item=moved, group=moved)


def test_tracks_made_anew_for_every_deal_are_no_further_witnesses():
    """Of forty tracks twenty are right, and thirty of another version: at each of three seeds others, but as many."""
    both = [turned(answers(name, n, range(3)), 13) for name, n in (("old", 20), ("new", 30))]
    rows, against = pd.concat(both, ignore_index=True), dict(new="old")
    anew = comparison_table(rows, TASK, ("track",), against, anew=True)
    once = comparison_table(rows[rows.seed == 1], TASK, ("track",), against)
    told = ["value", "low", "high", "difference", "difference_low", "difference_high"]
    np.testing.assert_allclose(anew[told].astype(float), once[told].astype(float))
    assert anew.verdict["new"] == "better" and once.verdict["new"] == "fewer than 3 repeats"
    names = comparison_table(rows, TASK, ("track",), against)  # as if they were the same tracks
    assert (names.high - names.low < 0.7 * (anew.high - anew.low)).all()
    few = rows[rows.group.isin([f"t{k:02d}" for k in range(5)])]
    refused = comparison_table(few, TASK, ("track",), against, anew=True)
    assert "too few groups" in score_interval(few, TASK, True).remark and not score_interval(rows, TASK, True).remark
    assert "too few groups" in refused.verdict["new"] and refused.low.isna().all() and refused.value.notna().all()


def test_the_best_and_its_rivals_are_chosen_where_they_were_validated():
    """The version that is better on the test part is the worse one on the part validated on."""
    rows = [answers("shy", 10), answers("bold", 40)]
    rows += [answers("shy", 30, part="validation"), answers("bold", 20, part="validation")]
    rows.append(answers("bold", 40, part="validation", split="clip"))
    assert validation_scores(pd.concat(rows), TASK, "track") == dict(shy=0.75, bold=0.5)
    table = compared(*rows, splits=("track", "clip"), to="shy")
    assert table["value"].to_dict() == dict(bold=1.0, shy=0.25)  # answers of the test part alone
    assert table.validation.to_dict() == dict(bold=0.5, shy=0.75) and table.difference["bold"] == 0.75
    assert best_version([table], [SimpleNamespace(name=name) for name in ("bold", "shy")]) == "shy"


def test_labels_are_counted_one_by_one_over_all_repeats():
    half = answers("s-new", 30, range(2))
    half.loc[half["item"].isin([f"t{k:02d}" for k in range(10)]), "label"] = "b|c"  # rightly named a before
    half.loc[half.group.isin(["t10", "t11"]), "group"] = "one"
    others = [answers("s-new", 0, part="validation"), answers("s-new", 0, split="clip"), answers("s-old", 40)]
    page = label_markdown(pd.concat([half, *others]), "track", ["s-new"], "s-").splitlines()
    assert page[0] == "| label | recordings | groups | new |"
    assert page[2:] == ["| a | 30 | 29 | 0.67 |", "| b\\|c | 10 | 10 | 0.00 |"]  # 20 of 30
