/** The TLB: per core both levels as sets x ways; every entry with tag, owner, size, permission and age; STALE in words. */

import { button, count, el, Voice } from "./dom";
import { lookOf } from "./palette";
import type { MapState, TlbState } from "./store";
import { takeAway } from "./take_away";
import type { Machine } from "./tlb_flush";
import { alike, changes, covers, nextOf, pageWord, placeWords, setOf, sizeWord, slotOf, type Cell } from "./tlb_model";
import { ChangeList, EntryPanel } from "./tlb_side";
import { entriesShown, gridDrawing, TlbTable } from "./tlb_table";
import { TlbTools } from "./tlb_tools";
import { waysPerCore, type Owner, type TlbEntry } from "./wire";
import { say, t } from "./words";

/** Marks of changes are renewed at most so often: fewer than three flashes a second. */
const MARK_EVERY = 400;
const PULSE = 180;
const KEYS: Record<string, [number, number]> = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], PageUp: [-8, 0], PageDown: [8, 0], Home: [0, -64], End: [0, 64] };
const still = matchMedia("(prefers-reduced-motion: reduce)");

export class TlbGrid {
  private core = 0;
  private chosen = -1;
  private built = "";
  private state: TlbState | null = null;
  private map: MapState | undefined;
  private ownerRows: readonly Owner[] = [];
  private owners = new Map<number, Owner>();
  /** What each cell of the shown core shows (undefined: must be drawn anew), and its element. */
  private drawn: (Cell | undefined)[] = [];
  private cells: HTMLTableCellElement[] = [];
  private uses: HTMLElement[] = [];
  private marks = new Map<number, string>();
  private marked: Cell[] | null = null;
  private markedAt = -Infinity;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly cores = el("div", { class: "actions", role: "group", "aria-label": t("Core") });
  private readonly tools = new TlbTools(() => this.again());
  private readonly grids = el("div", { class: "tlb-grids" });
  private readonly summary = el("p", { class: "tlb-summary" });
  private readonly next: Record<"STALE" | "PENDING", HTMLButtonElement>;
  private readonly table = new TlbTable((entry) => this.ownerOf(entry));
  private readonly tableButton: HTMLButtonElement;
  private readonly panel = new EntryPanel(() => this.choose(-1));
  private readonly list = new ChangeList(still.matches);
  private readonly voice = new Voice();
  private readonly title: HTMLElement | null;
  private readonly name: string;

  private inSight = true;

  constructor(private readonly root: HTMLElement, private readonly redraw: () => void) {
    this.title = root.querySelector("h2");
    this.name = this.title?.textContent ?? "TLB";
    this.tableButton = button(t("Table"), () => {
      this.table.element.hidden = !this.table.element.hidden;
      this.grids.hidden = !this.table.element.hidden;
      this.tableButton.setAttribute("aria-pressed", String(!this.table.element.hidden));
      redraw();
    });
    this.tableButton.setAttribute("aria-pressed", "false");
    this.next = { STALE: button(t("Next STALE"), () => this.goTo("STALE")), PENDING: button(t("Next PENDING"), () => this.goTo("PENDING")) };
    // Thousands of cells cost more to paint than all else on the page: far from sight only the words follow.
    new IntersectionObserver((rows) => {
      const seen = rows.some((row) => row.isIntersecting);
      if (seen && !this.inSight) redraw();
      this.inSight = seen;
    }, { rootMargin: "200px" }).observe(root);
    this.grids.addEventListener("keydown", (event) => this.key(event));
    this.grids.addEventListener("click", (event) => this.press(event.target));
    this.grids.addEventListener("focusin", (event) => this.focused(event.target));
    const menu = takeAway({
      root, name: "tlb", title: this.name, json: () => ({ geometry: this.state?.geometry, entries: this.shown() }),
      sheet: () => this.table.sheet(this.state, this.shown(), this.tools.pin), picture: () => this.drawing(),
    });
    root.append(
      el("div", { class: "tlb-toolbar" }, this.summary, this.next.STALE, this.next.PENDING, this.cores, this.tools.vms, this.tools.form, this.tableButton, menu), this.tools.words,
      el("div", { class: "tlb-body" }, this.grids, this.panel.element), this.table.element, this.list.element,
      el("p", { class: "muted tlb-legend" }, "Arrow keys move, Enter chooses, N and P go to the next and previous STALE entry. ✓ the core held the page before, ✗ it did not: a miss. The bar beside a set's number shows how many of its ways are in use."),
      this.voice.element,
    );
  }

