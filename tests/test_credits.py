"""Whom to thank: from a table, from a list of licences, in Markdown and BibTeX."""

import pandas as pd

from avianspec.data.credits import attribution, attribution_markdown, license_name, listed_credits, write_credits
from avianspec.data.folders import find_any
from avianspec.data.known_sets import load_freesound
from avianspec.data.recordings import validate
from avianspec.files import read_text_table

LIST = (
    "- **[1-30344-A.ogg](https://x/1-30344-A.ogg)**:   clip derived from "
    "[My Dog [1].wav](http://freesound.org/s/30344/) by *ronfont* ([CC-BY](http://creativecommons.org/licenses/by/3.0/))"
)


def table(**columns):
    n = len(next(iter(columns.values())))
    base = {"recording_id": [f"r{k}" for k in range(n)], "label": "dog", "path": "x"}
    return validate(pd.DataFrame(base | columns))


def test_a_list_of_licences_comes_before_the_table(tmp_path):
    (tmp_path / "LICENSES.md").write_text(LIST, encoding="utf-8")
    clips = table(
        recording_id=["esc_1-30344-A", "other"],
        license=["http://creativecommons.org/publicdomain/zero/1.0/"] * 2,
        recordist=["", "Bo"],
    )
    rows = attribution(clips, tmp_path / "LICENSES.md")
    assert rows.iloc[0][["recordist", "license", "url"]].tolist() == [
        "ronfont",
        "CC BY 3.0",
        "http://freesound.org/s/30344/",
    ]
    assert rows.iloc[1][["recordist", "license"]].tolist() == ["Bo", "CC0 1.0"]
    assert attribution(clips).recordist.tolist() == ["unknown", "Bo"]


def test_real_clips_are_all_credited(shared_data):
    folder = shared_data / "environment"
    rows = attribution(load_freesound(folder), find_any(folder, "LICENSES.md"))
    assert len(rows) == 240 and not (rows.recordist == "unknown").any() and rows.url.str.startswith("http").all()
    assert not (rows.license == "unknown").any() and len(listed_credits(folder / "LICENSES.md")) >= 240


def test_where_nobody_is_named_there_are_counts():
    text = attribution_markdown(attribution(table(label=["jazz", "rock", "jazz"])), ("track", "class", "by", "licence"))
    assert text.startswith("| class | tracks |\n|---|--:|\n| jazz | 2 |\n| rock | 1 |\n")


def test_credits_are_written_for_all_readers(tmp_path):
    rows = table(recordist=["Ana & {Co}_50%", "Bo"], date=["2021-05-01", "?"], url=["//xeno-canto.org/1", ""])
    write_credits(rows, tmp_path)
    assert list(read_text_table(tmp_path / "ATTRIBUTION.csv").recordist) == list(rows.recordist)
    bibtex = (tmp_path / "CREDITS.bib").read_text(encoding="utf-8")
    assert r"Ana \& \{Co\}\_50\%" in bibtex and bibtex.count("@misc{r") == 2 and bibtex.count("year = {2021}") == 1
    page = (tmp_path / "CREDITS.md").read_text(encoding="utf-8")
    assert "[r0](https://xeno-canto.org/1)" in page and "| r1 | dog | Bo |" in page


def test_licences_have_short_names():
    assert license_name("//creativecommons.org/licenses/by-nc-nd/2.5/") == "CC BY-NC-ND 2.5"
    assert license_name("https://creativecommons.org/licenses/sampling+/1.0") == "sampling+ 1.0"
    assert license_name("") == "unknown" and license_name("CC0") == "CC0"


def test_every_credit_names_its_licence(tmp_path):
    by = "https://creativecommons.org/licenses/by-nc/4.0/"
    write_credits(table(recordist=["Ana", "Bo"], license=[by, ""], url=["https://x.org/1", ""]), tmp_path)
    page, bibtex = ((tmp_path / name).read_text(encoding="utf-8") for name in ("CREDITS.md", "CREDITS.bib"))
    assert "| [r0](https://x.org/1) | dog | Ana | CC BY-NC 4.0 |" in page and "| r1 | dog | Bo | unknown |" in page
    assert "note = {CC BY-NC 4.0}" in bibtex and "note = {unknown}" in bibtex
    rows = read_text_table(tmp_path / "ATTRIBUTION.csv")
    assert rows.license.tolist() == ["CC BY-NC 4.0", "unknown"] and rows.license_url.tolist() == [by, ""]
