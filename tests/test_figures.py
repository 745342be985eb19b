"""Every picture of the book has a caption, words for those who do not see it, a label, and a place in the text; so has
every table of its pages, but for the words.
"""

import re
import shutil

import page_checks
import pytest
import yaml
from conftest import ROOT

from avianspec.files import read_json, write_json
from avianspec.report import book, conversion, notebooks, side_by_side
from avianspec.scoring.comparison_table import label_tables

PAGES = [path for path, _ in book.listed_chapters(ROOT)]
PICTURE = re.compile(r"^!\[(.*)\]\(([^()\s]+)\)(\{[^}\n]*\})?[ \t]*$", re.M)
KEYS = re.findall(r"^@\w+\{(\w+),$", (ROOT / "report/references.bib").read_text(encoding="utf-8"), re.M)


def figures_of(path):
    "(label, caption, alternative text) of every picture of a page or notebook, as the sources say it."
    file = ROOT / path
    if file.suffix != ".ipynb":
        text = conversion.expand_includes(book.page_text(file), file, ROOT)
        for caption, _, braces in PICTURE.findall(text):
            label, _, values = conversion.attributes(braces)
            yield label, caption, values.get("fig-alt", "")
        return
    for cell in read_json(file)["cells"]:
        options = conversion.cell_options("".join(cell["source"]))[0] if cell["cell_type"] == "code" else {}
        if notebooks.has_picture(cell) or str(options.get("label", "")).startswith("fig-"):
            yield tuple(str(options.get(name, "")) for name in ("label", "fig-cap", "fig-alt"))


def words_of(path):
    "What a page says, outside code."
    file, found = ROOT / path, []
    text = book.page_text(file)
    if file.suffix != ".ipynb":
        text = conversion.expand_includes(text, file, ROOT)
    conversion.outside_code(text, lambda s: found.append(s) or s)
    return "\n".join(found)


def test_every_picture_has_caption_words_label_and_a_reference():
    exceptions = []
    for path in PAGES:
        named = set(re.findall(conversion.REFERENCE, words_of(path)))
        for label, caption, alt in figures_of(path):
            what = {
                "no label": not label.startswith("fig-"),
                "no caption": len(caption.split()) < 3,
                "no alternative text": len(alt.split()) < 5 or alt == caption or "/" in alt.split()[0],
                "no reference in its chapter": label not in named,
            }
            exceptions += [f"{path}: {label or caption or '?'}: {name}" for name, missing in what.items() if missing]
    assert not exceptions, "\n".join(exceptions)


def tables_of(path):
    "(first row, caption, label) of every table of a page, as the sources say it."
    found, text = [], conversion.expand_includes(book.page_text(ROOT / path), ROOT / path, ROOT)
    conversion.outside_code(text, lambda words: found.append(words) or words, inline=False)
    for rows, caption, label in re.findall(
        r"((?:^\|.*\n)+)(?:\n?:[ \t]+([^{\n]*)\{#(tbl-[\w-]+)\}[ \t]*$)?", "\n".join(found) + "\n", re.M
    ):
        yield rows.split("\n")[0], caption, label


def exceptions_of_tables(pages):
    "What is missing of the tables of some pages."
    exceptions = []
    for path in pages:
        named = set(re.findall(conversion.REFERENCE, words_of(path)))
        for row, caption, label in tables_of(path):
            what = {"no label": not label, "no caption": len(caption.split()) < 3}
            what["no reference on its page"] = label not in named
            exceptions += [f"{path}: {label or row}: {name}" for name, missing in what.items() if missing]
    return exceptions


QMD = [path for path in PAGES if path.endswith(".qmd")]


def test_every_table_of_a_page_has_caption_label_and_a_reference():
    assert not exceptions_of_tables(QMD), "\n".join(exceptions_of_tables(QMD))
    labels = [label for path in QMD for _, _, label in tables_of(path)]
    assert len(labels) > 60 and len(set(labels)) == len(labels)


def test_a_table_without_them_is_noticed(monkeypatch, tmp_path):
    monkeypatch.setattr("test_figures.ROOT", tmp_path)
    for text, missing in (
        ("| a |\n|---|\n", 3),
        ("| a |\n|---|\n\n: All of them. {#tbl-a}\n", 1),
        ("See @tbl-a.\n\n| a |\n|---|\n\n: All of them. {#tbl-a}\n", 0),
        ("```\n| a |\n```\n", 0),
    ):
        (tmp_path / "a.qmd").write_text(text, encoding="utf-8")
        assert len(exceptions_of_tables(["a.qmd"])) == missing, text


