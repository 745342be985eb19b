"""What is wrong with the pages of a rendered book: `python tests/page_checks.py _report [report/music.html ...]`.

Of all pages: references that lead nowhere, broken links and pictures, pictures without words, jumps in the order of
headings, what is loaded from elsewhere, weight. With Chromium, of the pages named (ten by default), in light and dark:
contrast, names of buttons and fields, tap targets, width at 400 pixels. Nothing but the standard library is needed.
"""

import html
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
from html.parser import HTMLParser
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
UNRESOLVED = re.compile(r"\?@(?:fig|tbl|sec)-|\[@|(?<![\w.@/])@(?:fig|tbl|sec)-[\w-]+|\?\?\?|\{\{<|Figure \?|Table \?")
HEAVY = 2_000_000  # bytes of a page and all it loads
TEN = (
    "index report/studies report/real-birds report/music report/tagging report/references report/glossary"
    " nbs/sound/features nbs/data/exploration nbs/scoring/evaluation"
).split()


class Page(HTMLParser):
    "Links, anchors, pictures, headings and words of one page."

    def __init__(self, path):
        super().__init__()
        self.links, self.loaded, self.anchors, self.pictures = [], [], set(), []
        self.headings, self.words, self.inside, self.article = [], [], [], 0
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.anchors |= {values[k] for k in ("id", "name") if values.get(k)}
        if tag == "article":
            self.article += 1
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if tag == "img":
            self.pictures.append((values.get("src", ""), values.get("alt")))
        style = tag == "link" and {"stylesheet", "icon"} & set((values.get("rel") or "").split())
        if tag in ("img", "script", "source", "iframe") and values.get("src") or style:
            self.loaded.append(values.get("src") or values.get("href"))
        if re.fullmatch("h[1-6]", tag) and self.article:
            self.headings.append(int(tag[1]))
        if tag in ("pre", "code", "script", "style", "tt"):
            self.inside.append(tag)

    def handle_endtag(self, tag):
        if tag == "article":
            self.article -= 1
        if self.inside and self.inside[-1] == tag:
            self.inside.pop()

    def handle_data(self, data):
        if not self.inside:
            self.words.append(data)


def target_of(name, link):
    "The file that a link of a page leads to, relative to the book."
    path = urllib.parse.unquote(urllib.parse.urlsplit(link).path)
    return os.path.normpath(os.path.join(os.path.dirname(name), path)).replace(os.sep, "/") if path else name


def style_loads(folder, name):
    "What a style sheet loads that is there; fonts and pictures."
    text = (folder / name).read_text(encoding="utf-8", errors="replace")
    found = {target_of(name, u.strip("'\" ")) for u in re.findall(r"url\(([^)]+)\)", text) if "data:" not in u}
    return {f for f in found if (folder / f).is_file()}


def weight_of(folder, name, page):
    "Bytes of a page and of all that it loads."
    files = {name} | {target_of(name, u) for u in page.loaded if not urllib.parse.urlsplit(u).scheme}
    files |= {
        f
        for sheet in files
        if sheet.endswith(".css") and (folder / sheet).is_file()
        for f in style_loads(folder, sheet)
    }
    return sum((folder / f).stat().st_size for f in files if (folder / f).is_file())


def check_page(folder, name, pages):
    "What is wrong with one page, as its file says."
    page, found = pages[name], []
    if match := UNRESOLVED.search(" ".join(page.words)):
        found.append(f"unresolved: {match[0]}")
    for source, alt in page.pictures:
        if alt is None or not alt.strip() or re.search(r"[\w-]+\.(png|svg|webp|jpe?g)$", alt):
            found.append(f"picture without words: {source}")
    for link in {*page.links, *page.loaded}:
        parts = urllib.parse.urlsplit(link)
        if parts.scheme or parts.netloc or link.startswith("#") and not parts.fragment:
            continue
        target = target_of(name, link)
        if not (folder / target).exists():
            found.append(f"broken: {link}")
        elif parts.fragment and target in pages and urllib.parse.unquote(parts.fragment) not in pages[target].anchors:
            found.append(f"no such place: {link}")
    found += [f"loaded from elsewhere: {u}" for u in page.loaded if urllib.parse.urlsplit(u).netloc]
    jumps = [f"h{a} before h{b}" for a, b in zip(page.headings, page.headings[1:], strict=False) if b > a + 1]
    found += [f"headings: {jump}" for jump in jumps]
    if page.headings and (page.headings[0] != 1 or page.headings.count(1) != 1):
        found.append(f"headings: {page.headings.count(1)} of the first order")
    if (weight := weight_of(folder, name, page)) > HEAVY:
        found.append(f"heavy: {weight / 1e6:.1f} MB")
    return found


def check_pages(folder):
    "What is wrong with each page of a book, as the files say: name → list."
    folder = Path(folder)
    names = [p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*.html")) if "_static" not in p.parts]
    names = [n for n in names if n not in ("search.html", "genindex.html")]  # made by the renderer, empty until asked
    pages = {name: Page(folder / name) for name in names}
    return {name: found for name in names if (found := check_page(folder, name, pages))}


AUDIT = Path(__file__).with_name("page_audit.js").read_text(encoding="utf-8")


def browse(folder, names, width=400, dark=False, timeout_s=180):
    "What a browser finds wrong with pages: name → list."
    folder = Path(folder).resolve()
    frames = "".join(
        f'<iframe data-name="{n}" data-dark="{"1" if dark else ""}" src="{(folder / n).as_uri()}"'
        f' style="width:{width}px;height:900px;border:0"></iframe>'
        for n in names
    )
    with tempfile.TemporaryDirectory() as scratch:
        sheet = Path(scratch) / "frames.html"
        page = f"<!doctype html><html><head></head><body>{frames}<script>{AUDIT}</script></body></html>"
        sheet.write_text(page, encoding="utf-8")
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
        options += [f"--user-data-dir={scratch}/profile", "--virtual-time-budget=10000", "--window-size=1600,1000"]
        done = subprocess.run(
            [CHROMIUM, *options, "--dump-dom", sheet.as_uri()], capture_output=True, encoding="utf-8", timeout=timeout_s
        )
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.S)
    if not title:
        raise RuntimeError(f"Chromium said nothing of the pages: {done.stderr[-300:]}")
    return {name: found for name, found in json.loads(html.unescape(title[1])) if found}


def main(folder, *names):
    "Print what is wrong; exit code 1 if anything is."
    folder = os.path.abspath(folder)
    trouble = check_pages(folder)
    for name in names or [f"{n}.html" for n in TEN if (Path(folder) / f"{n}.html").is_file()] if CHROMIUM else []:
        for width, dark in ((1400, False), (400, False), (1400, True)):
            for page, found in browse(folder, [name], width, dark).items():
                trouble.setdefault(page, []).extend(f"{x} ({width} px{', dark' * dark})" for x in found)
    for name, found in trouble.items():
        print(name, *found, sep="\n    ")
    print(f"{sum(map(len, trouble.values()))} findings on {len(trouble)} pages")
    return bool(trouble)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
