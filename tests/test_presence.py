"""When birds were there: by which clock, in how much recorded time, in how large a share of the windows."""

import struct
import warnings
from collections import Counter
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from avianspec.data.annotations import merged_spans
from avianspec.data.clocks import recorded_where
from avianspec.field.density import (
    COUNTS,
    METHODS,
    calibration_counts,
    call_density,
    held_out_counts,
    noted_windows,
)
from avianspec.field.detections import EventConfig
from avianspec.field.presence import (
    UNKNOWN,
    apply_prior,
    detection_times,
    plot_presence_calendar,
    presence_by,
    presence_cells,
    read_prior,
    recording_times,
)
from avianspec.learning.predictions import predictions_table

pytestmark = pytest.mark.usefixtures("close_figures")
COLUMNS = ["path", "start_s", "end_s", "label"]


def told(function, *args, **how):
    "What a function returns, and what it says."
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return function(*args, **how), [str(w.message) for w in caught]


def recorder(path, kind="", text="", seconds=1.0):
    "A WAV file of a recorder: with AudioMoth's comment, or GUANO."
    sf.write(path, np.full(int(8000 * seconds), 0.1), 8000)
    body = text.encode()
    if kind == "comment":
        body = b"INFOICMT" + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
    if kind:
        name = {"comment": b"LIST", "guano": b"guan"}[kind]
        with open(path, "ab") as f:
            f.write(name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2))
    return str(path)


def test_recorders_of_every_kind_say_when_and_where(tmp_path):
    moth = "by AudioMoth 24F31901603710A0 at medium gain while battery was 4.2V"
    files = {
        recorder(tmp_path / "old.wav", "comment", f"Recorded at 04:30:00 01/05/2024 {moth}"): ("04", False),
        recorder(tmp_path / "utc.wav", "comment", f"Recorded at 04:30:00 01/05/2024 (UTC) {moth}"): ("04", True),
        recorder(
            tmp_path / "new.wav",
            "comment",
            "Recorded at 04:30:00 01/05/2024 (UTC+2) during deployment 84F31901603710A0",
        ): ("04", True),
        recorder(tmp_path / "SMM01234_20240501_043000.wav"): ("04", False),
        recorder(
            tmp_path / "g.wav",
            "guano",
            "GUANO|Version: 1.0\nTimestamp: 2024-05-01T04:30:00+02:00\nLoc Position: 52.5 13.4\n",
        ): ("04", True),
        recorder(tmp_path / "memo.wav"): (UNKNOWN, False),
    }
    times, said = told(recording_times, files)
    found = pd.DataFrame([(path, 0.5, 1, "Wren") for path in files], columns=COLUMNS)
    assert detection_times(found, times).hour.tolist() == [hour for hour, _ in files.values()]
    assert times.zone_known.tolist() == [known for _, known in files.values()]
    assert said == [
        "1 of 6 recordings do not say when they were made (memo.wav).",
        "2 of 6 recordings state no time zone; give it: zone=... (old.wav, SMM01234_20240501_043000.wav).",
    ]
    assert times[["latitude", "longitude"]].dropna().values.tolist() == [[52.5, 13.4]]
    berlin, said = told(recording_times, files, "Europe/Berlin", "Europe/Berlin")
    assert len(said) == 1 and berlin.zone_known.tolist() == [True] * 5 + [False]
    assert detection_times(found, berlin).hour.tolist() == ["04", "06", "04", "04", "04", UNKNOWN]
    assert detection_times(found, berlin).time[1] == "2024-05-01T06:30:00.500000+02:00"


@pytest.mark.parametrize(
    "written, place",
    [
        ("52.4537 -1.25", (52.4537, -1.25)),
        ("-33.9,151.2", (-33.9, 151.2)),
        ("(50.1, 4)", (50.1, 4)),
        ("0.000000 0.000000", None),
        ("91 4", None),
        ("50 181", None),
        ("50.1", None),
        ("north", None),
        ("", None),
    ],
)
def test_places_of_guano(tmp_path, written, place):
    path = recorder(tmp_path / "a.wav", "guano", f"Loc Elevation: 3\nLoc Position: {written}\n")
    found = recorded_where(path)
    assert found == place if place else np.isnan(found).all()
    assert np.isnan(recorded_where(tmp_path / "none.wav")).all() and np.isnan(recorded_where(tmp_path)).all()


