"""Label files that other programs open: each row comes back with its recording, its channel, and its microseconds."""

import csv
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from conftest import tone
from hypothesis import given, settings
from hypothesis import strategies as st

from avianspec.data.annotations import ANNOTATION, DETECTION, UNLABELLED, load_annotations
from avianspec.data.escaping import from_sheet, one_line
from avianspec.field.label_files import KINDS, label_file_names, raven_table, write_label_files, write_labels

MANY = [kind for kind in KINDS if kind != "audacity"]  # kinds that name their recordings
ODD = ["=SUM(A1)", "'=x", "''@x", "-3", "'-3", '"Tit"', '7" disc', '"', "a,b;c", "Käuzchen 鳥", "\\", "@", "+1 x", "'"]


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    "Five recordings of lengths that are no whole seconds and of different rates: {path: (length in s, rate)}."
    home, out = tmp_path_factory.mktemp("night"), {}
    kinds = [("a b.wav", 8000, 20_001, 2), ("sub/b.wav", 22_050, 33_333, 1), ("sub/b.flac", 44_100, 70_001, 2)]
    for name, sr, n, channels in [*kinds, ("Ü/c.wav", 11_025, 17_777, 1), ("z.wav", 16_000, 40_009, 2)]:
        (home / name).parent.mkdir(exist_ok=True)
        sf.write(home / name, np.full((n, channels), 0.1), sr)
        out[str(home / name)] = (n / sr, sr)
    return out


def read(path, **how):
    "A label file, and all that is said of it."
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", "unclosed <socket", ResourceWarning)  # that other tests left behind
        return load_annotations(path, **how), [str(w.message) for w in caught]


def same(read, written, columns):
    "Whether two tables are the same, times to a microsecond."
    written = written.sort_values(["path", "start_s", "end_s"], kind="stable", ignore_index=True)
    for name in columns:
        if name in ("start_s", "end_s"):
            assert np.abs(read[name] - written[name]).max() <= 1e-6 or read.empty, name
        else:
            pd.testing.assert_series_equal(read[name], written[name], check_dtype=name in ("channel", "path", "label"))
    assert list(read) == list(columns) and len(read) == len(written)


def some(draw, night, paths):
    "Rows inside recordings; frequencies below half the rate, or unknown."
    length, sr = night[path := draw(st.sampled_from(paths))]
    microseconds = int(length * 1e6)
    start = draw(st.integers(0, microseconds - 2))
    end = draw(st.integers(start + 1, microseconds))
    hertz = st.floats(0, sr / 2) | st.just(np.nan)
    label = one_line(draw(st.sampled_from(ODD) | st.text(max_size=12))) or UNLABELLED
    channel = draw(st.integers(1, sf.info(path).channels))
    score = draw(st.floats(0, 1) | st.just(np.nan))
    return path, start / 1e6, end / 1e6, draw(hertz), draw(hertz), label, channel, score


@st.composite
def tables(draw, night, one=False):
    paths = [draw(st.sampled_from(list(night)))] if one else list(night)
    rows = [some(draw, night, paths) for _ in range(draw(st.integers(0, 8)))]
    table = pd.DataFrame(rows, columns=DETECTION).astype({c: float for c in DETECTION[1:5]} | {"score": float})
    return table.astype({"path": str, "label": str, "channel": int})


@pytest.mark.parametrize("kind", MANY)
@settings(max_examples=25)
@given(data=st.data())
def test_what_is_written_is_read_with_channels_and_scores(night, kind, tmp_path_factory, data):
    table = data.draw(tables(night))
    given_lengths = data.draw(st.sampled_from([None, night, dict(reversed(night.items()))]))
    path = write_labels(table, tmp_path_factory.mktemp("out") / f"x{KINDS[kind]}", kind, given_lengths)
    again, said = read(path, detections=True)
    assert not said
    same(again, table, DETECTION)
    same(read(path)[0], table, ANNOTATION)


