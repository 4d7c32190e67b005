/** Counters as numbers, and the hit ratio of each VM over time: as a chart, read by keys, and as a table. */

import { button, count, el, fillRows, LongTable, table } from "./dom";
import { swatch } from "./map_side";
import { lookOf } from "./palette";
import { baseOf, Plot, share, type Line } from "./plot";
import type { CountersState } from "./store";
import { takeAway, xml, type Drawing, type Sheet } from "./take_away";
import type { Counts, VmCounts } from "./wire";
import { decimal, opNumber, t } from "./words";

const POINTS = 600;
const DASHES = [[], [8, 4], [2, 3], [12, 3, 2, 3], [5, 5], [1, 4], [16, 6]];

export interface Sample { op: number; vms: Map<number, VmCounts> }

/** Share of references answered by the TLB between two readings; unknown (null) when there were none. */
export function hitRatio(before: Counts | undefined, now: Counts): number | null {
  const references = now.references - (before?.references ?? 0);
  const hits = now.l1 + now.l2 - (before === undefined ? 0 : before.l1 + before.l2);
  return references > 0 ? Math.min(1, Math.max(0, hits / references)) : null;
}

const percent = (part: number): string => `${decimal(Math.floor(10_000 * part) / 100, 2)} %`;

/** `99.98 %`; never rounded up to 100 while there are misses. */
export const ratioWords = (counts: Counts): string => (counts.references === 0 ? "-" : `${decimal(Math.floor((10_000 * (counts.l1 + counts.l2)) / counts.references) / 100, 2)} %`);

/** Readings in order of their operation, in whatever order they come; bounded: when full, every second of the older half goes. */
export class History {
  readonly samples: Sample[] = [];

  add(op: number, vms: readonly VmCounts[]): void {
    const at = this.after(op);
    const sample = { op, vms: new Map(vms.map((vm) => [vm.byte, vm])) };
    this.samples.splice(at, 0, sample);
    if (this.samples[at - 1]?.op === op) this.samples.splice(at - 1, 1);
    if (this.samples.length <= POINTS) return;
    const half = this.samples.splice(0, POINTS / 2).filter((_, i) => i % 2 === 0);
    this.samples.unshift(...half);
  }

  /** Number of samples that are not after `op`. */
  after(op: number): number {
    let at = this.samples.length;
    while (at > 0 && (this.samples[at - 1] as Sample).op > op) at--;
    return at;
  }

  /** The ratio between the reading before and this one. */
  ratio(at: number, byte: number): number | null {
    const now = this.samples[at]?.vms.get(byte);
    return now === undefined ? null : hitRatio(this.samples[at - 1]?.vms.get(byte), now);
  }

  rows(bytes: readonly number[]): (number | null)[][] {
    return [this.samples.map((sample) => sample.op), ...bytes.map((byte) => this.samples.map((_, at) => this.ratio(at, byte)))];
  }
}

export class Counters {
  private readonly histories = new Map<string, History>();
  private history = new History();
  private state: CountersState | null = null;
  /** The operation that is read; null: always that which the views stand at. */
  private reading: number | null = null;
  private lines: Line[] = [];
  private readonly totals = el("dl", { class: "facts counters-totals" });
  private readonly vms = table(t("Each VM since its start"), ["VM", t("Pages"), t("References"), t("L1 hits"), t("L2 hits"), t("Misses"), t("Faults"), t("Hit ratio")], [1, 2, 3, 4, 5, 6, 7]);
  private readonly chart = el("div", { class: "counters-chart", "aria-hidden": "true" });
  private readonly plot = new Plot(this.chart, 200, (row) => this.read(row));
  private readonly slider = el("input", { type: "range", min: "0", "aria-label": t("Reading of the chart") });
  private readonly words = el("output", { class: "counters-reading" });
  private readonly samples = new LongTable(t("TLB hit ratio between two readings, the newest first"), [t("Operation"), "VM", t("References"), t("Hit ratio")], [0, 2, 3]);

