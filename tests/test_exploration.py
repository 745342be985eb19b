"""Exploration: counts and their pictures against pandas and arithmetic."""

import json

import matplotlib
import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from conftest import sweep

matplotlib.use("agg")
from notebook_job import run_job

from avianspec.data import exploration as ex
from avianspec.data.recordings import validate
from avianspec.files import read_json, write_table

SR = 22050


pytestmark = pytest.mark.usefixtures("close_figures")


@pytest.mark.parametrize("shift", [0.0, 1e6])
def test_aggregate_statistics_equal_those_of_all_values_together(shift):
    rng = np.random.default_rng(0)
    parts = [rng.normal(shift + k, 1 + k, (10 * k + 1, 7)) for k in range(5)]
    found = ex.aggregate_statistics(p for p in parts)
    together = np.concatenate([p.ravel() for p in parts])
    assert found["count"] == together.size
    assert found["mean"] == pytest.approx(together.mean(), rel=1e-12) and found["std"] == pytest.approx(
        together.std(), rel=1e-9
    )


def recordings(**columns):
    n = len(next(iter(columns.values())))
    base = {
        "recording_id": [f"r{i}" for i in range(n)],
        "label": ["wren"] * n,
        "path": [f"r{i}.wav" for i in range(n)],
    }
    return validate(pd.DataFrame(base | columns))


def test_species_table_counts_by_hand():
    table = recordings(
        label=["wren", "owl", "wren", "wren"], recordist=["Ann", "", "Bo", "Ann"], duration_s=[30, 6, np.nan, 90]
    )
    counted = ex.species_table(table)
    assert counted.recordings.to_dict() == {"owl": 1, "wren": 3}
    assert counted.minutes.to_dict() == {"owl": 0.1, "wren": 2.0}
    assert counted.recordists.to_dict() == {"owl": 0, "wren": 2}


def test_bars_are_sorted_with_the_largest_on_top():
    ax = ex.plot_per_species(pd.Series({"a": 1, "b": 3, "c": 2}), "recordings")
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "c", "b"]


def test_unknown_durations_times_dates_and_places_are_left_out():
    table = recordings(
        duration_s=[np.nan, 3, 4],
        time=["?", "06:30", ""],
        date=["", "2020-00-00", "2020-05-17"],
        latitude=[np.nan, 1, 2],
        longitude=[5, np.nan, 3],
    )
    assert sum(b.get_height() for b in ex.plot_durations(table).patches) == 2
    hours, months = ex.plot_calendar(table)
    assert [b.get_height() for b in hours.patches][6] == 1 and sum(b.get_height() for b in hours.patches) == 1
    assert [b.get_height() for b in months.patches][4] == 1 and sum(b.get_height() for b in months.patches) == 1
    assert "1 of 3" in ex.plot_map(table).get_title()


def test_nothing_known_still_draws():
    table = recordings(duration_s=[np.nan, np.nan])
    ex.plot_durations(table), ex.plot_calendar(table)
    assert "0 of 2" in ex.plot_map(table).get_title()
    assert ex.summarise(table)["duration_quantiles_s"] == {} and ex.summarise(table)["minutes"] == 0


def test_examples_show_new_species_first_and_start_with_the_first():
    table = recordings(label=["a"] * 5 + ["b"] * 3 + ["c"])
    for seed in range(5):
        rows = ex.choose_examples(table, seed)
        assert rows.recording_id.iloc[0] == "r0" and set(rows.label.iloc[:3]) == {"a", "b", "c"}
        assert sorted(rows.recording_id) == sorted(table.recording_id)


def test_the_job_passes_over_a_broken_file_and_keeps_the_figures(tmp_path, capsys):
    rows = []
    for i, species in enumerate(["owl", "owl", "tit", "wren"]):
        sf.write(tmp_path / f"r{i}.wav", sweep(0.5 + 0.5 * i), SR)
        rows.append({"recording_id": f"r{i}", "label": species, "path": f"r{i}.wav", "duration_s": 0.5 + 0.5 * i})
    (tmp_path / "r2.wav").write_text("not a sound")
    write_table(tmp_path / "recordings.csv", pd.DataFrame(rows))
    run_job("data/exploration", run_dir=str(tmp_path), display=lambda *things: None)
    assert "passed over: r2" in capsys.readouterr().out
    facts = read_json(tmp_path / "exploration.json")
    assert facts["minutes_per_species"] == {"owl": 0.025, "tit": 0.025, "wren": round(2 / 60, 6)}
    assert facts["n_recordings"] == 4 and facts["duration_quantiles_s"]["0.5"] == 1.25 and "r2" not in facts["sample"]
    frames = sum(1 + int((0.5 + 0.5 * int(name[1:])) * SR) // 512 for name in facts["sample"])
    assert facts["sample_statistics"]["log_power"]["count"] == frames * 128
    assert facts["sample_statistics"]["mfcc"]["count"] == frames * 20
    assert json.loads((tmp_path / "exploration.json").read_text()) == facts