@settings(max_examples=25)
@given(data=st.data())
def test_an_audacity_track_is_read_as_the_same_marks(night, tmp_path_factory, data):
    table = data.draw(tables(night, one=True))
    only = table.path[0] if len(table) else list(night)[0]
    path = write_labels(table, tmp_path_factory.mktemp("out") / "x.txt", "audacity", {only: night[only]})
    again, said = read(path, audio=only)
    assert not said
    same(again, table, ANNOTATION)
    assert {line.count("\t") for line in path.read_text(encoding="utf-8").splitlines()} <= {2}  # no fourth column


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(data=st.data())
def test_a_file_for_every_recording_is_read_as_the_whole_table(night, kind, tmp_path_factory, data):
    table, folder = data.draw(tables(night)), tmp_path_factory.mktemp("out")
    files = write_label_files(table, folder, kind, night)
    assert list(files) == list(night) and len(set(files.values())) == 5 == len(list(folder.rglob("*.*")))
    parts = []
    for path, file in files.items():
        part, said = read(file, audio=Path(path).parent if kind == "audacity" else "")
        assert not said and set(part.path) <= {path}
        parts.append(part)
    again = pd.concat(parts, ignore_index=True).astype({c: float for c in ANNOTATION[1:5]})
    same(again.sort_values(["path", "start_s", "end_s"], kind="stable", ignore_index=True), table, ANNOTATION)


def small(folder):
    "Two recordings of 1.25 and 2 seconds, and three detections in them."
    paths = [str(folder / "b.wav"), str(folder / "a.wav")]
    rows = [
        (paths[0], 0.125, 1.0000004, 500.5, 3000, "Wren", 2, 0.9),
        (paths[1], 0.5, 1.5, np.nan, np.nan, "=1+1", 1, 0.25),
        (paths[1], 0.25, 2.5, np.nan, 9000, "Sedge\tWarbler\n", 1, np.nan),
    ]
    return pd.DataFrame(rows, columns=DETECTION), {paths[0]: (1.25, 8000), paths[1]: (2.0, 16_000)}


def test_raven_table_by_hand(tmp_path):
    table, lengths = small(tmp_path)
    text = write_labels(table, tmp_path / "x.txt", "raven", lengths).read_text(encoding="utf-8")
    head = "Selection View Channel Begin_Time_(s) End_Time_(s) Low_Freq_(Hz) High_Freq_(Hz) Begin_Path Begin_File "
    head += "File_Offset_(s) Species Score Filled_Low_(Hz) Filled_High_(Hz)"
    rows = [
        f"1|Spectrogram 1|2|0.125000|1.000000|500.5|3000.0|{tmp_path}/b.wav|b.wav|0.125000|Wren|0.9||",
        f"2|Spectrogram 1|1|1.500000|3.250000|0.0|8000.0|{tmp_path}/a.wav|a.wav|0.250000|Sedge Warbler||0.0|",
        f"3|Spectrogram 1|1|1.750000|2.750000|0.0|8000.0|{tmp_path}/a.wav|a.wav|0.500000|'=1+1|0.25|0.0|8000.0",
    ]
    expected = [head.replace(" ", "\t").replace("_", " "), *(row.replace("|", "\t") for row in rows)]
    assert text == "\n".join(expected) + "\n"


def test_audacity_track_by_hand(tmp_path):
    table, lengths = small(tmp_path)
    path = write_labels(table[1:], tmp_path / "x.txt", "audacity", {table.path[1]: lengths[table.path[1]]})
    assert path.read_text(encoding="utf-8") == (
        "0.250000\t2.000000\tSedge Warbler\n\\\t-1.000000\t8000.000000\n"
        "0.500000\t1.500000\t=1+1\n\\\t-1.000000\t-1.000000\n"
    )
    with pytest.raises(ValueError, match="these are of 2; write one file for each"):
        write_labels(table, tmp_path / "y.txt", "audacity", lengths)


