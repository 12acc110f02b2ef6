"""Look at what people read, as a browser shows it: pictures of pages, on a phone and on a desk, and what is wrong.

python scripts/look.py OUT [FILE ...] [--width 390] [--dark] [--unfold] [--piece 1500]

Files are Markdown, notebooks and HTML; without any: README.md, CHANGELOG.md and all notebooks. Each becomes
``OUT/<name>-<width>-<piece>.png``, tall pages in several pieces. What a machine can see is told, and ends with exit
code 1: a page wider than the screen, pictures that are missing or have no alt text, anything asked for outside of the
page. The rest is for eyes. It needs Chromium on PATH; Markdown needs markdown-it-py, notebooks nbconvert.

Chromium is driven through its debugging pipe, as ``--screenshot`` can't be narrower than a desktop's window, ignores
the viewport of a page, and doesn't know how tall it is.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import fcntl
import importlib
import json
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WIDTHS = (390, 1280)
"""Of a phone and of a desk, in pixels of the page."""
PHONE = 600
"""Pages narrower than this are shown as on a phone: two points for each pixel, the page's viewport heeded."""
_PATIENCE = 60  # seconds that Chromium may take for an answer
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--remote-debugging-pipe",
    "--allow-file-access-from-files", "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip
_LIKE_A_CODE_HOST = """
:root { --ink: #1f2328; --line: #d1d9e0; --paper: #fff; --band: #f6f8fa; --link: #0969da; color-scheme: light dark; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #f0f6fc; --line: #3d444d; --paper: #0d1117; --band: #151b23; --link: #4493f8; } }
* { box-sizing: border-box; }
body { max-width: 896px; margin: 0 auto; padding: 32px; font: 16px/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--paper); overflow-wrap: break-word; }
h1, h2 { border-bottom: 1px solid var(--line); padding-bottom: .3em; } a { color: var(--link); }
table { display: block; width: max-content; max-width: 100%; overflow: auto; border-collapse: collapse; }
th, td { border: 1px solid var(--line); padding: 6px 13px; } tr:nth-child(even) { background: var(--band); }
code { background: var(--band); padding: .2em .4em; font-size: 85%; border-radius: 6px; white-space: break-spaces; }
pre { background: var(--band); padding: 16px; overflow: auto; font-size: 85%; line-height: 1.45; }
pre code { padding: 0; font-size: 100%; white-space: pre; } img { max-width: 100%; }
@media (max-width: 600px) { body { padding: 16px; } }
"""
_FINDINGS = r"""(() => {
  const scrolls = e => e && (/auto|scroll|hidden/.test(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
  const told = e => `<${e.tagName.toLowerCase()}> ${(e.alt || e.textContent || '').trim().slice(0, 40)}`;
  const root = document.documentElement, wide = [];
  if (root.scrollWidth > SCREEN)
    for (const e of document.body.querySelectorAll('*'))
      if (e.getBoundingClientRect().right > SCREEN + 1 && !scrolls(e.parentElement)) wide.push(told(e));
  const images = [...document.images];
  return JSON.stringify({
    height: Math.max(root.scrollHeight, document.body.scrollHeight), width: root.scrollWidth, wide: wide.slice(0, 3),
    missing: images.filter(i => i.complete && !i.naturalWidth).map(i => i.src.slice(0, 120)),
    silent: images.filter(i => !i.alt).map(i => i.src.slice(0, 60)),
    declared: !!document.querySelector('meta[name=viewport]') });
})()"""


class Missing(Exception):
    """Something that is not installed; the message says what to install."""


