/** The TLB as a table and as a drawing to take away: the same entries and filters as the grid. */

import { count, el, LongTable } from "./dom";
import { swatch } from "./map_side";
import { inkOf, lookOf } from "./palette";
import type { TlbState } from "./store";
import { tableDrawing, type Drawing, type DrawnCell, type Sheet, xml } from "./take_away";
import { covers, pageWord, sizeWord, slotOf, type Cell, type Pin } from "./tlb_model";
import { waysPerCore, type Geometry, type Owner, type TlbEntry } from "./wire";
import { say, t } from "./words";

const HEADS = [t("Core"), t("Level"), t("Set"), t("Way"), t("Tag"), t("Kind"), t("Owner"), t("Size"), t("Permission"), t("Age"), t("Frame"), t("State")];

/** The entries that the filters let through: of one VM (-1: all), and STALE ones of anybody. What contradicts the tables comes first, then what is pinned. */
export function entriesShown(cells: readonly Cell[], vm: number, pin: Pin | null): TlbEntry[] {
  const rank = (entry: TlbEntry): number => (entry.state !== "ok" ? 0 : pin !== null && covers(entry, pin) ? 1 : 2);
  return cells.filter((entry): entry is TlbEntry => entry !== null && (vm < 0 || entry.owner === vm || entry.state === "STALE")).sort((a, b) => rank(a) - rank(b));
}

export class TlbTable {
  private readonly twin = new LongTable(t("TLB entries in use"), HEADS, [0, 1, 2, 3, 9]);
  readonly element = this.twin.element;

  constructor(private readonly ownerOf: (entry: TlbEntry) => Owner) {
    this.element.hidden = true;
  }

  show(state: TlbState, entries: TlbEntry[], pin: Pin | null): void {
    this.twin.show(() => ({ total: entries.length, row: (i) => {
      const entry = entries[i] as TlbEntry;
      const row: (string | Node)[] = this.row(state.geometry, entry, pin);
      const owner = this.ownerOf(entry);
      row[4] = el("span", { class: "mono" }, entry.vpn);
      row[6] = el("span", { class: "map-owner" }, swatch(owner), ` ${owner.name}`);
      return row;
    } }));
  }

  sheet(state: TlbState | null, entries: TlbEntry[], pin: Pin | null): Sheet {
    return { heads: HEADS, rows: state === null ? [] : entries.map((entry) => this.row(state.geometry, entry, pin)) };
  }

  private row(geometry: Geometry, entry: TlbEntry, pin: Pin | null): string[] {
    const { core, level, set, way } = slotOf(geometry, entry.index);
    const pinned = pin !== null && covers(entry, pin) ? `, ${t("pinned")}` : "";
    return [core, level, set, way].map(String).concat(
      entry.vpn, pageWord(entry), this.ownerOf(entry).name, sizeWord(entry.size), entry.perm, count(entry.age), `0x${entry.mfn.toString(16)}`, `${say(entry.state)}${pinned}`);
  }
}

/** Both levels of one core, one under the other. */
export function gridDrawing(geometry: Geometry, cells: readonly Cell[], core: number, ownerOf: (entry: TlbEntry) => Owner, dim: (entry: TlbEntry) => boolean): Drawing {
  let index = core * waysPerCore(geometry);
  const drawn = ([[t("Level 1"), geometry.l1], [t("Level 2"), geometry.l2]] as const).map(([name, { sets, ways }]) => {
    const rows = Array.from({ length: sets }, (_, set): DrawnCell[] => [
      { text: String(set) }, ...Array.from({ length: ways }, () => drawnCell(cells[index++] ?? null, ownerOf, dim))]);
    return tableDrawing([t("Core {core}, {name}: set", { core, name }), ...Array.from({ length: ways }, (_, way) => t("way {way}", { way }))], rows);
  });
  const [first, second] = drawn as [Drawing, Drawing];
  const height = first.height + 24 + second.height;
  const names = [...new Set(cells.filter((entry) => entry !== null).map(ownerOf).map((owner) => `${owner.letter || t("no letter")} ${owner.name}`))];
  return {
    width: Math.max(first.width, second.width), height: height + 24,
    svg: `${first.svg}<g transform="translate(0 ${first.height + 24})">${second.svg}</g><text x="8" y="${height + 16}" fill="#14181f">${xml(`${names.join(", ")}. ${t("Each entry: owner, page, size, permission, age.")}`)}</text>`,
  };
}

function drawnCell(entry: Cell, ownerOf: (entry: TlbEntry) => Owner, dim: (entry: TlbEntry) => boolean): DrawnCell {
  if (entry === null) return { text: "" };
  const owner = ownerOf(entry);
  const colour = lookOf(owner).colour;
  const words = [owner.letter, entry.vpn, sizeWord(entry.size), entry.perm, entry.age, entry.state === "ok" ? "" : say(entry.state)].filter((part) => part !== "").join(" ");
  const look = dim(entry) ? { fill: "#f4f5f7", ink: "#555e6b" } : { fill: colour, ink: inkOf(colour) };
  return { text: words, ...look, ...(entry.state === "ok" ? {} : { mark: "dashed" as const }) };
}
