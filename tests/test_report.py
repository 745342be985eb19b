"""The report: converter, staging, both renderers, and what a reader sees."""

import html
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import urllib.parse
from html.parser import HTMLParser
from pathlib import Path

import page_checks
import pytest
import yaml
from conftest import ROOT, places_named

from avianspec.files import read_json, write_json
from avianspec.report import (
    book,
    build,
    conversion,
    fragments,
    markdown,
    notebooks,
    renderers,
    results,
    sample,
    species_pages,
    staging,
)

NOTEBOOKS = sorted((ROOT / "nbs").rglob("*.ipynb"))
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
RAW = re.compile(r":::|\{\{<|#\||(?<![\w.])@(?:fig|tbl|sec)-|\{#|\{\.\w|\{container\}|\{admonition\}|\{figure\}")


class Page(HTMLParser):
    "Links, anchors and the text outside code of one HTML page."

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors, self.words, self.inside = [], set(), [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.anchors |= {values[k] for k in ("id", "name") if values.get(k)}
        self.links += [values[k] for k in ("href", "src") if values.get(k)]
        if tag in ("pre", "code", "script", "style", "tt"):
            self.inside.append(tag)

    def handle_endtag(self, tag):
        if self.inside and self.inside[-1] == tag:
            self.inside.pop()

    def handle_data(self, data):
        if not self.inside:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return sample.sample_run(tmp_path_factory.mktemp("runs") / "sample-00000000")


@pytest.fixture(scope="module")
def site(run, tmp_path_factory):
    "The sample run rendered by Sphinx."
    folder = tmp_path_factory.mktemp("site") / "_report"
    built = build.build_report(run, folder, renderer="sphinx", root=ROOT)
    assert built.fresh and built.renderer == "sphinx" and built.index == folder / "index.html"
    assert built.warnings == ()
    return folder


def pages_of(site):
    return {p.relative_to(site).as_posix(): Page(p) for p in sorted(site.rglob("*.html")) if "_static" not in p.parts}


# ---- the converter -----------------------------------------------------------------------------------------


def convert(
    text,
    number=2,
    numbered=None,
    page="report/a.qmd",
    pages=("index.qmd", "report/a.qmd", "report/b.qmd", "nbs/sound/x.ipynb"),
):
    return conversion.Conversion(page, list(pages), numbered or {}, conversion.Headings(number))(text)


@pytest.mark.parametrize(
    "quarto, myst",
    [
        ('::: {.callout-note title="Mind"}\nthe gap\n:::\n', ":::{admonition} Mind\n:class: note\n\nthe gap\n:::\n"),
        ("::: {.callout-tip}\nthe gap\n:::\n", ":::{admonition} Tip\n:class: tip\n\nthe gap\n:::\n"),
        (
            "::: {.callout-warning}\n## Mind\nthe gap\n:::\n",
            ":::{admonition} Mind\n:class: warning\n\n\nthe gap\n:::\n",
        ),
        (
            '::: {.callout-note title="A" collapse="true"}\nx\n:::\n',
            ":::{admonition} A\n:class: note dropdown\n\nx\n:::\n",
        ),
        ("::: {.a}\n::: {.b}\nx\n:::\n:::\n", "::::{container} a\n:::{container} b\nx\n:::\n::::\n"),
        ("# Title {.unnumbered}\n", "# Title\n"),
        ("# Title\n\n## One\n\n### Deep\n", "# 2\u2002Title\n\n## 2.1\u2002One\n\n### Deep\n"),
        ("## Here {#sec-here}\n", "(sec-here)=\n## 2.1\u2002Here\n"),
        (
            "[b](b.qmd), [b](/report/b.qmd#x), [x](../nbs/sound/x.ipynb), [gone](gone.qmd), [out](https://a.org/x.qmd)\n",
            "[b](b.md), [b](b.md#x), [x](../nbs/sound/x.ipynb), gone, [out](https://a.org/x.qmd)\n",
        ),
        ("```{=html}\n<audio controls></audio>\n```\n", "```{raw} html\n<audio controls></audio>\n```\n"),
        ('```{.python filename="x.py"}\ny\n```\n', "```python\ny\n```\n"),
        ("`::: {.x}` and `@fig-a`\n", "`::: {.x}` and `@fig-a`\n"),
        ("```\n::: {.x}\n# no title\n@fig-a\n```\n", "```\n::: {.x}\n# no title\n@fig-a\n```\n"),
    ],
)
def test_each_construct_has_its_twin(quarto, myst):
    assert convert(quarto) == myst


def test_figures_tables_and_references_carry_their_numbers():
    numbered = {"fig-a": "Figure 2.1", "tbl-b": "Table 2.1"}
    made = convert(
        'See @fig-a and [@tbl-b].\n\n![A \\[b\\].](p.png){#fig-a width="50%"}\n\n'
        "| x |\n|---|\n| 1 |\n\n: Counts. {#tbl-b}\n",
        numbered=numbered,
    )
    assert "See [Figure 2.1](#fig-a) and [Table 2.1](#tbl-b)." in made
    assert (
        "```{figure} p.png\n:name: fig-a\n:alt: A b.\n:width: 50%\n:align: center\n\nFigure 2.1: A \\[b\\].\n```"
        in made
    )
    assert "````{table} Table 2.1: Counts.\n:name: tbl-b\n\n| x |\n|---|\n| 1 |\n\n````" in made


@pytest.mark.parametrize(
    "text, words", [("@fig-none", "@fig-none refers to nothing"), ("::: {.a}\nx\n", "never closed")]
)
def test_the_converter_says_what_is_wrong(text, words):
    with pytest.raises(ValueError, match=words):
        convert(text)


def test_includes_nest_and_other_shortcodes_are_refused(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "_a.md").write_text("a {{< include /sub/_b.md >}}\n")
    (tmp_path / "sub/_b.md").write_text("b\n")
    assert conversion.expand_includes("{{< include _a.md >}}", tmp_path / "p.qmd", tmp_path) == "a b"
    with pytest.raises(ValueError, match="shortcode 'video'"):
        conversion.expand_includes("{{< video x >}}", tmp_path / "p.qmd", tmp_path)
    with pytest.raises(FileNotFoundError, match="_c.md"):
        conversion.expand_includes("{{< include _c.md >}}", tmp_path / "p.qmd", tmp_path)


def test_cells_fold_their_code_and_name_their_figures():
    drawn = [{"output_type": "display_data", "metadata": {}, "data": {"image/png": "x"}}]

    def cell(source, outputs=drawn):
        return dict(cell_type="code", id="a", metadata={}, execution_count=None, source=source, outputs=outputs)

    at = conversion.Conversion("nbs/sound/x.ipynb", [], {"fig-a": "Figure 1.1"}, conversion.Headings(1))
    made = book.convert_cell(cell('#| label: fig-a\n#| fig-cap: "A: b"\nplot()'), at)
    assert made["source"] == "plot()" and made["metadata"]["tags"] == ["hide-input"]
    assert made["metadata"]["mystnb"]["figure"] == {"caption": "Figure 1.1: A: b", "name": "fig-a"}
    assert book.convert_cell(cell("#| echo: false\nplot()"), at)["metadata"]["tags"] == ["remove-input"]
    assert book.convert_cell(cell("#| include: false\nplot()"), at) is None
    assert book.convert_cell(cell("#| export", []), at) is None


# ---- what is tracked, for the real Quarto ------------------------------------------------------------------


def tracked_words():
    "(path, words) of every page and Markdown cell outside code."
    for path in [ROOT / "index.qmd", *sorted((ROOT / "report").glob("*.qmd")), *NOTEBOOKS]:
        found = [s for kind, s in conversion.segments(book.page_text(path)) if kind == "words"]
        yield path, re.sub(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)", "", "\n".join(found), flags=re.S)


def test_table_of_contents_lists_what_is_there():
    listed = [c.path for c in book.chapters(ROOT)]
    assert listed[0] == "index.qmd" and len(set(listed)) == len(listed)
    assert sorted(p for p in listed if p.startswith("nbs/")) == sorted(
        p.relative_to(ROOT).as_posix() for p in NOTEBOOKS
    )
    assert sorted(p for p in listed if p.startswith("report/")) == sorted(
        p.relative_to(ROOT).as_posix() for p in (ROOT / "report").glob("*.qmd")
    )


def test_quarto_settings_are_those_the_report_relies_on():
    settings = yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))
    assert settings["project"] == {"type": "book", "output-dir": "_report"} and settings["execute"] == {
        "enabled": False
    }
    for name in [*settings["filters"], settings["format"]["html"]["css"]]:
        assert (ROOT / name).is_file()