class Chromium:
    """A headless browser with one empty page, spoken to through a pipe; use it in a ``with`` block.

    Raises:
        Missing: There is none on PATH.
    """

    def __init__(self) -> None:
        program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        if program is None:
            raise Missing("no chromium on PATH; install it (Debian: apt-get install chromium)")
        self.asked: list[str] = []
        self._profile = tempfile.TemporaryDirectory(prefix="look-")
        (theirs_in, self._send), (self._receive, theirs_out) = os.pipe(), os.pipe()
        high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (theirs_in, theirs_out)]
        self._process = subprocess.Popen(
            [program, *_FLAGS, f"--user-data-dir={self._profile.name}", "about:blank"],
            preexec_fn=lambda: (os.dup2(high[0], 3), os.dup2(high[1], 4)),  # where Chromium looks for the pipe
            close_fds=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for end in (theirs_in, theirs_out, *high):
            os.close(end)
        self._rest, self._number, self._session = b"", 0, ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            self.call("Browser.close")
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for end in (self._send, self._receive):
            os.close(end)
        shutil.rmtree(self._profile.name, ignore_errors=True)  # helpers of Chromium may write a moment longer
        with contextlib.suppress(OSError):
            self._profile.cleanup()

    def call(self, method: str, **params: Any) -> Any:
        """Answer to a command of the DevTools protocol.

        Raises:
            RuntimeError: Chromium refused, ended, or did not answer.
        """
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        for told in self._messages():
            if told.get("id") == self._number:
                if "error" in told:
                    raise RuntimeError(f"{method}: {told['error']['message']}")
                return told["result"]
        raise RuntimeError(f"{method}: Chromium ended")

    def open(self, url: str, width: int, *, dark: bool) -> None:
        """Load a page, as a screen of ``width`` pixels shows it, and wait until its pictures are there."""
        self.resize(width, 800)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.asked.clear()
        self.call("Page.navigate", url=url)
        for told in self._messages():
            if told.get("method") == "Page.loadEventFired":
                return

    def resize(self, width: int, height: int) -> None:
        """Change the screen; a page as tall as it is drawn whole, boxes that scroll included."""
        phone = width < PHONE
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, mobile=phone,
            deviceScaleFactor=2 if phone else 1,
        )  # fmt: skip

    def value(self, expression: str) -> Any:
        """Of an expression in JavaScript, on the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def picture(self, top: int, width: int, height: int) -> bytes:
        """PNG of a part of the page, in pixels of the page."""
        clip = {"x": 0, "y": top, "width": width, "height": height, "scale": 1}
        shot = self.call("Page.captureScreenshot", clip=clip)
        return base64.b64decode(shot["data"])

    def _messages(self) -> Iterator[dict[str, Any]]:
        """What Chromium tells, as it comes; requests to the outside are kept in ``asked``."""
        until = time.monotonic() + _PATIENCE
        while True:
            while b"\0" not in self._rest:
                if not select.select([self._receive], [], [], max(0.0, until - time.monotonic()))[0]:
                    raise RuntimeError(f"no answer from Chromium within {_PATIENCE} seconds")
                chunk = os.read(self._receive, 1 << 20)
                if not chunk:
                    return
                self._rest += chunk
            first, _, self._rest = self._rest.partition(b"\0")
            told = json.loads(first)
            if told.get("method") == "Network.requestWillBeSent":
                url = told["params"]["request"]["url"]
                self.asked += [url] if url.startswith("http") else []
            yield told


def page_of(path: Path) -> str:
    """HTML of a file: as it is, a notebook with its outputs, or Markdown as a code host shows it.

    Raises:
        Missing: What turns such a file into HTML is not installed.
    """
    if path.suffix == ".html":
        return path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        exporter = _import("nbconvert").HTMLExporter(embed_images=True, mathjax_url="", require_js_url="")
        html = str(exporter.from_filename(str(path))[0])
        return re.sub(r"<script[^>]*\ssrc=.*?</script>", "", html)
    reader = _import("markdown_it", "markdown-it-py").MarkdownIt("commonmark").enable(["table", "strikethrough"])
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><base href="{path.resolve().as_uri()}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{path.name}</title>'
        f"<style>{_LIKE_A_CODE_HOST}</style></head><body>{reader.render(path.read_text(encoding='utf-8'))}</body></html>"
    )


def _import(name: str, package: str | None = None) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise Missing(f"{name} is not installed; pip install {package or name}") from None


def look(
    browser: Chromium, path: Path, out: Path, width: int, *, dark: bool = False, unfold: bool = False, piece: int = 1500
) -> list[str]:
    """Write the pictures of a file, and tell what is wrong with it.

    Args:
        browser: To look with.
        path: Markdown, notebook or HTML.
        out: Folder to write ``<name>-<width>[-dark]-<piece>.png`` into.
        width: Of the screen, in pixels of the page.
        dark: As people see it who prefer dark pages.
        unfold: Open everything that is folded.
        piece: Height of a picture at most, in pixels of the page.

    Returns:
        A line for each finding.
    """
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        page.write_text(page_of(path))
        browser.open(page.as_uri(), width, dark=dark)
        if unfold:
            browser.value("document.querySelectorAll('details').forEach(d => d.open = true)")
        found = json.loads(browser.value(_FINDINGS.replace("SCREEN", str(width))))
        browser.resize(width, found["height"])
        for number, top in enumerate(range(0, found["height"], piece), start=1):
            name = f"{path.stem}-{width}{'-dark' if dark else ''}-{number:02}.png"
            (out / name).write_bytes(browser.picture(top, width, min(piece, found["height"] - top)))
    told = []
    if found["width"] > width:
        what = "; ".join(found["wide"]) if found["declared"] else "no viewport is declared"
        told.append(f"{found['width']} pixels wide on a screen of {width}: {what}")
    told += [f"a picture is missing: {src}" for src in found["missing"]]
    told += [f"a picture has no alt text: {src}" for src in found["silent"]]
    return told + [f"asks for {url}" for url in dict.fromkeys(browser.asked)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Look at every file in every width; 1 if anything was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("files", type=Path, nargs="*")
    parser.add_argument("--width", type=int, action="append", help="of the screen; 390 and 1280 if none is given")
    parser.add_argument("--dark", action="store_true", help="as people see it who prefer dark pages")
    parser.add_argument("--unfold", action="store_true", help="open everything that is folded")
    parser.add_argument("--piece", type=int, default=1500, help="height of a picture at most")
    told = parser.parse_intermixed_args(arguments)
    files = told.files or [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "notebooks").glob("*.ipynb"))]
    told.out.mkdir(parents=True, exist_ok=True)
    findings = 0
    with Chromium() as browser:
        for path in files:
            for width in told.width or WIDTHS:
                found = look(
                    browser, path, told.out, width, dark=told.dark, unfold=told.unfold, piece=told.piece
                )  # fmt: skip
                findings += len(found)
                print(f"{path.name} at {width}: {'; '.join(found) or 'nothing found'}", flush=True)
    return int(findings > 0)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Missing as error:
        sys.exit(f"error: {error}")