  /** `map` names the owners; without one an entry still shows its owner byte. The state may be of any moment. */
  draw(state: TlbState, map: MapState | undefined): void {
    this.map = map;
    if (map !== undefined && map.owners !== this.ownerRows) {
      this.ownerRows = map.owners;
      this.owners = new Map(map.owners.map((owner) => [owner.byte, owner]));
      this.drawn = [];
      this.tools.offer(map.owners);
    }
    this.state = state;
    state.touched = new Set();
    const key = `${this.root.dataset["shown"]} ${JSON.stringify(state.geometry)} ${this.core}`;
    if (key !== this.built) this.build(state, key);
    if (!this.inSight) return this.summarise(state);
    this.mark(state);
    const first = this.first();
    this.cells.forEach((_, at) => this.fill(first + at));
    this.fillUses(state);
    this.summarise(state);
    this.tools.say(state.geometry, state.entries, (entry) => this.ownerOf(entry).name);
    if (this.chosen >= 0) this.panel.show(this.chosen, { geometry: state.geometry, cells: state.entries, map, machine: this.machine(), ownerOf: (entry) => this.ownerOf(entry) });
    if (!this.table.element.hidden) this.table.show(state, this.shown(), this.tools.pin);
  }

  private first(): number {
    return this.core * waysPerCore((this.state as TlbState).geometry);
  }

  private again(): void {
    this.drawn = [];
    this.redraw();
  }

  private shown(): TlbEntry[] {
    return this.state === null ? [] : entriesShown(this.state.entries, this.tools.vm, this.tools.pin);
  }

  /** The machine that this run goes on, as the page says it. */
  private machine(): Machine | undefined {
    const run = /^run\/(\d+)\//.exec(this.root.dataset["shown"] ?? "")?.[1] ?? "";
    const told = this.root.dataset["machines"] ?? document.querySelector<HTMLElement>("[data-machines]")?.dataset["machines"];
    return told === undefined || told === "" ? undefined : (JSON.parse(told) as Record<string, Machine>)[run];
  }

  // ---- building ----

  private build(state: TlbState, key: string): void {
    this.built = key;
    const { geometry } = state;
    this.core = Math.min(this.core, geometry.cores - 1);
    this.cores.replaceChildren(...Array.from({ length: geometry.cores }, (_, core) => {
      const made = button(t("Core {core}", { core }), () => {
        this.core = core;
        this.redraw();
      });
      made.setAttribute("aria-pressed", String(core === this.core));
      return made;
    }));
    [this.cells, this.uses, this.drawn, this.marked] = [[], [], [], null];
    this.marks.clear();
    this.grids.replaceChildren(this.level(t("Level 1: {sets} sets x {ways} ways", { sets: geometry.l1.sets, ways: geometry.l1.ways }), geometry.l1),
      this.level(t("Level 2: {sets} sets x {ways} ways", { sets: geometry.l2.sets, ways: geometry.l2.ways }), geometry.l2));
  }

  private level(caption: string, shape: { sets: number; ways: number }): HTMLElement {
    const body = el("tbody");
    for (let set = 0; set < shape.sets; set++) {
      const use = el("span", { class: "tlb-use" });
      this.uses.push(use);
      const row = el("tr", {}, el("th", { scope: "row" }, String(set), use));
      for (let way = 0; way < shape.ways; way++) {
        // One stop of the Tab key for each level; the arrow keys move it.
        const cell = el("td", { class: "tlb-cell", role: "gridcell", tabindex: set === 0 && way === 0 ? "0" : "-1" });
        this.cells.push(cell);
        row.append(cell);
      }
      body.append(row);
    }
    const heads = Array.from({ length: shape.ways }, (_, way) => el("th", { scope: "col" }, t("way {way}", { way })));
    const grid = el("table", { class: "tlb-grid", role: "grid", "aria-label": caption }, el("caption", {}, caption), el("thead", {}, el("tr", {}, el("th", { scope: "col" }, t("set")), ...heads)), body);
    return el("div", { class: "tlb-level" }, grid);
  }

  // ---- cells ----

