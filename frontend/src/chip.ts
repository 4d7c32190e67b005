/** The live chip of the top bar: exactly five states, each word + icon + colour; with "Pause" and "Reconnect now". */

import { el } from "./dom";
import { t } from "./words";

export type Shown = "live" | "reconnecting" | "paused" | "recording" | "offline";

export interface ChipState { state: Shown; ageSeconds: number; moment: string }

export function chipWords({ state, ageSeconds, moment }: ChipState): string {
  switch (state) {
    case "live": return t("Live");
    case "reconnecting": return t("Reconnecting (data {ageSeconds} s old)", { ageSeconds });
    case "paused": return t("Paused by you");
    case "recording": return t("Recording (viewing {moment}, not now)", { moment });
    case "offline": return t("Offline - showing saved data");
  }
}

export class Chip {
  private readonly word = el("span", { class: "live-chip", "data-state": "offline" });
  private readonly pause = el("button", { type: "button", class: "button button-quiet" }, t("Pause"));
  private readonly reconnect = el("button", { type: "button", class: "button button-quiet" }, t("Reconnect now"));

  constructor(private readonly host: HTMLElement, togglePause: () => void, reconnectNow: () => void) {
    this.pause.addEventListener("click", togglePause);
    this.reconnect.addEventListener("click", reconnectNow);
    host.replaceChildren(this.word, this.pause, this.reconnect);
  }

  /** Nothing on the page is live, so nothing is said about it. */
  remove(): void {
    this.host.hidden = true;
  }

  draw(chip: ChipState): void {
    const words = chipWords(chip);
    if (this.word.textContent !== words) this.word.textContent = words;
    this.word.dataset["state"] = chip.state;
    this.pause.hidden = chip.state !== "live" && chip.state !== "paused";
    this.pause.textContent = chip.state === "paused" ? t("Go on") : t("Pause");
    this.reconnect.hidden = chip.state !== "reconnecting" && chip.state !== "offline";
  }
}
