"""Room exploration: pictures and counts against librosa, pandas and arithmetic."""

import io
import json

import librosa
import matplotlib
import numpy as np
import pandas as pd
import pytest
import soundfile as sf

matplotlib.use("agg")
import matplotlib.pyplot as plt

from avianspec.data import exploration as ex
from avianspec.sound.audio import Audio
from avianspec.files import read_json, write_table
from avianspec.data.recordings import validate
from notebook_job import run_job

SR = 22050


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def sweep(seconds=1.5, sr=SR):
    t = np.arange(int(seconds * sr)) / sr
    return (0.4 * np.sin(2 * np.pi * (1000 * t + 900 * t**2))).astype(np.float32)


def test_mono_is_the_mean_of_the_channels_at_the_wanted_rate():
    y = sweep(sr=44100)
    ours = ex.mono(Audio(np.column_stack([y, 0.5 * y]), 44100))
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, librosa.resample(0.75 * y, orig_sr=44100, target_sr=SR), atol=1e-6)


def test_reference_features_are_librosa_turned_to_time_first():
    y = sweep()
    f = ex.reference_features(y)
    power = librosa.feature.melspectrogram(y=y, sr=SR)
    np.testing.assert_array_equal(f["power"], power.T)
    np.testing.assert_allclose(
        f["log_power"], librosa.power_to_db(power, top_db=None).T * np.log(10) / 10, rtol=1e-5, atol=1e-5
    )
    np.testing.assert_array_equal(f["mfcc"], librosa.feature.mfcc(y=y, sr=SR, n_mfcc=20).T)


@pytest.mark.parametrize("hertz", [300, 1000, 4000, 8000])
@pytest.mark.parametrize("fmin, fmax", [(0, None), (150, 10000)])
def test_kilohertz_ticks_lie_on_the_bands_that_a_tone_lights(hertz, fmin, fmax):
    tone = np.sin(2 * np.pi * hertz * np.arange(SR) / SR).astype(np.float32)
    lit = librosa.feature.melspectrogram(y=tone, sr=SR, fmin=fmin, fmax=fmax)[:, 20].argmax()
    ax = ex.plot_spectrogram(np.zeros((44, 128)), fmin=fmin, fmax=fmax)
    known = [float(t.get_text()) * 1000 for t in ax.get_yticklabels()]
    assert (
        abs(np.interp(hertz, known, ax.get_yticks()) - (lit + 0.5)) < 3.5
    )  # between ticks the scale is only nearly linear
    if hertz in known:
        assert abs(ax.get_yticks()[known.index(hertz)] - (lit + 0.5)) <= 1


def test_spectrogram_draws_time_to_the_right_and_seconds_below():
    S = np.zeros((100, 128))
    S[70:, 5] = 1
    ax = ex.plot_spectrogram(S, sr=SR, hop_length=512)
    drawn = ax.images[0].get_array()
    assert drawn.shape == (128, 100) and drawn[5, 70] == 1 and drawn[5, 69] == 0
    assert ax.get_xlim()[1] == pytest.approx(100 * 512 / SR) and ax.images[0].origin == "lower"


def test_spectrogram_refuses_a_batch():
    with pytest.raises(ValueError, match=r"\(4, 100, 128\)"):
        ex.plot_spectrogram(np.zeros((4, 100, 128)))


@pytest.mark.filterwarnings("ignore:n_fft=2048 is too large")
@pytest.mark.parametrize("y", [sweep()[:600], np.zeros(SR, np.float32)], ids=["27 ms", "silence"])
def test_a_sheet_can_be_drawn_of_the_shortest_clip_and_of_silence(y):
    fig = ex.plot_recording(y, title="short")
    fig.canvas.draw()
    assert fig.get_suptitle() == "short" and len(fig.axes) >= 8


def test_player_carries_the_excerpt_asked_for():
    y = np.concatenate([np.zeros(2 * SR, np.float32), sweep(2.0)])
    widget = ex.player(y, offset_s=2.0, max_s=1.0)
    decoded, sr = sf.read(io.BytesIO(widget.data))
    assert sr == SR and len(decoded) / sr == pytest.approx(1, abs=0.1) and np.abs(decoded).max() > 0.2
    assert "audio/mpeg" in widget._repr_html_() and len(widget.data) < 30_000


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