RESULTS = (
    "results|benchmarks|field|real-birds|ablation|music|tagging|transfer|speech"  # folders of report/ that hold them
)


def test_tracked_pages_use_only_includes_and_references_that_exist():
    listed = {c.path for c in book.chapters(ROOT)}
    labels = [
        conversion.cell_options("".join(c["source"]))[0].get("label")
        for p in NOTEBOOKS
        for c in read_json(p)["cells"]
        if c["cell_type"] == "code"
    ]
    pages = [ROOT / "index.qmd", *sorted((ROOT / "report").glob("*.qmd"))]
    labels = [label for label in labels if label]
    labels += [label for path in pages for label in book.labels_on(path, ROOT)]
    assert len(labels) == len(set(labels)), "a label is used twice"
    for path, words in tracked_words():
        page = path.relative_to(ROOT).as_posix()
        for match in re.finditer(r"(?<![\w\\/.])@((?:fig|tbl|sec)-[\w-]*\w)", words):
            assert match[1] in labels, f"{page} refers to @{match[1]}"
        for match in conversion.LINK.finditer(words):
            if "://" not in match[2]:
                assert conversion.target_of(match[2], page) in listed, f"{page} links to {match[2]}"
        for line in path.read_text(encoding="utf-8").splitlines():
            if "{{<" in line:
                of_results = re.fullmatch(rf"\{{\{{< include /report/({RESULTS})/_\w+\.md >\}}\}}", line)
                assert path.suffix == ".qmd" and of_results, f"{page}: {line}"


