/** A screen on the wall: the next panel when it can be had, a clock that follows the server's, picture elements that get their rest. */

import { SHIFTS, shiftOf, turn } from "./kiosk_turn";
import { t } from "./words";

function clock(place: HTMLElement): void {
  const [loaded] = performance.getEntriesByType("navigation") as PerformanceNavigationTiming[];
  const offset = Number(place.dataset["now"]) - (performance.timeOrigin + (loaded?.responseStart ?? performance.now()));
  const draw = (): void => {
    place.textContent = `${new Date(Date.now() + offset).toISOString().slice(11, 19)} UTC`;
  };
  draw();
  setInterval(draw, 1000);
}

function rotate(body: HTMLElement): void {
  const says = document.querySelector<HTMLElement>("[data-part=kiosk-says]");
  const typing = (): boolean => document.querySelector<HTMLDetailsElement>("[data-part=leave]")?.open === true;
  // Asked for first: a server that is away must not leave an error page on the wall. What stands here stays, with its age.
  void turn(body.dataset["next"] ?? "", 1000 * Number(body.dataset["seconds"]), {
    fetch: (url) => fetch(url, { cache: "no-store" }),
    wait: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
    busy: typing,
    go: (url) => location.replace(url),
    say: (missed) => {
      if (says !== null) says.textContent = missed === 0 ? "" : t("The next panel cannot be had now; tries so far: {missed}", { missed });
    },
  });
}

/** Esc leads to the field for the token and nowhere else. That nothing else opens is the server's doing. */
function keepHere(): void {
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.preventDefault();
    const leave = document.querySelector<HTMLDetailsElement>("[data-part=leave]");
    if (leave === null) return;
    leave.open = !leave.open;
    if (leave.open) leave.querySelector<HTMLInputElement>("input:not([type=hidden])")?.focus();
  }, true);
}

const body = document.querySelector<HTMLElement>("[data-kiosk]");
if (body !== null) {
  // Each panel stands a little elsewhere than the one before it: no picture element shows the same for days, and nothing moves.
  body.dataset["shift"] = String(shiftOf(Date.now(), SHIFTS));
  const place = document.querySelector<HTMLElement>("[data-part=clock]");
  if (place !== null) clock(place);
  rotate(body);
  if (body.dataset["locked"] !== undefined) keepHere();
}
