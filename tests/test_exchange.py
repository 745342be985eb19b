"""Detections handed on: packages that frictionless finds nothing wrong with, and nothing in them that nobody said."""

import csv
import json
import warnings
import xml.etree.ElementTree as ET
from pathlib import Path

import frictionless
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avianspec.data.annotations import DETECTION
from avianspec.field.exchange import (
    OCCURRENCE,
    Dataset,
    occurrence_table,
    table_schema,
    write_camtrap_dp,
    write_darwin_core,
)
from avianspec.field.presence import recording_times

SITES = pd.DataFrame(
    [("pond", 52.5, -13.25), ("wood/deep", -0.5, 0.125)], columns=["deploymentID", "latitude", "longitude"]
)
FILES = {
    "/night/pond/P_20240501T213000Z.wav": (600.5, 24_000),
    "/night/pond/.hidden..20240501T233000Z.flac": (60, 24_000),
    "/night/wood/deep/a b_20240502T041500+0530.mp3": (3600, 44_100),
    "/night/wood/deep/memo.wav": (10, 24_000),
    "/night/wood/deep/W_20240502_041500.wav": (10, 24_000),
}
KNOWN = list(FILES)[:3]
NAMES = {"Nightingale": "Luscinia megarhynchos"}


def quietly(function, *args, **how):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **how)


def times_of(files, **how):
    return quietly(recording_times, files, **how)


def detections(*rows):
    table = pd.DataFrame(list(rows), columns=DETECTION).astype({c: float for c in DETECTION[1:5]} | {"score": float})
    return table.astype({"path": str, "label": str, "channel": int})


def faults(path):
    "What frictionless finds wrong with a package, by the rules that stand in this project instead of the network's."
    package = json.loads(Path(path).read_text(encoding="utf-8"))
    package.pop("profile")
    for resource in package["resources"]:
        assert resource["schema"].endswith(f"camtrap-dp/1.0.2/{resource['name']}-table-schema.json")
        resource["schema"] = table_schema(resource["name"])
    report = frictionless.Package.from_descriptor(package, basepath=str(Path(path).parent)).validate()
    return report.flatten(["type", "fieldName", "note"])


def read(path, name):
    return pd.read_csv(Path(path).with_name(f"{name}.csv"), dtype=str, keep_default_na=False)


ROWS = st.lists(
    st.tuples(
        st.sampled_from(list(FILES)),
        st.floats(0, 9),
        st.floats(0.001, 5),
        st.floats(0, 9000) | st.just(np.nan),
        st.sampled_from(["Nightingale", "=1+1", 'a "b", c | d', "Käuzchen 鳥", "x\ny"]),
        st.integers(1, 4),
        st.floats(0, 1) | st.just(np.nan),
    ),
    max_size=6,
)


@settings(max_examples=25)
@given(ROWS, st.booleans())
def test_frictionless_finds_nothing_wrong_with_a_package(tmp_path_factory, rows, hosted):
    found = detections(*((p, s, s + n, np.nan, hz, label, c, score) for p, s, n, hz, label, c, score in rows))
    dataset = Dataset(title="Nächte am Teich!", media_url="https://x.org/é" if hosted else "", media_public=hosted)
    folder = tmp_path_factory.mktemp("package")
    path = quietly(write_camtrap_dp, found, FILES, times_of(FILES), folder, dataset, SITES, NAMES)
    assert faults(path) == []
    media, heard = read(path, "media"), read(path, "observations")
    assert len(media) == 3 and len(heard) == found.path.isin(KNOWN).sum()
    assert sorted(p.name for p in folder.iterdir()) == [
        "datapackage.json",
        "deployments.csv",
        "media.csv",
        "observations.csv",
    ]


