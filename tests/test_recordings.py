"""Reading any file, loading any table, splitting without leaks."""

import csv

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avianspec.sound.audio import UnusableAudio, read_audio
from avianspec.data.splits import (
    GROUPS,
    audit_split,
    groups_of,
    set_aside_rare,
    split_recordings,
    twin_share,
    validation_folds,
)
from avianspec.files import atomic
from avianspec.data.layouts import load_recordings
from avianspec.data.recordings import validate


def verdict(path):
    try:
        return read_audio(path).verdict
    except UnusableAudio as e:
        return e.verdict


def test_every_odd_file_gets_its_verdict(odd_files):
    folder, expected = odd_files
    assert {name: verdict(folder / name) for name in expected} == {name: v for name, (v, _) in expected.items()}


def test_usable_files_keep_all_their_samples(odd_files):
    folder, expected = odd_files
    for name, (v, n) in expected.items():
        if v == "usable":
            assert abs(len(read_audio(folder / name).y) - n) <= 1152, name  # one mp3 frame


def test_reasons_name_file_and_remedy(odd_files):
    folder, _ = odd_files
    with pytest.raises(UnusableAudio, match="empty.mp3: unusable: the file is empty .* download it again"):
        read_audio(folder / "empty.mp3")
    with pytest.raises(UnusableAudio, match="folder.mp3: unusable: this is a folder"):
        read_audio(folder / "folder.mp3")


def test_phone_recording_is_decoded(tmp_path):
    av = pytest.importorskip("av")
    from conftest import tone

    y, path = tone(2.0, 44100), tmp_path / "phone.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        for start in range(0, len(y) - 1024, 1024):
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(y[start : start + 1024].T), format="fltp", layout="mono"
            )
            frame.sample_rate, frame.pts = 44100, start
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    audio = read_audio(path)
    assert audio.sr == 44100 and abs(audio.duration_s - 2) < 0.1
    spectrum = np.abs(np.fft.rfft(audio.y[:, 0]))
    assert abs(spectrum.argmax() * audio.sr / len(audio.y) - 2000) < 2


def test_corrupt_files_get_their_expected_verdicts(shared_data):
    for row in csv.DictReader(open(shared_data / "corrupt" / "EXPECTED.csv")):
        assert verdict(shared_data / "corrupt" / row["file"]) in row["verdict"].split("|"), row["file"]


def test_real_birds_load_and_none_is_refused(shared_data):
    table = load_recordings(shared_data / "birds")
    assert len(table) == 110 and table.label.nunique() == 7 and not table.synthetic.any()
    assert {verdict(p) for p in table.path} == {"usable"}


def test_a_table_without_needed_columns_is_refused_by_name(tmp_path):
    (tmp_path / "recordings.csv").write_text("colour,size\nred,3\n")
    with pytest.raises(ValueError, match=r"recordings.csv needs xeno-canto's columns .*found: colour, size"):
        load_recordings(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="one subfolder per species"):
        load_recordings(tmp_path / "empty")
    (tmp_path / "recordings.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ValueError, match="not a CSV table in UTF-8"):
        load_recordings(tmp_path / "recordings.csv")


def test_a_file_that_is_missing_keeps_its_row(tmp_path):
    (tmp_path / "recordings.csv").write_text("id,gen,sp\n12,Parus,major\n13,Parus,major\n")
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "XC13.mp3").touch()
    table = load_recordings(tmp_path)
    assert list(table.recording_id) == ["XC12", "XC13"] and table.path[1].endswith("audio/XC13.mp3")
    assert verdict(table.path[0]) == "unusable"


@st.composite
def tables(draw):
    n = draw(st.integers(24, 90))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    people, kinds = draw(st.integers(4, 12)), draw(st.integers(2, 5))
    return validate(
        pd.DataFrame(
            {
                "recording_id": [f"r{i}" for i in range(n)],
                "path": "x",
                "label": rng.integers(0, kinds, n).astype(str),
                "recordist": rng.integers(0, people, n).astype(str),
                "location": rng.integers(0, 2, n).astype(str),
                "date": "2020-01-01",
            }
        )
    )


@settings(max_examples=25, deadline=None)
@given(tables(), st.integers(0, 5))
def test_splits_never_cut_a_group(table, seed):
    split = split_recordings(table, 1 / 3, seed)
    assert list(split.recording_id) == list(table.recording_id)
    for by in GROUPS:
        test = (split[by] == "test").to_numpy()
        groups = groups_of(table, by)
        assert 0 < test.sum() < len(table)
        assert not set(groups[test]) & set(groups[~test])
    pd.testing.assert_frame_equal(split, split_recordings(table, 1 / 3, seed))
    assert (audit_split(table, split).twin_share[1:] == 0).all()


