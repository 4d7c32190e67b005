/** A selection of pages: from a page to a page, or a rectangle of the map. Counted, said in words, and given away as rows. Pure. */

import { boxesOf, frameAt, type Box, type Grid } from "./map_geometry";
import type { MapModel } from "./map_model";
import type { Sheet } from "./take_away";
import { count, decimal, t, tn } from "./words";

export type Selection = { from: number; to: number } | Box;

const PAGE_BYTES = 4096;
const MIB = 2 ** 20;
/** Rows of a file: what a spreadsheet can open. */
export const ROW_LIMIT = 1_000_000;

const isBox = (selection: Selection): selection is Box => "left" in selection;
const hex = (value: number): string => `0x${value.toString(16)}`;

/** What of the map the selection covers. */
export const boxesIn = (grid: Grid, selection: Selection): Box[] => (isBox(selection) ? [selection] : boxesOf(grid, selection.from, selection.to));

/** Pages by owner byte; counted on the laid out cells, so that a large rectangle is quick in both orders. */
export function countsIn(model: MapModel, selection: Selection): Uint32Array {
  const counts = new Uint32Array(256);
  const { bytes, width } = model.cells;
  for (const box of boxesIn(model.grid, selection)) {
    for (let row = box.top; row <= box.bottom; row++) {
      for (let at = row * width + box.left, end = row * width + box.right; at <= end; at++) counts[bytes[at] as number] = (counts[bytes[at] as number] as number) + 1;
    }
  }
  counts[255] = 0;
  return counts;
}

export function inWords(model: MapModel, selection: Selection): string {
  const counts = countsIn(model, selection);
  const pages = counts.reduce((sum, each) => sum + each, 0);
  const by = model.owners.filter((owner) => (counts[owner.byte] as number) > 0).sort((a, b) => (counts[b.byte] as number) - (counts[a.byte] as number))
    .map((owner) => `${owner.name} ${count(counts[owner.byte] as number)}`);
  const where = isBox(selection)
    ? t("columns {left} to {right}, rows {top} to {bottom}", { left: selection.left, right: selection.right, top: selection.top, bottom: selection.bottom }) : t("{from} to {to}", { from: hex(selection.from), to: hex(selection.to) });
  const size = (pages * PAGE_BYTES) / MIB;
  return tn("{n} page ({size}), {where}: {owners}", "{n} pages ({size}), {where}: {owners}", pages, {
    size: size < 1 ? `${pages * 4} KiB` : `${decimal(size, 1, 0)} MiB`, where, owners: by.join(", "),
  });
}

/** One row a page, in address order; the first million of them. */
export function sheetOf(model: MapModel, selection: Selection): Sheet {
  let frames: number[] = [];
  if (!isBox(selection)) for (let mfn = selection.from; mfn <= selection.to && frames.length < ROW_LIMIT; mfn++) frames.push(mfn);
  else {
    for (let row = selection.top; row <= selection.bottom; row++) {
      for (let column = selection.left; column <= selection.right; column++) {
        const mfn = frameAt(model.grid, column, row);
        if (mfn !== null) frames.push(mfn);
      }
    }
    frames = frames.sort((a, b) => a - b).slice(0, ROW_LIMIT);
  }
  const names = new Map(model.owners.map((owner) => [owner.byte, owner.name]));
  return { heads: [t("page"), t("address"), t("owner")], rows: frames.map((mfn) => [hex(mfn), hex(mfn * PAGE_BYTES), names.get(model.map[mfn] as number) ?? t("unknown")]) };
}

/** `0x10`, `16`, or an address: `0x` beyond the last page. Null: no page of this map. */
export function pageOf(text: string, frames: number): number | null {
  const clean = text.trim().toLowerCase().replaceAll(",", "");
  if (!/^(0x[0-9a-f]+|\d+)$/.test(clean)) return null;
  const value = Number(clean);
  const mfn = value < frames ? value : Math.floor(value / PAGE_BYTES);
  return mfn < frames ? mfn : null;
}
