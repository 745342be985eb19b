"""Tables of recordings as people write them: what can be used is used, what cannot is named with its line."""

import csv
import os
import unicodedata

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avianspec.data.layouts import load_recordings
from avianspec.data.matching import Finder, name_key
from avianspec.data.own_recordings import load_csv
from avianspec.data.recordings import read_table, rows_set_aside, validate
from avianspec.data.species_names import why_no_class
from avianspec.files import notes_said, write_table
from avianspec.sound.features import FeatureConfig
from avianspec.stores.preprocessing import build_store, keep_usable


def loaded(source, **how):  # recordings table; notes
    notes = []
    with notes_said(notes.append):
        return load_recordings(source, **how), notes


def laid_out(folder, listed):
    "The table of shared odd inputs as recordings.csv, with an empty file for every recording."
    folder.mkdir()
    (folder / "recordings.csv").write_bytes(listed.read_bytes())
    with open(listed, encoding="utf-8", newline="") as f:
        for row in csv.DictReader(f):
            name = row.get("file") or f"audio/{row['id'].removesuffix('.0')}.wav"
            path = folder / name.replace("\\", "/")
            path.parent.mkdir(exist_ok=True)
            path.touch()
    return folder


ODD = {  # table: rows, whose files are all there; lines set aside; words of the notes, in order
    "T5-odd-dates.recordings.csv": (24, [], ["7 values of date", "6 values of time", "of latitude", "of longitude"]),
    "T6-mystery.recordings.csv": (
        15,
        [2, 3, 4, 5, 6, 10, 11, 12, 13],
        ["nobody", "soundscape", "genus", "hybrid", "no label"],
    ),
    "V3-audiomoth-ids-nofile.recordings.csv": (24, [], []),
    "X2-float-ids.recordings.csv": (24, [], []),
    "U7-comma-rows-at-end.recordings.csv": (24, [], []),
    "total_row.csv": (12, [14], ["it has no label: line 14"]),
    "backslashes.csv": (12, [], []),
}


@pytest.mark.parametrize("name", ODD)
def test_real_odd_tables_are_read(shared_data, tmp_path, name):
    n, lines, words = ODD[name]
    table, notes = loaded(laid_out(tmp_path / "a", shared_data / "odd" / name))
    assert len(table) == n and all(os.path.isfile(p) for p in table.path) and table.path.is_unique
    assert sorted(int(r.partition(":")[0].removeprefix("line ")) for r in rows_set_aside(table).reason) == lines
    assert len(notes) == len(words) and all(w in note for w, note in zip(words, notes, strict=True))


def test_a_real_table_without_rows_is_one_clear_line(shared_data, tmp_path):
    with pytest.raises(
        ValueError, match=r"recordings.csv: no recording to use; a table needs a header and one row [^\n]*$"
    ):
        load_recordings(laid_out(tmp_path / "a", shared_data / "odd" / "E1-header-only.recordings.csv"))


def write(folder, text, *files, encoding="utf-8"):
    "A recordings.csv, and empty files."
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    folder.mkdir(exist_ok=True)
    (folder / "recordings.csv").write_bytes(text.encode(encoding))
    return folder


UNKNOWN = float("nan")
VALUES = {  # column of a table: what is written there, and what is known then
    "date": {
        "2024-05-01": "2024-05-01",
        "2024-5-1": "2024-05-01",
        "2019-05-00": "",
        "0000-00-00": "",
        "2019-02-30": "",
        "": "",
    },
    "time": {"07:30": "07:30", "7.30": "07:30", "07:30:00": "07:30", "24:00": "", "?": "", "dawn": ""},
    "latitude": {"50.5": 50.5, "50,5": 50.5, "-90": -90, "91": UNKNOWN, "52°": UNKNOWN, "1e999": UNKNOWN, "": UNKNOWN},
    "longitude": {"180": 180, "181": UNKNOWN, "-6,25": -6.25, "E": UNKNOWN},
    "duration_s": {"1500,0": 1500, "2.5": 2.5, "-1": UNKNOWN, "inf": UNKNOWN},
}


