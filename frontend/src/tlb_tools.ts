/** The controls above the grid that ask: one VM alone, and a pinned page, address or frame. */

import { button, el } from "./dom";
import { pinWords, readPin, type Cell, type Pin, type PinKind } from "./tlb_model";
import type { Geometry, Owner, TlbEntry } from "./wire";
import { t } from "./words";

const KINDS = [["page", t("Page")], ["address", t("Address")], ["frame", t("Frame")]] as const;

export class TlbTools {
  /** Owner byte of the VM that is shown alone, -1 for all. */
  vm = -1;
  pin: Pin | null = null;
  readonly vms = el("select", { "aria-label": t("VM to show") });
  /** Where the pinned page is, in words, kept up as time goes on. */
  readonly words = el("p", { class: "tlb-pinned-words", role: "status" });
  private readonly kind = el("select", { "aria-label": t("What to pin") }, ...KINDS.map(([value, name]) => el("option", { value }, name)));
  private readonly text = el("input", { type: "text", "aria-label": t("Number to pin, in hex"), placeholder: "0x...", size: "12", spellcheck: "false", autocomplete: "off" });
  readonly form = el("form", { class: "inline" }, this.kind, this.text, el("button", { class: "button button-quiet" }, t("Pin")), button(t("Unpin"), () => this.set(null)));

  constructor(private readonly changed: () => void) {
    this.vms.addEventListener("change", () => {
      this.vm = Number(this.vms.value);
      changed();
    });
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.set(readPin(this.kind.value as PinKind, this.text.value));
      if (this.pin === null) this.words.textContent = t("Type a number in hex, such as 0x1a2f3.");
    });
  }

  offer(owners: readonly Owner[]): void {
    const rows = owners.filter((owner) => owner.byte >= 3 && owner.owner !== "other");
    this.vms.replaceChildren(el("option", { value: "-1" }, t("All VMs")), ...rows.map((owner) => el("option", { value: String(owner.byte) }, t("Only {owner}", { owner: `${owner.name}${owner.letter === "" ? "" : ` (${owner.letter})`}` }))));
    if (!rows.some((owner) => owner.byte === this.vm)) this.vm = -1;
    this.vms.value = String(this.vm);
  }

  say(geometry: Geometry, cells: readonly Cell[], name: (entry: TlbEntry) => string): void {
    const words = this.pin === null ? "" : pinWords(geometry, cells, this.pin, name);
    if (words !== "" && this.words.textContent !== words) this.words.textContent = words;
  }

  private set(pin: Pin | null): void {
    this.pin = pin;
    this.words.textContent = "";
    this.changed();
  }
}
