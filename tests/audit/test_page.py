from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import zlib
from html.parser import HTMLParser
from pathlib import Path

import pytest

from agentmesh.audit.accounts import add_up
from agentmesh.audit.audit import Audit
from agentmesh.audit.audit_page import audit_page
from agentmesh.audit.cost_page import cost_page
from agentmesh.audit.page import Bar, bars, page, section, table

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")


class Outside(HTMLParser):
    """Collects what a page would fetch or run."""

    def __init__(self):
        super().__init__()
        self.found = []
        self.tags = set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.found += [
            (tag, name) for name, _ in attrs if name in ("src", "href", "srcset", "data")
        ]
        self.found += [(tag, name) for name, _ in attrs if name.startswith("on")]


def test_a_page_fetches_and_runs_nothing(busy):
    text = cost_page(add_up(busy().memory))
    reader = Outside()
    reader.feed(text)
    assert reader.found == []
    assert not reader.tags & {"script", "link", "img", "iframe"}
    assert "svg" in reader.tags
    assert "url(" not in text


def test_what_users_wrote_is_text_and_never_markup(stage):
    stage.say("<script>alert(1)</script>", user='"><img src=x onerror=alert(1)>')
    text = cost_page(add_up(stage.memory))
    assert "<script>" not in text
    assert "<img" not in text
    assert "&lt;script&gt;" in text


def test_the_page_of_an_empty_ledger_is_a_page(stage):
    assert "known cost" in cost_page(add_up(stage.memory))


def test_unknown_prices_are_named_and_not_zero(busy):
    text = cost_page(add_up(busy().memory))
    row = re.search(r"<td>openai-compatible:mystery</td>.*?</tr>", text)
    assert "unknown" in row[0]
    assert "$0.0000" not in row[0]


def test_the_longest_bar_fills_the_room_and_others_are_in_proportion():
    text = bars("Cost", [Bar("a", [100.0], "1"), Bar("b", [25.0, 25.0], "2")], ("x", "y"))
    widths = [
        float(width)
        for width in re.findall(r'class="[ab]" x="[\d.]+" y="\d+" width="([\d.]+)"', text)
    ]
    assert widths[0] == pytest.approx(2 * (widths[1] + widths[2]), abs=0.2)


def test_nothing_is_shown_where_there_is_nothing():
    assert bars("Cost", []) == table(("a",), []) == section("Empty", "") == ""


def different_lines(path: Path) -> int:
    """Return how many different lines of pixels a PNG of 8 bits a channel has."""
    content = path.read_bytes()
    width, height, depth, kind = struct.unpack(">IIBB", content[16:26])
    assert (depth, kind) in ((8, 2), (8, 6))
    channels = 3 if kind == 2 else 4
    packed, at = b"", 8
    while at < len(content):
        (size,) = struct.unpack(">I", content[at : at + 4])
        if content[at + 4 : at + 8] == b"IDAT":
            packed += content[at + 8 : at + 8 + size]
        at += size + 12
    raw = zlib.decompress(packed)
    stride = width * channels + 1
    return len({raw[row * stride + 1 : (row + 1) * stride] for row in range(height)})


def shoot(text: str, folder: Path) -> tuple[int, str]:
    """Return how many different lines of pixels a page shows, and what the console said."""
    source, picture = folder / "page.html", folder / "page.png"
    source.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--enable-logging=stderr",
            f"--user-data-dir={folder / 'profile'}",
            "--window-size=1100,2400",
            f"--screenshot={picture}",
            source.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return different_lines(picture), "\n".join(said)


needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs a headless Chromium")


@needs_chromium
def test_a_browser_shows_the_page_without_complaint(busy, tmp_path):
    lines, console = shoot(cost_page(add_up(busy().memory)), tmp_path)
    assert lines > 200  # an empty page has one kind of line
    assert console == ""


@needs_chromium
def test_the_browser_check_notices_an_empty_page_and_a_complaint(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    lines, console = shoot("<html></html>", tmp_path / "empty")
    assert lines < 5
    assert console == ""
    bad = page("Bad", '<img src="https://example.invalid/x.png">')
    assert "Content Security Policy" in shoot(bad, tmp_path / "bad")[1]


@needs_chromium
def test_a_browser_shows_the_audits_page_without_complaint(tmp_path):
    log = tmp_path / "log.jsonl"
    answer = {"choices": [{"message": {"content": "Soon."}}]}
    asked = [{"role": "system", "content": "Rules. " * 400}, {"role": "user", "content": "Hi"}]
    row = {"model": "claude-opus-5-5", "messages": asked, "response": answer}
    log.write_text(f"{json.dumps(row)}\n" * 3)
    taker = Audit()
    taker.read(log)
    lines, console = shoot(audit_page(taker.report()), tmp_path)
    assert lines > 200
    assert console == ""
