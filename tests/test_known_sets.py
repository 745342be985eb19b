"""Published sets as their archives unpack: each layout in small, read at its root and from one level above."""

import json
from pathlib import Path

import pytest
import soundfile as sf
from conftest import tone

from avianspec.cli import main
from avianspec.data.folders import list_folder
from avianspec.data.known_sets import load_birdclef, load_freesound_2018, load_fsd50k, load_librispeech
from avianspec.data.layouts import layout_name, load_layout, load_parts, load_recordings, load_source
from avianspec.data.recordings import rows_set_aside
from avianspec.data.sources import SOURCES
from avianspec.data.splits import split_recordings

HEAD = "primary_label,secondary_labels,type,latitude,longitude,scientific_name,common_name,author,license,rating,"
CLEF = {  # year: table, header, rows, folder of audio, files there, other folders
    "2020": (
        "train.csv",
        "ebird_code,primary_label,secondary_labels,filename,recordist,author,sci_name,date,time,country,location,type,rating",
        [
            "aldfly,Empidonax alnorum_Alder Flycatcher,['Parus major_Great Tit'],XC134874.mp3,Ada,Ada,"
            'Empidonax alnorum,2013-05-25,08:00,Canada,Hill,"call, male",3.5'
        ],
        "train_audio",
        ["aldfly/XC134874.mp3"],
        ["example_test_audio"],
    ),
    "2021": (
        "train_metadata.csv",
        HEAD + "date,filename,time,url",
        [
            "acafly,\"['amegfi']\",['call'],35.4,-91.2,Empidonax virescens,Acadian Flycatcher,Ada,CC BY,2.5,"
            "2012-05-12,XC109605.ogg,9:30,https://xeno-canto.org/109605"
        ],
        "train_short_audio",
        ["acafly/XC109605.ogg"],
        ["train_soundscapes", "test_soundscapes"],
    ),
    "2024": (
        "train_metadata.csv",
        HEAD + "url,filename",
        [
            "asbfly,[],['call'],39.2,118.6,Muscicapa dauurica,Asian Brown Flycatcher,Ada,CC BY-NC-SA 4.0,5.0,"
            "https://xeno-canto.org/134896,asbfly/XC134896.ogg",
            "ashdro1,\"['asbfly', 'zitcis1']\",\"['song', 'call']\",,,Dicrurus leucophaeus,Ashy Drongo,Bo,"
            "CC BY 4.0,0.0,https://xeno-canto.org/7,ashdro1/XC7.ogg",
        ],
        "train_audio",
        ["asbfly/XC134896.ogg", "ashdro1/XC7.ogg"],
        ["unlabeled_soundscapes", "test_soundscapes"],
    ),
    "2025": (
        "train.csv",
        "primary_label,secondary_labels,type,filename,collection,rating,url,latitude,longitude,scientific_name,common_name,"
        "author,license",
        [
            "1139490,[''],[''],1139490/CSA36385.ogg,CSA,0.0,http://a.org/36385,7.3,-73.7,Ragoniella pulchella,"
            "Ragoniella pulchella,Ada,cc-by-nc-sa 4.0"
        ],
        "train_audio",
        ["1139490/CSA36385.ogg"],
        ["train_soundscapes", "test_soundscapes"],
    ),
}


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def touch(folder, *files):
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()


def birdclef(folder, year="2024"):
    table, head, rows, audio, files, aside = CLEF[year]
    write(folder / table, head, *rows)
    write(folder / "sample_submission.csv", "row_id,a,b", "1,0,0")
    touch(folder, *(f"{audio}/{file}" for file in files), *(f"{place}/s{k}.ogg" for place in aside for k in range(2)))
    return folder


def fsd50k(folder, parts=("dev", "eval")):
    rows = {
        "dev": [
            "fname,labels,mids,split",
            '64760,"Guitar,Music","/m/0342h,/m/04rlf",train',
            '16399,"Bird,Animal","/m/1,/m/2",val',
            "63,Train,/m/07jdr,train",
        ],
        "eval": ["fname,labels,mids", '37199,"Bird,Animal","/m/1,/m/2"'],
    }
    for part in parts:
        write(folder / "FSD50K.ground_truth" / f"{part}.csv", *rows[part])
        touch(folder / f"FSD50K.{part}_audio", *(f"{row.split(',')[0]}.wav" for row in rows[part][1:]))
    uploads = {"64760": {"title": "a", "license": "http://creativecommons.org/licenses/by/3.0/", "uploader": "ada"}}
    write(folder / "FSD50K.metadata" / "dev_clips_info_FSD50K.json", json.dumps(uploads))
    write(folder / "FSD50K.doc" / "README.md", "x")
    return folder


