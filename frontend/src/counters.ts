/** Counters as numbers, and the hit ratio of each VM over time. */

import { count, el, fillRows, table } from "./dom";
import { swatch } from "./map_side";
import { lookOf } from "./palette";
import { Plot } from "./plot";
import type { CountersState } from "./store";
import type { Counts, VmCounts } from "./wire";

const POINTS = 600;
const DASHES = [[], [8, 4], [2, 3], [12, 3, 2, 3], [5, 5], [1, 4], [16, 6]];

export interface Sample { op: number; ratios: Map<number, number | null> }

/** Share of references answered by the TLB between two readings; unknown (null) when there were none. */
export function hitRatio(before: Counts | undefined, now: Counts): number | null {
  const references = now.references - (before?.references ?? 0);
  const hits = now.l1 + now.l2 - (before === undefined ? 0 : before.l1 + before.l2);
  return references > 0 ? Math.min(1, Math.max(0, hits / references)) : null;
}

/** `99.98 %`; never rounded up to 100 while there are misses. */
export function ratioWords(counts: Counts): string {
  if (counts.references === 0) return "-";
  return `${(Math.floor((10_000 * (counts.l1 + counts.l2)) / counts.references) / 100).toFixed(2)} %`;
}

/** Samples over time, bounded: when full, every second of the older half goes. */
export class History {
  readonly samples: Sample[] = [];
  private before = new Map<number, VmCounts>();

  add(op: number, vms: readonly VmCounts[]): void {
    const last = this.samples.at(-1);
    if (last !== undefined && op < last.op) {
      // Time went back (a recording was rewound): what lies ahead is not yet known.
      while ((this.samples.at(-1)?.op ?? -1) >= op) this.samples.pop();
      this.before.clear();
    }
    if (last?.op === op) return;
    this.samples.push({ op, ratios: new Map(vms.map((vm) => [vm.byte, hitRatio(this.before.get(vm.byte), vm)])) });
    this.before = new Map(vms.map((vm) => [vm.byte, vm]));
    if (this.samples.length > POINTS) {
      const half = this.samples.splice(0, POINTS / 2).filter((_, i) => i % 2 === 0);
      this.samples.unshift(...half);
    }
  }

  rows(bytes: readonly number[]): (number | null)[][] {
    return [this.samples.map((sample) => sample.op), ...bytes.map((byte) => this.samples.map((sample) => sample.ratios.get(byte) ?? null))];
  }
}

export class Counters {
  private readonly history = new History();
  private readonly totals = el("dl", { class: "facts counters-totals" });
  private readonly vms = table("Each VM since its start", ["VM", "Pages", "References", "L1 hits", "L2 hits", "Misses", "Faults", "Hit ratio"], [1, 2, 3, 4, 5, 6, 7]);
  private readonly chart = el("div", { class: "counters-chart" });
  private readonly plot = new Plot(this.chart, 200);

  constructor(root: HTMLElement) {
    const figure = el("figure", { class: "counters-figure" }, el("figcaption", {}, "TLB hit ratio of each VM, by operation number; the figures stand in the table below."), this.chart);
    this.chart.setAttribute("aria-hidden", "true");
    root.append(el("div", { class: "counters-body" }, this.totals, figure), el("div", { class: "table-scroll", tabindex: "0", role: "group", "aria-label": "Table, scrolls sideways" }, this.vms.element));
  }

  draw(state: CountersState): void {
    const { data } = state;
    this.history.add(data.op, data.vms);
    const fact = (term: string, value: string): HTMLElement => el("div", {}, el("dt", {}, term), el("dd", { class: "num" }, value));
    this.totals.replaceChildren(
      fact("Operation", count(data.op)), fact("References", count(data.references)), fact("L1 hits", count(data.l1)), fact("L2 hits", count(data.l2)),
      fact("Misses", count(data.miss)), fact("Faults", count(data.faults)), fact("Hit ratio", ratioWords(data)),
    );
    fillRows(this.vms.body, data.vms.map((vm) => [
      el("span", { class: "map-owner" }, swatch({ owner: "vm", letter: vm.letter }), ` ${vm.name}`), count(vm.frames), count(vm.references),
      count(vm.l1), count(vm.l2), count(vm.miss), count(vm.faults), ratioWords(vm),
    ]), [1, 2, 3, 4, 5, 6, 7]);
    const lines = data.vms.map((vm, i) => ({ label: vm.name, colour: lookOf({ owner: "vm", letter: vm.letter }).colour, dash: DASHES[i % DASHES.length] ?? [] }));
    this.plot.show(lines, this.history.rows(data.vms.map((vm) => vm.byte)));
  }
}
