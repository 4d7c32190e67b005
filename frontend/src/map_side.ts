/** What stands beside the map in words: the frame under the cursor, the exact legend, and the table twin. */

import { count, el, fillRows, hex, LongTable, share, table } from "./dom";
import { extents, extentStep, type Extent } from "./map_geometry";
import { lookOf } from "./palette";
import type { MapState } from "./store";
import type { Owner } from "./wire";

const PAGE_BYTES = 4096;

export function swatch(owner: Pick<Owner, "owner" | "letter">): HTMLElement {
  const look = lookOf(owner);
  return el("span", { class: `owner ${look.className}`, "aria-hidden": "true" }, look.letter);
}

export const ownerOf = (state: MapState, mfn: number): Owner | undefined => state.owners.find((owner) => owner.byte === state.map[mfn]);

const named = (owner: Owner | undefined): (string | Node)[] =>
  owner === undefined ? ["unknown"] : [swatch(owner), ` ${owner.name}${owner.letter === "" ? "" : ` (${owner.letter})`}`];

/** The sentence the live region says about a frame. */
export function frameInWords(state: MapState, mfn: number): string {
  const wrong = state.violations.includes(mfn) ? ", violation" : "";
  return `Page ${hex(mfn)}, ${ownerOf(state, mfn)?.name ?? "unknown"}${wrong}`;
}

export class CursorPanel {
  readonly element = el("dl", { class: "facts map-cursor" });

  show(state: MapState, mfn: number): void {
    const start = extentStep(state.map, mfn, -1);
    const first = start === mfn || state.map[start] === state.map[mfn] ? start : mfn;
    const next = extentStep(state.map, mfn, 1);
    const length = (next === mfn ? state.map.length : next) - first;
    const wrong = state.violations.includes(mfn);
    this.element.replaceChildren(
      this.row("Page", el("span", { class: "mono" }, hex(mfn)), ` (${count(mfn)})`),
      this.row("Address", el("span", { class: "mono" }, hex(mfn * PAGE_BYTES))),
      this.row("Owner", el("span", { class: "map-owner" }, ...named(ownerOf(state, mfn)))),
      this.row("In extent", el("span", { class: "mono" }, `${hex(first)}-${hex(first + length - 1)}`), ` ${count(length)} ${length === 1 ? "page" : "pages"}`),
      this.row("Violation", el("span", { class: wrong ? "status status-violation" : "status status-ok" }, wrong ? "yes" : "none")),
    );
  }

  private row(term: string, ...value: (string | Node)[]): HTMLElement {
    return el("div", {}, el("dt", {}, term), el("dd", {}, ...value));
  }
}

export class Legend {
  private readonly twin = table("Pages by owner, exact", ["Owner", "Pages", "Share"], [1, 2]);
  readonly element = this.twin.element;
  private shown = "";

  show(state: MapState): void {
    const key = state.owners.map((owner) => `${owner.name} ${owner.letter} ${state.counts[owner.byte] ?? 0}`).join();
    if (key === this.shown) return;
    this.shown = key;
    const rows = state.owners
      .map((owner) => ({ owner, pages: state.counts[owner.byte] ?? 0 }))
      .filter(({ owner, pages }) => pages > 0 || owner.byte < 3)
      .map(({ owner, pages }) => [el("span", { class: "map-owner" }, ...named(owner)), count(pages), share(pages, state.map.length)]);
    fillRows(this.twin.body, rows, [1, 2]);
  }
}

/** Violations and extents as tables: what the canvas shows, without sight and without a pointer. */
export class TableTwin {
  private readonly extents = new LongTable("Extents: runs of pages with one owner", ["First page", "Last page", "Pages", "Owner"], [2]);
  private readonly violations = new LongTable("Violations", ["Page", "Owner"]);
  readonly element = el("div", { class: "map-table", hidden: "" }, this.violations.element, this.extents.element);

  constructor(id: string) {
    this.element.id = id;
  }

  show(state: MapState): void {
    if (this.element.hidden) return;
    const mono = (mfn: number): Node => el("span", { class: "mono" }, hex(mfn));
    const owner = (mfn: number): Node => el("span", { class: "map-owner" }, ...named(ownerOf(state, mfn)));
    this.extents.show(() => {
      const all = extents(state.map);
      return { total: all.length, row: (i) => {
        const { start, length } = all[i] as Extent;
        return [mono(start), mono(start + length - 1), count(length), owner(start)];
      } };
    });
    const wrong = state.violations;
    this.violations.show(() => ({ total: wrong.length, row: (i) => [mono(wrong[i] as number), owner(wrong[i] as number)] }));
  }
}