def freesound_2018(folder, kaggle=False):
    train = ["00044347.wav,Hi-hat,0", "001ca53d.wav,Saxophone,1"]
    if kaggle:
        write(folder / "train.csv", "fname,label,manually_verified", *train)
        head, test = (
            "fname,label,usage,freesound_id,license",
            ["00326aa9.wav,Oboe,Private,5,CC0", "0038a046.wav,None,Ignored,,"],
        )
        write(folder / "test_post_competition.csv", head, *test)
        write(folder / "sample_submission.csv", "fname,label", "00326aa9.wav,Oboe")
        audio = "audio_"
    else:
        more = [f"{row},{k},Attribution" for k, row in enumerate(train, 11)]
        write(
            folder / "FSDKaggle2018.meta" / "train_post_competition.csv",
            "fname,label,manually_verified,freesound_id,license",
            *more,
        )
        scoring = folder / "FSDKaggle2018.meta" / "test_post_competition_scoring_clips.csv"
        write(scoring, "fname,label,usage,freesound_id,license", "00326aa9.wav,Oboe,Private,5,CC0")
        audio = "FSDKaggle2018.audio_"
    touch(folder, f"{audio}train/00044347.wav", f"{audio}train/001ca53d.wav", f"{audio}test/00326aa9.wav")
    return folder


SETS = {
    **{
        f"birdclef {year}": ("birdclef", lambda folder, year=year: birdclef(folder, year), len(CLEF[year][2]))
        for year in CLEF
    },
    "fsd50k": ("fsd50k", fsd50k, 4),
    "freesound-2018": ("freesound-2018", freesound_2018, 3),
    "freesound-2018 of Kaggle": ("freesound-2018", lambda folder: freesound_2018(folder, kaggle=True), 3),
}


@pytest.mark.filterwarnings("ignore::avianspec.files.Note")
@pytest.mark.parametrize("case", SETS)
def test_a_set_is_known_at_its_root_and_from_one_level_above(tmp_path, case):
    name, make, n = SETS[case]
    root = make(tmp_path / "above" / "set")
    touch(tmp_path / "above", ".Trash/genres/jazz/jazz.00000.wav", "__MACOSX/FSD50K.ground_truth/._dev.csv")
    table = load_source(name, root)
    assert len(table) == n and all(Path(p).is_file() for p in table.path) and (table.label != "").all()
    for place in (root, tmp_path / "above"):
        assert layout_name(place) == name and list(load_parts(place)) == [""]
        assert load_layout(place).equals(table) and load_recordings(place).equals(table)


def test_birdclef_by_the_columns_of_its_table(tmp_path):
    with pytest.warns(UserWarning, match="set aside: 2 in test_soundscapes, 2 in unlabeled_soundscapes"):
        table = load_birdclef(birdclef(tmp_path)).set_index("recording_id")
    drongo, fly = table.loc["ashdro1/XC7.ogg"], table.loc["asbfly/XC134896.ogg"]
    assert (drongo.label, drongo.background, drongo.type, drongo.quality) == (
        "ashdro1",
        "asbfly|zitcis1",
        "song, call",
        "",
    )
    assert (fly.background, fly.type, fly.quality, fly.latitude, fly.longitude) == ("", "call", "A", 39.2, 118.6)
    assert (fly.recordist, fly.license, fly.url) == ("Ada", "CC BY-NC-SA 4.0", "https://xeno-canto.org/134896")
    assert (fly.scientific_name, str(drongo.latitude)) == ("Muscicapa dauurica", "nan")