def test_kaleidoscope_table_by_hand(tmp_path):
    table, lengths = small(tmp_path)
    text = write_labels(table, tmp_path / "x.csv", "kaleidoscope", lengths).read_text(encoding="utf-8")
    assert text == (
        "INDIR,FOLDER,IN FILE,CHANNEL,OFFSET,DURATION,Fmin,Fmax,TOP1MATCH,TOP1DIST,SCORE,MANUAL ID\n"
        f"{tmp_path},,b.wav,1,0.125000,0.875000,500.5,3000,Wren,0.1,0.9,\n"
        f"{tmp_path},,a.wav,0,0.250000,1.750000,,8000,Sedge Warbler,,,\n"
        f"{tmp_path},,a.wav,0,0.500000,1.000000,,,'=1+1,0.75,0.25,\n"
    )


def test_own_table_by_hand(tmp_path):
    table, lengths = small(tmp_path)
    write_labels(table.assign(review="-x"), tmp_path / "x.csv", "csv", lengths)
    rows = list(csv.reader((tmp_path / "x.csv").open(encoding="utf-8", newline="")))
    assert rows[0] == [*DETECTION, "review"]
    assert rows[1] == [f"{tmp_path}/b.wav", "0.125", "1.0", "500.5", "3000.0", "Wren", "2", "0.9", "'-x"]
    write_labels(table.assign(review="-x"), tmp_path / "x.parquet", "parquet", lengths)
    assert pd.read_parquet(tmp_path / "x.parquet").review.tolist() == ["-x"] * 3


def test_an_event_in_the_fifth_file_stands_where_raven_puts_it(night, tmp_path):
    "Summed in samples: each file of its own length, the ones in which nothing was found included."
    fifth = list(night)[4]
    found = pd.DataFrame([(fifth, 1.0, 1.5, np.nan, np.nan, "Owl", 2, 0.5)], columns=DETECTION)
    path = write_labels(found, tmp_path / "night.txt", "raven", night)
    row = pd.read_csv(path, sep="\t").iloc[0]
    before = 20_001 / 8000 + 33_333 / 22_050 + 70_001 / 44_100 + 17_777 / 11_025
    assert row["Begin Time (s)"] == pytest.approx(before + 1, abs=1e-6) and row["Channel"] == 2
    assert row["End Time (s)"] - row["Begin Time (s)"] == pytest.approx(0.5, abs=1e-9)
    assert (row["File Offset (s)"], row["Begin Path"]) == (1, fifth)
    again = load_annotations(path)
    assert again[["path", "start_s", "end_s"]].values.tolist() == [[fifth, 1.0, pytest.approx(1.5)]]
    alone = pd.read_csv(write_labels(found, tmp_path / "alone.txt", "raven"), sep="\t").iloc[0]
    assert alone["Begin Time (s)"] == 1


def test_rows_only_where_there_is_sound_and_bands_only_where_the_rate_has_them(night, tmp_path):
    path, (length, sr) = next(iter(night.items()))
    rows = [
        (path, length - 1, length + 2, 100, 20_000, "cut", 1, 0.5),
        (path, length, length + 1, 100, 200, "behind", 1, 0.5),
        (path, -0.5, 0.5, 9000, 9500, "before", 1, 0.5),
        (path, -2, -1, 100, 200, "long before", 1, 0.5),
    ]
    found = pd.DataFrame(rows, columns=DETECTION)
    for kind in KINDS:
        with pytest.warns(UserWarning, match="2 of 4 detections lie where their recording has no sound"):
            written = write_labels(found, tmp_path / f"x{KINDS[kind]}", kind)
        again, said = read(written, audio=path if kind == "audacity" else "")
        assert not said and again.label.tolist() == ["before", "cut"]
        assert again.start_s[0] == 0 and length - 1e-6 <= again.end_s[1] <= length
        assert again[["low_hz", "high_hz"]].values.tolist() == [[sr / 2, sr / 2], [100, sr / 2]]


def test_a_second_channel_is_channel_2_in_every_file_that_has_channels(night, tmp_path):
    stereo = list(night)[0]
    found = pd.DataFrame([(stereo, 0.5, 1, 100, 200, "Owl", 2, 0.5)], columns=DETECTION)
    for kind in MANY:
        path = write_labels(found, tmp_path / f"x{KINDS[kind]}", kind)
        assert load_annotations(path, detections=True).channel.tolist() == [2]
    assert pd.read_csv(tmp_path / "x.selections.txt", sep="\t").Channel.tolist() == [2]
    assert pd.read_csv(tmp_path / "x.kaleidoscope.csv").CHANNEL.tolist() == [1]  # counted from 0


