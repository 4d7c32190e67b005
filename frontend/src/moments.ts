/** The past of a run as the server makes it again: one moment at a time, into a store of its own. No DOM. */

import { readRecording } from "./recording";
import { Store } from "./store";
import { isFrame, WireError, type MomentHead } from "./wire";
import { t } from "./words";

export interface Moment extends MomentHead { store: Store }
export interface Mark { id: number | null; at: number; kind: string; text: string }
export interface Reach { oldest: number; newest: number; unit: "op" | "step"; marks: Mark[] }
export type Fetch = (url: string, init?: RequestInit) => Promise<Response>;

/** A refusal of the server, in its own words. */
export class Refusal extends Error {}

export class Moments {
  private latest: AbortController | null = null;

  /** `base` is the run's address, "/runs/3/". */
  constructor(private readonly base: string, private readonly fetch: Fetch = (url, init) => window.fetch(url, init)) {}

  /** The moment, or null when a later one was asked for meanwhile. */
  async at(unit: "op" | "step", at: number): Promise<Moment | null> {
    this.latest?.abort();
    const mine = this.latest = new AbortController();
    try {
      const answer = await this.ask(`moment/?${unit}=${at}`, { signal: mine.signal });
      const moment = await readMoment(await answer.arrayBuffer());
      return mine.signal.aborted ? null : moment;
    } catch (error) {
      if (mine.signal.aborted) return null;
      throw error;
    }
  }

  async find(what: string, at: number, direction: "next" | "last"): Promise<number | null> {
    const answer = (await (await this.ask(`find/?what=${what}&op=${at}&direction=${direction}`)).json()) as { op: number | null };
    return answer.op;
  }

  async reach(): Promise<Reach> {
    return (await (await this.ask("marks/")).json()) as Reach;
  }

  async mark(at: number, text: string, token: string): Promise<void> {
    await this.ask("mark/", { method: "POST", headers: { "X-CSRFToken": token }, body: new URLSearchParams({ at: String(at), text }) });
  }

  async unmark(id: number, token: string): Promise<void> {
    await this.ask(`mark/${id}/delete/`, { method: "POST", headers: { "X-CSRFToken": token } });
  }

  private async ask(path: string, init: RequestInit = {}): Promise<Response> {
    const answer = await this.fetch(this.base + path, { ...init, headers: { Accept: "application/json", ...init.headers } });
    if (answer.ok) return answer;
    const told = (await answer.json().catch(() => null)) as { message?: string; error?: { message?: string } } | null;
    throw new Refusal(told?.message ?? told?.error?.message ?? t("the server answered {status}", { status: answer.status }));
  }
}

export async function readMoment(buffer: ArrayBuffer): Promise<Moment> {
  const store = new Store();
  let head: MomentHead | null = null;
  for (const { message } of await readRecording(buffer)) {
    if (isFrame(message)) store.apply(message);
    else if (message.type === "moment") head = message;
  }
  if (head === null) throw new WireError("a moment without its head");
  return { ...head, store };
}

/** Where a slider of `steps` positions puts the moment, and back. */
export const toSlider = (reach: { oldest: number; newest: number }, at: number, steps: number): number =>
  reach.newest === reach.oldest ? steps : Math.round(((at - reach.oldest) / (reach.newest - reach.oldest)) * steps);
export const fromSlider = (reach: { oldest: number; newest: number }, position: number, steps: number): number =>
  position === steps ? reach.newest : Math.round(reach.oldest + (position / steps) * (reach.newest - reach.oldest));

/** An address that opens this very moment: run, engine, seed, operation, view, selection and both cursors. */
export function momentLink(here: string, moment: { unit: "op" | "step"; at: number }, about: Record<string, string | number | null | undefined>, view = ""): string {
  const url = new URL(here);
  for (const name of ["op", "step", ...Object.keys(about)]) url.searchParams.delete(name);
  url.searchParams.set(moment.unit, String(moment.at));
  for (const [name, value] of Object.entries(about)) if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, String(value));
  url.hash = view;
  return url.href;
}