def test_the_tables_of_a_run_have_labels_too():
    bare = "| a |\n|---|\n| 1 |\n"
    made = label_tables(f"{bare}\nMore:\n\n{bare}", "run", ["scores, with intervals", "times"])
    assert re.findall(r"@(\S+) holds (\w+)\.", made) == [("tbl-run", "scores"), ("tbl-run-2", "times")]
    assert ": Scores, with intervals. {#tbl-run}\n" in made and made.count(bare) == 2


def test_what_several_tables_hold_is_said_once():
    bare = "| a |\n|---|\n| 1 |\n"
    made = label_tables(f"{bare}\nMore:\n\n{bare}", "run", ["scores, with intervals"])
    assert made.startswith("@tbl-run and @tbl-run-2 hold scores.\n") and made.count("hold") == 1


@pytest.mark.parametrize(
    "path",
    sorted(set(ROOT.glob("report/*/_*.md")) - set(ROOT.glob("report/results/*"))),
    ids=lambda p: f"{p.parent.name}/{p.stem}",
)
def test_stored_tables_are_labelled_as_the_comparison_labels_them(path):
    "Also those that were moved to a name of their own, such as _more.md."
    text, label = path.read_text(encoding="utf-8"), f"{path.parent.name}-{path.stem[1:]}"
    labels = [label.replace("_", "-") + (f"-{k}" if k > 1 else "") for k in range(1, 1 + text.count("{#tbl-"))]
    assert re.findall(r"\{#tbl-([\w-]+)\}", text) == labels
    said = re.findall(r"^@tbl.* holds? .*\.$", text, re.M)
    assert len(said) == len({sentence.split(" hold")[1].lstrip("s") for sentence in said}), said


def test_code_is_folded_up_to_what_it_shows():
    shown = dict(output_type="stream", name="stdout", text="1")
    rows = [("def f():\n    return 1", []), ("print(f())", [shown]), ("x = f()", []), ("y = x", [])]
    made = notebooks.fold_code([dict(cell_type="code", source=code, outputs=outputs) for code, outputs in rows])
    assert [len(cell["outputs"]) for cell in made] == [1, 0]
    assert (
        made[0]["source"].startswith('#| code-summary: "Show code: f"\n') and made[1]["source"] == "x = f()\n\n\ny = x"
    )


def test_pictures_are_counted():
    "So that the test above is not about nothing."
    found = [label for path in PAGES for label, _, _ in figures_of(path)]
    assert len(found) > 140 and len(set(found)) == len(found)


@pytest.mark.parametrize("path", sorted((ROOT / "avianspec/report/templates").glob("*.md")), ids=lambda p: p.stem)
def test_pictures_of_templates_have_them_too(path):
    for caption, target, braces in PICTURE.findall(path.read_text(encoding="utf-8")):
        label, _, values = conversion.attributes(braces)
        assert label.startswith("fig-") and len(caption.split()) >= 3 and len(values["fig-alt"].split()) >= 5, target
        assert f"@{label}" in path.read_text(encoding="utf-8"), label


def test_whatever_is_cited_is_listed_and_whatever_is_listed_is_cited():
    cited = {key for path in PAGES for key in conversion.cited_keys(words_of(path))}
    assert cited == set(KEYS) and len(KEYS) == len(set(KEYS)) > 30


def test_a_cell_with_several_pictures_becomes_several_figures():
    shown = [dict(output_type="display_data", metadata={}, data={kind: "x"}) for kind in ("text/html", "image/png")]
    source = '#| label: fig-a\n#| fig-cap: "A: b"\n#| fig-alt: "Two lines: c."\nplot()'
    cell = dict(cell_type="code", id="a", metadata={}, source=source, outputs=[*shown, shown[1]])
    at = conversion.Conversion("nbs/sound/x.ipynb", [], {"fig-a": "Figure 1.1"}, conversion.Headings(1))
    table, first, second = book.convert_notebook({"cells": [cell]}, at)["cells"]
    assert "mystnb" not in table["metadata"] and table["source"] == "plot()"
    assert (
        first["metadata"]["mystnb"]["figure"]["name"] == "fig-a"
        and second["metadata"]["mystnb"]["figure"]["name"] == "fig-a-2"
    )
    assert first["metadata"]["mystnb"]["image"] == {"alt": "Two lines, c."} and first["metadata"]["tags"] == [
        "remove-input"
    ]


def test_a_picture_without_a_row_here_is_noticed(monkeypatch, tmp_path):
    page = tmp_path / "a.qmd"
    page.write_text("# A\n\n![](p.png)\n", encoding="utf-8")
    monkeypatch.setattr("test_figures.ROOT", tmp_path)
    monkeypatch.setattr("test_figures.PAGES", ["a.qmd"])
    with pytest.raises(AssertionError, match="no alternative text"):
        test_every_picture_has_caption_words_label_and_a_reference()


