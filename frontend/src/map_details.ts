/** What only the server knows of a frame: its guest page, its mappings, who still caches it, what was done to it. Asked for when the cursor rests. */

export interface FrameDetails {
  mfn: number; owner: string; since_op: number | null;
  maps: { vm: string; gpn: number | string; perm: string }[];
  protected: boolean; cleared: boolean;
  tlb: { core: number; level: number | string; set: number; way: number; state: string }[];
  operations: { op: number; what: string }[];
}

const REST = 150;
const KEPT = 4096;

export class Details {
  /** Of the frame last asked for; null while unknown, "none" when the server gave no answer. */
  now: FrameDetails | "none" | null = null;
  private readonly guests = new Map<number, string>();
  private asked = "";
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly root: HTMLElement, private readonly changed: () => void) {}

  get offered(): boolean {
    return (this.root.dataset["facts"] ?? "") !== "";
  }

  /** The cursor is on this frame, at this moment. */
  look(mfn: number): void {
    const { facts, state, op } = this.root.dataset;
    if (facts === undefined || facts === "") return;
    const address = `${facts}${mfn}/${state === "recording" ? `?op=${op ?? 0}` : ""}`;
    // While the run goes on a frame is asked for once, when the cursor comes to it: the server plays the run for it.
    if (address === this.asked) return;
    // The same frame a moment later: what is known stays until the answer is there.
    if (this.now === "none" || this.now?.mfn !== mfn) this.now = null;
    this.asked = address;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.ask(address, mfn), REST);
  }

  /** The guest page that a frame is known to be, or "". */
  guestPage(mfn: number): string {
    return this.guests.get(mfn) ?? "";
  }

  private async ask(address: string, mfn: number): Promise<void> {
    let found: FrameDetails | "none";
    try {
      const answer = await fetch(address, { headers: { Accept: "application/json" } });
      if (!answer.ok) throw new Error(String(answer.status));
      found = read(await answer.json());
    } catch {
      found = "none";
    }
    if (found !== "none") {
      if (this.guests.size > KEPT) this.guests.clear();
      this.guests.set(mfn, found.maps[0] === undefined ? "" : pageName(found.maps[0].gpn));
    }
    if (address !== this.asked) return;
    this.now = found;
    this.changed();
  }
}

export const pageName = (gpn: number | string): string => (typeof gpn === "number" ? `0x${gpn.toString(16)}` : gpn);

/** Throws on what is not an answer. */
export function read(answer: unknown): FrameDetails {
  const d = answer as Partial<FrameDetails> | null;
  if (typeof d !== "object" || d === null || typeof d.mfn !== "number" || !Array.isArray(d.maps) || !Array.isArray(d.tlb) || !Array.isArray(d.operations)) throw new Error("no answer about a frame");
  return { mfn: d.mfn, owner: d.owner ?? "", since_op: d.since_op ?? null, maps: d.maps, protected: d.protected === true, cleared: d.cleared === true, tlb: d.tlb, operations: d.operations };
}
