"""Marks of Raven, Audacity and Kaleidoscope: none lost, none turned into a negative, each with its own recording."""

import csv
import io
import sys
import unicodedata
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st

from avianspec.data.annotations import (
    UNLABELLED,
    join_annotations,
    labelled_windows,
    load_annotations,
    recording_lengths,
)
from avianspec.sound.audio import header_duration_s

RAVEN = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)"


def told(path, *args, **how):
    "Annotations of a file, and all that a warning says."
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        marks = load_annotations(path, *args, **how)
    return marks, " ".join(str(w.message) for w in caught)


def spans(marks):
    return marks[["start_s", "end_s", "label"]].values.tolist()


def test_soundscapes_become_windows_with_negatives(shared_data):
    marks = load_annotations(shared_data / "soundscapes" / "labels_kaleidoscope.csv")
    assert (
        len(marks) == 254
        and marks.path.nunique() == 11
        and all(Path(p).exists() for p in marks.path)
        and set(marks.label) == {"bird"}
    )
    durations = {p: header_duration_s(p) for p in marks.path.unique()}
    windows = labelled_windows(marks, durations, window_s=1, hop_s=1)
    assert (windows.label == "").sum() > 20 and (windows.label == "bird").sum() > 200
    for row in windows.sample(60, random_state=0).itertuples():  # counted once more, the slow way
        overlaps = [
            min(row.end_s, m.end_s) - max(row.start_s, m.start_s) for m in marks[marks.path == row.path].itertuples()
        ]
        assert (max(overlaps) <= 0) == (row.label == "")


def test_times_of_annotations_by_hand(tmp_path):
    head = "Selection\tView\tBegin Time (s)\tEnd Time (s)\tFile Offset (s)\tBegin File\tSpecies\n"
    rows = "1\tSpectrogram 1\t61.5\t63\t1.5\tb.wav\tWren\n2\tSpectrogram 1\t2\t4\t\ta.wav\tTit\n"
    (tmp_path / "raven.txt").write_text(head + rows)  # the second file of a list: its times begin again
    (tmp_path / "kaleidoscope.csv").write_text("IN FILE,OFFSET,DURATION,MANUAL ID\na.wav,2,1.5,Tit\nb.wav,1,0.5,Wren\n")
    (tmp_path / "audacity.txt").write_text("2.0\t3.5\tTit\n\\\t1000\t4000\n")
    raven, kaleidoscope, audacity = (
        load_annotations(tmp_path / name) for name in ("raven.txt", "kaleidoscope.csv", "audacity.txt")
    )
    assert raven[["label", "start_s", "end_s"]].values.tolist() == [["Tit", 2, 4], ["Wren", 1.5, 3]]
    assert kaleidoscope[["label", "start_s", "end_s"]].values.tolist() == [["Tit", 2, 3.5], ["Wren", 1, 1.5]]
    assert audacity[["label", "start_s", "end_s", "low_hz", "high_hz"]].values.tolist() == [["Tit", 2, 3.5, 1000, 4000]]


def test_windows_of_marks_by_hand():
    marks = pd.DataFrame(
        [("a", 0.5, 1.5, "Tit"), ("a", 2.9, 4.0, "Wren"), ("a", 6.0, 6.1, "Owl")],
        columns=["path", "start_s", "end_s", "label"],
    )
    windows = labelled_windows(marks, {"a": 9.0, "b": 3.0, "c": 2.0}, window_s=3, hop_s=3)
    assert windows.values.tolist() == [
        ["a", 0.0, 3.0, "Tit"],  # a tenth of a second of the wren is too little to name it
        ["a", 3.0, 6.0, "Wren"],
        ["a", 6.0, 9.0, "Owl"],  # shorter than a quarter of a second, but all of it
        ["b", 0.0, 3.0, ""],
        ["c", 0.0, 2.0, ""],
    ]
    touched = labelled_windows(marks.iloc[1:2], {"a": 6.0}, window_s=3, hop_s=3)
    assert touched.values.tolist() == [["a", 3.0, 6.0, "Wren"]]  # the first is touched: neither a wren nor empty


