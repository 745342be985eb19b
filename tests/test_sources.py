"""Declarations of data sources, their layouts on real recordings, recordings of one's own."""

import re
from pathlib import Path

import pandas as pd
import pytest
import soundfile as sf
from conftest import tone

from avianspec.cli import main
from avianspec.data.known_sets import load_gtzan
from avianspec.data.layouts import LOADERS, load_recordings, load_source
from avianspec.data.own_recordings import load_csv
from avianspec.data.recordings import validate
from avianspec.data.sources import SOURCES
from avianspec.data.species_names import bird_keys, check_names, load_taxonomy, unify_names


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
