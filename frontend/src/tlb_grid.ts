/** The TLB: per core both levels as sets x ways; every entry with tag, owner, size, permission and age; STALE in words. */

import { button, count, el, LongTable, Voice } from "./dom";
import { swatch } from "./map_side";
import { lookOf } from "./palette";
import type { MapState, TlbState } from "./store";
import { waysPerCore, type Geometry, type Owner, type TlbEntry } from "./wire";

export interface Slot { core: number; level: 1 | 2; set: number; way: number }

/** Where entry `index` of the wire lies: per core first level 1, then level 2, each set by set. */
export function slotOf(geometry: Geometry, index: number): Slot {
  const perCore = waysPerCore(geometry);
  const core = Math.floor(index / perCore);
  const first = geometry.l1.sets * geometry.l1.ways;
  const inCore = index % perCore;
  const level = inCore < first ? 1 : 2;
  const shape = level === 1 ? geometry.l1 : geometry.l2;
  const at = level === 1 ? inCore : inCore - first;
  return { core, level, set: Math.floor(at / shape.ways), way: at % shape.ways };
}

export class TlbGrid {
  private core = 0;
  private cells: HTMLTableCellElement[] = [];
  private built = "";
  private state: TlbState | null = null;
  private owners = new Map<number, Owner>();
  private readonly cores = el("div", { class: "actions", role: "group", "aria-label": "Core" });
  private readonly grids = el("div", { class: "tlb-grids" });
  private readonly summary = el("p", { class: "tlb-summary" });
  private readonly twin = new LongTable("TLB entries in use", ["Core", "Level", "Set", "Way", "Tag", "Owner", "Size", "Permission", "Age", "State"], [0, 1, 2, 3, 8]);
  private readonly tableButton: HTMLButtonElement;
  private readonly voice = new Voice();

  constructor(private readonly root: HTMLElement, private readonly redraw: () => void) {
    this.twin.element.hidden = true;
    this.tableButton = button("Table", () => {
      this.twin.element.hidden = !this.twin.element.hidden;
      this.grids.hidden = !this.twin.element.hidden;
      this.tableButton.setAttribute("aria-pressed", String(!this.twin.element.hidden));
      redraw();
    });
    this.tableButton.setAttribute("aria-pressed", "false");
    root.append(
      el("div", { class: "tlb-toolbar" }, this.summary, this.cores, this.tableButton), this.grids,
      this.twin.element, this.voice.element,
    );
  }

  /** `map` names the owners; without one an entry still shows its owner byte. */
  draw(state: TlbState, map: MapState | undefined): void {
    const touched = this.state === state ? state.touched : "all";
    this.state = state;
    if (map !== undefined && map.owners.length !== this.owners.size) {
      this.owners = new Map(map.owners.map((owner) => [owner.byte, owner]));
      this.built = "";
    }
    const key = `${JSON.stringify(state.geometry)} ${this.core}`;
    if (key !== this.built) this.build(state, key);
    else if (touched === "all") this.fillCore(state);
    else for (const index of touched) this.fill(index, state.entries[index] ?? null, state);
    state.touched = new Set();
    this.summarise(state);
    if (!this.twin.element.hidden) this.fillTable(state);
  }

  private build(state: TlbState, key: string): void {
    this.built = key;
    const { geometry } = state;
    this.cores.replaceChildren(...Array.from({ length: geometry.cores }, (_, core) => {
      const made = button(`Core ${core}`, () => {
        this.core = core;
        this.redraw();
      });
      made.setAttribute("aria-pressed", String(core === this.core));
      return made;
    }));
    this.cells = [];
    this.grids.replaceChildren(this.level(`Level 1: ${geometry.l1.sets} sets x ${geometry.l1.ways} ways`, geometry.l1),
      this.level(`Level 2: ${geometry.l2.sets} sets x ${geometry.l2.ways} ways`, geometry.l2));
    this.fillCore(state);
  }