def test_annotations_that_cannot_be_read_say_why(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("hello world\n")
    with pytest.raises(ValueError, match="no annotation of Raven, Audacity or Kaleidoscope"):
        load_annotations(tmp_path / "a.txt")
    (tmp_path / "b.txt").write_text("Selection\tBegin Time (s)\n1\t2\n")
    with pytest.raises(ValueError, match=r"b.txt has no column End Time .*of Raven.*it has: Selection, Begin Time"):
        load_annotations(tmp_path / "b.txt")
    (tmp_path / "c.csv").write_text("IN FILE,OFFSET\na.wav,2\n")
    with pytest.raises(ValueError, match=r"c.csv has no column DURATION.*of Kaleidoscope.*it has: IN FILE, OFFSET"):
        load_annotations(tmp_path / "c.csv")
    (tmp_path / "d.txt").write_text("Begin Time (s)\tEnd Time (s)\tSpecies\n1\t2\tTit\n")
    with pytest.raises(ValueError, match="d.txt has no column Art; it has: Begin Time"):
        load_annotations(tmp_path / "d.txt", label_column="Art")
    with pytest.raises(FileNotFoundError, match="nowhere.txt does not exist"):
        load_annotations(tmp_path / "nowhere.txt")
    (tmp_path / "empty.txt").write_text("")
    assert load_annotations(tmp_path / "empty.txt").empty  # listened to, nothing marked
    monkeypatch.setitem(sys.modules, "crowsetta", None)
    (tmp_path / "d.TextGrid").write_text('File type = "ooTextFile"\n')
    with pytest.raises(RuntimeError, match=r"pip install 'avianspec\[annotations\]'"):
        load_annotations(tmp_path / "d.TextGrid")


def test_crowsetta_reads_other_formats(tmp_path):
    pytest.importorskip("crowsetta", reason="crowsetta is an optional extra: pip install 'avianspec[annotations]'")
    pd.DataFrame({"onset_s": [0.5, 2.0], "offset_s": [1.0, 2.5], "label": ["a", "b"]}).to_csv(
        tmp_path / "bird.csv", index=False
    )
    marks = load_annotations(tmp_path / "bird.csv", kind="simple-seq")
    assert (
        marks.start_s.tolist() == [0.5, 2.0]
        and marks.end_s.tolist() == [1.0, 2.5]
        and marks.label.tolist() == ["a", "b"]
    )


def test_every_selection_is_there_once(tmp_path):
    "Numbers begin again in each file; a selection has a row for every view."
    head = RAVEN + "\tBegin File\tFile Offset (s)\tSpecies\n"
    rows = []
    for file, species in (("a.wav", "Tit"), ("b.wav", "Wren")):
        for number in (1, 2):
            for view in ("Waveform 1", "Spectrogram 1"):
                times = f"{number}.0\t{number}.5\t{0 if view[0] == 'W' else 500}\t3000"
                rows.append(f"{number}\t{view}\t1\t{times}\t{file}\t{number}.0\t{species}\n")
    for name, order in (("view", rows), ("sorted", sorted(rows, key=lambda r: r.split("\t")[1]))):
        (tmp_path / f"{name}.txt").write_text(head + "".join(order))
        marks, said = told(tmp_path / f"{name}.txt")
        assert [Path(p).name for p in marks.path] == ["a.wav", "a.wav", "b.wav", "b.wav"] and not said
        assert spans(marks) == [[1, 1.5, "Tit"], [2, 2.5, "Tit"], [1, 1.5, "Wren"], [2, 2.5, "Wren"]]
        assert marks.low_hz.tolist() == [500] * 4  # of its views the spectrogram


def test_selections_of_joined_tables_without_file_names_are_all_kept(tmp_path):
    "Two tables joined by hand: the second begins again with 1, at the same or at other times."
    row = "1\tSpectrogram 1\t1\t{}\t500\t3000\t{}\n"
    rows = row.format("0\t3", "Tit") + row.format("0\t3", "Wren") + row.format("4\t5", "Owl")
    (tmp_path / "a.txt").write_text(RAVEN + "\tSpecies\n" + rows + row.format("6\t7", "Tit").replace("Spec", "Wave"))
    assert spans(load_annotations(tmp_path / "a.txt")) == [[0, 3, "Tit"], [0, 3, "Wren"], [4, 5, "Owl"], [6, 7, "Tit"]]


@pytest.mark.parametrize(
    "columns, cells, label",
    [
        ("AUTO ID,TOP1MATCH,MANUAL ID", "Wren,cluster3,Tit", "Tit"),
        ("AUTO ID,TOP1MATCH,MANUAL ID", "Wren,cluster3,", "Wren"),
        ("AUTO ID,TOP1MATCH,MANUAL ID", ", cluster3, ", "cluster3"),
        ("AUTO ID,TOP1MATCH,MANUAL ID", ",,", UNLABELLED),
        ("TOP1MATCH,TOP1DIST,MANUAL ID", "cluster3,0.5,", "cluster3"),
        ("AUTO ID*,MANUAL ID*", "Wren,", "Wren"),
        ("manual id", "Tit", "Tit"),
        ("CHANNEL", "0", UNLABELLED),
    ],
)
def test_a_label_is_sought_row_by_row(tmp_path, columns, cells, label):
    every = ",".join("Robin" for _ in columns.split(","))
    text = f"IN FILE,OFFSET,DURATION,{columns}\nrec.wav,1,2,{cells}\nrec.wav,5,1,{every}\n"
    (tmp_path / "k.csv").write_text(text)
    marks, said = told(tmp_path / "k.csv")
    assert spans(marks) == [[1, 3, label], [5, 6, UNLABELLED if columns == "CHANNEL" else "Robin"]]
    assert ("no column MANUAL ID, AUTO ID, TOP1MATCH" in said) == (columns == "CHANNEL")


def test_the_column_that_is_meant_is_the_only_one(tmp_path):
    (tmp_path / "k.csv").write_text("IN FILE,OFFSET,DURATION,AUTO ID,MANUAL ID\nr.wav,1,2,Wren,\nr.wav,4,2,Wren,Tit\n")
    assert load_annotations(tmp_path / "k.csv", label_column="manual id").label.tolist() == [UNLABELLED, "Tit"]
    (tmp_path / "r.txt").write_text(RAVEN + "\tSpecies\tCommon Name\n1\tSpectrogram 1\t1\t1\t2\t5\t6\t\tTit\n")
    assert load_annotations(tmp_path / "r.txt").label.tolist() == ["Tit"]  # the first column that says anything


def sound(path, seconds=6.0):
    sf.write(path, np.full(int(seconds * 8000), 0.1), 8000)
    return str(path)


def test_nobody_labelled_it_and_there_is_nothing_are_two_answers(tmp_path):
    dawn = sound(tmp_path / "dawn.wav")
    row = "1\tSpectrogram 1\t1\t1.5\t2.25\t1500\t3000"
    tables = {
        "nothing found": (RAVEN + "\tSpecies\n", [], ["", "", ""]),
        "no column at all": (RAVEN + "\n", [], ["", "", ""]),
        "blank": (RAVEN + "\tSpecies\n" + row + "\t\n", [UNLABELLED], [None, None, ""]),
        "spaces": (RAVEN + "\tSpecies\n" + row + "\t  \n", [UNLABELLED], [None, None, ""]),
        "no column": (RAVEN + "\n" + row + "\n", [UNLABELLED], [None, None, ""]),
        "a label": (RAVEN + "\tSpecies\n" + row + "\tTit\n", ["Tit"], ["Tit", "Tit", ""]),
        "both": (RAVEN + "\tSpecies\n" + row + "\t\n" + row + "\tTit\n", [UNLABELLED, "Tit"], ["Tit", "Tit", ""]),
        "audacity": ("1.5\t2.25\t\n", [UNLABELLED], [None, None, ""]),
        "audacity without a third cell": ("1.5\t2.25\n", [UNLABELLED], [None, None, ""]),
        "empty": ("\n \n", [], ["", "", ""]),
    }
    for case, (text, labels, expected) in tables.items():
        (tmp_path / "dawn.Table.1.selections.txt").write_text(text)
        marks, said = told(tmp_path / "dawn.Table.1.selections.txt")
        assert (marks.label.tolist(), recording_lengths(marks)) == (labels, {dawn: 6.0}), case
        windows = labelled_windows(marks, recording_lengths(marks), window_s=2, hop_s=2)
        assert dict(zip(windows.start_s, windows.label, strict=True)) == {
            2.0 * k: label for k, label in enumerate(expected) if label is not None
        }, case
        assert bool(said) == (case == "no column")
    (tmp_path / "dawn.txt").write_text(tables["no column"][0])
    marks, said = told(tmp_path / "dawn.txt")
    assert f"it has: {', '.join(RAVEN.split(chr(9)))}" in said and "label_column" in said


def test_a_blank_or_missing_label_of_any_table_is_no_negative():
    marks = pd.DataFrame([("a", 0.0, 1.0, ""), ("a", 2.0, 3.0, None), ("a", 4.0, 5.0, np.nan), ("a", 6.0, 7.0, "Tit")])
    marks = marks.set_axis(["path", "start_s", "end_s", "label"], axis=1)
    windows = labelled_windows(marks, {"a": 9.0}, window_s=1, hop_s=1)
    assert dict(zip(windows.start_s, windows.label, strict=True)) == {1: "", 3: "", 5: "", 6: "Tit", 7: "", 8: ""}


IMPOSSIBLE = {
    "2\t1": "line 2 (ends at 1 s, before it begins at 2 s",
    "2\t2": "line 2 (has no length: it begins and ends at 2 s",
    "\t2": "line 2 (has no beginning or no end",
    "2\t": "line 2 (has no beginning or no end",
    "x\t2": "line 2 (has no beginning or no end",
    "-2\t-1": "line 2 (ends at -1 s, before the recording begins",
    "6\t7": "line 2 (begins at 6 s, behind the end of dawn.wav at 6 s",
    "60\t61": "line 2 (begins at 60 s, behind the end of dawn.wav at 6 s",
}


@pytest.mark.parametrize("times, reason", IMPOSSIBLE.items())
@pytest.mark.parametrize("kind", ["audacity", "raven", "kaleidoscope"])
def test_a_mark_that_cannot_be_is_named_by_its_line_and_the_others_are_kept(tmp_path, kind, times, reason):
    dawn = sound(tmp_path / "dawn.wav")
    first, last = (cell for cell in times.split("\t"))
    if kind == "audacity":
        text = f"0.5\t1.5\tTit\n{first}\t{last}\tWren\n3\t4\tOwl\n"
    elif kind == "raven":
        text = f"Begin Time (s)\tEnd Time (s)\tSpecies\n{first}\t{last}\tWren\n0.5\t1.5\tTit\n3\t4\tOwl\n"
    else:
        long = float(last) - float(first) if first not in ("", "x") and last else last
        text = f"IN FILE,OFFSET,DURATION,MANUAL ID\ndawn.wav,{first},{long},Wren\n"
        text += "dawn.wav,0.5,1,Tit\ndawn.wav,3,1,Owl\n"
    (tmp_path / "dawn.txt").write_text(text)
    marks, said = told(tmp_path / "dawn.txt")
    assert spans(marks) == [[0.5, 1.5, "Tit"], [3, 4, "Owl"]] and set(marks.path) == {dawn}
    assert reason in said and f"{tmp_path / 'dawn.txt'}: 1 marks set aside" in said
    assert [row[0] for row in marks.attrs["set_aside"]] == [2]


def test_a_mark_over_the_end_is_cut_and_one_over_the_beginning_too(tmp_path):
    sound(tmp_path / "dawn.wav")
    (tmp_path / "dawn.txt").write_text("-0.5\t1\tTit\n5\t8\tWren\n5\t6.05\tOwl\n")
    marks, said = told(tmp_path / "dawn.txt")
    assert spans(marks) == [[0, 1, "Tit"], [5, 6, "Wren"], [5, 6, "Owl"]]
    assert "1 marks cut at the end of their recording, such as that of line 2" in said


def test_a_window_in_which_a_mark_may_lie_is_no_negative(tmp_path):
    dawn, dusk = sound(tmp_path / "dawn.wav"), sound(tmp_path / "dusk.wav")

    def negatives(rows):
        (tmp_path / "k.csv").write_text("IN FILE,OFFSET,DURATION,MANUAL ID\n" + rows)
        windows = labelled_windows(told(tmp_path / "k.csv")[0], {dawn: 6.0, dusk: 6.0}, window_s=2, hop_s=2)
        return [windows.start_s[(windows.path == p) & (windows.label == "")].tolist() for p in (dawn, dusk)]

    tit = "dawn.wav,0.5,1,Tit\n"
    assert negatives(tit) == [[2, 4], [0, 2, 4]]
    assert negatives(tit + "dawn.wav,3,0,Wren\n") == [[4], [0, 2, 4]]  # a point says where
    assert negatives(tit + "dawn.wav,,,Wren\n") == [[], [0, 2, 4]]  # somewhere in this recording
    assert negatives(tit + "dawn.wav,60,1,Wren\n") == [[2, 4], [0, 2, 4]]  # nowhere in it
    assert negatives(tit + ",3,0.5,Wren\n") == [[4], [0, 4]]  # in one of the two
    assert negatives(tit + "Total,,,1\n") == negatives(tit + ",,,1\n") == [[2, 4], [0, 2, 4]]  # no mark, but a sum
    assert negatives(tit + "dusk.wav,1\n") == [[], []]  # a row that was cut short


def test_joined_annotations_forget_nothing(tmp_path):
    dawn, dusk = sound(tmp_path / "dawn.wav"), sound(tmp_path / "dusk.wav")
    (tmp_path / "dawn.txt").write_text("0.5\t1.5\tTit\n3\t3\tWren\n")
    (tmp_path / "dusk.txt").write_text("")
    marks = join_annotations([told(tmp_path / f"{name}.txt")[0] for name in ("dusk", "dawn")])
    assert recording_lengths(marks) == {dawn: 6.0, dusk: 6.0} and spans(marks) == [[0.5, 1.5, "Tit"]]
    windows = labelled_windows(marks, recording_lengths(marks), window_s=2, hop_s=2)
    starts = {p: windows.start_s[(windows.path == p) & (windows.label == "")].tolist() for p in (dawn, dusk)}
    assert starts == {dawn: [4], dusk: [0, 2, 4]}


def test_what_crowsetta_cannot_read_is_named(tmp_path, monkeypatch):
    def unreadable(format):
        raise KeyError("xmin")

    known = SimpleNamespace(as_list=lambda: ["simple-seq", "textgrid"])
    monkeypatch.setitem(sys.modules, "crowsetta", SimpleNamespace(Transcriber=unreadable, formats=known))
    (tmp_path / "a.TextGrid").write_text("x")
    with pytest.raises(ValueError, match="a.TextGrid cannot be read as textgrid; .*kaleidoscope, simple-seq, textgrid"):
        load_annotations(tmp_path / "a.TextGrid")


NAMES = [
    ("2023.05.15_dawn.txt", "2023.05.15_dawn.wav"),
    ("2023.05.15_dawn.Table.1.selections.txt", "2023.05.15_dawn.wav"),
    ("2023.05.15_dawn.Table.12.selections.txt", "2023.05.15_dawn.wav"),
    ("2023.05.15_dawn.selections.txt", "2023.05.15_dawn.wav"),
    ("2023.05.15_dawn.wav.txt", "2023.05.15_dawn.wav"),
    ("2023.05.15_dawn.wav.Table.1.selections.txt", "2023.05.15_dawn.wav"),
    ("2023.05.15_dawn.BirdNET.selection.table.txt", "2023.05.15_dawn.wav"),
    ("2023.05.15_DAWN.TXT", "2023.05.15_dawn.wav"),
    ("2023.05.16_dawn.txt", None),
    ("2023.txt", None),
    ("2023.05.txt", None),
    ("2023.05.15_dawn_long.txt", None),
    ("[A] B*.txt", "[a] b*.wav"),
    (unicodedata.normalize("NFC", "Käuzchen.txt"), unicodedata.normalize("NFD", "Käuzchen.flac")),
    ("[a] b*.txt", "[a] b*.wav"),
    ("x.selections.txt", "x.selections.wav"),
]


@pytest.mark.parametrize("name, recording", NAMES)
def test_a_mark_belongs_to_the_recording_whose_whole_name_matches(tmp_path, name, recording):
    for other in ("2023.05.14_dawn.wav", "2023.05.15_dawn2.wav", "2023.05.15_.wav", "x.wav", "[a] bc.wav", "a b.wav"):
        (tmp_path / other).touch()
    (tmp_path / name).write_text("0.5\t1.5\tTit\n")
    if recording:
        (tmp_path / recording).touch()
    path = Path(load_annotations(tmp_path / name).path[0])
    assert path == tmp_path / recording if recording else not path.exists() and path.parent == tmp_path
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / name).write_text("0.5\t1.5\tTit\n")
    path = Path(load_annotations(tmp_path / "elsewhere" / name, audio=tmp_path).path[0])
    assert path == tmp_path / recording if recording else not path.exists()


