/** Links and pictures to take away: a copy button beside each text field, PNG beside each drawing that the server makes. */

import { el } from "./dom";
import { give, pngOf } from "./take_away";
import { t } from "./words";

for (const place of document.querySelectorAll<HTMLElement>("[data-copy]")) {
  const field = place.querySelector("input");
  if (field === null) continue;
  const told = el("span", { role: "status" });
  const copy = el("button", { type: "button", class: "button" }, t("Copy"));
  copy.addEventListener("click", () => void (async () => {
    field.select();
    try {
      await navigator.clipboard.writeText(field.value);
      told.textContent = t("Copied");
    } catch {
      told.textContent = t("Selected; copy it with the keys.");
    }
  })());
  place.append(copy, told);
}

for (const place of document.querySelectorAll<HTMLElement>("[data-png]")) {
  const told = el("span", { role: "status" });
  const made = el("button", { type: "button", class: "button button-quiet" }, place.dataset["words"] ?? "PNG");
  made.addEventListener("click", () => void (async () => {
    try {
      const answer = await fetch(place.dataset["png"] ?? "");
      if (!answer.ok) throw new Error(t("the server answered {status}", { status: answer.status }));
      give(`${place.dataset["name"] ?? "picture"}.png`, await pngOf(await answer.text(), 2));
      told.textContent = "";
    } catch (error) {
      told.textContent = error instanceof Error ? error.message : String(error);
    }
  })());
  place.append(made, told);
}