  private level(caption: string, shape: { sets: number; ways: number }): HTMLElement {
    const body = el("tbody");
    for (let set = 0; set < shape.sets; set++) {
      const row = el("tr", {}, el("th", { scope: "row" }, String(set)));
      for (let way = 0; way < shape.ways; way++) {
        const cell = el("td", { class: "tlb-cell" });
        this.cells.push(cell);
        row.append(cell);
      }
      body.append(row);
    }
    const heads = Array.from({ length: shape.ways }, (_, way) => el("th", { scope: "col" }, `way ${way}`));
    const grid = el("table", { class: "tlb-grid" }, el("caption", {}, caption), el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "set"), ...heads)), body);
    return el("div", { class: "tlb-level", tabindex: "0", role: "region", "aria-label": caption }, grid);
  }

  private fillCore(state: TlbState): void {
    const first = this.core * waysPerCore(state.geometry);
    for (let i = 0; i < this.cells.length; i++) this.fill(first + i, state.entries[first + i] ?? null, state);
  }

  private fill(index: number, entry: TlbEntry | null, state: TlbState): void {
    const cell = this.cells[index - this.core * waysPerCore(state.geometry)];
    if (cell === undefined) return;
    cell.className = entry === null ? "tlb-cell" : `tlb-cell tlb-${entry.state.toLowerCase()}`;
    if (entry === null) return cell.replaceChildren();
    const owner = this.ownerOf(entry);
    const mark = el("span", { class: `owner ${lookOf(owner).className}` }, lookOf(owner).letter);
    mark.title = owner.name;
    const fields = `${sizeWord(entry.size)} ${entry.perm} ${entry.age}`;
    cell.replaceChildren(mark, el("span", { class: "tlb-tag mono" }, entry.vpn), el("span", { class: "tlb-fields" }, entry.state === "ok" ? fields : `${entry.state} ${fields}`));
  }

  private ownerOf(entry: TlbEntry): Owner {
    return this.owners.get(entry.owner) ?? { byte: entry.owner, owner: "other", name: `owner ${entry.owner}`, letter: "" };
  }

  private summarise(state: TlbState): void {
    const used = state.entries.filter((entry) => entry !== null);
    const stale = used.filter((entry) => entry.state === "STALE").length;
    const pending = used.filter((entry) => entry.state === "PENDING").length;
    const words = `${count(stale)} STALE`;
    if (this.root.dataset["stale"] !== undefined && this.root.dataset["stale"] !== String(stale)) this.voice.say(`${words} TLB entries`);
    this.root.dataset["stale"] = String(stale);
    this.summary.replaceChildren(
      `${count(used.length)} of ${count(state.entries.length)} entries in use `,
      el("span", { class: stale > 0 ? "status status-violation" : "status status-ok" }, words),
      pending > 0 ? ` ${count(pending)} PENDING` : "",
    );
  }

  private fillTable(state: TlbState): void {
    this.twin.show(() => {
      // What contradicts the tables comes first.
      const used = state.entries.filter((entry) => entry !== null).sort((a, b) => Number(a.state === "ok") - Number(b.state === "ok"));
      return { total: used.length, row: (i) => this.tableRow(state.geometry, used[i] as TlbEntry) };
    });
  }

  private tableRow(geometry: Geometry, entry: TlbEntry): (string | Node)[] {
    const { core, level, set, way } = slotOf(geometry, entry.index);
    const owner = this.ownerOf(entry);
    return [
      String(core), String(level), String(set), String(way), el("span", { class: "mono" }, entry.vpn),
      el("span", { class: "map-owner" }, swatch(owner), ` ${owner.name}`), sizeWord(entry.size), entry.perm, count(entry.age), entry.state,
    ];
  }
}

const sizeWord = (pages: number): string => (pages === 1 ? "4K" : pages === 512 ? "2M" : `${pages}p`);