def test_a_package_by_hand(tmp_path):
    found = detections(
        (KNOWN[0], 1.25, 2.5, 1000, np.nan, "Nightingale", 2, 0.875),
        (KNOWN[2], 0, 3, np.nan, np.nan, "Dog|cat", 1, np.nan),
    )
    dataset = Dataset("A night", ("A. Birder", "B"), data_licence="CC0-1.0", media_licence="CC-BY-4.0")
    created = pd.Timestamp("2024-06-01T10:00:00.5+02:00")
    path = quietly(write_camtrap_dp, found, FILES, times_of(FILES), tmp_path, dataset, SITES, NAMES, created)
    assert faults(path) == []
    deployments, media, heard = (read(path, name) for name in ("deployments", "media", "observations"))
    first = ["deploymentID", "latitude", "longitude", "deploymentStart", "deploymentEnd"]
    assert deployments[first].values.tolist() == [
        ["pond", "52.5", "-13.25", "2024-05-01T21:30:00Z", "2024-05-01T23:31:00Z"],
        ["wood/deep", "-0.5", "0.125", "2024-05-02T04:15:00+05:30", "2024-05-02T05:15:00+05:30"],
    ]
    assert media[["deploymentID", "timestamp", "fileName", "fileMediatype", "filePublic"]].values.tolist() == [
        ["pond", "2024-05-01T21:30:00Z", "P_20240501T213000Z.wav", "audio/wav", "false"],
        ["pond", "2024-05-01T23:30:00Z", ".hidden..20240501T233000Z.flac", "audio/flac", "false"],
        ["wood/deep", "2024-05-02T04:15:00+05:30", "a b_20240502T041500+0530.mp3", "audio/mpeg", "false"],
    ]
    assert media.filePath.tolist()[::2] == ["pond/P_20240501T213000Z.wav", "wood/deep/a b_20240502T041500+0530.mp3"]
    shown = ["mediaID", "eventStart", "eventEnd", "scientificName", "classificationProbability", "observationTags"]
    assert heard[shown].values.tolist() == [
        [
            media.mediaID[0],
            "2024-05-01T21:30:01Z",
            "2024-05-01T21:30:03Z",
            "Luscinia megarhynchos",
            "0.875",
            "label:Nightingale | start_s:1.250000 | end_s:2.500000 | channel:2 | low_hz:1000",
        ],
        [
            media.mediaID[2],
            "2024-05-02T04:15:00+05:30",
            "2024-05-02T04:15:03+05:30",
            "",
            "",
            "label:Dog/cat | start_s:0.000000 | end_s:3.000000 | channel:1",
        ],
    ]
    package = json.loads(path.read_text(encoding="utf-8"))
    required = {"resources", "profile", "created", "contributors", "project", "spatial", "temporal", "taxonomic"}
    assert required <= set(package) and package["profile"].endswith("1.0.2/camtrap-dp-profile.json")
    assert package["created"] == "2024-06-01T10:00:00+02:00" and package["name"] == "a-night"
    assert [c["title"] for c in package["contributors"]] == ["A. Birder", "B"]
    assert {x["scope"]: x["name"] for x in package["licenses"]} == {"data": "CC0-1.0", "media": "CC-BY-4.0"}
    assert set(package["project"]) >= {
        "title",
        "samplingDesign",
        "captureMethod",
        "individualAnimals",
        "observationLevel",
    }
    assert package["spatial"]["coordinates"][0][0] == [-13.25, -0.5]
    assert package["temporal"] == {"start": "2024-05-01", "end": "2024-05-02"}
    assert package["taxonomic"] == [{"scientificName": "Luscinia megarhynchos"}]


@pytest.mark.parametrize(
    "table, column, value, fault",
    [
        ("observations", "mediaID", "nowhere", "foreign-key"),
        ("observations", "classificationProbability", "1.5", "constraint-error"),
        ("observations", "eventStart", "2024-05-01 21:30", "type-error"),
        ("observations", "observationLevel", "", "constraint-error"),
        ("observations", "observationType", "bird", "constraint-error"),
        ("media", "deploymentID", "nowhere", "foreign-key"),
        ("media", "filePath", "../a.wav", "constraint-error"),
        ("media", "fileMediatype", "text/plain", "constraint-error"),
        ("deployments", "latitude", "95", "constraint-error"),
        ("deployments", "deploymentEnd", "", "constraint-error"),
    ],
)
def test_what_is_wrong_with_a_package_is_found(tmp_path, table, column, value, fault):
    found = detections((KNOWN[0], 1.25, 2.5, 1000, 2000, "Nightingale", 2, 0.875))
    path = quietly(write_camtrap_dp, found, FILES, times_of(FILES), tmp_path, sites=SITES)
    broken = read(path, table)
    broken.loc[0, column] = value
    broken.to_csv(path.with_name(f"{table}.csv"), index=False)
    assert fault in [kind for kind, _, _ in faults(path)]


def test_nothing_is_made_up(tmp_path):
    found = detections((KNOWN[0], 1, 2, 1000, 2000, "Great tit", 1, 0.5))
    times = times_of(FILES)
    with pytest.raises(ValueError, match="Where pond was is not known"):
        quietly(write_camtrap_dp, found, FILES, times, tmp_path)
    zoneless = {path: FILES[path] for path in list(FILES)[3:]}
    with pytest.raises(ValueError, match="No recording says when it was made"):
        quietly(write_camtrap_dp, found[:0], zoneless, times, tmp_path, sites=SITES)
    with pytest.raises(ValueError, match="table of sites has a column lat;"):
        quietly(write_camtrap_dp, found, FILES, times, tmp_path, sites=SITES.assign(lat=1))
    assert not list(tmp_path.iterdir())
    with pytest.warns(
        UserWarning, match=r"2 of 5 recordings do not say when .* left out: memo.wav, W_20240502_041500.wav"
    ):
        path = write_camtrap_dp(found, FILES, times, tmp_path, sites=SITES)
    package = json.loads(path.read_text(encoding="utf-8"))
    assert package["taxonomic"] == [] and "licenses" not in package
    assert read(path, "observations").scientificName.tolist() == [""]  # it looks like one, and is none
    given = times.assign(latitude=1.5, longitude=np.where(times.path == KNOWN[0], 2.0, 4.0))
    path = quietly(write_camtrap_dp, found, FILES, given, tmp_path, sites=SITES[1:])
    assert read(path, "deployments").longitude.tolist() == ["3.0", "0.125"]  # what its files say, the sites before


