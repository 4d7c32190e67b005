"""Every component of the stylesheets in its states: the one list that the page of all components is made of.

For developers, so in English only. A new class in site.css or guide.css needs its place here; a test says which lack one.
"""
# ruff: noqa: E501 - pieces of pages: one element, one line

from __future__ import annotations

from typing import Final, NamedTuple

from django.utils.safestring import SafeString, mark_safe


class Piece(NamedTuple):
    words: str
    html: SafeString


class Group(NamedTuple):
    name: str
    pieces: tuple[Piece, ...]


def _piece(words: str, *lines: str) -> Piece:
    return Piece(words, mark_safe("\n".join(lines)))  # written below, nothing of it comes from outside


OUTCOMES: Final = (
    ("blocked", "BLOCKED"), ("detected", "DETECTED"), ("succeeded", "SUCCEEDED"), ("out-of-scope", "OUT OF SCOPE"),
    ("not-applicable", "NOT APPLICABLE"), ("error", "ERROR"), ("stale", "STALE RESULT"), ("queued", "queued"), ("running", "running"),
)  # fmt: skip
OWNERS: Final = (
    ("a", "A"), ("b", "B"), ("c", "C"), ("d", "D"), ("e", "E"), ("f", "F"), ("g", "G"), ("hypervisor", ""), ("hsvm", ""), ("other", "o"), ("free", ""),
)  # fmt: skip
TOKENS: Final = (
    "background", "surface", "surface-sunken", "text", "muted", "line-control", "line", "accent", "accent-surface", "on-accent", "ok", "ok-surface",
    "warning", "warning-surface", "violation", "violation-surface", "canvas", "canvas-line", "canvas-text",
)  # fmt: skip


def _all(pattern: str, rows: tuple[tuple[str, str], ...]) -> str:
    return " ".join(pattern.format(look, word) for look, word in rows)


def _statement(tone: str, words: str, evidence: str) -> str:
    return f'<p><span class="status status-{tone}">{words}</span><br><span class="muted">{evidence}</span></p>'