def test_no_directive_of_nbdev_is_taken_for_an_option_of_quarto():
    """Quarto reads leading lines that begin with '#|' as YAML; a bare word there breaks the cell's fence."""
    for path in NOTEBOOKS:
        for cell in read_json(path)["cells"]:
            if cell["cell_type"] != "code":
                continue
            for line in "".join(cell["source"]).split("\n"):
                if not re.match(r"#\s*\|", line):
                    break
                option = yaml.safe_load(re.sub(r"^#\s*\|", "", line))
                assert isinstance(option, dict), f"{path.name}: put a space before '{line}'"


# ---- notebooks in the one form -----------------------------------------------------------------------------


def lines_with_ends(path):
    "Whether every cell's source is a list of lines, all but the last with their ends."
    sources = [c["source"] for c in read_json(path)["cells"]]
    assert all(isinstance(s, list) for s in sources), path
    assert all(line.endswith("\n") for s in sources for line in s[:-1]), path
    assert not any("\n" in line[:-1] for s in sources for line in s), path
    return True


def test_tracked_notebooks_are_in_the_form_that_every_program_reads(tmp_path):
    shutil.copytree(ROOT / "nbs", tmp_path / "nbs")
    untidy = notebooks.tidy_notebooks(tmp_path / "nbs")
    assert not untidy, f"run `make export`: {', '.join(p.name for p in untidy)}"
    assert all(lines_with_ends(path) for path in NOTEBOOKS)


def test_tidying_splits_texts_and_keeps_outputs_and_words(tmp_path):
    source = "#| export\n\ndef f():\n    return '#| export'\n"
    output = {"output_type": "stream", "name": "stdout", "text": "a\nb\n"}
    cells = [
        {"cell_type": "code", "id": "a", "metadata": {}, "execution_count": 3, "source": source, "outputs": [output]},
        {
            "cell_type": "code",
            "id": "b",
            "metadata": {},
            "execution_count": 3,
            "source": " #| echo: false\n1",
            "outputs": [],
        },
        {"cell_type": "markdown", "id": "c", "metadata": {}, "source": "# Wrens\n\n#| export\nare small"},
        {"cell_type": "markdown", "id": "d", "metadata": {}, "source": ""},
    ]
    path = tmp_path / "deep" / "one.ipynb"
    path.parent.mkdir()
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    command = [sys.executable, "-m", "avianspec.report.notebooks", str(tmp_path)]
    assert "one.ipynb" in subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout
    made = read_json(path)["cells"]
    assert lines_with_ends(path) and made[0]["outputs"] == [output] and made[0]["execution_count"] == 3
    assert ["".join(c["source"]) for c in made] == [
        " #| export\n\ndef f():\n    return '#| export'",
        "#| echo: false\n1",
        "# Wrens\n\n#| export\nare small",
        "",
    ]
    before = path.stat().st_mtime_ns
    assert notebooks.tidy_notebooks(tmp_path) == [] and path.stat().st_mtime_ns == before


