/** The map to take away: the picture as it is on screen with its legend, the extents as rows, all of it as JSON. */

import { count, el, hex, share } from "./dom";
import { extentsOf, lengthOf } from "./map_extents";
import type { MapModel } from "./map_model";
import { inkOf, lookOf } from "./palette";
import type { MapState } from "./store";
import { takeAway } from "./take_away";
import { t } from "./words";

const LEGEND = 220;
const LINE = 24;
const FONT = "13px 'DejaVu Sans', Arial, sans-serif";

export interface Taken { root: HTMLElement; model: MapModel; state: () => MapState | null; canvases: HTMLCanvasElement[]; words: () => string[] }

export function mapMenu(taken: Taken): HTMLElement {
  const { root, model } = taken;
  const name = (byte: number): string => model.owners.find((owner) => owner.byte === byte)?.name ?? "unknown";
  return takeAway({
    root, name: "ownership-map", title: t("Ownership map"),
    sheet: () => {
      const all = extentsOf(model.map);
      const rows = Array.from(all.starts, (start, i) => {
        const length = lengthOf(all, i);
        return [hex(start), hex(start + length - 1), String(length), hex(start * 4096), name(all.bytes[i] as number)];
      });
      return { heads: [t("first page"), t("last page"), t("pages"), t("address"), t("owner")], rows };
    },
    json: () => {
      const all = extentsOf(model.map);
      const counts = taken.state()?.counts;
      return {
        pages: model.map.length, page_bytes: 4096, columns: model.grid.columns, order: model.grid.order,
        owners: model.owners.map((owner) => ({ owner: owner.owner, name: owner.name, letter: owner.letter, pages: counts?.[owner.byte] ?? 0 })),
        violations: [...model.violations], extents: Array.from(all.starts, (start, i) => [start, lengthOf(all, i), name(all.bytes[i] as number)]),
      };
    },
    picture: () => picture(taken),
  });
}

function picture({ model, state, canvases, words }: Taken): HTMLCanvasElement {
  const [cells] = canvases as [HTMLCanvasElement];
  const counts = state()?.counts;
  const owners = model.owners.filter((owner) => owner.byte < 3 || (counts?.[owner.byte] ?? 0) > 0);
  const lines = words();
  const out = el("canvas");
  out.width = cells.width + LEGEND;
  out.height = Math.max(cells.height, LINE * (owners.length + lines.length + 1));
  const context = out.getContext("2d");
  if (context === null) return out;
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, out.width, out.height);
  for (const canvas of canvases) context.drawImage(canvas, 0, 0);
  context.font = FONT;
  context.textBaseline = "middle";
  owners.forEach((owner, i) => {
    const look = lookOf(owner);
    const [x, y] = [cells.width + 12, LINE * i + 4];
    context.fillStyle = look.colour;
    context.fillRect(x, y, 18, 18);
    context.strokeStyle = "#555e6b";
    context.strokeRect(x + 0.5, y + 0.5, 17, 17);
    context.fillStyle = inkOf(look.colour);
    context.fillText(look.letter, x + 5, y + 10);
    context.fillStyle = "#14181f";
    const pages = counts?.[owner.byte] ?? 0;
    context.fillText(`${owner.name}  ${count(pages)}  ${share(pages, model.map.length)}`, x + 26, y + 10, LEGEND - 44);
  });
  lines.forEach((line, i) => context.fillText(line, cells.width + 12, LINE * (owners.length + i) + 16, LEGEND - 20));
  return out;
}