ZONES = ("UTC", "Europe/Berlin", "Asia/Kolkata")
SPANS = st.lists(st.tuples(st.integers(0, 7200), st.integers(1, 3000)), max_size=5)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 200_000), st.integers(60, 7200), SPANS), min_size=1, max_size=4),
    st.sampled_from(ZONES),
)
def test_hours_hold_what_a_count_of_every_second_holds(recordings, zone):
    "Around the night in which clocks go forward."
    first, facts, rows, recorded, heard = datetime(2024, 3, 30, tzinfo=ZoneInfo("UTC")), {}, [], Counter(), Counter()
    for k, (offset, length, spans) in enumerate(recordings):
        began = first + timedelta(seconds=offset)
        path = f"/r{k}_{began:%Y%m%dT%H%M%S}Z.wav"
        facts[path] = (length, 8000)
        rows += [(path, start, start + n, "Wren") for start, n in spans]
        covered = {s for start, n in spans for s in range(start, start + n) if s < length}
        for second in range(length):
            local = (began + timedelta(seconds=second)).astimezone(ZoneInfo(zone))
            key = f"{local:%Y-%m-%d}", f"{local:%H}"
            recorded[key] += 1
            heard[key] += second in covered
    table = pd.DataFrame(rows, columns=COLUMNS).astype({"path": str, "label": str})
    times, _ = told(recording_times, facts, "", zone)
    cells = presence_cells(table, facts, times, ["Wren"])
    keys = list(zip(cells.day, cells.hour, strict=True))
    assert cells.recorded_s.tolist() == [recorded[key] for key in keys] and set(keys) == set(recorded)
    assert cells.heard_s.tolist() == [heard[key] for key in keys]
    by_hour = presence_by(cells, "hour")
    assert by_hour.recorded_s.sum() == sum(recorded.values()) and by_hour.hour.is_unique
    inside = sum(start < facts[path][0] for path, start, _, _ in rows)
    assert cells.detections.sum() == presence_by(cells, "day").detections.sum() == inside


def test_two_channels_and_what_has_no_time_by_hand():
    facts = {"/20240501_235000.wav": (1200, 8000), "/memo.wav": (100, 8000)}
    rows = [(list(facts)[0], 300, 900, "Owl"), (list(facts)[0], 600, 1000, "Owl"), (list(facts)[1], 90, 120, "Owl")]
    found = pd.DataFrame(rows, columns=COLUMNS).assign(channel=[1, 2, 1])
    times, _ = told(recording_times, facts)
    cells = presence_cells(found, facts, times)
    assert cells.drop(columns="label").values.tolist() == [
        ["2024-05-01", "23", 600, 300, 1, 0.5],
        ["2024-05-02", "00", 600, 400, 1, pytest.approx(2 / 3)],
        [UNKNOWN, UNKNOWN, 100, 10, 1, 0.1],
    ]
    left, right = plot_presence_calendar(cells, "Owl")
    assert left.get_title() == "Owl (and 0 min at an unknown time)" and right.get_title().startswith(
        "recorded (and 2 min"
    )
    assert left.images[0].get_array()[0, 23] == 0.5 and right.images[0].get_array()[1, 0] == 10
    nowhere = cells[cells.day == UNKNOWN]
    assert plot_presence_calendar(nowhere, "Owl")[0].get_title() == "Owl (and 0 min at an unknown time)"


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), max_size=8))
def test_merged_spans_cover_the_same_time_once(spans):
    merged = merged_spans([s for s, _ in spans], [s + n for s, n in spans])
    covered = {k for s, n in spans for k in range(s, s + n)}
    assert {k for s, e in merged for k in range(s, e)} == covered and sum(e - s for s, e in merged) == len(covered)
    assert all(a[1] < b[0] for a, b in zip(merged, merged[1:], strict=False))