@pytest.mark.parametrize(
    "named, there",
    [
        ("rec.wav", "rec.wav"),
        ("REC.WAV", "rec.wav"),
        ("rec.wav", "rec.WAV"),
        ("site\\rec.wav", "site/rec.wav"),
        ("site/rec.wav", "Site/Rec.wav"),
        ("site/rec.wav", "rec.wav"),
        ("D:\\field\\site\\rec.wav", "site/rec.wav"),
        ("D:\\field\\site\\rec.wav", "rec.wav"),
        ("D:rec.wav", "rec.wav"),
        ("\\\\server\\share\\site\\rec.wav", "site/rec.wav"),
        ("/home/somebody/field/rec.wav", "rec.wav"),
        (unicodedata.normalize("NFC", "Gehölz/Käuzchen.wav"), unicodedata.normalize("NFD", "Gehölz/Käuzchen.wav")),
        (unicodedata.normalize("NFD", "KÄUZCHEN.wav"), unicodedata.normalize("NFC", "käuzchen.wav")),
    ],
)
def test_named_recordings_are_found_however_they_are_written(tmp_path, named, there):
    (tmp_path / there).parent.mkdir(exist_ok=True)
    (tmp_path / there).touch()
    (tmp_path / "t.txt").write_text(f"Begin Time (s)\tEnd Time (s)\tBegin Path\tSpecies\n1\t2\t{named}\tTit\n", "utf-8")
    assert load_annotations(tmp_path / "t.txt").path.tolist() == [str(tmp_path / there)]


