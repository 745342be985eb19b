"""Any layout becomes one table: folders, tables of xeno-canto and the CA/NV set, LibriSpeech, GTZAN, Freesound."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
import soundfile as sf
from conftest import tone

from avianspec.data.known_sets import label_matrix, load_gtzan, load_librispeech
from avianspec.data.layouts import (
    load_parts,
    load_recordings,
    load_source,
    write_recordings,
)
from avianspec.data.splits import audit_split, split_recordings, twin_share
from avianspec.files import read_text_table
from avianspec.sound.audio import UnusableAudio, read_audio
from avianspec.sound.features import FeatureConfig
from avianspec.stores.preprocessing import build_store


def verdict(path):
    try:
        return read_audio(path).verdict
    except UnusableAudio as e:
        return e.verdict


def test_real_birds_load_and_none_is_refused(shared_data):
    table = load_recordings(shared_data / "birds")
    assert len(table) == 110 and table.label.nunique() == 7 and not table.synthetic.any()
    assert {verdict(p) for p in table.path} == {"usable"}


def test_a_table_without_needed_columns_is_refused_by_name(tmp_path):
    (tmp_path / "recordings.csv").write_text("colour,size\nred,3\n")
    with pytest.raises(ValueError, match=r"recordings.csv needs xeno-canto's columns .*found: colour, size"):
        load_recordings(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="one subfolder per label"):
        load_recordings(tmp_path / "empty")
    (tmp_path / "recordings.csv").write_bytes(b"id,gen\0,sp\n")
    with pytest.raises(ValueError, match="recordings.csv, line 1: NUL bytes"):
        load_recordings(tmp_path / "recordings.csv")


def test_a_file_that_is_missing_keeps_its_row(tmp_path):
    (tmp_path / "recordings.csv").write_text("id,gen,sp\n12,Parus,major\n13,Parus,major\n")
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "XC13.mp3").touch()
    table = load_recordings(tmp_path)
    assert list(table.recording_id) == ["XC12", "XC13"] and table.path[1].endswith("audio/XC13.mp3")
    assert verdict(table.path[0]) == "unusable"


def test_xeno_cantos_own_file_names_and_addresses_are_understood(tmp_path):
    (tmp_path / "recordings.csv").write_text(
        "id,gen,sp,file\n17804,Turdus,migratorius,//xeno-canto.org/17804/download\n178,Turdus,merula,https://xeno-canto.org/178/download\n"
    )
    for name in ("XC17804 - American Robin - Turdus migratorius.mp3", "178.mp3"):
        (tmp_path / name).touch()
    table = load_recordings(tmp_path).set_index("recording_id")
    assert table.path["XC17804"].endswith("XC17804 - American Robin - Turdus migratorius.mp3") and table.path[
        "XC178"
    ].endswith("178.mp3")


def test_a_recording_named_twice_is_kept_once(tmp_path):
    (tmp_path / "recordings.csv").write_text(
        "id,gen,sp,rec\n12,Parus,major,Ada\n13,Parus,major,Ada\n12,Turdus,merula,Bo\n"
    )
    with pytest.warns(UserWarning, match=r"1 row set aside, because an earlier row .*: line 4 \(XC12\)\."):
        table = load_recordings(tmp_path)
    assert list(table.recording_id) == ["XC12", "XC13"] and table.recordist[0] == "Ada"


def test_an_unrelated_csv_does_not_hide_the_folders(tmp_path):
    for name in ("Wren/1.wav", "Tit/spring/2.wav"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    (tmp_path / "notes.csv").write_text("colour,size\nred,3\n")
    assert list(load_recordings(tmp_path).label) == ["Tit", "Wren"]
    (tmp_path / "more notes.csv").write_bytes(b"\xff\xfe\x00")
    assert len(load_recordings(tmp_path)) == 2
    (tmp_path / "list.csv").write_text("id,en\n7,Wren\n")  # the one with the right columns is taken
    assert list(load_recordings(tmp_path).recording_id) == ["XC7"]
    (tmp_path / "list 2.csv").write_text("id,en\n8,Wren\n")
    with pytest.raises(ValueError, match="2 tables of recordings"):
        load_recordings(tmp_path)


def ca_nv(folder):
    "The CA/NV set in small, as it comes: index, mp3s in a folder within, the partition in another."
    (folder / "xeno-canto-ca-nv").mkdir(parents=True)
    (folder / "partition").mkdir()
    pd.DataFrame(
        {
            "country": "United States",
            "duration_seconds": [3, 4, 9],
            "english_cname": ["Abert's Towhee", "Abert's Towhee", "Verdin"],
            "file_id": [17804, 177367, 555],
            "file_name": ["XC17804.mp3", "XC177367.mp3", "XC555.mp3"],
            "file_url": "https://www.xeno-canto.org/1/download",
            "genus": ["Melozone", "Melozone", "Auriparus"],
            "species": ["aberti", "aberti", "flaviceps"],
            "latitude": 33.3,
            "longitude": -114.7,
            "location": "Cibola",
            "recordist": "N. P.",
            "type": "call",
            "license": "x",
            "remarks": [
                "XC17804 © N. P. // Cibola // 600m // 4:30pmh, 2008-01-09 // call // also:  Verdin, Gila Woodpecker",
                "XC177367 // ?m // ?h, 2014-04-28 // call",
                "",
            ],
        }
    ).to_csv(folder / "xeno-canto_ca-nv_index.csv")
    for name in ("XC17804.mp3", "XC555.mp3"):
        (folder / "xeno-canto-ca-nv" / name).touch()
    (folder / "partition" / "train_file_ids.csv").write_text("file_id,label\n555,1\n17804,0\n")
    (folder / "partition" / "test_file_ids.csv").write_text("file_id,label\n177367,0\n")
    return folder


def test_the_ca_nv_set_loads_as_it_comes(tmp_path):
    table = load_recordings(ca_nv(tmp_path / "set")).set_index("recording_id")
    towhee = table.loc["XC17804"]
    assert (towhee.label, towhee.scientific_name, towhee.date, towhee.time, towhee.background, towhee.duration_s) == (
        "Abert's Towhee",
        "Melozone aberti",
        "2008-01-09",
        "16:30",
        "Verdin|Gila Woodpecker",
        3,
    )
    assert table.published.to_dict() == {
        "XC17804": "train 2",
        "XC177367": "test 1",
        "XC555": "train 1",
    } and towhee.path.endswith("xeno-canto-ca-nv/XC17804.mp3")
    assert table.time["XC177367"] == "" and table.date["XC177367"] == "2014-04-28" and table.date["XC555"] == ""
    assert not (tmp_path / table.path["XC177367"]).exists()  # the file is missing, the row is not
    pd.testing.assert_frame_equal(
        load_recordings(tmp_path).set_index("recording_id"), table
    )  # found a folder deeper, too


def test_the_published_partition_is_a_split(tmp_path):
    table = load_recordings(ca_nv(tmp_path))
    split = split_recordings(table)
    assert dict(zip(split.recording_id, split.published, strict=True)) == {
        "XC17804": "train",
        "XC177367": "test",
        "XC555": "train",
    }
    assert "published" not in split_recordings(table.assign(published=""))
    audit = audit_split(table, split).set_index("split")
    assert (audit.n_train["published"], audit.n_test["published"], audit.only_in_training["published"]) == (
        2,
        1,
        1,
    )
    (tmp_path / "partition" / "test_file_ids.csv").write_text("file_id,label\n17804,0\n")
    with pytest.raises(ValueError, match="17804 a second time"):
        load_recordings(tmp_path)


def test_missing_files_of_the_ca_nv_set_are_listed_and_stop_nothing(tmp_path):
    import soundfile as sf
    from conftest import tone

    folder = ca_nv(tmp_path / "set")
    for name in ("XC17804.mp3", "XC555.mp3"):
        sf.write(folder / "xeno-canto-ca-nv" / name, tone(2), 22050)
    store = build_store(load_recordings(folder), FeatureConfig(), tmp_path / "features", progress=False)
    assert list(store.quarantine.recording_id) == ["XC177367"] and len(store) == 2


def test_a_part_or_source_that_is_not_declared_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Unknown source 'fsd'"):
        load_source("fsd", tmp_path)
    with pytest.raises(ValueError, match="has no part 'train'; it has: dev-clean"):
        load_source("librispeech", tmp_path, "train")
    for name in ("librispeech", "gtzan", "freesound-2019", "ca-nv"):
        with pytest.raises((FileNotFoundError, ValueError), match="holds no"):
            load_source(name, tmp_path)


@pytest.mark.parametrize(
    "name, folder, n, classes, groups",
    [
        ("librispeech", "speech", 320, 2, 16),
        ("gtzan", "instruments", 200, 10, 1),
        ("freesound-2019", "environment", 240, 10, 188),
        ("xeno-canto", "birds", 110, 7, 37),
    ],
)
def test_real_recordings_load_by_their_own_loaders(shared_data, name, folder, n, classes, groups):
    table = load_source(name, shared_data / folder)
    assert (len(table), table.label.nunique(), max(table.group.nunique(), table.recordist.nunique())) == (
        n,
        classes,
        groups,
    )
    assert all(Path(p).is_file() for p in table.path) and table.recording_id.is_unique


def test_speakers_tracks_and_clips_keep_their_groups(shared_data):
    speech = load_source("librispeech", shared_data / "speech", "train-clean-100")
    assert speech.groupby("group").label.nunique().max() == 1 and speech.groupby("label").group.nunique().tolist() == [
        8,
        8,
    ]
    split = split_recordings(speech)
    assert not set(speech.group[split.recordist == "1"]) & set(speech.group[split.recordist != "1"])
    clips = load_source("freesound-2019", shared_data / "environment")
    classes, matrix = label_matrix(clips)
    assert matrix.sum() == 240 and list(matrix.sum(axis=0)) == [24] * 10 and classes == sorted(classes)


def test_the_published_split_of_2019_shares_sessions(shared_data):
    table = load_source("ca-nv", shared_data / "ca_nv_index")
    assert len(table) == 2730 and table.label.value_counts().unique().tolist() == [30]
    assert (table.date == "").sum() == 2  # 2009-00-00 and 1994-04-00
    train = set("XC" + read_text_table(shared_data / "ca_nv_index" / "train_file_ids.csv").file_id)
    part = table.recording_id.isin(train).map({True: "train", False: "test"})
    assert (part == "test").sum() == 910 and round(twin_share(table, part), 3) == 0.280  # as published


def test_odd_layouts_are_named(tmp_path):
    sf.write(tmp_path / "a.flac", tone(), 16000)
    (tmp_path / "LibriSpeech" / "dev-clean" / "99" / "1").mkdir(parents=True)
    shutil.copy(tmp_path / "a.flac", tmp_path / "LibriSpeech" / "dev-clean" / "99" / "1" / "99-1-0000.flac")
    speakers = tmp_path / "LibriSpeech" / "SPEAKERS.TXT"
    speakers.write_text("84 | F | dev-clean | 8.02 | Christie\n", encoding="utf-8")
    with pytest.raises(ValueError, match="speaker 99 is not in"):
        load_librispeech(tmp_path)
    speakers.write_text("84 | X | dev-clean | 8.02 | Christie\n", encoding="utf-8")
    with pytest.raises(ValueError, match="should read ID"):
        load_librispeech(tmp_path)
    (tmp_path / "genres" / "jazz").mkdir(parents=True)
    shutil.copy(tmp_path / "a.flac", tmp_path / "genres" / "jazz" / "rock.00001.flac")
    (tmp_path / "genres" / "jazz" / "._jazz.00000.flac").write_bytes(b"mac")
    with pytest.raises(ValueError, match="rock.00001"):
        load_gtzan(tmp_path)


def test_any_table_comes_back_as_xeno_canto_csv(shared_data, tmp_path):
    for name, folder in (("librispeech", "speech"), ("xeno-canto", "birds")):
        table = load_source(name, shared_data / folder)
        write_recordings(table, tmp_path / name / "recordings.csv")
        pd.testing.assert_frame_equal(load_recordings(tmp_path / name), table)


def test_parts_that_are_there_are_loaded(tmp_path):
    (tmp_path / "FSDKaggle2019.meta").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no part of .*train_curated, train_noisy, test"):
        load_parts(tmp_path)
    (tmp_path / "FSDKaggle2019.meta" / "test_post_competition.csv").write_text("fname,labels\na.wav,Meow\n")
    (tmp_path / "FSDKaggle2019.audio_test").mkdir()
    assert list(load_parts(tmp_path)) == ["test"]  # its path is kept, though the file is not there
    sf.write(tmp_path / "Wren.wav", tone(), 22050)
    (tmp_path / "birds" / "Wren").mkdir(parents=True)
    (tmp_path / "Wren.wav").rename(tmp_path / "birds" / "Wren" / "1.wav")
    assert {name: len(table) for name, table in load_parts(tmp_path / "birds").items()} == {"": 1}