@pytest.mark.parametrize("column", VALUES)
def test_a_value_that_cannot_be_is_unknown_and_named_once(column):
    written, known = list(VALUES[column]), list(VALUES[column].values())
    rows = pd.DataFrame(
        {"recording_id": list("abcdefg")[: len(written)], "label": "Tit", "path": "a.wav", column: written}
    )
    notes = []
    with notes_said(notes.append):
        table = validate(rows.set_axis(pd.RangeIndex(2, len(rows) + 2, name="line")), "list.csv")
    pd.testing.assert_series_equal(table[column], pd.Series(known, name=column), check_dtype=False)
    bad = [(k, v) for k, (v, value) in enumerate(VALUES[column].items(), start=2) if v and value in ("", UNKNOWN)]
    assert len(notes) == 1 and notes[0].startswith(f"list.csv: {len(bad)} value") and column in notes[0]
    assert all(f"{v!r} (line {k})" in notes[0] for k, v in bad)


def test_where_a_receiver_found_nothing_the_place_is_unknown():
    rows = pd.DataFrame(
        {"recording_id": ["a", "b"], "label": "x", "path": "p", "latitude": ["0", "0"], "longitude": ["0.0", "6"]}
    )
    notes = []
    with notes_said(notes.append):
        table = validate(rows)
    assert table.latitude.isna().tolist() == table.longitude.isna().tolist() == [True, False] and len(notes) == 2


UNUSABLE = {  # a row among good ones: what is said of it
    "3,,3.wav": "because it has no label: line 4 (XC3)",
    ",Tit,": "because it has no recording_id: line 4",
    "1,Tit,1.wav": "because an earlier row has the same recording: line 4 (XC1)",
    "Total,,": "because it has no label: line 4 (Total)",
    "Total": "set aside: 1 cells, where the header names 3 columns",
    "3,Tit,3.wav,loud": "set aside: 4 cells, where the header names 3 columns",
    '3,"Tit,3.wav': "set aside: a quotation mark that does not match",
    "3,Tit,pipe.wav": "because a pipe or a device stands in place of its file: line 4 (XC3)",
    "3,Tit,/dev/zero": "because a pipe or a device stands in place of its file: line 4 (XC3)",
    "3,Identity unknown,3.wav": "because nobody knows which species it is",
}