GROUPS: Final[tuple[Group, ...]] = (
    Group("Text", (
        _piece("Headings are h1 to h3; the lead says what the page is for.", '<header class="page-header"><p class="lead">What runs, under which agreement, and what protects it at this moment.</p><div class="actions"><a class="button" href="#content">Declare a new VM</a></div></header>'),
        _piece("Quiet text, numbers of the machine, text for screen readers, the word simulation.", '<p class="muted">Old news reads unknown, never healthy.</p>', '<p>Page <span class="mono">0x1a2f3</span> at op <span class="num nowrap">48,112</span><span class="visually-hidden"> of run 7</span></p>', '<p class="simulation">Simulation: outcomes are observed by the engine.</p>', '<p>Read in the paper <sup class="evidence">d</sup></p>'),
        _piece("A text to copy.", '<pre class="code" tabindex="0">vpms verify agreement.json --keys keys.json</pre>'),
        _piece("A term with its tip: closed, and as it opens.", '<p>The <button type="button" class="term" popovertarget="styleguide-tip">TLB</button><span class="term-tip" id="styleguide-tip" popover>The processor\'s small memory of translations that were used lately. <a href="#content">From the paper, 2.1</a></span> is asked first.</p>', '<div class="term-tip">The processor\'s small memory of translations that were used lately. <a href="#content">From the paper, 2.1 Hardware-Assisted Virtualization</a></div>'),
        _piece("More, when asked for.", '<details class="more" open><summary>Why we ask</summary><p>Whoever reads memory reads passwords and keys.</p></details>'),
    )),
    Group("Buttons", (
        _piece("Say the act. Primary once a page; danger for what cannot be undone; quiet in rows.", '<div class="actions"><button class="button button-primary">Save as version 3</button><button class="button">Start x-db</button><button class="button button-danger">Stop x-db</button><button class="button button-quiet">Sign out</button><a class="button button-large" href="#content">Sign in</a></div>'),
        _piece("Pressed, off, with the reason beside it; a button that reads as a link.", '<div class="actions"><button class="button" aria-pressed="true">Keys</button><button class="button" disabled>Start y-web</button><span class="muted">Not possible while a negotiation is open.</span><span class="inline"><button type="button" class="link">Verify your record</button></span></div>'),
        _piece("Icons with a name: themes and help.", '<div class="actions"><span class="icon icon-system" aria-hidden="true"></span>System <span class="icon icon-light" aria-hidden="true"></span>Light <span class="icon icon-dark" aria-hidden="true"></span>Dark <span class="icon icon-projector" aria-hidden="true"></span>Projector <span class="icon icon-help" aria-hidden="true"></span>Help</div>'),
    )),
    Group("Forms", (
        _piece("Fields in one column; a row of short ones; help below.", '<div class="page-form"><div class="field"><label for="sg-name">Name</label><input id="sg-name" value="x-db"><p class="field-help">Letters, digits and hyphens.</p></div><div class="field-row"><div class="field"><label for="sg-kind">Kind</label><select id="sg-kind"><option>all kinds</option></select></div><div class="field"><label for="sg-pages">Pages</label><input id="sg-pages" type="number" value="64"></div></div></div>'),
        _piece("A fault stands at its field, in words; what was typed stays.", '<div class="field"><label for="sg-bad">Name</label><input id="sg-bad" value="A DB" aria-invalid="true" aria-describedby="sg-fault"><p class="field-error" id="sg-fault">Capital letters and spaces are not possible: write x-db.</p></div>', '<ul class="errorlist"><li>Both passwords must be alike.</li></ul>'),
        _piece("A question with its answers, their consequences and the strength.", '<fieldset class="question"><legend>1. Who may look inside this VM?</legend><p class="field-help">Covers reading memory while it runs.</p><div class="choice"><label><input type="radio" name="sg-q" checked> <span>Nobody</span></label><p class="field-help">Neither neighbours nor the operator can read its memory.</p></div><div class="choice"><label><input type="radio" name="sg-q"> <span>The operator</span></label></div><div class="strength" role="group" aria-label="How strongly?"><label><input type="radio" name="sg-s" checked> must</label><label><input type="radio" name="sg-s"> prefer</label><label><input type="radio" name="sg-s"> don\'t mind</label></div></fieldset>'),
        _piece("Choices in rows, parts under one another, a code for a camera.", '<div class="choices"><div class="strength" role="group" aria-label="By e-mail"><label><input type="radio" name="sg-mail" checked> at once</label><label><input type="radio" name="sg-mail"> once a day</label></div></div>', '<div class="stack"><p>A part.</p><p>The next.</p></div>', '<p><img class="qr" alt="Example of a code" width="64" height="64" src="/static/css/mark.svg"></p>'),
        _piece("Choosing among parts of a page, and among views of one thing.", '<nav class="tabs" aria-label="Example of tabs"><a href="#content" aria-current="page">Questions</a><a href="#content">JSON</a><a href="#content">YAML</a></nav>'),
    )),
    Group("State", (
        _piece("Word, icon, colour, in that order of importance.", _all('<span class="status status-{0}">{1}</span>', (("ok", "running"), ("warning", "held"), ("violation", "3 pages"), ("neutral", "stopped"), ("progress", "starting"), ("unknown", "unknown")))),
        _piece("The seven outcomes; queued and running are progress.", f'<div class="actions">{_all("<span class={2}outcome outcome-{0}{2}>{1}</span>".replace("{2}", chr(34)), OUTCOMES)}</div>'),
        _piece("Chips.", '<div class="actions"><span class="chip">must</span><span class="chip chip-ok">settled</span><span class="chip chip-warning">waits for you</span><span class="chip chip-violation">broken</span><span class="chip chip-accent">first divergence</span></div>'),
        _piece("Protection in force is a statement with evidence.", _statement("ok", "H-SVM on", "2,048 of 2,048 pages owned; last drill 11 BLOCKED, 0 SUCCEEDED, 1 OUT OF SCOPE, 12 of 25 attacks"), _statement("warning", "Agreed, not running", "version 2 stands; nothing is measured while the VM is stopped"), _statement("violation", "Not protected", "the host has no H-SVM; last drill 1 BLOCKED, 10 SUCCEEDED")),
        _piece("The live chip: exactly five states.", '<div class="live-status">' + " ".join(f'<span class="live-chip" data-state="{state}">{word}</span>' for state, word in (("live", "Live"), ("reconnecting", "Reconnecting (data 12 s old)"), ("paused", "Paused by you"), ("recording", "Recording (viewing 14:03:22, not now)"), ("offline", "Offline - showing saved data"))) + "</div>"),
        _piece("Progress, a share, a deadline.", '<p><label for="sg-progress">Drill: 7 of 12 attacks</label> <progress id="sg-progress" max="12" value="7">7 of 12</progress></p><p><label for="sg-meter">Gain</label> <meter id="sg-meter" min="0" max="100" value="64">64 %</meter> <span class="num">64 %</span></p><p class="deadline">Answer until <time>14:00:00</time></p>'),
    )),
    Group("Notices", (
        _piece("What happened, what is unharmed, what to do.", '<ul class="messages"><li class="notice notice-info"><p><strong>Confidential</strong> is filled in below. Nothing is saved yet.</p></li><li class="notice notice-ok"><p><strong>The chain is whole.</strong> 212 entries were read.</p></li><li class="notice notice-warning"><p><strong>A proposal waits for you.</strong> What runs is not changed before everyone has answered.</p><div class="actions"><a class="button button-primary" href="#content">Read the proposal and answer</a></div></li><li class="notice notice-violation"><p><strong>Entry 17 was changed.</strong> The 17 entries before it are whole.</p></li></ul>'),
        _piece("Nothing here yet: what will stand here, and the first step.", '<div class="empty"><h3>No VMs yet</h3><p>Your VMs will stand here with the protection in force for each.</p><a class="button button-primary" href="#content">Declare a VM</a></div>'),
        _piece("A dialog, as it opens.", '<dialog class="dialog" open aria-label="Example of a dialog"><header class="panel-header"><h3>Stop x-db</h3><div class="actions"><button class="button button-quiet">Close</button></div></header><p>Its pages are wiped. The agreement stays in force.</p><div class="actions"><button class="button">Let it run</button><button class="button button-danger">Stop x-db</button></div></dialog>'),
        _piece("Notices: how many are unread, and their list.", '<p><a class="button button-quiet bell" href="#content"><span class="icon icon-bell" aria-hidden="true"></span><span class="bell-count" aria-hidden="true">3</span><span class="visually-hidden">Notices: 3 unread</span></a></p>', '<ol class="timeline notice-list"><li data-unread><time>14:03</time><div><a href="#content">A proposal waits for x-db</a></div></li><li><time>13:40</time><div><a href="#content">y-web was started</a></div></li></ol>'),
        _piece("Finding by finding.", '<ul class="findings"><li><span class="chip chip-warning">must be settled</span> <strong>Page sharing.</strong> Two wishes for one setting of the host. <span class="muted mono">S04</span></li></ul>'),
    )),
    Group("Tables and lists", (
        _piece("Rows of 36 px; at 320 px each row becomes labelled lines.", '<div class="table-scroll" tabindex="0" role="group" aria-label="Example of a table, scrolls sideways"><table class="table"><caption>Hosts</caption><thead><tr><th scope="col">Host</th><th scope="col">Run</th><th scope="col" class="num">Memory</th></tr></thead><tbody><tr><td data-label="Host"><a href="#content">h1</a></td><td data-label="Run"><span class="status status-ok">running</span></td><td data-label="Memory" class="num">64 MiB</td></tr><tr aria-current="step"><td data-label="Host"><a href="#content">h2</a></td><td data-label="Run"><span class="status status-unknown">unknown</span></td><td data-label="Memory" class="num">64 MiB</td></tr></tbody></table></div>'),
        _piece("Compact, for figures; compared, for texts.", '<div class="table-scroll" tabindex="0" role="group" aria-label="Example of a compact table"><table class="table table-compact"><thead><tr><th scope="col">Set</th><th scope="col">Tag</th></tr></thead><tbody><tr><td class="num">3</td><td class="mono">0x4f2</td></tr></tbody></table></div><div class="compare"><table class="table"><thead><tr><th scope="col">You want</th><th scope="col">Others want</th></tr></thead><tbody><tr><td>never</td><td>among my own VMs</td></tr></tbody></table></div>'),
        _piece("Facts.", '<dl class="facts"><div><dt>Engine</dt><dd class="mono">1.4.0</dd></div><div><dt>Begun</dt><dd>2026-11-28 14:03:22</dd></div></dl>'),
        _piece("What happened when.", '<ol class="timeline"><li><time>14:03:22</time><div><strong>x-db was started</strong><p class="muted">Entry 18, by ann</p></div></li><li><time>14:05:01</time><div><strong>Reading its memory was refused</strong></div></li></ol>'),
        _piece("Owners: colour, letter and texture; and the legend.", f'<div class="actions">{_all("<span class={2}owner owner-{0}{2}>{1}</span>".replace("{2}", chr(34)), OWNERS)}</div>', '<ul class="legend" aria-label="Signs"><li><span class="owner owner-a" aria-hidden="true">A</span> x-db</li><li><span class="owner owner-b" aria-hidden="true">B</span> y-web</li><li><span class="walk-key" data-state="now"></span> this reference</li><li><span class="walk-key" data-state="done"></span> made</li><li><span class="walk-key" data-state="coming"></span> to come</li></ul>'),
    )),
    Group("First steps and help", (
        _piece("Four steps of an area; what is done is read from what was done.", '<section class="panel first-steps"><header class="panel-header"><h3>First steps</h3><p class="muted">1 of 2 done</p></header><ol class="steps"><li class="step step-done"><span class="status status-ok">Done</span><div><a href="#content">Declare what a VM needs</a></div></li><li class="step"><span class="status status-neutral">To do</span><div><a href="#content">Start a VM</a></div></li></ol></section>'),
        _piece("The tour's box, low or high on the screen, and what it shows.", '<section class="tour" aria-label="Example of the tour"><h3>What protects it now</h3><p>Not what you wished for: what was agreed and measured.</p><p class="muted">Stop 3 of 7</p><div class="actions"><button class="button">Next</button><button class="button">Back</button><button class="button">End the tour</button></div></section><section class="tour tour-high tour-far" aria-label="Example of the tour at the top"><h3>Help is here</h3></section><p><span class="tour-target">H-SVM on</span></p>'),
        _piece("Keys, the tour in words, terms, how-to.", '<dl class="keys"><div><dt><kbd>?</kbd></dt><dd>This list</dd></div></dl><ol class="tour-words"><li><strong>Your pages.</strong> My VMs, conflicts, agreements.</li></ol><dl class="facts glossary"><div><dt>TLB</dt><dd>The processor\'s small memory of translations.</dd></div></dl><dl class="facts how-to"><div><dt>Protect a VM</dt><dd>Answer the eight questions.</dd></div></dl>'),
    )),
    Group("Drawings", (
        _piece("Who wants what: a clash, a meeting, wishes and musts.", '<div class="table-scroll" tabindex="0" role="group" aria-label="Example of a drawing"><svg class="goals" width="420" height="110" viewBox="0 0 420 110" role="img" aria-label="Two goals that clash and two that meet"><text class="goals-head" x="180" y="14" text-anchor="middle">x-db</text><line class="goals-lane" x1="180" x2="180" y1="20" y2="110"/><g class="goals-clash"><path class="goals-sign" d="M1 34 13 46M13 34 1 46"/><text x="24" y="44">Page sharing</text><line x1="180" x2="300" y1="40" y2="40"/><rect class="goals-must" x="173" y="33" width="14" height="14"/><circle class="goals-prefer" cx="300" cy="40" r="7"/><text class="goals-note" x="316" y="44">given up</text></g><g class="goals-meet"><path class="goals-sign" d="M0 77H14M0 83H14"/><text x="24" y="84">Snapshots</text><line x1="180" x2="300" y1="80" y2="80"/></g></svg></div><form class="goal-act"><button type="button" class="button button-quiet">I give this goal up</button></form>'),
        _piece("A page walk: made, at this step, to come, saved, a fault.", '<div class="walk-body"><div class="table-scroll" tabindex="0" role="group" aria-label="Example of a walk"><svg class="walk" width="420" height="70" viewBox="0 0 420 70" role="img" aria-label="Four references of a walk"><text class="walk-head" x="40" y="14" text-anchor="middle">nested 4</text><g class="walk-ref" data-state="done"><rect y="22" width="80" height="40" rx="4"/><text x="40" y="47" text-anchor="middle">1</text></g><g class="walk-ref" data-state="now"><rect x="96" y="22" width="80" height="40" rx="4"/><text x="136" y="47" text-anchor="middle">2</text></g><g class="walk-ref" data-state="coming" data-saved><rect x="192" y="22" width="80" height="40" rx="4"/><text x="232" y="47" text-anchor="middle">3 ✓</text></g><g class="walk-ref" data-state="now" data-fault><rect x="288" y="22" width="80" height="40" rx="4"/><text x="328" y="47" text-anchor="middle">4 !</text></g><text class="walk-data" x="380" y="47">data</text><circle class="walk-dot" cx="176" cy="42" r="6"/></svg></div><div class="walk-facts"><p class="walk-says">Reference 2 of 24: to read the guest\'s table, its address must itself be translated.</p></div></div>'),
    )),
    Group("Live views", (
        _piece("The timeline dock: scrubber with marks, steps, search, what is said of the moment.", '<section class="timeline" aria-label="Example of the timeline"><div class="timeline-track"><input type="range" aria-label="Operation" min="0" max="100" value="64"><div class="timeline-ticks"></div></div><div class="timeline-bar"><button class="button button-quiet" aria-label="Step back"><span class="icon" data-icon="step-back" aria-hidden="true"></span></button><button class="button button-quiet" aria-label="Step forward"><span class="icon" data-icon="step-forward" aria-hidden="true"></span></button><span class="timeline-find actions"><select aria-label="Run to"><option>violation</option></select><button class="button button-quiet">Next</button></span><span class="timeline-place">op 48,112</span></div><p class="timeline-says">Page 0x1a2f3 was given to x-db.</p></section>'),
        _piece("Cells of the TLB: sound, STALE, PENDING, chosen, pinned, dimmed.", '<div class="table-scroll" tabindex="0" role="group" aria-label="Example of TLB cells"><table class="tlb-grid"><thead><tr><th scope="col">Set</th><th scope="col">sound</th><th scope="col">STALE</th><th scope="col">PENDING</th></tr></thead><tbody><tr><th scope="row">3 <span class="tlb-use">2</span></th><td class="tlb-cell tlb-ok tlb-pinned"><span class="owner owner-a">A</span>0x4f2<span class="tlb-fields">4k rw, age 1</span><span class="tlb-mark">pinned</span></td><td class="tlb-cell tlb-stale"><span class="owner owner-b">B</span>0x4f3<span class="tlb-fields">STALE</span></td><td class="tlb-cell tlb-pending tlb-chosen"><span class="owner owner-c">C</span>0x4f4<span class="tlb-fields">PENDING</span></td></tr></tbody></table></div>'),
        _piece("Events, with the check that decided.", '<ol class="log"><li><div class="log-row"><time class="log-at">14:05:01</time><span class="log-title">Reading x-db\'s memory was refused</span><span class="log-meta muted">x-db, op 48,112</span><span class="outcome outcome-blocked">BLOCKED</span></div></li></ol>'),
        _piece("The map's legend with exact counts; an owner is chosen by its name.", '<ul class="legend" aria-label="Owners"><li class="map-owner"><span class="owner owner-a" aria-hidden="true">A</span><button class="legend-owner" aria-pressed="true">x-db</button> 2,048 pages <button class="legend-pin">pin</button></li><li class="map-owner"><span class="owner owner-free" aria-hidden="true"></span><button class="legend-owner" aria-pressed="false">free</button> 9,216 pages</li></ul>'),
        _piece("Cells of the attack table.", '<div class="table-scroll" tabindex="0" role="group" aria-label="Example of the attack table"><table class="table matrix"><thead><tr><th scope="col">Attack</th><th scope="col">nested</th><th scope="col" class="matrix-what-if">hsvm <small>what if: this check is off</small></th></tr></thead><tbody><tr><th scope="row">A03 <span>map another VM\'s page</span></th><td><a class="outcome outcome-succeeded" href="#content">SUCCEEDED</a></td><td class="matrix-what-if"><a class="outcome outcome-blocked" href="#content">BLOCKED<sup class="evidence">d</sup></a></td></tr></tbody></table></div>'),
    )),
    Group("The frame", (
        _piece("Top bar: areas, tools, the person; the way past it for the keyboard.", '<a class="skip-link" href="#content">Skip to the content</a><div class="topbar"><a class="topbar-name" href="#content"><span class="topbar-mark" aria-hidden="true"><i></i><i></i><i></i><i></i><i></i><i></i></span>H-SVM host</a><nav class="topbar-roles" aria-label="Example of areas"><a href="#content" aria-current="true">Tenant</a><a href="#content">Learn</a></nav><div class="topbar-tools"><span class="themes"><button type="button" aria-pressed="true" aria-label="Example: light"><span class="icon icon-light" aria-hidden="true"></span></button><button type="button" aria-pressed="false" aria-label="Example: dark"><span class="icon icon-dark" aria-hidden="true"></span></button></span><span class="topbar-help">Help</span><span class="topbar-person">ann</span></div></div>'),
        _piece("Rail and page side by side; halves; a form with its consequences beside.", '<div class="body-with-rail"><nav class="rail" aria-label="Example of a rail"><a href="#content" aria-current="page">My VMs</a><a href="#content">Conflicts</a></nav><div class="page"><div class="split"><section class="panel"><header class="panel-header"><h3>Panel</h3></header><p>One half.</p></section><section class="panel"><p>The other.</p></section></div><div class="beside"><div class="panel">The form.</div><aside class="panel">What follows from it.</aside></div></div></div>'),
        _piece("Messages above a page, the line below it.", '<div class="page-messages"><p class="notice notice-ok">Saved as version 3.</p></div><div class="page-footer"><p>All times are UTC.</p></div>'),
    )),
    Group("Tokens", (
        _piece("Colours of this theme; each contrast is computed in a test.", '<ul class="swatches">' + "".join(f'<li class="swatch swatch-{name}"><code>--{name}</code></li>' for name in TOKENS) + "</ul>"),
    )),
)  # fmt: skip
