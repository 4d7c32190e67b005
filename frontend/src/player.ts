/** The controls of a recording: caption, play, steps, marks and a slider. */

import { button, el } from "./dom";
import type { Player } from "./recording";
import { say, t } from "./words";

const clock = (ms: number): string => `${Math.floor(ms / 60_000)}:${String(Math.floor(ms / 1000) % 60).padStart(2, "0")}`;

export class PlayerControls {
  private readonly caption = el("p", { class: "player-caption", "aria-live": "polite" });
  private readonly toggle: HTMLButtonElement;
  private readonly slider = el("input", { type: "range", min: "0", step: "100", "aria-label": t("Time in the recording") });
  private readonly at = el("output", { class: "player-at" });
  private readonly marks: HTMLElement;

  constructor(root: HTMLElement, private readonly player: Player) {
    this.toggle = button(t("Play"), () => (player.playing ? player.pause() : player.play()));
    this.toggle.classList.add("button-primary");
    this.slider.max = String(player.duration);
    this.slider.addEventListener("input", () => {
      player.pause();
      player.seekTime(Number(this.slider.value));
    });
    this.marks = el("div", { class: "actions player-marks", role: "group", "aria-label": t("Chapters") },
      ...player.marks.map((mark) => button(t(mark.name), () => player.seek(mark.index))));
    root.replaceChildren(
      this.caption,
      el("div", { class: "player-controls" }, this.toggle, button(t("Step back"), () => player.stepBack(), "step-back"),
        button(t("Step forward"), () => player.stepForward(), "step-forward"), button(t("Skip to the next chapter"), () => this.skip(), "skip-forward"),
        this.slider, this.at),
      this.marks,
    );
    document.addEventListener("keydown", (event) => {
      const typing = event.target instanceof HTMLElement && event.target.closest("input, textarea, select, [role=application]") !== null;
      if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === ",") player.stepBack();
      if (event.key === ".") player.stepForward();
    });
  }

  draw(): void {
    const { player } = this;
    const word = player.playing ? t("Pause") : player.waiting ? t("Go on") : player.ended ? t("Play again") : t("Play");
    if (this.toggle.textContent !== word) {
      this.toggle.textContent = word;
      this.toggle.title = word;
      this.toggle.setAttribute("aria-label", word);
    }
    if (this.caption.textContent !== say(player.caption)) this.caption.textContent = say(player.caption);
    this.slider.value = String(player.time);
    this.slider.setAttribute("aria-valuetext", clock(player.time));
    this.at.textContent = t("{time} of {whole}", { time: clock(player.time), whole: clock(player.duration) });
    const current = player.marks.findLast((mark) => mark.index <= player.index);
    [...this.marks.children].forEach((each, i) => each.setAttribute("aria-pressed", String(player.marks[i] === current)));
  }

  private skip(): void {
    const { playing } = this.player;
    this.player.skipToMark();
    if (playing && !this.player.ended) this.player.play();
  }
}