@pytest.mark.parametrize("row", UNUSABLE)
def test_one_row_that_cannot_be_used_stops_nothing(tmp_path, row):
    write(tmp_path, f"id,en,file\n1,Tit,1.wav\n2,Wren,2.wav\n{row}\n4,Tit,4.wav\n", "1.wav", "2.wav", "3.wav", "4.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    table, notes = loaded(tmp_path)
    assert list(table.recording_id) == ["XC1", "XC2", "XC4"]
    assert len(notes) == 1 and f"{tmp_path / 'recordings.csv'}: 1 " in notes[0] and UNUSABLE[row] in notes[0]
    aside = rows_set_aside(table)
    assert len(aside) == 1 and aside.reason[0].startswith("line 4: ") and "" not in aside.to_numpy()


def test_what_was_set_aside_reaches_the_quarantine_of_a_run(little_birds, tmp_path):
    table, _ = loaded(little_birds)
    write_table(tmp_path / "recordings.csv", table)
    write_table(tmp_path / "set_aside.csv", rows_set_aside(table))
    again = read_table(tmp_path / "recordings.csv")
    store = build_store(again, FeatureConfig(), tmp_path / "features", progress=False)
    keep_usable(again, store, tmp_path, 1)
    quarantine = pd.read_csv(tmp_path / "quarantine.csv", keep_default_na=False)
    assert ["recordings.csv line 4", "line 4: 1 cells, where the header names 3 columns"] in [
        [i, r.partition(";")[0]] for i, r in zip(quarantine.recording_id, quarantine.reason, strict=True)
    ]


@pytest.fixture
def little_birds(tmp_path):
    import soundfile as sf
    from conftest import tone

    folder = write(tmp_path / "birds", "id,en,file\n1,Tit,1.wav\n2,Wren,2.wav\nTotal\n")
    for k in (1, 2):
        sf.write(folder / f"{k}.wav", tone(hz=1000 * k), 22050)
    return folder


NFD = unicodedata.normalize("NFD", "Zaunkönig.wav")
FILES = {  # rows of a table without a header, files that lie there: ids and files that are found
    ("20240501_040000,Tit,", "a/20240501_040000.WAV", "a/20240501_050000.WAV"): {
        "20240501_040000": "a/20240501_040000.WAV"
    },
    ("100.0,Tit,", "XC100.mp3", "XC1000.mp3"): {"XC100": "XC100.mp3"},
    ("100,Tit,", "sub/XC100 - Great Tit - Parus major.mp3", "100_20240501.wav"): {
        "XC100": "sub/XC100 - Great Tit - Parus major.mp3"
    },
    ("2023.05.14_dawn,Tit,", "2023.05.14_dawn.wav", "2023.05.15_dawn.wav"): {"2023.05.14_dawn": "2023.05.14_dawn.wav"},
    ("7,Tit,SUB\\7.WAV", "sub/7.wav"): {"XC7": "sub/7.wav"},
    ("7,Tit,a\\7.wav", "a\\7.wav"): {"XC7": "a\\7.wav"},
    ("7,Tit,Zaunkönig.wav", NFD): {"XC7": NFD},
    (",Tit,a/1.wav\n,Wren,b/1.wav", "a/1.wav", "b/1.wav"): {"a/1.wav": "a/1.wav", "b/1.wav": "b/1.wav"},
    ("1,Tit,a/1.wav\n1,Wren,b/1.wav", "a/1.wav", "b/1.wav"): {"a/1.wav": "a/1.wav", "b/1.wav": "b/1.wav"},
    ("1,Tit,gone.wav", "1.wav"): {"XC1": "gone.wav"},
}


@pytest.mark.parametrize("rows, files", [(k[0], k[1:]) for k in FILES])
def test_a_row_finds_its_file_and_no_other(tmp_path, rows, files):
    table, _ = loaded(write(tmp_path, f"id,en,file\n{rows}\n", *files))
    found = {i: os.path.relpath(p, tmp_path) for i, p in zip(table.recording_id, table.path, strict=True)}
    assert found == FILES[rows, *files]


def test_where_two_files_can_be_meant_it_is_said(tmp_path):
    write(
        tmp_path,
        "id,en,file\ndawn,Tit,\n7,Wren,A.wav\n8,Wren,b.wav\n",
        "x/dawn.wav",
        "y/dawn.wav",
        "a.WAV",
        "a.wav",
        "b.wav",
    )
    table, notes = loaded(tmp_path)
    assert len(notes) == 1 and "2 recordings could be one of several files" in notes[0]
    assert all(str(tmp_path / name) in notes[0] for name in ("x/dawn.wav", "y/dawn.wav", "a.WAV", "a.wav"))
    assert len(table) == 3 and "b.wav" not in notes[0]


@given(st.text(st.sampled_from("aAöÖ1_.- "), min_size=1, max_size=8).filter(lambda s: s.strip(". ")))
def test_a_name_is_found_however_it_is_written(tmp_path_factory, stem):
    folder = tmp_path_factory.mktemp("names")
    (folder / f"{stem}.wav").touch()
    finder = Finder(folder)
    for form in ("NFC", "NFD"):
        for written in (f"{stem}.wav", f"{stem}.WAV".swapcase(), f".\\{stem}.wav"):
            assert finder.by_name(unicodedata.normalize(form, written)) == [folder / f"{stem}.wav"]
    assert finder.by_name(f"{stem}x.wav") == [] and name_key(stem) == name_key(
        unicodedata.normalize("NFD", stem.upper())
    )


NAMES = {  # label, scientific name: why it is no class; empty: it is one
    ("Identity unknown", "Mystery mystery"): "nobody",
    ("identity  unknown", ""): "nobody",
    ("NaN", "nan nan"): "nobody",
    ("Soundscape", "Sonus naturalis"): "soundscape",
    ("Parus sp.", "Parus sp."): "genus",
    ("Tit spp", ""): "genus",
    ("Parus", "Parus"): "genus",
    ("Great Tit (hybrid)", "Parus major"): "hybrid",
    ("Herring x Lesser Black-backed Gull", "Larus argentatus x fuscus"): "hybrid",
    ("Mallard × Pintail", ""): "hybrid",
    ("Great Tit", "Parus major"): "",
    ("Great Tit", "Parus"): "",
    ("Parus major", "Parus major"): "",
    ("Wasp", ""): "",
    ("Unknown Pleasures Bird", "Ignota volans"): "",
    ("Xantus's Hummingbird", "Basilinna xantusii"): "",
}


def test_names_that_are_no_class_by_themselves():
    for names, word in NAMES.items():
        why = why_no_class(*names)
        assert word in why if word else why == "", (names, why)


def test_names_that_are_no_class_are_kept_on_request(tmp_path):
    write(tmp_path, "id,gen,sp,en\n1,Mystery,mystery,Identity unknown\n2,Parus,major,Great Tit\n3,Parus,sp.,\n")
    assert list(loaded(tmp_path)[0].label) == ["Great Tit"]
    table, notes = loaded(tmp_path, keep_unnamed=True)
    assert list(table.label) == ["Identity unknown", "Great Tit", "Parus sp."] and not notes
    for name in ("Identity unknown/1.wav", "Great Tit/2.wav"):
        (tmp_path / "folders" / name).parent.mkdir(parents=True)
        (tmp_path / "folders" / name).touch()
    table, notes = loaded(tmp_path / "folders")
    assert list(table.label) == ["Great Tit"] and "Identity unknown/1.wav" in notes[0]
    assert loaded(tmp_path / "folders", keep_unnamed=True)[0].label.nunique() == 2


def test_a_table_of_ones_own_is_as_forgiving(tmp_path):
    text = "Datei;Art;Tag;Breite\nA\\1.WAV;Zaunkönig;24.12.2023;52,5\nA\\2.wav;;01.02.2024;48\n"
    text += "A\\3.wav;Amsel;30.02.2024;91\n;;;\n"
    write(tmp_path, text, "a/1.wav", "a/2.wav", "a/3.wav", encoding="cp1252")
    named, notes = {"path": "Datei", "species": "Art", "date": "Tag", "latitude": "Breite"}, []
    with notes_said(notes.append):
        table = load_csv(tmp_path / "recordings.csv", named, date_format="%d.%m.%Y")
    assert list(table.recording_id) == ["a/1.wav", "a/3.wav"] and list(table.date) == ["2023-12-24", ""]
    assert table.latitude.isna().tolist() == [False, True] and all(os.path.exists(p) for p in table.path)
    assert [n.split(": ", 1)[1].split(" ")[0] for n in notes] == ["1"] * 3 and "'30.02.2024' (line 4)" in "".join(notes)
    with pytest.raises(
        ValueError, match="fetch own 'recordings.csv' --column"
    ):  # what is not xeno-canto's is pointed there
        load_recordings(tmp_path / "recordings.csv")


BLANK, JUNK = ["", "{s}{s}{s}", "  "], ["Total", "x{s}Tit{s}{s}{s}{s}9"]
LONE = '7{s}"Tit{s}7.wav{s}1'  # a quotation mark that never closes; with tabs it is a letter like others


@st.composite
def recordings_files(
    draw,
):  # latitude of each row, or junk; separator, encoding, decimal mark, end of lines and of rows
    separator = draw(st.sampled_from(",;\t"))
    latitude = st.floats(-89, 89).map(lambda v: round(v, 3) or 1.0)
    junk = st.sampled_from([*BLANK, *JUNK, *([LONE] if separator != "\t" else [])])
    rows = draw(st.lists(st.one_of(latitude, junk), min_size=1, max_size=8))
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]))
    mark = "." if separator == "," else draw(st.sampled_from(",."))
    return rows, separator, encoding, mark, draw(st.sampled_from(["\n", "\r\n", "\r"])), draw(st.booleans())