  /** Marks what changed since the state marked before; what comes sooner is marked together with what follows. */
  private mark(state: TlbState): void {
    const wait = this.markedAt + MARK_EVERY - performance.now();
    if (wait > 0 && this.marked !== null) {
      this.timer ??= setTimeout(() => {
        this.timer = undefined;
        this.redraw();
      }, wait);
      return;
    }
    const lru = this.machine()?.lru ?? false;
    const found = this.marked === null ? [] : changes(state.geometry, this.marked, state.entries, this.core, (entry) => `${this.ownerOf(entry).name} ${entry.vpn}`, lru);
    const first = this.first();
    if (this.marked !== null && found.length === 0 && this.marked.every((cell, i) => cell === state.entries[i])) return;
    for (const index of this.marks.keys()) this.drawn[index - first] = undefined;
    this.marks = new Map(found.filter(({ mark }) => mark !== "").map(({ index, mark }) => [index, mark]));
    for (const index of this.marks.keys()) this.drawn[index - first] = undefined;
    if (this.marked !== null) this.list.show(found);
    this.marked = state.entries.slice();
    this.markedAt = performance.now();
    if (!still.matches) for (const index of this.marks.keys()) this.cells[index - first]?.animate([{ boxShadow: "inset 0 0 0 20px var(--accent-surface)" }, { boxShadow: "none" }], { duration: PULSE, easing: "ease-out" });
  }

  private fill(index: number): void {
    const at = index - this.first();
    const entry = (this.state as TlbState).entries[index] ?? null;
    const old = this.drawn[at];
    const cell = this.cells[at] as HTMLTableCellElement;
    if (old !== undefined && alike(old, entry)) return;
    if (old !== undefined && old?.vpn !== entry?.vpn) this.marks.delete(index);  // it spoke of what was here before
    this.drawn[at] = entry;
    const classes = ["tlb-cell"];
    if (index === this.chosen) classes.push("tlb-chosen");
    if (this.isPinned(entry)) classes.push("tlb-pinned");
    if (entry !== null) classes.push(`tlb-${entry.state.toLowerCase()}`);
    if (entry !== null && this.dim(entry)) classes.push("tlb-dim");
    cell.className = classes.join(" ");
    cell.setAttribute("aria-selected", String(index === this.chosen));
    if (cell.hasAttribute("aria-label")) cell.setAttribute("aria-label", this.words(index));
    const words = [this.isPinned(entry) ? t("pinned") : "", this.marks.get(index) ?? ""].filter(Boolean).join(" ");
    const mark = el("span", { class: "tlb-mark" }, words);
    if (entry === null) return cell.replaceChildren(mark);
    const look = lookOf(this.ownerOf(entry));
    const fields = `${sizeWord(entry.size)} ${entry.perm} ${entry.age}`;
    cell.replaceChildren(el("span", { class: `owner ${look.className}` }, look.letter), el("span", { class: "tlb-tag mono" }, entry.vpn),
      el("span", { class: "tlb-fields" }, entry.state === "ok" ? fields : `${say(entry.state)} ${fields}`), mark);
  }

  private isPinned(entry: Cell): boolean {
    return this.tools.pin !== null && covers(entry, this.tools.pin);
  }

  /** Not the VM asked for. What contradicts the tables stays bright, whoever's it is. */
  private dim(entry: TlbEntry): boolean {
    return this.tools.vm >= 0 && entry.owner !== this.tools.vm && entry.state !== "STALE";
  }

  private words(index: number): string {
    const state = this.state as TlbState;
    const entry = state.entries[index] ?? null;
    const place = placeWords(slotOf(state.geometry, index));
    if (entry === null) return t("{place}: empty", { place });
    const more = [entry.state === "ok" ? "" : say(entry.state), this.isPinned(entry) ? t("pinned") : ""].filter(Boolean).map((each) => `, ${each}`).join("");
    return t("{place}: {owner}, {page} {vpn}, {size}, {perm}, age {age}", { place, owner: this.ownerOf(entry).name, page: pageWord(entry), vpn: entry.vpn, size: sizeWord(entry.size), perm: entry.perm, age: entry.age }) + more;
  }

  private ownerOf(entry: TlbEntry): Owner {
    if (entry.owner < 3) return { byte: entry.owner, owner: "other", name: t("a VM that is gone"), letter: "" };
    return this.owners.get(entry.owner) ?? { byte: entry.owner, owner: "other", name: t("owner {owner}", { owner: entry.owner }), letter: "" };
  }

  private fillUses(state: TlbState): void {
    const { l1, l2 } = state.geometry;
    let index = this.first();
    this.uses.forEach((use, row) => {
      const ways = row < l1.sets ? l1.ways : l2.ways;
      const words = `${setOf(state.geometry, state.entries, index).filter((entry) => entry !== null).length}/${ways}`;
      index += ways;
      if (use.textContent === words) return;
      use.textContent = words;
      use.style.setProperty("--used", `${(100 * Number(words.split("/")[0])) / ways}%`);
    });
  }

