"""Declarations of data sources, their layouts on real recordings, recordings of one's own."""

import re
import sys
from pathlib import Path

import pandas as pd
import pytest
import soundfile as sf
from conftest import tone

from avianspec.cli import main
from avianspec.data.annotations import labelled_windows, load_annotations
from avianspec.data.known_sets import load_gtzan
from avianspec.data.layouts import LOADERS, load_recordings, load_source
from avianspec.data.own_recordings import load_csv
from avianspec.data.recordings import validate
from avianspec.data.sources import SOURCES
from avianspec.data.species_names import bird_keys, check_names, load_taxonomy, unify_names
from avianspec.sound.audio import header_duration_s


@pytest.mark.parametrize("source", SOURCES.values(), ids=lambda s: s.name)
def test_every_declaration_says_all_that_must_be_known(source):
    assert SOURCES[source.name] is source and source.name in LOADERS and re.fullmatch(r"[a-z0-9-]+", source.name)
    assert source.title and source.license and source.labels and source.group and source.flaws and all(source.flaws)
    assert source.access in ("files", "api", "kaggle", "copy", "own")
    if source.access != "own":
        assert (
            source.page.startswith("https://")
            and re.match(r"@\w+\{\w+, .*\}$", source.citation, re.DOTALL)
            and source.citation.count("{") == source.citation.count("}")
        )
    assert bool(source.files) == (source.access == "files") and (
        source.access != "kaggle" or re.fullmatch(r"[\w-]+/[\w-]+", source.handle)
    )
    assert len({f.part for f in source.files}) == len(source.files) == len({f.url for f in source.files})
    for file in source.files:
        assert re.match(r"https://[\w.-]+/", file.url) and re.fullmatch(
            r"(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})?", file.checksum
        )
        assert file.checksum or source.checksums.startswith("https://")  # pinned, or stated by the source itself
    if source.files:
        assert set(source.default_part.split(",")) <= {f.part for f in source.files}
    with pytest.raises(dataclass_error()):
        source.name = "other"


def dataclass_error():
    import dataclasses

    return dataclasses.FrozenInstanceError


def test_a_spreadsheet_from_the_command_line(tmp_path, capfd):
    (tmp_path / "Ton").mkdir()
    sf.write(tmp_path / "Ton" / "WALD_20240601_043000.wav", tone(), 22050)
    (tmp_path / "liste.csv").write_bytes(
        "Datei;Art;Breite\nTon\\WALD_20240601_043000.wav;Zaunkönig;52,5\n".encode("cp1252")
    )
    out = tmp_path / "recordings.csv"
    assert (
        main(
            [
                "fetch",
                "own",
                str(tmp_path / "liste.csv"),
                "--column",
                "path=Datei",
                "--column",
                "species=Art",
                "--column",
                "latitude=Breite",
                "--zone",
                "Europe/Berlin",
                "--output",
                str(out),
            ]
        )
        == 0
    )
    assert "1 recordings of 1 classes, 1 with the hour" in capfd.readouterr().out
    row = load_recordings(tmp_path / "recordings.csv").iloc[0]
    assert (
        (row.label, row.latitude, row.date, row.time, row.group) == ("Zaunkönig", 52.5, "2024-06-01", "04:30", "WALD")
        and "2024-06-01T04:30:00+02:00" in row.remarks
        and Path(row.path).exists()
    )
    assert (
        main(["fetch", "own", str(tmp_path / "liste.csv"), "--column", "path=File"]) == 1
        and "has no column File; it has: Datei, Art, Breite" in capfd.readouterr().err
    )
    with pytest.raises(ValueError, match="'24.12.2023' is not a date"):
        (tmp_path / "d.csv").write_text("path,species,date\na.wav,Wren,24.12.2023\n", encoding="utf-8")
        load_csv(tmp_path / "d.csv", {})