# ---- staging -----------------------------------------------------------------------------------------------


def test_staged_book_holds_the_run_and_nothing_of_the_machine(run, site):
    staged = run / "report-src"
    listed = [c.path for c in book.chapters(staged)]
    assert (
        "nbs/scoring/evaluation.ipynb" in listed
        and "nbs/synthetic/aviary.ipynb" not in listed
        and listed.count("report/species.qmd") == 1
    )
    at = listed.index("report/species.qmd")
    assert len([p for p in listed[at + 1 : at + 6] if p.startswith("report/species/")]) == 5
    chapters = yaml.safe_load((staged / "_quarto.yml").read_text(encoding="utf-8"))
    assert chapters["project"]["resources"] == ["report/species/*.mp3"]
    private = [run, run.parent, ROOT, Path.home(), sys.prefix]
    for path in staged.rglob("*"):
        if path.suffix not in (".qmd", ".md", ".ipynb", ".json", ".yml"):
            continue
        text = path.read_text(encoding="utf-8")
        assert not places_named(text, *private), path.name
        if path.suffix == ".ipynb":
            assert "papermill" not in json.dumps([c["metadata"] for c in read_json(path)["cells"]])


def test_links_and_figures_that_are_not_there_become_words(run, site):
    words = json.dumps(read_json(run / "report-src/nbs/data/recordings.ipynb"))
    assert "See @fig-recordings and the spectra." in words
    assert (
        conversion.drop_references("see @fig-x and [@tbl-y], not `@fig-x`", {"tbl-y"})
        == "see a figure that this run did not draw and [@tbl-y], not `@fig-x`"
    )


def test_a_chapter_that_the_runs_of_a_study_should_have_executed_is_not_shown_where_this_one_did_not(tmp_path):
    root = project(tmp_path / "project")
    shutil.rmtree(root / "experiments")
    (root / "experiments").mkdir()
    own = ["data/recordings", "scoring/evaluation", "learning/models"]
    for study, names in {"wrens": own, "owls": ["learning/training"]}.items():
        entry = {"purpose": "A test.", "notebooks": names}
        (root / f"experiments/{study}.yml").write_text(yaml.safe_dump({"experiments": {f"{study}-1": entry}}))
    run = sample.sample_run(tmp_path / "wrens-0")
    write_json(run / "manifest.json", read_json(run / "manifest.json") | {"study": "wrens", "experiment": "wrens-1"})
    there = staging.stage_notebooks(results.load_results(run, root), root, tmp_path / "staged")
    assert "nbs/data/recordings.ipynb" in there and "nbs/learning/models.ipynb" not in there
    assert {"nbs/learning/training.ipynb", "nbs/cli.ipynb", "nbs/files.ipynb"} <= set(
        there
    )  # lessons of no run of wrens
    assert all(lines_with_ends(tmp_path / "staged" / path) for path in there)


def test_what_is_missing_is_said(tmp_path):
    run = tmp_path / "bare-0"
    run.mkdir()
    with pytest.raises(FileNotFoundError, match="neither manifest.json nor metrics.json"):
        results.load_results(run, ROOT)
    write_json(run / "manifest.json", {"experiment": "bare", "status": "failed"})
    texts = fragments.fragments(results.load_results(run, ROOT))
    assert all(t.strip() for t in texts.values())
    assert (
        "not been scored" in texts["_what.md"]
        and "no table of recordings" in texts["_data.md"]
        and "command is not on record" in texts["_command.md"]
    )
    assert results.headline(run) == "This run has no scores yet."
    assert build.build_report(run, tmp_path / "out", renderer="none", root=ROOT).renderer == "none"