def test_the_page_of_all_studies_says_what_the_result_files_say(tmp_path):
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    row = dict(low=0.3, high=0.9, data="one")
    first = [row | dict(version="wren-2", value=0.625), row | dict(version="no_audio", value=0.125)]
    second = [row | dict(version="wren-2", value=0.75), row | dict(version="wren-1", value=0.5)]
    second += [row | dict(version="majority", value=0.25), row | dict(version="wren-0", value=0.875, data="two")]
    about = {"one": dict(n_recordings=1234), "two": dict(n_recordings=5)}
    for name, rows in (("first", first), ("second", second)):
        write_json(tmp_path / f"report/{name}.json", dict(data=about, result=rows))
    files = ["report/first.json", "report/second.json", "report/none.json"]
    entry = dict(title="Wrens", page="no.qmd", asked="who sings", results=files, data="one", measured_on="songs")
    entry |= dict(metric="accuracy", published_by="birds-v20", as_published="wren-1", best="wren-2")
    entry |= dict(takes="sing", machine="a beak", not_reached="owls")
    (tmp_path / "report/studies.yml").write_text(yaml.safe_dump([entry, entry | dict(best="wren-0")]), encoding="utf-8")
    page = side_by_side.studies_fragment(tmp_path).replace("\u00a0", " ")
    cells = [c.strip() for c in page.splitlines()[2].split("|")[1:-1]]
    assert cells[:3] == ["Wrens", "who sings: cross-validated 19.3 %, test 22.8 %", "1,234 songs; accuracy"]
    assert cells[3:] == ["50.0 % [30.0, 90.0]", "`wren-2` 62.5 % [30.0, 90.0]", "no audio 12.5 % [30.0, 90.0]"]
    assert page.splitlines()[3].split("|")[5].strip() == "–", "of another set of data"
    assert "| Wrens | `sing` | a beak | owls |" in page


def test_the_tracked_page_of_all_studies_is_of_the_tracked_results():
    tracked = (ROOT / "report/results/_studies.md").read_text(encoding="utf-8")
    assert tracked == side_by_side.studies_fragment(ROOT), "write it again: report.side_by_side.studies_fragment"


@pytest.mark.parametrize(
    "body, finding",
    [
        ('<img src="p.png">', "picture without words"),
        ('<img src="p.png" alt="../p.png">', "picture without words"),
        ('<img src="q.png" alt="A wren sings.">', "broken: q.png"),
        ('<a href="b.html">b</a>', "broken: b.html"),
        ('<a href="#there">b</a>', "no such place: #there"),
        ("<p>see ?@fig-a</p>", "unresolved: ?@fig-"),
        ("<article><h1>a</h1><h3>b</h3></article>", "h1 before h3"),
        ("<article><h1>a</h1><h1>b</h1></article>", "2 of the first order"),
        ('<script src="https://a.org/x.js"></script>', "loaded from elsewhere"),
        ("x" * 2_000_001, "heavy: 2.0 MB"),
        ('<article><h1>a</h1><h2>b</h2><img src="p.png" alt="A wren sings."><a href="#a" id="a">b</a></article>', ""),
    ],
)
def test_the_checks_of_pages_find_what_is_wrong(tmp_path, body, finding):
    (tmp_path / "p.png").write_bytes(b"x")
    (tmp_path / "a.html").write_text(body, encoding="utf-8")
    found = page_checks.check_pages(tmp_path).get("a.html", [])
    assert (not found) if not finding else len(found) == 1 and finding in found[0], found


@pytest.mark.skipif(page_checks.CHROMIUM is None, reason="no Chromium on this machine")
def test_a_browser_finds_what_cannot_be_read_pressed_or_named(tmp_path):
    head = '<html lang="en"><title>a</title>'
    bad = f"""{head}<p style="color:#bbb">pale</p><button style="width:9px;height:9px"></button>
    <div style="width:700px">wide</div>"""
    good = f'{head}<p style="color:#333">dark</p><button style="width:60px;height:40px">Go</button>'
    (tmp_path / "bad.html").write_text(f"<!doctype html>{bad}", encoding="utf-8")
    (tmp_path / "good.html").write_text(f"<!doctype html>{good}", encoding="utf-8")
    found = page_checks.browse(tmp_path, ["bad.html", "good.html"])
    assert [f.split(":")[0].split(" ")[0] for f in sorted(found.pop("bad.html"))] == [
        "contrast",
        "no",
        "small",
        "wider",
    ]
    assert found == {}
