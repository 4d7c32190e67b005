/** The only importer of uPlot: lines over operation numbers on the dark canvas of the map. */

import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { decimal, opNumber } from "./words";

/** An operation number in the space of a tick: 18.05 M. */
const short = (tick: number): string => (tick >= 1e6 ? `${decimal(tick / 1e6, 2)} M` : opNumber(tick));

/** Where the axis of ratios begins, so that ratios near one can be told apart: 0, 50, 90, 99 or 99.9 %. */
export function baseOf(rows: readonly (readonly (number | null)[])[]): number {
  let least = 1;
  for (const row of rows.slice(1)) for (const ratio of row) if (ratio !== null && ratio < least) least = ratio;
  return [0.999, 0.99, 0.9, 0.5].find((base) => base <= least && least < 1) ?? 0;
}

/** `99.25 %`: no more digits than the tick has. */
export const share = (ratio: number): string => `${decimal(ratio * 100, 3, 0)} %`;

export interface Line { label: string; colour: string; dash: number[] }
/** A vertical line at an operation: whole where the other views stand, broken where the reader is. */
export interface Upright { op: number; dash: number[] }

export class Plot {
  private plot: uPlot | null = null;
  private key = "";
  private uprights: Upright[] = [];
  private base = 0;

  /** `pointed` is told of the row under the pointer. */
  constructor(private readonly host: HTMLElement, private readonly height: number, pointed: (row: number) => void) {
    host.addEventListener("pointermove", (event) => {
      if (this.plot !== null) pointed(this.plot.posToIdx(event.clientX - this.plot.over.getBoundingClientRect().left));
    });
    new ResizeObserver(() => {
      if (this.plot !== null && this.plot.width !== this.width()) this.plot.setSize({ width: this.width(), height });
    }).observe(host);
  }

  /** `rows[0]` are operation numbers, the others one value from 0 to 1 per line (null: unknown). */
  show(lines: Line[], rows: (number | null)[][], uprights: Upright[]): void {
    this.uprights = uprights;
    this.base = baseOf(rows);
    const key = JSON.stringify(lines);
    if (key !== this.key || this.plot === null) {
      this.key = key;
      this.plot?.destroy();
      this.plot = new uPlot(this.options(lines), rows as uPlot.AlignedData, this.host);
    } else this.plot.setData(rows as uPlot.AlignedData);
  }

  private draw(plot: uPlot): void {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.strokeStyle = "#E8EAED";
    ctx.lineWidth = 2 * devicePixelRatio;
    for (const { op, dash } of this.uprights) {
      const x = Math.round(plot.valToPos(op, "x", true));
      if (x < bbox.left - 1 || x > bbox.left + bbox.width + 1) continue;
      ctx.setLineDash(dash.map((part) => part * devicePixelRatio));
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.restore();
  }

  private width(): number {
    return Math.max(200, Math.floor(this.host.clientWidth));
  }

  private options(lines: Line[]): uPlot.Options {
    const axis = { stroke: "#E8EAED", grid: { stroke: "#2B303B", width: 1 }, ticks: { stroke: "#3A404C", width: 1 }, font: "12px Inter Variable, sans-serif" };
    return {
      width: this.width(), height: this.height, padding: [8, 32, 0, 0], legend: { show: false }, cursor: { show: false },
      hooks: { draw: [(plot) => this.draw(plot)] },
      scales: { x: { time: false }, y: { range: () => [this.base, 1] } },
      axes: [
        { ...axis, values: (_plot, ticks) => ticks.map(short) },
        { ...axis, values: (_plot, ticks) => ticks.map(share), size: 60 },
      ],
      series: [{}, ...lines.map((line) => ({ label: line.label, stroke: line.colour, width: 2, dash: line.dash, points: { show: false } }))],
    };
  }
}
