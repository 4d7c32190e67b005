/** What the reader is told when a connection ends, one sentence a close code (operations.md 4), and where it stands. */

import { el } from "./dom";
import { t } from "./words";

/** Codes after which trying again would end the same way: only the reader can help. */
export const FINAL = new Set([1009, 4003, 4009]);

export const SENTENCES: Record<number, string> = {
  1009: t("This page sent a message that is too big for the server. Reload the page; if it happens again, tell the operator."),
  4001: t("This page fell behind the server and starts anew from the newest state. Nothing is lost."),
  4003: t("You no longer have access. Reload the page to sign in again."),
  4008: t("This device read too slowly, so the server let the connection go. It is tried again, and the newest state is shown then."),
  4009: t("The server did not understand this page, which may be of an older version. Reload the page."),
  4029: t("Too many live pages or messages at once. Close other pages of this site; this one tries again by itself."),
};

/** Of 4029, where the server says whose sockets are too many and how many there may be (webapp/live/places.py). */
export function tooMany(reason: string): string {
  const [whose, most] = reason.split(" ");
  if (most === undefined || !/^\d+$/.test(most)) return "";
  if (whose === "person") return t("You have {most} live pages open, as many as you may. Close one of them; this one tries again by itself.", { most });
  if (whose !== "organisation") return "";
  return t("Your organisation has {most} live pages open, as many as it may. Close one that nobody looks at; this one tries again by itself.", { most });
}

export const POLLING = t("The live connection is refused on the way to the server, so this page asks for the newest state every 2 s.");

/** Puts the sentence on top of a view, or takes it away when there is nothing to say. */
export function tellConnection(root: HTMLElement, sentence: string): void {
  const shown = root.querySelector<HTMLElement>(":scope > .notice[data-part=connection]");
  if ((shown?.textContent ?? "") === sentence) return;
  shown?.remove();
  if (sentence !== "") root.prepend(el("div", { class: "notice notice-warning", role: "status", "data-part": "connection" }, el("p", {}, sentence)));
}