@pytest.mark.filterwarnings("ignore::avianspec.files.Note")
def test_older_years_of_birdclef_name_files_without_their_folder(tmp_path):
    old = load_birdclef(birdclef(tmp_path / "2020", "2020")).iloc[0]
    assert (old.recording_id, old.label, old.scientific_name) == ("aldfly/XC134874.mp3", "aldfly", "Empidonax alnorum")
    assert (old.type, old.date, old.time, old.quality) == ("call, male", "2013-05-25", "08:00", "B")
    assert old.background == "Parus major_Great Tit" and old.country == "Canada" and old.location == "Hill"
    newer = load_birdclef(birdclef(tmp_path / "2021", "2021")).iloc[0]
    assert (newer.recording_id, newer.date, newer.time, newer.quality) == (
        "acafly/XC109605.ogg",
        "2012-05-12",
        "09:30",
        "C",
    )
    latest = load_birdclef(birdclef(tmp_path / "2025", "2025")).iloc[0]
    assert (latest.label, latest.type, latest.background) == ("1139490", "", "")


def test_fsd50k_keeps_labels_partition_and_uploaders(tmp_path):
    table = load_fsd50k(fsd50k(tmp_path)).set_index("recording_id")
    assert table.published.to_dict() == {
        "64760": "train 1",
        "16399": "validation 1",
        "63": "train 2",
        "37199": "test 1",
    }
    assert table.label["64760"] == "Guitar,Music" and table.path["63"].endswith("FSD50K.dev_audio/63.wav")
    guitar, other = table.loc["64760"], table.loc["16399"]
    assert (guitar.recordist, guitar.group, guitar.url) == ("ada", "uploader ada", "https://freesound.org/s/64760/")
    assert guitar.license == "http://creativecommons.org/licenses/by/3.0/" and (other.recordist, other.group) == (
        "",
        "",
    )
    assert set(load_source("fsd50k", tmp_path, "dev").recording_id) == {"64760", "16399", "63"}
    (tmp_path / "FSD50K.metadata" / "dev_clips_info_FSD50K.json").unlink()
    assert (load_fsd50k(tmp_path).recordist == "").all()  # it may be left out
    assert set(load_fsd50k(fsd50k(tmp_path / "one", ["eval"])).published) == {"test 1"}  # of both what is there


def test_freesound_2018_sets_padding_aside_and_says_what_a_hand_checked(tmp_path):
    table = load_freesound_2018(freesound_2018(tmp_path / "zenodo"))
    assert table.published.tolist() == ["train 1", "train 2", "test 1"]
    by_id = table.set_index("recording_id")
    assert by_id.remarks.to_dict() == {
        "00044347.wav": "label not verified",
        "001ca53d.wav": "label checked by hand",
        "00326aa9.wav": "",
    }
    assert by_id.group["00044347.wav"] == "source clip 11" and by_id.license["001ca53d.wav"] == "Attribution"
    with pytest.warns(UserWarning, match=r"test_post_competition.csv: 1 row set aside, because it only pads .*line 3"):
        kaggle = load_freesound_2018(freesound_2018(tmp_path / "kaggle", kaggle=True))
    assert set(kaggle.label) == {"Hi-hat", "Saxophone", "Oboe"}
    assert rows_set_aside(kaggle).recording_id.tolist() == ["0038a046.wav"]


@pytest.mark.filterwarnings("ignore::avianspec.files.Note")
@pytest.mark.parametrize(
    "make, spoil, error, match",
    [
        (
            birdclef,
            "train_metadata.csv",
            ValueError,
            r"train_metadata.csv lacks the columns primary_label, filename; it has: a",
        ),
        (
            fsd50k,
            "FSD50K.ground_truth/dev.csv",
            ValueError,
            r"dev.csv lacks the columns fname, labels, split; it has: a",
        ),
        (
            freesound_2018,
            "FSDKaggle2018.meta/train_post_competition.csv",
            ValueError,
            "lacks the columns fname, label; it has: a",
        ),
        (
            fsd50k,
            "FSD50K.metadata/dev_clips_info_FSD50K.json",
            ValueError,
            "dev_clips_info_FSD50K.json is not valid JSON",
        ),
    ],
)
def test_other_columns_than_published_are_named(tmp_path, make, spoil, error, match):
    write(make(tmp_path) / spoil, "a,b", "1,2")
    with pytest.raises(error, match=match):
        load_layout(tmp_path)