def test_the_same_detections_have_the_same_names_wherever_they_lie(tmp_path):
    moved = {path.replace("/night/", "/elsewhere/season/"): fact for path, fact in FILES.items()}
    said = []
    for files, folder in ((FILES, tmp_path / "a"), (moved, tmp_path / "b")):
        rows = [(list(files)[0], k, k + 1, 1000, 2000, "Nightingale", 1, 0.5) for k in (0, 0, 5)]
        path = quietly(write_camtrap_dp, detections(*rows), files, times_of(files), folder, sites=SITES)
        said.append([read(path, name).values.tolist() for name in ("deployments", "media", "observations")])
        assert faults(path) == []  # two detections alike are two observations
    assert said[0] == said[1]


def test_a_write_that_fails_leaves_no_description(tmp_path, monkeypatch):
    found = detections((KNOWN[0], 1, 2, 1000, 2000, "Owl", 1, 0.5))
    path = quietly(write_camtrap_dp, found, FILES, times_of(FILES), tmp_path, sites=SITES)
    monkeypatch.setattr("avianspec.field.exchange.write_json", lambda *args, **how: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        quietly(write_camtrap_dp, found, FILES, times_of(FILES), tmp_path, sites=SITES)
    assert not path.exists()


def test_occurrences_by_hand(tmp_path):
    found = detections(
        (KNOWN[0], 1.25, 2.5, 1000, np.nan, "Nightingale", 2, 0.875),
        (list(FILES)[4], 0, 3, np.nan, np.nan, "=Wren", 1, np.nan),
        (list(FILES)[3], 0, 3, np.nan, np.nan, "Nightingale", 1, 0.5),
    )
    sites = SITES[:1].assign(coordinateUncertainty=30)
    with pytest.warns(UserWarning, match="2 of 3 detections have no day or no scientific name"):
        table = occurrence_table(found, FILES, times_of(FILES), Dataset(classified_by="net 7"), sites, NAMES)
    path = write_darwin_core(table, tmp_path)
    rows = list(csv.reader(path.open(encoding="utf-8", newline="")))
    assert rows[0] == OCCURRENCE and len({row[0] for row in rows[1:]}) == 3
    by_name = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    assert {k: by_name[0][k] for k in OCCURRENCE[1:]} == {
        "basisOfRecord": "MachineObservation",
        "occurrenceStatus": "present",
        "eventID": "pond",
        "eventDate": "2024-05-01T21:30:01.250000Z/2024-05-01T21:30:02.500000Z",
        "scientificName": "Luscinia megarhynchos",
        "verbatimIdentification": "Nightingale",
        "identifiedBy": "net 7",
        "identificationVerificationStatus": "unverified",
        "identificationRemarks": "score 0.875",
        "decimalLatitude": "52.5",
        "decimalLongitude": "-13.25",
        "geodeticDatum": "EPSG:4326",
        "coordinateUncertaintyInMeters": "30",
        "samplingProtocol": "passive acoustic recording",
        "associatedMedia": "P_20240501T213000Z.wav",
        "occurrenceRemarks": "label:Nightingale | start_s:1.250000 | end_s:2.500000 | channel:2 | low_hz:1000",
    }
    blank = ["scientificName", "decimalLatitude", "geodeticDatum", "identificationRemarks"]
    memo = next(row for row in by_name if row["associatedMedia"] == "memo.wav")
    wren = next(row for row in by_name if row["verbatimIdentification"] == "'=Wren")
    assert [wren[k] for k in blank] == [""] * 4 and wren["eventDate"] == "2024-05-02T04:15:00/2024-05-02T04:15:03"
    assert memo["eventDate"] == "" and memo["scientificName"] == "Luscinia megarhynchos"
    core = ET.parse(tmp_path / "meta.xml").getroot()[0]
    fields = [field for field in core if field.tag.endswith("}field")]
    assert [(int(f.get("index")), f.get("term")) for f in fields] == [
        (k, f"http://rs.tdwg.org/dwc/terms/{term}") for k, term in enumerate(OCCURRENCE)
    ]