  // ---- choosing, pinning, going to ----

  private choose(index: number): void {
    this.chosen = index;
    if (index < 0) {
      this.panel.hide();
      this.cells.find((cell) => cell.classList.contains("tlb-chosen"))?.focus();
    }
    this.again();
  }

  private indexOf(target: EventTarget | null): number {
    const cell = target instanceof Element ? target.closest<HTMLTableCellElement>("td.tlb-cell") : null;
    const at = cell === null ? -1 : this.cells.indexOf(cell);
    return at < 0 ? -1 : this.first() + at;
  }

  private press(target: EventTarget | null): void {
    const index = this.indexOf(target);
    if (index < 0) return;
    this.choose(index);
    this.focusOn(index);
  }

  private focused(target: EventTarget | null): void {
    const index = this.indexOf(target);
    if (index >= 0) this.cells[index - this.first()]?.setAttribute("aria-label", this.words(index));
  }

  private focusOn(index: number): void {
    const cell = this.cells[index - this.first()];
    if (cell === undefined) return;
    const before = cell.closest("table")?.querySelector("td[tabindex='0']");
    before?.setAttribute("tabindex", "-1");
    before?.removeAttribute("aria-label");
    cell.setAttribute("tabindex", "0");
    cell.focus();
  }

  private key(event: KeyboardEvent): void {
    const index = this.indexOf(event.target);
    if (index < 0 || this.state === null || event.ctrlKey || event.metaKey || event.altKey) return;
    const move = KEYS[event.key];
    if (event.key === "Enter" || event.key === " ") this.choose(index);
    else if (event.key === "Escape" && this.chosen >= 0) this.choose(-1);
    else if (event.key === "n" || event.key === "p") this.goTo("STALE", event.key === "n" ? 1 : -1, index);
    else if (move !== undefined) {
      const { level, set, way } = slotOf(this.state.geometry, index);
      const { sets, ways } = level === 1 ? this.state.geometry.l1 : this.state.geometry.l2;
      const to = (value: number, limit: number): number => Math.min(Math.max(value, 0), limit - 1);
      this.focusOn(index + (to(set + move[0], sets) - set) * ways + to(way + move[1], ways) - way);
    } else return;
    event.preventDefault();
  }

  private goTo(wanted: "STALE" | "PENDING", step: 1 | -1 = 1, from = this.chosen): void {
    if (this.state === null) return;
    const index = nextOf(this.state.entries, wanted, from, step);
    if (index < 0) return this.voice.say(t("No {wanted} entry", { wanted: say(wanted) }));
    const core = slotOf(this.state.geometry, index).core;
    this.chosen = index;
    if (core !== this.core) this.core = core;
    this.drawn = [];
    if (!this.table.element.hidden) this.tableButton.click();
    this.draw(this.state, this.map);
    this.focusOn(index);
  }

  // ---- words about all ----

  private summarise(state: TlbState): void {
    const used = state.entries.filter((entry) => entry !== null);
    const of = (word: string): number => used.filter((entry) => entry.state === word).length;
    const [stale, pending] = [of("STALE"), of("PENDING")];
    const words = t("{n} STALE", { n: count(stale) });
    if (this.root.dataset["stale"] !== undefined && this.root.dataset["stale"] !== String(stale)) this.voice.say(t("{words} TLB entries", { words }));
    this.root.dataset["stale"] = String(stale);
    this.root.dataset["pending"] = String(pending);
    this.summary.replaceChildren(
      `${t("{used} of {entries} entries in use", { used: count(used.length), entries: count(state.entries.length) })} `,
      el("span", { class: stale > 0 ? "status status-violation" : "status status-ok" }, words),
      pending > 0 ? ` ${t("{n} PENDING", { n: count(pending) })}` : "",
    );
    this.next.STALE.disabled = stale === 0;
    this.next.PENDING.hidden = pending === 0;
    const title = [this.name, ...(stale > 0 ? [words] : []), ...(pending > 0 ? [t("{n} PENDING", { n: count(pending) })] : [])].join(": ");
    if (this.title !== null && this.title.textContent !== title) this.title.textContent = title;
  }

  private drawing(): ReturnType<typeof gridDrawing> {
    const state = this.state as TlbState;
    return gridDrawing(state.geometry, state.entries, this.core, (entry) => this.ownerOf(entry), (entry) => this.dim(entry));
  }
}