def test_licence_flaws_and_size_are_said_before_anything_is_fetched(capfd):
    assert main(["fetch", "librispeech", "--part", "dev-clean,test-clean", "--dry-run"]) == 0
    out = capfd.readouterr().out
    assert (
        "licence: https://creativecommons.org/licenses/by/4.0/" in out
        and "known flaw: names in SPEAKERS.TXT" in out
        and "2 archives, 685 MB: dev-clean, test-clean" in out
    )
    assert main(["fetch", "gtzan", "--dry-run"]) == 0
    assert (
        "http://opihi.cs.uvic.ca/sound/genres.tar.gz is dead" in (out := capfd.readouterr().out)
        and "jazz.00054" in out
        and "1 archive, size not stated" in out
    )


def test_a_copy_that_is_there_is_listed_from_the_command_line(shared_data, tmp_path, capfd):
    assert (
        main(["fetch", "gtzan", "--local", str(shared_data / "instruments"), "--output", str(tmp_path / "music")]) == 0
    )
    assert "200 recordings of 10 classes are listed in" in capfd.readouterr().out
    assert load_recordings(tmp_path / "music").equals(load_gtzan(shared_data / "instruments"))


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
    (tmp_path / "b.txt").write_text("Selection\tBegin Time (s)\tEnd Time (s)\n1\t2\t1\n")
    with pytest.raises(ValueError, match="has no column Species, Annotation"):
        load_annotations(tmp_path / "b.txt")
    (tmp_path / "c.txt").write_text("2.0\t1.0\tWren\n")
    with pytest.raises(ValueError, match="end before they begin"):
        load_annotations(tmp_path / "c.txt")
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


def names(*pairs):
    return validate(
        pd.DataFrame(
            [(f"r{k}", s, b, f"{k}.wav") for k, (s, b) in enumerate(pairs)],
            columns=["recording_id", "label", "scientific_name", "path"],
        )
    )


def test_a_rename_never_makes_two_classes_in_silence():
    table = names(
        ("Yellow-rumped Warbler", "Dendroica coronata"),
        ("Yellow-rumped Warbler", "Setophaga coronata"),
        ("Myrtle Warbler", "Setophaga coronata coronata"),
        ("yerwar", ""),
        ("Grey Jay", "Perisoreus canadensis"),
        ("Canada Jay", ""),
        ("McCown’s Longspur", ""),
        ("Thick-billed Longspur", "Rhynchophanes mccownii"),
        ("Great Tit", "Parus major"),
        ("Great tit", "Parus major"),
    )
    unified, changes = unify_names(table)
    assert (
        sorted(unified.label.unique()) == ["Canada Jay", "Great Tit", "Thick-billed Longspur", "Yellow-rumped Warbler"]
        and changes.recordings.sum() == (unified.label != table.label).sum() == 5
    )
    assert len(check_names(table)) == 4 and check_names(unified).empty
    pd.testing.assert_frame_equal(unify_names(unified)[0], unified)


def test_two_birds_are_never_made_one():
    table = names(
        ("Robin", "Turdus migratorius"),
        ("Robin", "Erithacus rubecula"),
        ("Robin", ""),
        ("Pacific-slope Flycatcher", "Empidonax difficilis"),
        ("Cordilleran Flycatcher", "Empidonax occidentalis"),
        ("Marsh Tit", "Poecile palustris"),
        ("Marsh Warbler", "Acrocephalus palustris"),
    )
    assert bird_keys(table).nunique() == 7 and unify_names(table)[1].empty
    assert check_names(table)[["trouble", "names"]].values.tolist() == [["several birds, one name", "Robin"]]


def test_the_real_sets_have_no_doubtful_names(shared_data):
    for name, folder in (("xeno-canto", "birds"), ("ca-nv", "ca_nv_index")):
        assert check_names(load_source(name, shared_data / folder)).empty


def test_ebirds_taxonomy_is_read(tmp_path):
    (tmp_path / "t.csv").write_text(
        "﻿SPECIES_CODE,PRIMARY_COM_NAME,SCI_NAME,CATEGORY\ngretit1,Great Tit,Parus major,species\n", encoding="utf-8"
    )
    unified, changes = unify_names(
        names(("gretit1", ""), ("Kohlmeise", "Parus major")), load_taxonomy(tmp_path / "t.csv")
    )
    assert set(unified.label) == {"Great Tit"} and set(changes["from"]) == {"gretit1", "Kohlmeise"}
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="is not eBird's taxonomy"):
        load_taxonomy(tmp_path / "x.csv")