def test_real_recordings_are_not_called_synthetic(tmp_path):
    run = sample.sample_run(tmp_path / "real-0", synthetic=False)
    staged = staging.stage(run, root=ROOT)
    for path in [staged / "index.qmd", *(staged / "report").rglob("*.qmd"), *(staged / "report/results").glob("_*.md")]:
        text = path.read_text(encoding="utf-8")
        text = re.sub(r"<!--.*?-->|_synthetic\.md|badge-synthetic|\]\([^)]*\)", "", text)
        if path.name in (
            "transfer.qmd",
            "events.qmd",
            "speech.qmd",
            "_studies.md",
        ):  # of weights learnt from invented birds, and of scores on them
            continue
        assert not re.search(r"synthe|aviary|invented", text, re.I), path.name


def test_many_species_and_hostile_names():
    names = [f"Bird {i}" for i in range(88)] + ["../../x", "a|b [c](d) {{< e >}} <script>", "夜鷹"]
    made = markdown.slugs(names)
    assert len(set(made.values())) == 91 and all(re.fullmatch(r"[a-z0-9-]{1,60}", s) for s in made.values())
    escaped = markdown.md(names[-2])
    assert not RAW.search(escaped) and "<script" not in escaped.replace(r"\<", "") and markdown.md("a\nb\x00") == "a b"
    assert (
        markdown.link("x", "https://a.org/(b) c") == "x"
        and markdown.link("x", "https://a.org/(b)|") == "[x](https://a.org/%28b%29%7C)"
    )


def test_only_addresses_of_the_web_are_linked():
    for bad in ("javascript:alert(1)", "file:///etc/passwd", "", "https:// x", "data:text/html,x"):
        assert markdown.link("a_b", bad) == r"a\_b"
    assert markdown.link("a", "//x.org/1") == "[a](https://x.org/1)"
    made = markdown.slugs(["Blue tit", "blue-tit", "BLUE TIT!", "index"])
    assert len(set(made.values())) == 4 and "index" not in made.values()  # four species, four pages


def test_no_path_of_a_machine_is_quoted():
    names = [("/home/ann/birds/runs/one", "runs/one"), ("/home/ann", "~")]
    value = {"a": ["see /home/ann/birds/runs/one/metrics.json", 1], "b": {"c": "/home/ann/x.wav and /home/anna"}}
    assert results.scrub(value, names) == {"a": ["see runs/one/metrics.json", 1], "b": {"c": "~/x.wav and /home/anna"}}


def project(folder):
    "A copy of what the report needs of the project."
    skip = shutil.ignore_patterns("results", "__pycache__", ".ipynb_checkpoints")
    for name in ("nbs", "report", "experiments"):
        shutil.copytree(ROOT / name, folder / name, ignore=skip)
    for name in ("_quarto.yml", "index.qmd", "settings.ini"):
        shutil.copy(ROOT / name, folder)
    return folder


def test_published_results_stand_alone(tmp_path, run):
    root = project(tmp_path / "project")
    tracked, executed = root / "nbs/data/recordings.ipynb", run / "notebooks/data/recordings.ipynb"
    cells = read_json(tracked)["cells"]
    drawn = next(c for c in read_json(executed)["cells"] if c.get("outputs") and "data" in c["outputs"][0])
    last = next(c for c in cells[::-1] if c["cell_type"] == "code")
    copy, before = read_json(executed), executed.read_text(encoding="utf-8")
    copy["cells"].append(drawn | {"id": last["id"], "source": last["source"]})
    write_json(executed, copy)
    try:
        folder = staging.publish(run, root)
    finally:
        executed.write_text(before, encoding="utf-8")
    published = read_json(tracked)["cells"]
    assert lines_with_ends(tracked) and [c["source"] for c in published] == [c["source"] for c in cells]
    assert notebooks.has_picture(next(c for c in published if c["id"] == last["id"]))
    included = set(
        re.findall(
            r"include /report/results/(\S+)",
            "".join(p.read_text(encoding="utf-8") for p in [root / "index.qmd", *(root / "report").glob("*.qmd")]),
        )
    )
    assert included == {p.name for p in folder.glob("_*.md")}
    assert "/report/species/" not in "".join(p.read_text(encoding="utf-8") for p in folder.glob("_*.md"))
    assert str(run) not in "".join(p.read_text(encoding="utf-8") for p in folder.glob("*.*"))
    for path in [root / "index.qmd", *(root / "report").glob("*.qmd")]:
        assert "{{" not in conversion.expand_includes(path.read_text(encoding="utf-8"), path, root)


