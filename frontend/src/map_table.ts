/** The map as tables: owners, extents and violations, sortable, with the same filter as the map. For whoever has no sight or no pointer. */

import { count, el, hex, LongTable, share } from "./dom";
import { extentsOf, lengthOf } from "./map_extents";
import type { MapModel } from "./map_model";
import { mono, ownerCell } from "./map_side";
import type { MapState } from "./store";
import type { Owner } from "./wire";
import { t } from "./words";

interface Column { name: string; numeric?: boolean }
/** Row numbers in the order asked for: `by` compares two rows by a column. */
interface Rows { total: number; row: (index: number) => (string | Node)[]; by: (column: number, a: number, b: number) => number }

/** A long table whose heads sort it. */
class SortedTable {
  readonly element: HTMLElement;
  private readonly table: LongTable;
  private column = -1;
  private direction = 1;

  constructor(caption: string, columns: Column[], private readonly again: () => void) {
    this.table = new LongTable(caption, columns.map((column) => column.name), columns.flatMap((column, i) => (column.numeric === true ? [i] : [])));
    this.element = this.table.element;
    this.element.querySelectorAll("th").forEach((head, i, all) => {
      const sort = el("button", { type: "button", class: "sort" }, head.textContent ?? "");
      sort.addEventListener("click", () => {
        this.direction = this.column === i ? -this.direction : 1;
        this.column = i;
        all.forEach((each, at) => each.setAttribute("aria-sort", at !== i ? "none" : this.direction > 0 ? "ascending" : "descending"));
        this.again();
      });
      head.replaceChildren(sort);
    });
  }

  show(make: () => Rows): void {
    this.table.show(() => {
      const { total, row, by } = make();
      if (this.column < 0) return { total, row };
      const order = Uint32Array.from({ length: total }, (_, i) => i).sort((a, b) => this.direction * by(this.column, a, b) || a - b);
      return { total, row: (i) => row(order[i] as number) };
    });
  }
}

const page: Column = { name: t("Page") };
const owner: Column = { name: t("Owner") };
const pages: Column = { name: t("Pages"), numeric: true };
const compare = (a: string | number, b: string | number): number => (a < b ? -1 : a > b ? 1 : 0);

export class TableTwin {
  private readonly owners: SortedTable;
  private readonly extents: SortedTable;
  private readonly violations: SortedTable;
  private readonly filter = el("p", { class: "muted" });
  readonly element: HTMLElement;

  constructor(id: string, again: () => void) {
    this.owners = new SortedTable(t("Owners"), [owner, pages, { name: t("Share"), numeric: true }, { name: t("Extents"), numeric: true }], again);
    this.extents = new SortedTable(t("Extents: runs of pages with one owner"), [{ name: t("First page") }, { name: t("Last page") }, pages, owner], again);
    this.violations = new SortedTable(t("Violations"), [page, { name: t("Address") }, owner], again);
    this.element = el("div", { class: "map-table", id, hidden: "" }, this.filter, this.violations.element, this.owners.element, this.extents.element);
  }

  show(state: MapState, model: MapModel, isolated: number | null): void {
    if (this.element.hidden) return;
    const named = new Map(model.owners.map((each) => [each.byte, each]));
    const only = isolated === null ? undefined : named.get(isolated);
    this.filter.textContent = only === undefined ? t("All owners are listed.") : t("Only extents of {only} are listed, as on the map. Violations are never left out.", { only: only.name });
    const name = (byte: number): string => named.get(byte)?.name ?? "unknown";
    const cell = (byte: number): HTMLElement => ownerCell(named.get(byte));
    this.owners.show(() => {
      const all = extentsOf(model.map);
      const runs = new Uint32Array(256);
      for (const byte of all.bytes) runs[byte] = (runs[byte] as number) + 1;
      const rows: [Owner, number, number][] = model.owners.map((each) => [each, state.counts[each.byte] ?? 0, runs[each.byte] as number]);
      const key = (i: number, column: number): string | number => (column === 0 ? (rows[i]?.[0].name ?? "") : column === 3 ? (rows[i]?.[2] ?? 0) : (rows[i]?.[1] ?? 0));
      return { total: rows.length, by: (column, a, b) => compare(key(a, column), key(b, column)), row: (i) => {
        const [each, held, extents] = rows[i] as [Owner, number, number];
        return [ownerCell(each), count(held), share(held, state.map.length), count(extents)];
      } };
    });
    this.extents.show(() => {
      const all = extentsOf(model.map);
      const shown = isolated === null ? null : Uint32Array.from(all.starts.keys()).filter((i) => all.bytes[i] === isolated);
      const at = (i: number): number => (shown === null ? i : (shown[i] as number));
      const key = (i: number, column: number): string | number => (column === 2 ? lengthOf(all, at(i)) : column === 3 ? name(all.bytes[at(i)] as number) : at(i));
      return { total: shown?.length ?? all.starts.length, by: (column, a, b) => compare(key(a, column), key(b, column)), row: (i) => {
        const [start, length] = [all.starts[at(i)] as number, lengthOf(all, at(i))];
        return [mono(hex(start)), mono(hex(start + length - 1)), count(length), cell(all.bytes[at(i)] as number)];
      } };
    });
    const wrong = model.violations.slice();
    const byte = (i: number): number => model.map[wrong[i] as number] as number;
    this.violations.show(() => ({
      total: wrong.length, by: (column, a, b) => (column === 2 ? compare(name(byte(a)), name(byte(b))) : a - b),
      row: (i) => [mono(hex(wrong[i] as number)), mono(hex((wrong[i] as number) * 4096)), cell(byte(i))],
    }));
  }
}
