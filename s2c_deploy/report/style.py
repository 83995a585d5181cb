"""How a report looks: light or dark as the reader's system asks, wide or narrow, without a font from elsewhere."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --ink: #1b1d21; --soft: #5c626c; --paper: #ffffff; --shade: #f3f5f7;
  --line: #d9dde2; --link: #0b5cad; --alarm: #b00020; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e6ea; --soft: #a2a9b4; --paper: #16181c; --shade: #22262c;
  --line: #3b4049; --link: #7db7f5; --alarm: #ff8d96; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 0 auto; padding: 1.5rem 1.25rem 4rem;
  color: var(--ink); background: var(--paper); overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 1rem; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 2.5rem 0 .75rem; padding-top: .75rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.5rem 0 .4rem; }
a { color: var(--link); }
.alarm { color: var(--alarm); font-weight: bold; }
.headline { background: var(--shade); border-radius: .5rem; padding: 1rem 1.25rem; margin: 0 0 1rem; }
.headline p { font-size: 1.1rem; margin: 0; }
.headline ul { list-style: none; display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr));
  gap: 1rem 2rem; margin: .75rem 0 0; padding: 0; }
.headline b, .headline span, .headline small { display: block; }
.headline b { font-size: 2rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.headline b.none { font-size: 1.25rem; line-height: 1.92; color: var(--soft); }
.headline small { color: var(--soft); font-size: .87rem; }
nav ol { columns: 18rem; margin: 1.25rem 0 0; padding-left: 1.5rem; }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; margin: .4rem 0 1rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .65rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top;
  white-space: nowrap; }
th { background: var(--shade); font-weight: 600; }
thead th { white-space: normal; vertical-align: bottom; }
th span { white-space: nowrap; }
.words, .prose { text-align: left; }
.prose { white-space: normal; min-width: 10rem; }
figure { margin: .5rem 0 1.5rem; }
figcaption { color: var(--soft); font-size: .87rem; }
svg { display: block; width: 100%; min-width: 34rem; max-width: 46rem; height: auto; }
@media (prefers-color-scheme: dark) { svg { filter: brightness(1.35); } }
summary { cursor: pointer; }
details { margin: .3rem 0; }
td details { margin: 0; }
pre, code { font: .87rem/1.45 ui-monospace, monospace; margin: .3rem 0; white-space: pre-wrap;
  overflow-wrap: anywhere; }
"""