# ---- what a reader sees ------------------------------------------------------------------------------------


def test_no_link_is_broken(site):
    pages = pages_of(site)
    assert len(pages) > 12
    for name, page in pages.items():
        for link in page.links:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc or link.startswith("#") and not parts.fragment:
                continue
            target = (
                os.path.normpath(os.path.join(os.path.dirname(name), urllib.parse.unquote(parts.path)))
                if parts.path
                else name
            )
            assert (site / target).exists(), f"{name} → {link}"
            if parts.fragment and target in pages:
                assert parts.fragment in pages[target].anchors, f"{name} → {link}"


def test_nothing_raw_and_nothing_private_is_shown(site, run):
    for name, page in pages_of(site).items():
        assert not RAW.search(page.text), (name, RAW.search(page.text))
        source = (site / name).read_text(encoding="utf-8")
        assert not places_named(source, run, ROOT, Path.home()), name


def test_pages_say_what_they_should(site, run):
    pages = pages_of(site)
    metrics = read_json(run / "metrics.json")
    shown = f"{100 * metrics['splits']['recordist']['network']['accuracy']:.1f}"
    assert shown in pages["index.html"].text and "Synthetic data" in pages["index.html"].text
    species = pages["report/species/half-tone-b.html"]
    assert "Half | Tone [B]" in species.text and "synthetic" in species.text and "half-tone-b.mp3" in species.links
    assert "no test recording" in pages["report/species/lone-inger.html"].text
    assert "an error page | saved as audio" in pages["report/data-card.html"].text
    evaluation = (site / "nbs/scoring/evaluation.html").read_text(encoding="utf-8")
    assert "Figure 2." not in evaluation and 'id="fig-evaluation"' in evaluation and "Show code" in evaluation
    order = [c.path for c in book.chapters(run / "report-src")]
    side = re.findall(
        r'href="([^"#]+\.html)"',
        re.search(r'<nav class="bd-links.*?</nav>', (site / "index.html").read_text(encoding="utf-8"), re.S)[0],
    )
    assert side == [re.sub(r"\.\w+$", ".html", p) for p in order if p != "index.qmd"]


def test_second_build_has_nothing_to_do(site, run):
    assert not build.build_report(run, site, renderer="sphinx", root=ROOT).fresh
    before = build.inputs_digest(results.load_results(run, ROOT), ROOT, "sphinx")
    metrics = (run / "metrics.json").read_text()
    try:
        (run / "metrics.json").write_text(metrics.replace("v20", "v21"))
        assert build.inputs_digest(results.load_results(run, ROOT), ROOT, "sphinx") != before
    finally:
        (run / "metrics.json").write_text(metrics)


def test_a_report_is_rendered_anew_when_a_sound_or_any_module_it_uses_changes(run, monkeypatch):
    from avianspec.learning import reuse

    def digest():
        return build.inputs_digest(results.load_results(run, ROOT), ROOT, "sphinx")

    found = results.load_results(run, ROOT)
    files = [species_pages.audio_file(found, path) for path in found.recordings.path]
    before, path = digest(), Path(next(f for f in files if f and Path(f).is_file()))
    assert digest() == before
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))  # touched, and made to look as old
    assert digest() != before
    before, sha256 = digest(), reuse.file_sha256
    for module, changes in {"credits.py": True, "aviary.py": True, "cli.py": False}.items():
        monkeypatch.setattr(reuse, "file_sha256", lambda p, m=module: sha256(p) + ("x" if Path(p).name == m else ""))
        assert (digest() != before) == changes, module


def test_outputs_of_other_code_are_not_published(tmp_path):
    cells = [
        dict(cell_type="code", id=i, metadata={}, source=[f"x = {i}"], outputs=[], execution_count=1) for i in "12"
    ]
    shown = dict(output_type="stream", name="stdout", text="shown\n")
    made = [c | dict(outputs=[shown]) for c in cells]
    made[1] = made[1] | dict(source=["x = 99"])  # the notebook has changed since it was executed
    for name, of in (("made", made), ("tracked", cells)):
        write_json(tmp_path / f"{name}.ipynb", dict(nbformat=4, nbformat_minor=5, metadata={}, cells=of))
    notebooks.publish_outputs(tmp_path / "made.ipynb", tmp_path / "tracked.ipynb", [])
    kept = read_json(tmp_path / "tracked.ipynb")["cells"]
    assert kept[0]["outputs"] and kept[1]["outputs"] == []