@given(recordings_files())
@settings(max_examples=100, deadline=None)
def test_what_is_written_is_read_or_its_line_is_named(tmp_path_factory, written):
    rows, s, encoding, mark, end, separated = written
    cells = [
        row.format(s=s)
        if isinstance(row, str)
        else s.join([f"r{k}", "Zaunkönig", f"{k}.wav", str(row).replace(".", mark)])
        for k, row in enumerate(rows, start=2)
    ]
    text = end.join([s.join(["id", "en", "file", "lat"]), *(c + s * (separated and "Zaun" in c) for c in cells), ""])
    folder = tmp_path_factory.mktemp("tables")
    (folder / "recordings.csv").write_bytes(text.encode(encoding))
    latitudes = {f"r{k}": row for k, row in enumerate(rows, start=2) if not isinstance(row, str)}
    if not latitudes:
        with pytest.raises(ValueError, match="no recording to use"):
            loaded(folder)
        return
    table, notes = loaded(folder)
    assert dict(zip(table.recording_id, table.latitude, strict=True)) == latitudes
    named = [k for k, row in enumerate(rows, start=2) if row in (*JUNK, LONE)]
    assert sorted(rows_set_aside(table).reason.str.extract(r"line (\d+):")[0].astype(int)) == named
    assert bool(notes) == bool(named)