def test_a_box_drawn_anew_in_raven_counts(night, tmp_path):
    path = list(night)[0]
    found = pd.DataFrame([(path, 0.5, 1, np.nan, np.nan, "Owl", 1, 0.5)], columns=DETECTION)
    table = write_labels(found, tmp_path / "x.txt", "raven")
    assert load_annotations(table)[["low_hz", "high_hz"]].isna().all(axis=None)
    text = table.read_text(encoding="utf-8").replace("\t0.0\t4000.0\t", "\t0.0\t3100.5\t")
    table.write_text(text, encoding="utf-8")
    again = load_annotations(table)
    assert np.isnan(again.low_hz[0]) and again.high_hz[0] == 3100.5


def test_a_label_of_a_person_goes_before_the_model_s(night, tmp_path):
    found = pd.DataFrame([(list(night)[0], 0.5, 1, 100, 200, "Owl", 1, 0.5)], columns=DETECTION)
    table = write_labels(found, tmp_path / "x.csv", "kaleidoscope")
    table.write_text(table.read_text(encoding="utf-8").rstrip("\n") + "Dog\n", encoding="utf-8")
    assert load_annotations(table).label.tolist() == ["Dog"]


def test_no_label_is_computed_by_a_spreadsheet(night, tmp_path):
    rows = [(list(night)[0], k / 10, k / 10 + 0.05, 1, 2, label, 1, 0.5) for k, label in enumerate(ODD)]
    found = pd.DataFrame(rows, columns=DETECTION)
    for kind, column, sep in (("raven", 10, "\t"), ("kaleidoscope", 8, ","), ("csv", 5, ",")):
        text = write_labels(found, tmp_path / "x", kind).read_text(encoding="utf-8")
        cells = [row[column] for row in csv.reader(text.splitlines(), delimiter=sep)][1:]
        assert not [c for c in cells if c[0] in "=+@" or (c[0] == "-" and not c[1:].isdigit())]
        assert [from_sheet(c) for c in cells] == ODD


def test_what_cannot_be_written_says_why_and_leaves_the_old_file(night, tmp_path):
    found = pd.DataFrame([("gone.wav", 0.5, 1, np.nan, np.nan, "Owl", 1, 0.5)], columns=DETECTION)
    old = tmp_path / "x.txt"
    old.write_text("old", encoding="utf-8")
    faults = [
        (found, "raven", None, "The rate of .*gone.wav is not known"),
        (pd.concat([found, found.assign(path="late.wav")]), "raven", None, "The length of .*gone.wav is not known"),
        (found.drop(columns="label"), "csv", None, "no column label"),
        (found.assign(end_s=np.nan), "csv", None, "Row 0 .*lasts from 0.5 to nan s"),
        (found.assign(channel=1.5), "csv", None, "in channel 1.5; channels are counted"),
        (found, "csv", night, "gone.wav, but it is not among the recordings"),
        (found, "excel", None, "no kind 'excel' of label file; there are: raven, audacity"),
    ]
    for table, kind, recordings, why in faults:
        with pytest.raises(ValueError, match=why):
            write_labels(table, old, kind, recordings)
    assert old.read_text(encoding="utf-8") == "old" and [p.name for p in tmp_path.iterdir()] == ["x.txt"]
    fine = write_labels(found, old, "raven", {"gone.wav": (2.0, 8000)})  # not here, but what is needed is known
    assert pd.read_csv(fine, sep="\t")["High Freq (Hz)"].tolist() == [4000]