def test_a_prior_weighs_odds_and_leaves_what_is_not_known(tmp_path):
    text = "label;month;lat_low;lat_high;weight\nWren;5;;;4\nOwl;;50;60;0\nOwl;1;;;9\n"
    (tmp_path / "p.csv").write_text(text, encoding="utf-8")
    prior = read_prior(tmp_path / "p.csv")
    paths = ["/20240501_040000.wav", "/20240601_040000.wav", "/memo.wav"]
    times, _ = told(recording_times, paths)
    times["latitude"], times["longitude"] = [55.0, np.nan, 55.0], [0.0, np.nan, 0.0]
    rows = [(p, 0, 1, label, 0.5) for p in paths for label in ("Wren", "Owl", "Tit")]
    found = pd.DataFrame(rows, columns=[*COLUMNS, "score"])
    weighed = apply_prior(found, times, prior)
    assert weighed.score.tolist() == pytest.approx([0.8, 0, 0.5, 0.5, 0.5, 0.5, 0.5, 0, 0.5])
    assert weighed.unweighed_score.tolist() == [0.5] * 9
    edge = apply_prior(found.assign(score=[0, 1, np.nan] * 3), times, prior)
    assert edge.score[:2].tolist() == [0, 0] and np.isnan(edge.score[2])  # ruled out, however sure


