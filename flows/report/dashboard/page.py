"""report.html: the styles, the scripts and the data of a run in one file that needs no network."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lowering import files

ASSETS = Path(__file__).with_name("assets")
STYLES = ("page.css", "tables.css", "viewer.css")
SCRIPTS = (
    "dom.js",
    "store.js",
    "overview.js",
    "changes.js",
    "clusters.js",
    "blockers.js",
    "matrix.js",
    "cost.js",
    "plot.js",
    "job.js",
    "symbols.js",
    "verify.js",
    "buckets.js",
    "highlight.js",
    "pane.js",
    "follow.js",
    "viewer.js",
    "history.js",
    "app.js",
)
# Allow only the page's own contents and, on demand, the scripts next to it.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'self' file:; "
    "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
)


def render(title: str, payload: Mapping[str, Any], views: Iterable[tuple[str, str]] = ()) -> str:
    """Return the page. payload: the data of the overview; views: (folder name, view) of the jobs whose views are embedded."""
    styles = "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in STYLES)
    scripts = "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in SCRIPTS)
    embedded = "\n".join(f'<script type="application/json" data-view="{html.escape(name)}">{view}</script>' for name, view in views)
    return f"""\
<!doctype html>
<html lang="en" data-theme="auto">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="referrer" content="no-referrer">
<title>{html.escape(title)}</title>
<style>
{styles}
</style>
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<div id="app"></div>
<noscript>This page needs JavaScript. report.md next to it has the same contents as text.</noscript>
<script type="application/json" id="payload">{to_script_json(payload)}</script>
{embedded}
<script>
{scripts}
</script>
</body>
</html>
"""


def to_script_json(data: Any) -> str:
    """Return JSON that is safe in a script element: no text in it can close the element."""
    return files.encode_json(data, indent=None).replace("<", "\\u003c")
