"""Style of the page, in a light and a dark theme."""

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #22262b; --quiet: #59626b;
  --line: #e3e7ea; --edge: #b9c0c8; --shade: #f5f6f8; --other: #8b949c; --link: #1b5a93;
  --best: #eef7f0; --warn: #fdf5e2; --warn-edge: #c98a06; --mark: #ffe9b8; --heat: 8 69 148;
  --on-weak: #000; --on-strong: #fff;
  --hue-0: #0b6fa4; --hue-1: #c2541a; --hue-2: #2f7d4f; --hue-3: #a4508b; --hue-4: #7b6c22;
  --hue-5: #5a6bb8; --hue-6: #b5404c; --hue-7: #2f7f8e; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171b; --ink: #e3e6ea;
  --quiet: #a3acb5; --line: #2a3037; --edge: #4a525b; --shade: #1d2126; --other: #7d868f;
  --link: #79b8f0; --best: #17291f; --warn: #2e2610; --warn-edge: #d9a22b; --mark: #574512;
  --heat: 76 161 219; --on-weak: #fff; --on-strong: #000;
  --hue-0: #4ca9e0; --hue-1: #f0884e; --hue-2: #5fbf86; --hue-3: #d584bd;
  --hue-4: #c2b04e; --hue-5: #93a3f0; --hue-6: #ee7b86; --hue-7: #66c0d1; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 2rem 1.5rem 4rem; }
p { max-width: 46rem; margin: .6rem 0; }
h1 { font-size: 1.8rem; margin: 0 0 .4rem; letter-spacing: -.01em; }
h2 { font-size: 1.3rem; margin: 0 0 .6rem; }
h3 { font-size: 1rem; font-weight: 600; margin: 0; display: inline; }
h4 { font-size: .92rem; margin: 1.1rem 0 .4rem; }
section { margin-top: 2.2rem; padding-top: 1.4rem; border-top: 1px solid var(--line); }
nav { display: flex; gap: .2rem 1.3rem; flex-wrap: wrap; margin-top: 1rem; font-size: .92rem; }
a { color: var(--link); text-decoration: none; } a:hover { text-decoration: underline; }
code { font: .86em/1.4 ui-monospace, "DejaVu Sans Mono", monospace; background: var(--shade);
  padding: .08em .3em; border-radius: 3px; overflow-wrap: anywhere; }
td code, th code { white-space: nowrap; overflow-wrap: normal; }
td wbr { display: none; }
.warning { background: var(--warn); border-left: 3px solid var(--warn-edge);
  padding: .45rem .8rem; max-width: 60rem; }
.wide { overflow-x: auto; margin: .8rem 0 1rem; }
table { border-collapse: collapse; font-size: .88rem; }
th, td { padding: .36rem 1rem .36rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--quiet); border-bottom-color: var(--edge);
  vertical-align: bottom; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
td.number { white-space: nowrap; }
tr.best td { background: var(--best); }
details { border-top: 1px solid var(--line); }
details[open] { padding-bottom: .8rem; }
summary { cursor: pointer; padding: .32rem .4rem; border-radius: 4px; }
summary:hover { background: var(--shade); }
details details { border: 0 !important; }
.reference { margin: 0 0 .5rem; color: var(--quiet); font-size: .9rem; }
.answers { display: grid; gap: .5rem .8rem; margin: 0 0 1rem;
  grid-template-columns: repeat(auto-fill,
    minmax(min(100%, calc(var(--least) * .95 + 2ch)), 1fr)); }
.answers div { background: var(--shade); border-radius: 5px; padding: .4rem .65rem; }
.answers dt { font-size: .76rem; color: var(--quiet); overflow-wrap: anywhere; }
.answers dt small { float: right; margin-left: .5rem; font-size: 1em;
  font-variant-numeric: tabular-nums; }
.answers dd { margin: .1rem 0 0; font-size: .92rem; overflow-wrap: anywhere; }
mark { background: var(--mark); color: inherit; border-radius: 2px; padding: 0 .12em; }
.heat { font-size: .78rem; width: auto; }
.heat caption { text-align: left; font-weight: 600; color: var(--ink); padding-bottom: .4rem;
  font-size: .9rem; }
.heat th, .heat td { padding: .1rem .25rem; border: 0; color: var(--ink); font-weight: 400; }
.heat thead td { color: var(--quiet); white-space: nowrap; vertical-align: bottom; }
.heat thead th { text-align: center; vertical-align: bottom; }
.heat tbody th { text-align: right; white-space: nowrap; padding-right: .45rem; }
.heat tbody td { width: 2.1rem; min-width: 2.1rem; height: 1.7rem; text-align: center;
  border: 1px solid var(--paper); background: rgb(var(--heat) / calc(var(--w, 0) * 1%));
  vertical-align: middle; color: var(--on-weak); font-variant-numeric: tabular-nums; }
.heat:not(.numbers) thead th span { writing-mode: vertical-rl; transform: rotate(180deg); }
.small .heat tbody td { width: 1.5rem; min-width: 1.5rem; height: 1.25rem; font-size: .68rem; }
.small .heat th { font-size: .7rem; padding: 0 .2rem; }
.small summary { font-size: .88rem; }
.heat tbody td:empty { background: var(--shade); }
.heat tbody td.strong { color: var(--on-strong); }
.heat tbody tr:hover { outline: 2px solid var(--quiet); }
.heat:not(.numbers) td span { opacity: 0; }
.heat tr:hover td span, details:has(> p .all-numbers:checked) .heat td span { opacity: 1; }
.parts { display: grid; gap: 1rem 2rem; margin: .8rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); }
.packed { display: flex; flex-wrap: wrap; gap: .4rem 2.2rem; }
.packed > * { max-width: 100%; margin: 0 0 .6rem; }
td:has(code ~ code) { min-width: 13rem; }
figure { margin: 0; min-width: 0; }
figcaption { font-size: .82rem; color: var(--quiet); margin-top: .3rem; max-width: 40rem; }
svg { display: block; width: 100%; height: auto; stroke-linejoin: round; overflow: visible; }
svg .mark { cursor: help; }
@media (max-width: 40rem) { main { padding: 1.2rem 1rem 3rem; }
  th, td { padding-right: .6rem; }
  td.number { white-space: normal; }
  td.number:not(:first-child) { min-width: 5rem; }
  td code, th code { white-space: normal; }
  td wbr { display: inline; }
  svg text { font-size: 11px !important; } }
@media print { details::details-content { content-visibility: visible; } }
""".strip()