@pytest.mark.filterwarnings("ignore::avianspec.files.Note")
@pytest.mark.parametrize("name, mark", [(s.name, mark) for s in SOURCES.values() for mark in s.marks])
def test_a_mark_without_the_rest_says_what_is_missing(tmp_path, name, mark):
    touch(tmp_path, mark if mark.endswith((".csv", ".TXT")) else f"{mark}/x/1.txt")
    assert layout_name(tmp_path) == name
    with pytest.raises((FileNotFoundError, ValueError)) as refused:
        load_layout(tmp_path)
    assert str(tmp_path) in str(refused.value) and any(
        word in str(refused.value) for word in ("holds no", "lacks", "is not", "no recording")
    )


@pytest.mark.filterwarnings("ignore::avianspec.files.Note")
def test_several_sets_in_one_folder_are_named_and_none_is_taken(tmp_path):
    birdclef(tmp_path / "clef 2024")
    assert layout_name(tmp_path) == "birdclef"
    birdclef(tmp_path / "clef 2021", "2021")
    fsd50k(tmp_path / "fsd")
    with pytest.raises(
        ValueError, match=r"holds 3 data sets; give one of them: .*clef 2021 \(birdclef\), .*fsd \(fsd50k\)"
    ):
        load_layout(tmp_path)
    write(tmp_path / "recordings.csv", "id,en", "7,Wren")  # a table of one's own comes first
    assert list(load_layout(tmp_path).label) == ["Wren"]


@pytest.mark.parametrize(
    "make, curated, classes",
    [
        (fsd50k, 3, ["Animal", "Bird", "Guitar", "Music", "Train"]),
        (freesound_2018, 2, ["Hi-hat", "Oboe", "Saxophone"]),
        (lambda folder: freesound_2018(folder, kaggle=True), 2, ["Hi-hat", "Oboe", "Saxophone"]),
    ],
)
@pytest.mark.filterwarnings("ignore::avianspec.files.Note")
def test_sets_of_freesound_are_sets_to_tag(tmp_path, make, curated, classes):
    from avianspec.studies.tagging.clips import class_order, load_clips

    clips = load_clips(make(tmp_path))
    assert clips.published.value_counts().to_dict() == {"curated": curated, "test": 1}
    assert class_order(tmp_path, clips) == classes


def test_hidden_copies_in_a_known_set_are_passed_over(tmp_path):
    write(tmp_path / "LibriSpeech" / "SPEAKERS.TXT", "84 | F | dev-clean | 8.02 | Christie")
    touch(
        tmp_path / "LibriSpeech" / "dev-clean" / "84" / "1",
        "84-1-0000.flac",
        "._84-1-0000.flac",
        ".cache/84-1-0000.flac",
    )
    touch(tmp_path / "LibriSpeech" / ".Trash" / "84" / "1", "84-1-0001.flac")
    assert list(load_librispeech(tmp_path).recording_id) == ["84-1-0000"]
    assert len(list_folder(tmp_path).audio) == 1


def test_a_published_partition_without_a_test_part_is_no_split(tmp_path):
    every = load_fsd50k(fsd50k(tmp_path))
    assert set(split_recordings(every).published) == {"train", "validation", "test"}
    dev = every[~every.published.str.startswith("test")].reset_index(drop=True)
    assert "published" not in split_recordings(dev)


def test_a_known_set_is_brought_in_from_the_command_line(tmp_path, capfd):
    root = birdclef(tmp_path / "clef")
    sf.write(root / "train_audio" / "asbfly" / "XC134896.ogg", tone(), 22050)
    assert main(["fetch", "own", str(root), "--output", str(tmp_path / "recordings.csv")]) == 0
    assert "2 recordings of 2 classes" in capfd.readouterr().out
    assert set(load_recordings(tmp_path / "recordings.csv").label) == {"asbfly", "ashdro1"}
    (root / "train_metadata.csv").unlink()
    assert main(["fetch", "own", str(root), "--output", str(tmp_path / "x.csv")]) == 1
    assert "holds no train_metadata.csv or train.csv, which BirdCLEF has" in capfd.readouterr().err