def test_pages_stand_up_to_the_checks_of_files(site):
    assert page_checks.check_pages(site) == {}


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width, dark", [(1400, False), (400, False), (1400, True)])
def test_pages_stand_up_to_a_browser(site, width, dark):
    names = ["index", "report/studies", "report/species", "report/species/half-tone-b", "nbs/scoring/evaluation"]
    assert page_checks.browse(site, [f"{n}.html" for n in names], width, dark) == {}


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [1400, 400])
def test_pages_fit_their_window(site, tmp_path, width):
    names = [
        "index.html",
        "report/species.html",
        "report/species/half-tone-b.html",
        "report/how-it-was-run.html",
        "report/attributions.html",
        "nbs/scoring/evaluation.html",
    ]
    frames = "".join(
        f'<iframe data-name="{n}" src="{(site / n).as_uri()}" style="width:{width}px;height:900px"></iframe>'
        for n in names
    )
    script = (
        "<script>onload=()=>{document.title=JSON.stringify([...document.querySelectorAll('iframe')].map(f=>"
        "[f.dataset.name,f.contentDocument.documentElement.scrollWidth,"
        "f.contentDocument.querySelectorAll('article h1').length]))}</script>"
    )
    (tmp_path / "frames.html").write_text(f"<!doctype html><html><head></head><body>{frames}{script}</body></html>")
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--allow-file-access-from-files",
            "--virtual-time-budget=8000",
            "--window-size=1600,1000",
            "--dump-dom",
            (tmp_path / "frames.html").as_uri(),
        ],
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    measured = json.loads(html.unescape(re.search(r"<title>(.*?)</title>", done.stdout, re.S)[1]))
    assert [m[0] for m in measured] == names
    for name, needed, titles in measured:
        assert needed <= width and titles == 1, (name, needed)


def test_pages_that_a_run_has_made_have_no_link_to_edit_them(site):
    of_species = sorted((site / "report/species").glob("*.html"))
    assert of_species and not any("source-edit-button" in p.read_text(encoding="utf-8") for p in of_species)
    assert "source-edit-button" in (site / "report/species.html").read_text(encoding="utf-8")


# ---- the choice of renderer --------------------------------------------------------------------------------


def stand_in(folder, body):
    "A program called quarto that does what it is told here."
    program = folder / "quarto"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


@pytest.mark.skipif(
    os.name == "nt", reason="the stand-in for quarto is a script with a first line that Windows does not read"
)
def test_quarto_is_used_where_it_is_found_and_sphinx_where_it_fails(run, tmp_path, monkeypatch):
    bins = tmp_path / "bin"
    bins.mkdir()
    stand_in(bins, 'mkdir "$2/_report" && printf \'by quarto\' > "$2/_report/index.html"')
    monkeypatch.setenv("PATH", f"{bins}{os.pathsep}{os.environ['PATH']}")
    built = build.build_report(run, tmp_path / "one", renderer="auto", root=ROOT)
    assert built.renderer == "quarto" and built.index.read_text() == "by quarto"
    stand_in(bins, "echo 'it cannot' >&2; exit 1")

    def by_sphinx(sources, output, progress):
        output.mkdir()
        (output / "index.html").write_text("by sphinx")
        return []

    monkeypatch.setattr(build, "render_sphinx", by_sphinx)
    built = build.build_report(run, tmp_path / "two", renderer="auto", root=ROOT)
    assert built.renderer == "sphinx" and built.index.read_text() == "by sphinx"
    with pytest.raises(RuntimeError, match="it cannot"):
        build.build_report(run, tmp_path / "three", renderer="quarto", root=ROOT)


def test_a_pdf_is_of_pages_without_code():
    several = [
        {"part": "The study", "chapters": ["report/a.qmd", "b.ipynb"]},
        {"part": "Sound", "chapters": ["c.ipynb"]},
    ]
    made = build.pdf_settings({"book": {"chapters": ["index.qmd", "nbs/cli.ipynb", *several]}})
    assert made["book"]["chapters"] == ["index.qmd", {"part": "The study", "chapters": ["report/a.qmd"]}]
    assert list(made["format"]) == ["typst"]


