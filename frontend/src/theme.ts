/** On every page: the theme buttons act at once; the form's POST keeps the choice. Without script the form alone does both. */

for (const form of document.querySelectorAll<HTMLFormElement>("form[data-part=theme]")) {
  form.addEventListener("submit", (event) => {
    const chosen = event.submitter;
    if (!(chosen instanceof HTMLButtonElement)) return;
    event.preventDefault();
    document.documentElement.dataset["theme"] = chosen.value;
    for (const button of form.querySelectorAll("button")) button.setAttribute("aria-pressed", String(button === chosen));
    const body = new FormData(form);
    body.set("theme", chosen.value);
    // Not kept when offline: the next page shows the old theme again, nothing else is lost.
    fetch(form.action, { method: "POST", body, redirect: "manual" }).catch(() => undefined);
  });
}