  constructor(private readonly root: HTMLElement) {
    this.slider.addEventListener("input", () => this.read(Number(this.slider.value)));
    this.samples.element.hidden = true;
    const toggle = button(t("Table of readings"), () => {
      this.samples.element.hidden = !this.samples.element.hidden;
      toggle.setAttribute("aria-pressed", String(!this.samples.element.hidden));
      this.fillSamples();
    });
    toggle.setAttribute("aria-pressed", "false");
    const menu = takeAway({
      root, name: "counters", title: root.querySelector("h2")?.textContent ?? "Counters", json: () => ({ now: this.state?.data, samples: this.history.samples.map(({ op, vms }) => ({ op, vms: [...vms.values()] })) }),
      sheet: () => this.sheet(), picture: () => chartDrawing(this.lines, this.history.rows(this.bytes()), this.state?.op ?? 0),
    });
    const figure = el("figure", { class: "counters-figure" },
      el("figcaption", {}, t("TLB hit ratio of each VM, by operation number. The axis begins where the lowest ratio asks for it. The upright whole line is where the views stand, the broken one what is read below.")),
      this.chart, el("div", { class: "counters-cursor" }, this.slider, this.words), el("div", { class: "actions" }, toggle, menu));
    root.append(el("div", { class: "counters-body" }, this.totals, figure), this.samples.element,
      el("div", { class: "table-scroll", tabindex: "0", role: "group", "aria-label": t("Table, scrolls sideways") }, this.vms.element));
  }

  /** The state may be of any moment: what is known of the time after it stays. */
  draw(state: CountersState): void {
    const { data } = state;
    this.state = state;
    const topic = this.root.dataset["shown"] ?? "";
    this.history = this.histories.get(topic) ?? new History();
    this.histories.set(topic, this.history);
    this.history.add(data.op, data.vms);
    const fact = (term: string, value: string): HTMLElement => el("div", {}, el("dt", {}, term), el("dd", { class: "num" }, value));
    this.totals.replaceChildren(
      fact(t("Operation"), opNumber(data.op)), fact(t("References"), count(data.references)), fact(t("L1 hits"), count(data.l1)), fact(t("L2 hits"), count(data.l2)),
      fact(t("Misses"), count(data.miss)), fact(t("Faults"), count(data.faults)), fact(t("Hit ratio"), ratioWords(data)),
    );
    fillRows(this.vms.body, data.vms.map((vm) => [
      el("span", { class: "map-owner" }, swatch({ owner: "vm", letter: vm.letter }), ` ${vm.name}`), count(vm.frames), count(vm.references),
      count(vm.l1), count(vm.l2), count(vm.miss), count(vm.faults), ratioWords(vm),
    ]), [1, 2, 3, 4, 5, 6, 7]);
    this.lines = data.vms.map((vm, i) => ({ label: vm.name, colour: lookOf({ owner: "vm", letter: vm.letter }).colour, dash: DASHES[i % DASHES.length] ?? [] }));
    this.show();
    this.fillSamples();
  }

  private bytes(): number[] {
    return this.state?.data.vms.map((vm) => vm.byte) ?? [];
  }

  private read(row: number): void {
    const op = this.history.samples[row]?.op;
    this.reading = op === undefined || op === this.state?.data.op ? null : op;
    this.show();
  }

  private show(): void {
    const now = this.state?.data.op ?? 0;
    const at = Math.max(0, this.history.after(this.reading ?? now) - 1);
    const op = this.history.samples[at]?.op ?? now;
    this.slider.max = String(this.history.samples.length - 1);
    this.slider.value = String(at);
    const read = this.state?.data.vms.map((vm) => [vm.name, this.history.ratio(at, vm.byte)] as const).map(([name, ratio]) => `${name} ${ratio === null ? t("no references") : percent(ratio)}`) ?? [];
    const words = `${op === now ? t("Op {op} (now)", { op: opNumber(op) }) : t("Op {op}", { op: opNumber(op) })}: ${read.join(", ") || t("no VM")}`;
    if (this.words.textContent !== words) this.words.textContent = words;
    this.slider.setAttribute("aria-valuetext", words);
    this.plot.show(this.lines, this.history.rows(this.bytes()), [{ op: now, dash: [] }, ...(op === now ? [] : [{ op, dash: [4, 4] }])]);
  }

