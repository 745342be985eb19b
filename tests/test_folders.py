"""What lies in a folder: one walk for all, links and hidden folders, and the level at which labels stand."""

import os
import unicodedata
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avianspec.data.folders import (
    NOT_READ,
    find_any,
    is_hidden,
    list_folder,
    load_folder,
    names_a_division,
    names_a_part,
)
from avianspec.data.layouts import load_recordings
from avianspec.sound.audio import AUDIO_SUFFIXES


def grow(folder, *files):
    "Empty files in a folder: the folder."
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return folder


def inside(folder, paths):
    return [p.relative_to(folder).as_posix() for p in paths]


def load(folder, **how):
    "Labels by recording, and what was warned of."
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = load_folder(folder, **how)
    return dict(zip(table.recording_id, table.label, strict=True)), "\n".join(str(w.message) for w in caught)


HIDDEN = [
    ".ipynb_checkpoints",
    ".Trash",
    ".Trash-1000",
    ".git",
    "__MACOSX",
    "@eaDir",
    "#recycle",
    "$RECYCLE.BIN",
    "System Volume Information",
    "lost+found",
]


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_folders_are_neither_classes_nor_searched(tmp_path, name):
    grow(
        tmp_path,
        "Wren/1.wav",
        f"{name}/2.wav",
        f"Wren/{name}/3.wav",
        f"Wren/site 1/{name}/deep/4.wav",
        f"{name}/a/5.wav",
    )
    assert load(tmp_path) == ({"Wren/1.wav": "Wren"}, "")
    assert find_any(tmp_path, "2.wav", "5.wav") is None and find_any(tmp_path, "1.wav") == tmp_path / "Wren" / "1.wav"
    assert load(tmp_path / name)[0] == {"a/5.wav": "a"}  # who names it means it


def test_companions_of_macos_and_files_of_systems_are_not_even_counted(tmp_path):
    grow(tmp_path, "Wren/1.wav", "Wren/._1.wav", "Wren/.DS_Store", "Wren/Thumbs.db", "Wren/desktop.ini")
    assert load(tmp_path) == ({"Wren/1.wav": "Wren"}, "")


def test_files_passed_over_are_counted_by_suffix_in_one_sentence(tmp_path):
    grow(tmp_path, "a.wav", *(f"{k}.TXT" for k in range(7)), *(f"x/{k}.json" for k in range(5)))
    assert list_folder(tmp_path).passed_over == "12 files passed over: 7 .txt, 5 .json."
    grow(tmp_path, "b.ape", "c.ape", "LICENSE")
    found = list_folder(tmp_path)
    assert found.passed_over == (
        "15 files passed over: 2 of sound in formats that cannot be read (2 .ape), to be converted to WAV or FLAC; "
        "13 no sound (7 .txt, 5 .json, 1 without suffix)."
    )
    assert (len(found.audio), len(found.unread), len(found.others)) == (1, 2, 13)
    assert list_folder(grow(tmp_path / "one", "a.csv")).passed_over == "1 file passed over: 1 .csv."
    assert list_folder(grow(tmp_path / "good", "a.wav")).passed_over == ""
    many = list_folder(grow(tmp_path / "many", *(f"a.k{k}" for k in range(9))))
    assert many.passed_over.endswith("1 .k5, 3 of 3 other kinds.")
    assert not NOT_READ & set(AUDIO_SUFFIXES)


@given(st.lists(st.sampled_from([".wav", ".WAV", ".mp3", ".ape", ".txt", ".csv", ""]), max_size=12), st.data())
def test_every_visible_file_is_in_one_of_three_heaps(tmp_path_factory, suffixes, data):
    folder = tmp_path_factory.mktemp("heap")
    places = [data.draw(st.sampled_from(["", "x/", "x/y/", ".h/", "x/.h/"])) for _ in suffixes]
    grow(folder, *(f"{place}f{k}{suffix}" for k, (place, suffix) in enumerate(zip(places, suffixes, strict=True))))
    found = list_folder(folder)
    seen = [suffix for place, suffix in zip(places, suffixes, strict=True) if ".h" not in place]
    assert len(found.audio) == sum(s.lower() in (".wav", ".mp3") for s in seen)
    assert len(found.unread) == seen.count(".ape") and list(found.audio) == sorted(found.audio)
    assert len({*found.audio, *found.unread, *found.others}) == len(seen)


def test_linked_folders_are_followed_once_and_loops_are_named(tmp_path):
    home, other = grow(tmp_path / "home", "Wren/1.wav"), grow(tmp_path / "other", "2.wav", "deep/3.wav")
    (home / "Tit").symlink_to(other)
    (home / "Robin").symlink_to(other / "deep")  # within what Tit leads to
    (home / "Wren" / "up").symlink_to(home)
    (home / "Wren" / "far up").symlink_to(tmp_path)
    (other / "deep" / "back").symlink_to(other)
    (home / "a first").symlink_to(home / "Wren")  # the real folder comes first, whatever the names
    (home / "nowhere").symlink_to(tmp_path / "gone")
    (home / "Wren" / "self").symlink_to("self")
    found = list_folder(home)
    assert inside(home, found.audio) == ["Robin/3.wav", "Tit/2.wav", "Wren/1.wav"]  # each once
    named = sorted(note.split(" is ")[0] for note in found.notes)
    names = ["Robin/back", "Wren/far up", "Wren/self", "Wren/up", "a first", "nowhere"]
    assert named == sorted(str(home / name) for name in names)
    labels, told = load(home)
    assert (
        set(labels.values()) == {"Robin", "Tit", "Wren"} and "a first is a link to" in told and "leads nowhere" in told
    )