@settings(max_examples=10, deadline=None)
@given(tables())
def test_validation_folds_never_cut_a_group(table):
    for held in validation_folds(table, "recordist"):
        assert not set(table.recordist[held]) & set(table.recordist[~held]) and held.any()


def test_twins_counted_by_hand():
    table = validate(
        pd.DataFrame(
            {
                "recording_id": list("abcd"),
                "path": "x",
                "label": ["Wren", "Wren", "Tit", "Tit"],
                "recordist": "Ada",
                "location": "Hill",
                "date": ["1", "1", "1", "2"],
            }
        )
    )
    assert (
        twin_share(table, pd.Series(["train", "test", "train", "test"])) == 0.5
    )  # b has a twin in a; d was another day
    unknown = table.assign(recordist="")
    assert (
        twin_share(unknown, pd.Series(["train", "test", "train", "test"])) == 0
    )  # nothing says that two belong together


def test_too_few_species_is_an_error_that_says_what_was_found():
    table = validate(
        pd.DataFrame({"recording_id": list("abcd"), "path": "x", "label": ["Wren", "Wren", "Wren", "Tit"]})
    )
    with pytest.raises(ValueError, match="at least two species.*'Wren': 3"):
        set_aside_rare(table)


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(OSError, match="disk"):
        with atomic(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise OSError("disk full")
    assert (tmp_path / "a.txt").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_recordings_of_few_people_are_held_apart_as_far_as_they_go():
    days = [f"2020-05-{d:02d}" for d in range(1, 11)]
    table = validate(
        pd.DataFrame(
            {
                "recording_id": [f"r{i:02d}" for i in range(40)],
                "path": "x",
                "label": ["Wren", "Tit"] * 20,
                "recordist": "Ada",
                "location": "Hill",
                "date": [d for d in days for _ in range(4)],
            }
        )
    )
    split = split_recordings(table)  # one recordist: the split by recordist is one by session
    test = (split.recordist == "test").to_numpy()
    assert test.any() and not set(table.date[test]) & set(table.date[~test])
    anonymous = split_recordings(table.assign(recordist="", date=""))
    assert anonymous.recordist.equals(anonymous.recording) and (anonymous.recording == "test").any()
    assert len(validation_folds(table[:12], n_folds=3)) <= 3


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


def test_a_constant_offset_is_silence(tmp_path):
    import soundfile as sf

    sf.write(tmp_path / "offset.wav", np.full(4410, 0.3), 22050)
    assert verdict(tmp_path / "offset.wav") == "silent"


def test_a_recording_named_twice_is_kept_once(tmp_path):
    (tmp_path / "recordings.csv").write_text(
        "id,gen,sp,rec\n12,Parus,major,Ada\n13,Parus,major,Ada\n12,Turdus,merula,Bo\n"
    )
    with pytest.warns(UserWarning, match=r"1 rows set aside.*XC12 \(line 4\)"):
        table = load_recordings(tmp_path)
    assert list(table.recording_id) == ["XC12", "XC13"] and table.recordist[0] == "Ada"
    with pytest.raises(ValueError, match="more than once"):
        validate(pd.concat([table, table]))


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
            "label": ["aberti", "aberti", "flaviceps"],
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


def test_the_published_partition_is_a_way_to_split(tmp_path):
    table = load_recordings(ca_nv(tmp_path))
    split = split_recordings(table)
    assert dict(zip(split.recording_id, split.published)) == {"XC17804": "train", "XC177367": "test", "XC555": "train"}
    assert "published" not in split_recordings(table.assign(published=""))
    audit = audit_split(table, split).set_index("split")
    assert (audit.n_train["published"], audit.n_test["published"], audit.species_only_in_training["published"]) == (
        2,
        1,
        1,
    )
    (tmp_path / "partition" / "test_file_ids.csv").write_text("file_id,label\n17804,0\n")
    with pytest.raises(ValueError, match="17804 a second time"):
        load_recordings(tmp_path)


def test_missing_files_of_the_ca_nv_set_are_listed_and_stop_nothing(tmp_path):
    import soundfile as sf
    from avianspec.sound.features import FeatureConfig
    from avianspec.stores.preprocessing import build_store
    from conftest import tone

    folder = ca_nv(tmp_path / "set")
    for name in ("XC17804.mp3", "XC555.mp3"):
        sf.write(folder / "xeno-canto-ca-nv" / name, tone(2), 22050)
    store = build_store(load_recordings(folder), FeatureConfig(), tmp_path / "features", progress=False)
    assert list(store.quarantine.recording_id) == ["XC177367"] and len(store) == 2