  private fillSamples(): void {
    if (this.samples.element.hidden) return;
    const { samples } = this.history;
    const rows = samples.flatMap((sample, at) => [...sample.vms.values()].map((vm) => [at, vm] as const)).reverse();
    this.samples.show(() => ({ total: rows.length, row: (i) => {
      const [at, vm] = rows[i] as (typeof rows)[number];
      const ratio = this.history.ratio(at, vm.byte);
      return [count(samples[at]?.op ?? 0), el("span", { class: "map-owner" }, swatch({ owner: "vm", letter: vm.letter }), ` ${vm.name}`),
        count(vm.references - (samples[at - 1]?.vms.get(vm.byte)?.references ?? 0)), ratio === null ? "-" : percent(ratio)];
    } }));
  }

  private sheet(): Sheet {
    const rows = this.history.rows(this.bytes());
    return { heads: ["operation", ...this.lines.map((line) => t("hit ratio of {line}", { line: line.label }))], rows: (rows[0] ?? []).map((_, at) => rows.map((row) => (row[at] == null ? "" : String(row[at])))) };
  }
}

/** The chart as lines on its dark ground, with a legend: what is taken away. */
export function chartDrawing(lines: readonly Line[], rows: readonly (readonly (number | null)[])[], now: number): Drawing {
  const [width, height, left, top] = [800, 260, 56, 12];
  const ops = (rows[0] ?? []) as number[];
  const [first, last] = [ops[0] ?? 0, ops.at(-1) ?? 1];
  const x = (op: number): string => (left + ((op - first) / Math.max(1, last - first)) * (width - left - 16)).toFixed(1);
  const base = baseOf(rows);
  const y = (ratio: number): string => (top + ((1 - ratio) / (1 - base)) * (height - top - 28)).toFixed(1);
  const text = (at: string, up: string, words: string, end = false): string => `<text x="${at}" y="${up}" fill="#e8eaed"${end ? ` text-anchor="end"` : ""}>${xml(words)}</text>`;
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((part) => base + part * (1 - base)).map((tick) => `<path d="M${left} ${y(tick)}H${width - 16}" stroke="#2b303b"/>${text(String(left - 6), String(Number(y(tick)) + 4), share(tick), true)}`);
  const drawn = lines.map((line, i) => {
    let pen = "M";
    const path = (rows[i + 1] ?? []).map((ratio, at) => {
      const part = ratio === null ? "" : `${pen}${x(ops[at] as number)} ${y(ratio)}`;
      pen = ratio === null ? "M" : "L";
      return part;
    }).join("");
    const dash = line.dash.length > 0 ? ` stroke-dasharray="${line.dash.join(" ")}"` : "";
    const legend = height + 16 + 20 * i;
    return `<path d="${path || "M0 0"}" fill="none" stroke="${line.colour}" stroke-width="2"${dash}/><path d="M${left} ${legend}h40" stroke="${line.colour}" stroke-width="3"${dash}/>${text(String(left + 48), String(legend + 4), line.label)}`;
  });
  const whole = height + 12 + 20 * lines.length;
  return {
    width, height: whole,
    svg: `<rect width="${width}" height="${whole}" fill="#0f1115"/>${ticks.join("")}${drawn.join("")}<path d="M${x(now)} ${top}V${y(base)}" stroke="#e8eaed" stroke-width="2"/>` +
      text(String(left), String(height - 8), t("op {op}", { op: opNumber(first) })) + text(String(width - 16), String(height - 8), t("op {op}", { op: opNumber(last) }), true),
  };
}