def test_recordings_of_the_same_name_stay_apart(tmp_path):
    for place in ("A", "B"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "rec.wav").touch()
    (tmp_path / "k.csv").write_text(
        "FOLDER,IN FILE,OFFSET,DURATION,MANUAL ID\nA,rec.wav,1,1,Tit\nB,rec.wav,1,1,Wren\nC,rec.wav,1,1,Owl\n"
    )
    marks = load_annotations(tmp_path / "k.csv")
    assert marks.path.tolist() == [str(tmp_path / place / "rec.wav") for place in "ABC"]
    for twin in ("rec.WAV", "REC.wav"):
        (tmp_path / twin).touch()
    (tmp_path / "k.csv").write_text("IN FILE,OFFSET,DURATION,MANUAL ID\nRec.wav,1,1,Tit\n")
    assert load_annotations(tmp_path / "k.csv").path.tolist() == [str(tmp_path / "Rec.wav")]  # either, so neither


LABELS = st.text("abcäöüß ,;'-.\"", max_size=8)
TIMES = st.tuples(st.integers(0, 10**6), st.integers(1, 10**6))  # beginning and length in thousandths of a second
MARKS = st.lists(st.tuples(TIMES, LABELS), min_size=1, max_size=6)


@given(
    MARKS,
    st.sampled_from(["raven", "kaleidoscope", "audacity"]),
    st.sampled_from([",", "."]),
    st.sampled_from(["\t", ";", ","]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_what_is_written_is_read(tmp_path_factory, written, kind, decimal, separator, encoding, end, trailing):
    def number(thousandths):
        return f"{thousandths / 1000:.3f}".replace(".", decimal)

    names = {
        "raven": ["Begin Time (s)", "End Time (s)", "Species"],
        "kaleidoscope": ["IN FILE", "OFFSET", "DURATION", "MANUAL ID"],
    }
    rows, text = [], io.StringIO(newline="")
    for (start, length), label in written:
        second = length if kind == "kaleidoscope" else start + length
        rows.append(["a.wav"] * (kind == "kaleidoscope") + [number(start), number(second), label] + [""] * trailing)
    if kind == "audacity":
        text.writelines("\t".join(row) + end for row in rows)
    else:
        csv.writer(text, delimiter=separator, lineterminator=end).writerows([names[kind], *rows])
    path = tmp_path_factory.mktemp("tables") / "a.txt"
    path.write_bytes(text.getvalue().encode(encoding))
    marks, said = told(path)
    expected = [(s / 1000, (s + n) / 1000, label.strip() or UNLABELLED) for (s, n), label in written]
    assert not said and [s for _, _, s in spans(marks)] == [x for _, _, x in sorted(expected, key=lambda m: m[:2])]
    times = [t for mark in sorted(expected, key=lambda m: m[:2]) for t in mark[:2]]
    assert marks[["start_s", "end_s"]].to_numpy().ravel().tolist() == pytest.approx(times, abs=1e-9)


@given(st.lists(st.text('0123456789.,-\t\\ aß"', max_size=20), max_size=8))
def test_no_line_of_a_label_track_is_lost_without_a_word(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("tracks") / "a.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    marks, said = told(path, kind="audacity")
    rows = [k for k, line in enumerate(lines, 1) if line.strip() and line.split("\t")[0].strip() != "\\"]
    aside = [row[0] for row in marks.attrs["set_aside"]]
    assert len(marks) + len(aside) == len(rows) and set(aside) <= set(rows)
    assert all(f"line {line} (" in said for line in aside[:5]) and bool(said) == bool(aside)


def test_marks_that_came_from_the_field(shared_data):
    def read(name):
        return told(shared_data / "odd" / name)

    assert spans(read("aud_comma.txt")[0]) == [[1.5, 2.25, "Tit"]]
    drawn = read("aud_freq_comma.txt")[0]
    assert drawn.values[:, 1:].tolist() == [[0.5, 1.5, 1500, 3000, "Tit"]]
    assert spans(read("aud_latin1.txt")[0]) == [[0.5, 1.5, "Mésange"]]
    assert spans(read("kal_semicolon.csv")[0]) == [[1.5, 3.75, "Tit"]]
    marks, said = read("kal_blank_offset.csv")
    assert spans(marks) == [[1.5, 3.5, "Tit"]] and "kal_blank_offset.csv: 1 marks set aside" in said
    assert "line 2 (has no beginning or no end" in said
    assert spans(read("kal_top1.csv")[0]) == [[1, 3, "cluster3"]]
    trailing = read("kal_trailing_comma.csv")[0]
    assert trailing.values[:, 1:].tolist() == [[1.5, 3.5, 1000, 2000, "Tit"]]
    for name in ("kal_semicolon.csv", "kal_trailing_comma.csv", "kal_top1.csv"):
        assert [Path(p).name for p in read(name)[0].path] == ["rec.wav"]
    marks, said = read("no_annotation_col.selections.txt")
    assert spans(marks) == [[1, 2, UNLABELLED]] and "it has: Selection, View, Channel, Begin Time (s)" in said
    marks, said = read("bare.selections.txt")
    assert marks.empty and not said and [Path(p).name for p in marks.attrs["recordings"]] == ["bare"]
    assert labelled_windows(marks, {"bare.wav": 3.0}).label.tolist() == [""]
    marks, said = read("blank_label.txt")
    assert spans(marks) == [[1.5, 2.25, UNLABELLED]] and not said
    assert labelled_windows(marks, {marks.path[0]: 6.0}).values[:, 1:].tolist() == [[3, 6, ""]]