@pytest.mark.parametrize(
    "text, why",
    [
        ("label,weight\nWren,-1\n", "line 2: weight is '-1'"),
        ("label,weight\nWren,\n", "line 2: weight is ''"),
        ("label,month,weight\nWren,5,1\nWren,May,1\n", "line 3: month is 'May'"),
        ("label,lat_low,weight\nWren,95,1\n", "lat_low is '95'; it lies between -90 and 90"),
        ("label,season,weight\nWren,5,1\n", "it needs label, weight"),
        ("species,weight\nWren,5\n", "it needs label, weight"),
    ],
)
def test_a_prior_that_cannot_be_names_its_line(tmp_path, text, why):
    (tmp_path / "p.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=why):
        read_prior(tmp_path / "p.csv")


def counted(*numbers, label="Wren"):
    return pd.DataFrame([dict(label=label, **dict(zip(COUNTS, numbers, strict=True)))])


def survey(noted, windows=100):
    paths = [f"/{k}.wav" for k in range(len(noted))]
    return pd.DataFrame({"label": "Wren", "path": paths, "windows": windows, "noted": noted})


def test_a_density_by_hand():
    row = call_density(survey([30] * 10), counted(20, 10, 20, 50)).iloc[0]
    assert (row.share, row.precision, row.recall) == (0.3, pytest.approx(2 / 3), 0.5)
    assert row.density == pytest.approx(0.4) and row.low < 0.4 < row.high and "independent" in row.remark
    other = call_density(survey([30] * 10), counted(20, 10, 20, 50), "rogan-gladen").iloc[0]
    assert other.density == pytest.approx((0.3 - 1 / 6) / (0.5 - 1 / 6))


def test_a_density_says_why_it_cannot_be():
    cases = [
        (survey([30] * 10), counted(0, 10, 20, 50), "precision", "no note of it was right"),
        (survey([30] * 10), counted(2, 50, 48, 0), "rogan-gladen", "no surer than chance"),
        (survey([30] * 10), counted(20, 10, 20, np.nan), "rogan-gladen", "needs true_negatives"),
        (survey([30] * 10), counted(20, 10, 20, 50, label="Owl"), "precision", "its mistakes were not counted"),
        (survey([30] * 5), counted(20, 10, 20, 50), "precision", "too few groups for an interval: 5"),
    ]
    for windows, counts, method, why in cases:
        row = call_density(windows, counts, method).iloc[0]
        assert why in row.remark and np.isnan(row.low) and np.isnan(row.high)
    with pytest.raises(ValueError, match="calibration of Wren has counts that are missing or below zero"):
        call_density(survey([30] * 10), counted(20, np.nan, 20, 50))
    with pytest.raises(ValueError, match="no method 'x'; there are: precision, rogan-gladen"):
        call_density(survey([30] * 10), counted(20, 10, 20, 50), "x")


@pytest.mark.parametrize("method", METHODS)
def test_intervals_of_a_density_hold_the_truth(method):
    "95 % of them would be 114 of 120 surveys; the counts of mistakes are drawn anew for each."
    rng, truth, held = np.random.default_rng(3), 0.3, 0
    for _ in range(120):
        common = rng.beta(3, 7, size=15)
        looked = rng.multinomial(150, [truth / 2, (1 - truth) / 6, truth / 2, (1 - truth) * 5 / 6])
        made = survey(rng.binomial(100, common * 0.5 + (1 - common) / 6))
        row = call_density(made, counted(*looked), method, n_draws=300).iloc[0]
        held += row.low <= truth <= row.high
    assert binomtest(held, 120, 0.93).pvalue > 0.001


def test_an_interval_grows_with_either_doubt():
    even, uneven = survey([30] * 20), survey([0, 60] * 10)
    few, many = counted(20, 10, 20, 50), counted(20_000, 10_000, 20_000, 50_000)
    width = {}
    for name, windows, counts in (("both", uneven, few), ("share", uneven, many), ("none", even, many)):
        row = call_density(windows, counts).iloc[0]
        width[name] = row.high - row.low
        assert row.density == pytest.approx(0.4)
    assert width["none"] < 0.02 < width["share"] < width["both"]
    groups = pd.concat([counted(20, 10, 20, 50)] * 4 + [counted(25, 5, 5, 65)] * 4)
    grouped = call_density(even, groups).iloc[0]
    assert grouped.remark == "" and grouped.high - grouped.low > width["none"]


def test_counts_from_a_table_of_thresholds():
    table = pd.DataFrame(
        [("Wren", 8, 0.5, 10, 0.6, 0.75)], columns="label windows threshold notes precision recall".split()
    )
    assert calibration_counts(table, 50)[COUNTS].values.tolist() == [[6, 4, 2, 38]]


@given(st.lists(st.tuples(st.integers(0, 95), st.integers(1, 40)), max_size=6), st.integers(1, 100))
def test_windows_are_noted_where_half_is_covered(spans, length):
    rows = [("/a.wav", start, start + n, "Wren") for start, n in spans]
    table = pd.DataFrame(rows, columns=COLUMNS).astype({"path": str, "label": str})
    row = noted_windows(table, {"/a.wav": (length, 8000)}, 4, ["Wren"]).iloc[0]
    covered = {k for start, n in spans for k in range(start, start + n) if k < length}
    windows = [range(s, s + 4) for s in range(0, length - 3, 4)] or [range(length)]
    assert row.windows == len(windows)
    assert row.noted == sum(2 * len(covered & set(w)) >= len(w) for w in windows)


def test_a_length_that_is_not_known_is_named():
    found = pd.DataFrame([("gone.wav", 0, 1, "Wren")], columns=COLUMNS)
    times, _ = told(recording_times, found.path)
    for function in (lambda: presence_cells(found, None, times), lambda: noted_windows(found, None)):
        with pytest.raises(ValueError, match=r"The length of .*gone.wav is not known \(1 such"):
            function()
    with pytest.raises(ValueError, match="No time was looked up for"):
        presence_cells(found, {"gone.wav": (1, 8000)}, times[:0])


def test_held_out_windows_count_mistakes():
    rng, classes = np.random.default_rng(0), ("Owl", "Wren")
    told = pd.DataFrame({"recording_id": [f"r{k % 12}" for k in range(240)]})
    told["label"] = np.where(told.recording_id.str[1:].astype(int) % 2, "Owl", "Wren")
    p = rng.dirichlet([1, 1], size=len(told))
    rows = predictions_table(told, classes, p, split="", fold="1")
    made = held_out_counts(rows, classes, EventConfig(0.4, {"Owl": 0.7}))
    assert len(made) == 24 and (made[COUNTS].sum(axis=1) == 20).all()
    for k, (label, least) in enumerate((("Owl", 0.7), ("Wren", 0.4))):
        noted, there = p[:, k] >= least, told.label == label
        total = made[made.label == label][COUNTS].sum().tolist()
        assert total == [(noted & there).sum(), (noted & ~there).sum(), (~noted & there).sum(), (~noted & ~there).sum()]
    assert set(held_out_counts(rows, classes, EventConfig(labels=["Wren"])).label) == {"Wren"}
    with pytest.raises(ValueError, match="3 neighbouring windows were pooled"):
        held_out_counts(rows, classes, EventConfig(smooth=3))
    survey = pd.DataFrame({"label": "Wren", "path": [f"{k}.wav" for k in range(9)], "windows": 50, "noted": 30})
    row = call_density(survey, made, "rogan-gladen").iloc[0]
    right, wrong, missed, quiet = made[made.label == "Wren"][COUNTS].sum()
    recall, alarms = right / (right + missed), wrong / (wrong + quiet)
    assert row.remark in ("", "no note of it was right, or notes are no surer than chance")
    if recall > alarms:
        assert row.density == pytest.approx(np.clip((0.6 - alarms) / (recall - alarms), 0, 1))
