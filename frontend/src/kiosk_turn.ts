/** When a screen goes on to its next panel, and what it does while it cannot. Knows no page. */

export const SHIFTS = 9;
const RETRY_FIRST = 2_000;
const RETRY_LAST = 30_000;
const TURN = 60_000;

/** Where the panel stands at this time, one of `places`: another one each minute. */
export const shiftOf = (now: number, places: number): number => Math.floor(now / TURN) % places;

export interface Screen {
  fetch(url: string): Promise<{ ok: boolean }>;
  wait(ms: number): Promise<void>;
  /** Somebody types the token: nothing is taken away from under the hand. */
  busy(): boolean;
  go(url: string): void;
  /** How many tries in a row got no panel. */
  say(missed: number): void;
}

/** Waits its time, then goes on as soon as the next panel answers; until then the old one stays. */
export async function turn(url: string, ms: number, screen: Screen): Promise<void> {
  await screen.wait(ms);
  for (let missed = 0; ; ) {
    const ready = !screen.busy() && await screen.fetch(url).then((answer) => answer.ok, () => false);
    if (ready) {
      screen.say(0);
      return screen.go(url);
    }
    if (!screen.busy()) screen.say(++missed);
    await screen.wait(Math.min(RETRY_LAST, RETRY_FIRST * 2 ** Math.min(10, Math.max(0, missed - 1))));
  }
}