def test_a_folder_that_cannot_be_opened_is_named(tmp_path, monkeypatch):
    grow(tmp_path, "Wren/1.wav", "locked/2.wav")
    scandir = os.scandir

    def refuse(place):
        if os.fspath(place).endswith("locked"):
            raise PermissionError(13, "Permission denied", os.fspath(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refuse)
    found = list_folder(tmp_path)
    assert found.notes == (f"{tmp_path / 'locked'} could not be opened (Permission denied)",)
    assert inside(tmp_path, found.audio) == ["Wren/1.wav"]
    with pytest.raises(FileNotFoundError, match="is no folder"):
        list_folder(tmp_path / "gone")


def test_a_pipe_is_named_and_never_opened(tmp_path):
    grow(tmp_path, "Wren/1.wav")
    os.mkfifo(tmp_path / "Wren" / "2.wav")
    found = list_folder(tmp_path)
    assert len(found.audio) == 1 and "2.wav is no file but a pipe" in found.notes[0]


def test_the_same_name_at_two_sites_is_two_recordings(tmp_path):
    grow(tmp_path, "Wren/site 1/a.wav", "Wren/site 2/a.wav", "Tit/site 1/a.wav", "Tit/site 1/a.mp3")
    assert load(tmp_path) == (
        {
            "Tit/site 1/a.mp3": "Tit",
            "Tit/site 1/a.wav": "Tit",
            "Wren/site 1/a.wav": "Wren",
            "Wren/site 2/a.wav": "Wren",
        },
        "",
    )


def test_labels_that_the_eye_cannot_tell_apart_are_named(tmp_path):
    composed, split = (unicodedata.normalize(form, "Käuzchen") for form in ("NFC", "NFD"))
    grow(tmp_path, f"{composed}/1.wav", f"{split}/1.wav", "wren/1.wav", "Wren/1.wav", "Tit/1.wav")
    if len(os.listdir(tmp_path)) < 5:
        pytest.skip("this disk cannot hold two names that differ by case or Unicode form")
    labels, told = load(tmp_path)
    assert len(labels) == 5 and set(labels.values()) == {composed, "wren", "Wren", "Tit"}
    assert "2 folders are called 'Käuzchen' in different Unicode forms; they are one label" in told
    assert "'Wren' and 'wren' differ only by case; they are 2 labels" in told


PLAIN = {  # the first level is plainly that of the labels
    "flat": ["Wren/1.wav", "Tit/1.wav"],
    "one label": ["Wren/1.wav"],
    "site, day": ["Wren/site 1/2024-05-01/1.wav", "Tit/site 2/2024-05-02/1.wav"],
    "day": ["Wren/20240501/1.wav", "Tit/2024-05/1.wav"],
    "recorder": ["Wren/24F31901603710A0/1.wav", "Tit/SM4/1.wav"],
    "season": ["Wren/1.wav", "Tit/spring/1.wav"],
    "kind of call": ["Wren/song/1.wav", "Tit/flight call/1.wav", "Tit/alarm/1.wav"],
    "numbers": ["Wren/001/1.wav", "Tit/002/1.wav"],
    "parts within": ["Wren/train/1.wav", "Wren/test/2.wav", "Tit/train/1.wav"],
    "numbers as labels": ["0/a.wav", "1/b.wav", "2021/c.wav", "476537/d.wav"],
    "codes": ["abethr1/1.ogg", "yerwar/1.ogg"],
    "kinds as labels": ["song/1.wav", "call/1.wav", "noise/1.wav", "short/1.wav"],
    "vehicles": ["car/1.wav", "bus/1.wav", "train/1.wav"],
    "a riddle": ["Wren/1.wav", "Tit/1.wav", "Soundscape/1.wav"],
    "stray within": ["Wren/1.wav", "Wren/2.wav", "Wren/Berlin/3.wav", "Tit/4.wav"],
}
LIKELY = {  # taken, with a warning
    "days below places": ["Wren/Berlin/2024-05-01/1.wav", "Tit/Potsdam/2024/05/02/1.wav"],
    "one of many": ["Wren/1.wav", "Tit/1.wav", "Robin/Berlin/1.wav"],
}
WRONG = {  # files, and what of the message tells what would be right
    "birdclef": (
        ["train_audio/abethr1/1.ogg", "unlabeled_soundscapes/2.ogg"],
        "train_audio if its subfolders (abethr1)",
    ),
    "soundscapes beside labels": (["Wren/1.wav", "Tit/1.wav", "train_soundscapes/2.ogg"], "train_soundscapes: that is"),
    "esc-50": (["audio/1-100032-A-0.wav", "meta/esc50.csv"], "(meta/esc50.csv lies there)"),
    "urbansound": (
        ["audio/fold1/1.wav", "audio/fold2/2.wav", "metadata/UrbanSound8K.csv"],
        "metadata/UrbanSound8K.csv",
    ),
    "folds": (["fold1/1.wav", "fold2/2.wav"], "fold1, fold2: that is what parts of a data set"),
    "parts": (["train/Wren/1.wav", "test/Wren/2.wav"], "train if its subfolders (Wren)"),
    "parts without labels": (["train/1.wav", "val/2.wav"], "train, val: that is"),
    "train and test among labels": (["train/1.wav", "test/1.wav", "Wren/1.wav"], "test, train: that is"),
    "train with subfolders": (["train/Wren/1.wav", "train/Tit/1.wav", "Robin/1.wav", "Jay/1.wav"], "train: that is"),
    "one above": (["mine/Wren/1.wav", "mine/Tit/1.wav"], "mine if its subfolders (Tit, Wren)"),
    "one above, with a stray": (["mine/Wren/1.wav", "mine/Tit/1.wav", "mine/Jay/1.wav", "mine/x.wav"], "mine if its"),
    "groups": (["Paridae/Great Tit/1.wav", "Turdidae/Robin/1.wav"], "either level could be the labels"),
    "places": (["Berlin/Wren/1.wav", "Potsdam/Wren/1.wav"], "load_folder(folder, level=1), or 2"),
    "days": (["2024-05-01/1.wav", "2024-05-02_night/1.wav"], "days or sites"),
    "sites": (["site 1/1.wav", "site 2/1.wav"], "days or sites"),
    "formats": (["wav/1.wav", "mp3/1.mp3"], "mp3, wav: that is"),
    "set's name before": (
        ["ABC12.dev_audio/1.wav", "ABC12.eval_audio/2.wav"],
        "ABC12.dev_audio, ABC12.eval_audio: that",
    ),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_labels_are_taken_without_a_word(tmp_path, name):
    labels, told = load(grow(tmp_path, *PLAIN[name]))
    assert labels == {file: file.split("/")[0] for file in PLAIN[name]} and told == ""


@pytest.mark.parametrize("name", LIKELY)
def test_likely_labels_are_taken_and_named(tmp_path, name):
    labels, told = load(grow(tmp_path, *LIKELY[name]))
    assert labels == {file: file.split("/")[0] for file in LIKELY[name]}
    assert "taken as labels; if" in told and "Berlin" in told and "level=2" in told


@pytest.mark.parametrize("name", WRONG)
def test_another_level_is_described_and_refused(tmp_path, name):
    files, right = WRONG[name]
    for door in (load_folder, load_recordings if name != "birdclef" else load_folder):
        with pytest.raises(ValueError) as refused:
            door(grow(tmp_path, *files))
        message = str(refused.value)
        assert "\n" not in message and str(tmp_path) in message and right in message
        assert f"{files[0].split('/')[0]}/ with" in message and "What would be right: " in message


@pytest.mark.parametrize("name", [*PLAIN, *LIKELY, *WRONG])
def test_who_says_the_level_is_believed(tmp_path, name):
    files = [f for f in (WRONG[name][0] if name in WRONG else {**PLAIN, **LIKELY}[name]) if not f.endswith(".csv")]
    labels, told = load(grow(tmp_path, *files), level=1)
    assert labels == {file: file.split("/")[0] for file in files} and told == ""
    deep = [file for file in files if file.count("/") > 1]
    if deep:
        labels, told = load(tmp_path, level=2)
        assert labels == {file: file.split("/")[1] for file in deep}
        assert (f"{len(files) - len(deep)} sound file" in told) == (len(deep) < len(files))


def test_one_level_too_deep_is_asked_about(tmp_path):
    with pytest.raises(
        ValueError, match=r"no audio in subfolders \(2 sound files such as 1.wav in it: is it that of one label"
    ):
        load_folder(grow(tmp_path, "1.wav", "2.wav", "notes.txt"))
    with pytest.raises(ValueError, match="2 files passed over: 2 of sound in formats that cannot be read"):
        load_folder(grow(tmp_path / "other", "Wren/1.ape", "Wren/2.ape"))


def test_what_lies_beside_and_between_is_told(tmp_path):
    grow(tmp_path, "README.md", "x.wav", "Wren/1.wav", "Wren/1.txt", "Wren/2.ape", "Tit/1.wav")
    labels, told = load(tmp_path)
    assert set(labels) == {"Wren/1.wav", "Tit/1.wav"} and "README" not in told and ".md" not in told
    assert "1 sound file such as x.wav beside the labels' folders" in told
    assert (
        "2 files passed over: 1 of sound in formats that cannot be read (1 .ape)" in told
        and "1 no sound (1 .txt)" in told
    )


@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=12))
def test_any_name_gets_an_answer(name):
    assert isinstance(is_hidden(name), bool) and isinstance(names_a_part(name), bool)
    assert names_a_division(name) or not names_a_part(name)  # what parts a set may divide a label, too