@pytest.mark.skipif(renderers.find_quarto() is None, reason="a PDF is made by Quarto, and there is none here")
def test_quarto_makes_a_pdf_of_the_pages(run, tmp_path):
    version = subprocess.run([renderers.find_quarto(), "--version"], capture_output=True, text=True).stdout
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < (1, 9):
        pytest.skip(f"books are set in Typst since Quarto 1.9, and this is {version.strip()}")
    pdf = build.build_pdf(run, tmp_path, root=ROOT)
    assert pdf == tmp_path / "avianspec.pdf" and pdf.read_bytes().startswith(b"%PDF") and pdf.stat().st_size > 100_000


def test_fetching_quarto_is_tried_once_and_remembered(tmp_path, monkeypatch):
    tried = []

    def refuse(command, timeout_s):
        tried.append(command)
        return 1, "ERROR: refused"

    monkeypatch.setattr(renderers, "quarto_home", lambda: tmp_path / "home")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(renderers, "run_limited", refuse)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "env"))
    assert renderers.fetch_quarto() is None and renderers.fetch_quarto() is None
    assert len(tried) == 1 and "--no-deps" in tried[0] and "--target" in tried[0]
    assert read_json(tmp_path / "home/quarto.json") == {
        "package": renderers.QUARTO_PACKAGE,
        "fetched": False,
        "answer": "ERROR: refused",
    }


def test_an_unknown_renderer_is_refused(run):
    with pytest.raises(ValueError, match="auto, quarto, sphinx or none"):
        build.build_report(run, renderer="word", root=ROOT)


def test_a_folder_that_is_no_report_is_never_replaced(run, tmp_path):
    thesis = tmp_path / "docs" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("years of work")
    with pytest.raises(ValueError, match="holds something that is no report"):
        build.build_report(run, thesis.parent, renderer="none", root=ROOT)
    with pytest.raises(ValueError, match="would replace the project or the run"):
        build.build_report(run, ".", renderer="none", root=ROOT)
    assert thesis.read_text() == "years of work"


def test_a_run_of_another_study_has_a_book_of_its_own(tmp_path):
    run = sample.sample_run(tmp_path / "music-0")
    manifest = read_json(run / "manifest.json")
    write_json(
        run / "manifest.json",
        manifest
        | {
            "experiment": "music-8",
            "study": "music",
            "purpose": "Pictures of sound.",
            "notebooks": ["stores/pictures", "studies/music/study"],
            "published": {"test accuracy": 0.885},
        },
    )
    part = {
        "n_test": 6,
        "network": {"accuracy": 0.5, "interval": [0.25, 0.75]},
        "naive_bayes": {"accuracy": 1.0, "interval": [0.4, 1.0]},
        "majority": {"accuracy": 0.125, "interval": [None, None]},
    }
    write_json(
        run / "metrics.json",
        {
            "network": "8",
            "metric": "accuracy",
            "classes": ["jazz", "rock"],
            "main_split": "track",
            "splits": {"track": part},
        },
    )
    assert results.headline(run).splitlines()[2].split("  ")[
        0
    ] == "track" and "0.500 [0.250, 0.750]" in results.headline(run)
    staged = staging.stage(run, root=ROOT)
    book.convert_book(staged, tmp_path / "myst")  # raises where an include or a link leads nowhere
    listed = [c.path for c in book.chapters(staged)]
    assert listed == [
        "index.qmd",
        "nbs/data/recordings.ipynb",
        "nbs/scoring/evaluation.ipynb",
        "report/how-it-was-run.qmd",
        "report/attributions.qmd",
        "report/references.qmd",
    ]
    first = re.sub(" +", " ", (staged / "index.qmd").read_text(encoding="utf-8"))
    assert (
        "# music-8" in first
        and "| track | 6 | 0.500 [0.250, 0.750] | 1.000 [0.400, 1.000] | 0.125 |" in first
        and "test accuracy 0.885" in first
        and "synthesised" in first
    )
    assert "2 classes" in first and str(tmp_path) not in first
