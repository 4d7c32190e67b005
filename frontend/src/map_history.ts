/** What happened to each frame since the page opened: when it last changed, whether a VM gave it back, whether an attack touched it. Pure. */

import type { MapState } from "./store";
import type { Owner } from "./wire";

export type Overlay = "none" | "age" | "given" | "attack" | "violations";

/** The name that the engine gives the guests that an attack brings along. */
export const DRILL = "drill";
const GIVEN = 1;
const ATTACKED = 2;
const LAST_STEP = 65_535;
/** From how many steps ago a frame counts as older, newest first; a frame's mark is 5 for the newest of these, 0 for never changed. */
export const AGES = [0, 1, 4, 16, 64] as const;

export class History {
  /** Operation at which the watching began. */
  since = 0;
  /** Operation of the newest step in which an attack's guest lived; null when none was seen. */
  attackOp: number | null = null;
  given = 0;
  attacked = 0;
  private op = -1;
  private step = 0;
  private changedIn = new Uint16Array(0);
  private flags = new Uint8Array(0);
  private lists: number[][] = [];
  private attacking = false;
  private vms = new Uint8Array(256);
  private free = -1;

  /** A new map, or a moment before the last one: nothing is known of what was. */
  begin(state: MapState): void {
    this.since = this.op = state.op;
    this.step = this.given = this.attacked = 0;
    this.attackOp = null;
    this.changedIn = new Uint16Array(state.map.length);
    this.flags = new Uint8Array(state.map.length);
    this.lists = [];
    this.attacking = hasDrill(state.owners);
    if (this.attacking) this.attackOp = state.op;
    this.know(state.owners);
  }

  /** Before the frames of a step are noted: `state` is the one after the step. False: time went back, so all began anew. */
  next(state: MapState): boolean {
    if (state.op < this.op || state.map.length !== this.flags.length) {
      this.begin(state);
      return false;
    }
    this.op = state.op;
    if (this.step === LAST_STEP) {
      this.changedIn.forEach((at, mfn) => (this.changedIn[mfn] = Math.min(1, at)));
      this.step = 2 * AGES[4];
    }
    this.step += 1;
    this.lists.push([]);
    if (this.lists.length > AGES[4] + 1) this.lists.shift();
    const drill = hasDrill(state.owners);
    // What the attack before this one touched is no longer of interest.
    if (drill && !this.attacking) this.clearAttack();
    this.attacking = drill;
    if (drill) this.attackOp = state.op;
    return true;
  }

  note(mfn: number, before: number, after: number): void {
    this.changedIn[mfn] = this.step;
    this.lists.at(-1)?.push(mfn);
    if (this.vms[before] === 1 && after === this.free) this.given += this.raise(mfn, GIVEN);
    if (this.attacking) this.attacked += this.raise(mfn, ATTACKED);
  }

  /** After the frames of a step were noted. */
  know(owners: readonly Owner[]): void {
    this.vms.fill(0);
    for (const owner of owners) if (owner.owner.startsWith("vm:")) this.vms[owner.byte] = 1;
    this.free = owners.find((owner) => owner.owner === "free")?.byte ?? -1;
  }

  /** Frames that became older by this step, so that their mark is another although they did not change. */
  aged(): number[] {
    return AGES.slice(1).flatMap((age) => this.lists[this.lists.length - 1 - age] ?? []);
  }

  markOf(overlay: Overlay, mfn: number): number {
    if (overlay === "given") return (this.flags[mfn] as number) & GIVEN ? 1 : 0;
    if (overlay === "attack") return (this.flags[mfn] as number) & ATTACKED ? 1 : 0;
    return overlay === "age" ? this.ageMark(mfn) : 0;
  }

  /** Steps since the frame changed; null: not since the watching began. */
  ageOf(mfn: number): number | null {
    const at = this.changedIn[mfn] as number;
    return at === 0 ? null : this.step - at;
  }

  private ageMark(mfn: number): number {
    const age = this.ageOf(mfn);
    if (age === null) return 0;
    let mark = AGES.length;
    while (mark > 1 && age >= (AGES[AGES.length - mark + 1] as number)) mark--;
    return mark;
  }

  private raise(mfn: number, flag: number): number {
    const flags = this.flags[mfn] as number;
    if (flags & flag) return 0;
    this.flags[mfn] = flags | flag;
    return 1;
  }

  private clearAttack(): void {
    if (this.attacked > 0) this.flags.forEach((flags, mfn) => (this.flags[mfn] = flags & ~ATTACKED));
    this.attacked = 0;
  }
}

const hasDrill = (owners: readonly Owner[]): boolean => owners.some((owner) => owner.name === DRILL);