def test_running_times_do_not_drift_over_a_season(tmp_path):
    "Ten thousand recordings of a third of a minute and a sample: the last begins where the samples say."
    length = (20 * 48_000 + 1) / 48_000
    facts = {f"/r{k:05d}.wav": (length, 48_000) for k in range(10_000)}
    rows = [("/r09999.wav", 0.25, 0.5, 1, 2, "Owl", 1, 0.5)]
    row = raven_table(pd.DataFrame(rows, columns=DETECTION), facts).iloc[0]
    assert float(row["Begin Time (s)"]) == pytest.approx(9999 * (20 * 48_000 + 1) / 48_000 + 0.25, abs=2e-6)


@given(st.lists(st.text("aA.ä /~-", min_size=1, max_size=6), min_size=1, max_size=8, unique=True))
def test_names_of_label_files_never_collide(names):
    paths = {str(Path("/home") / name.strip("/ ") / "x.wav") for name in names}
    paths = [p for p in paths if ".." not in p] + ["/home/" + "ä" * 120 + ".wav", "/home/" + "ä" * 121 + ".wav"]
    for kind in KINDS:
        made = label_file_names(paths, kind, "/home")
        assert len({str(name).casefold() for name in made.values()}) == len(set(map(str, map(Path, paths))))
        assert all(len(name.name.encode()) <= 240 and name.name.endswith(KINDS[kind]) for name in made.values())


def test_labels_cross_from_one_program_to_the_next(night, tmp_path):
    "Raven to Kaleidoscope to Parquet to CSV to Raven: the same file, to the byte."
    rows = [(p, 0.1, 0.9, 250.25, np.nan, label, 1, 0.123456789) for p in night for label in ODD]
    first = write_labels(pd.DataFrame(rows, columns=DETECTION), tmp_path / "0.selections.txt", "raven")
    at = first
    for k, kind in enumerate(["kaleidoscope", "parquet", "csv", "raven"], start=1):
        at = write_labels(load_annotations(at, detections=True), tmp_path / f"{k}{KINDS[kind]}", kind)
    assert at.read_bytes() == first.read_bytes()


def test_a_recording_without_a_header_that_can_be_read_is_written_all_the_same(tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    sf.write(tmp_path / "whole.wav", tone(1.5), 22_050)
    rows = [(str(tmp_path / name), 0.5, 1.0, 100, 200, "Owl", 1, 0.5) for name in ("broken.wav", "whole.wav")]
    found = pd.DataFrame(rows, columns=DETECTION)
    assert len(load_annotations(write_labels(found, tmp_path / "x.csv", "csv"))) == 2
    with pytest.raises(ValueError, match="The length of .*broken.wav"):
        write_labels(found, tmp_path / "x.txt", "raven")


def test_labels_of_real_soundscapes_go_through_every_kind(shared_data, tmp_path):
    sounds = shared_data / "soundscapes"
    marks = load_annotations(sounds / "labels_kaleidoscope.csv")
    assert len(marks) == 254
    for kind in MANY:
        again, said = read(write_labels(marks, tmp_path / f"x{KINDS[kind]}", kind))
        assert not said
        same(again, marks, ANNOTATION)
    files = write_label_files(marks, tmp_path / "each", "audacity")
    again = pd.concat([load_annotations(file, audio=path) for path, file in files.items()], ignore_index=True)
    same(again, marks, ANNOTATION)


def test_another_reader_of_raven_s_tables_reads_ours(night, tmp_path):
    crowsetta = pytest.importorskip("crowsetta", reason="pip install 'avianspec[annotations]'")
    rows = [
        (list(night)[1], 0.25, 0.5, 100, 2000.5, "Owl", 1, 0.5),
        (list(night)[1], 0.5, 1, np.nan, np.nan, "Wren", 1, 0.5),
    ]
    path = write_labels(pd.DataFrame(rows, columns=DETECTION), tmp_path / "x.txt", "raven")
    boxes = crowsetta.Transcriber(format="raven").from_file(path, annot_col="Species").to_bbox()
    shown = [(b.onset, b.offset, b.low_freq, b.high_freq, b.label) for b in boxes]
    assert shown == [(0.25, 0.5, 100, 2000.5, "Owl"), (0.5, 1, 0, 11_025, "Wren")]
