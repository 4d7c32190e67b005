/** What the wall knows of its cells: the state as it reads now, its age by the server's clock. Knows no page. */

import { WireError } from "./wire";

export type CellState = "ok" | "degraded" | "violation" | "none" | "idle";
export interface Cell { host: number; check: string; state: CellState; at: number; why: string; since: number }
export interface CellsData { cells: Cell[]; now: number }

const STATES = new Set(["ok", "degraded", "violation", "none", "idle"]);

/** The data of a topic `wall-hosts/...`; whatever does not fit throws. */
export function readCells(data: unknown): CellsData {
  const given = data as { cells?: unknown; now?: unknown } | null;
  if (given === null || typeof given !== "object" || !Array.isArray(given.cells) || typeof given.now !== "number") throw new WireError("cells of the wall");
  return { now: given.now, cells: given.cells.map(readCell) };
}

function readCell(row: unknown): Cell {
  if (!Array.isArray(row) || row.length !== 6) throw new WireError("a cell of the wall");
  const [host, check, state, at, why, since] = row as unknown[];
  if (typeof host !== "number" || typeof check !== "string" || !STATES.has(String(state)) || typeof at !== "number" || typeof why !== "string" || typeof since !== "number") throw new WireError("a cell of the wall");
  return { host, check, state: state as CellState, at, why, since };
}

/** The state of a cell as it reads at `now`: without a sign for too long it is unknown, whatever it was. */
export const readsAs = (state: string, at: number | null, now: number, unknownAfterMs: number): string =>
  at !== null && state !== "idle" && now - at > unknownAfterMs ? "unknown" : state;

/** `4 s`, `12 min`, `3 h`: how old a measurement is. */
export function ageWords(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 120) return `${whole} s`;
  return whole < 7200 ? `${Math.floor(whole / 60)} min` : `${Math.floor(whole / 3600)} h`;
}

/** The server's clock as far as the page knows it. The page's own may be wrong by years; that it goes on evenly is all that is used. */
export class ServerClock {
  private offset: number;

  /** `serverNow` stands in the page, whose first byte came at `receivedAt` of the browser's clock. */
  constructor(serverNow: number, receivedAt: number) {
    this.offset = serverNow - receivedAt;
  }

  /** A message carries the server's time; the way here only makes it older, so the latest time ever told is the nearest. */
  told(serverNow: number, receivedAt: number): void {
    this.offset = Math.max(this.offset, serverNow - receivedAt);
  }

  at(browserNow: number): number {
    return browserNow + this.offset;
  }
}
