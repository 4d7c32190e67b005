/** A lesson: a step of a view and an answer replace their part of the page; where each view stands is kept in the address. */

function page(text: string): Document {
  return new DOMParser().parseFromString(text, "text/html");
}

/** The address with the step that this link leads to; the other views stay where they stand. */
export function stepped(now: string, link: string, name: string): string {
  const url = new URL(now);
  url.searchParams.set(name, new URL(link, now).searchParams.get(name) ?? "0");
  url.hash = "";
  return url.href;
}

/** The figure and its button are looked for when their turn comes: a step before may have replaced both. */
async function step(id: string, go: string): Promise<void> {
  const figure = document.getElementById(id);
  const link = figure?.querySelector<HTMLAnchorElement>(`a[data-go="${go}"]`) ?? null;
  if (figure === null || link === null) return;
  const address = stepped(location.href, link.href, figure.dataset["swap"] ?? "");
  const answer = await fetch(address, { headers: { accept: "text/html", "X-Part": figure.id } });
  const fresh = page(await answer.text()).getElementById(figure.id);
  if (!answer.ok || fresh === null) return location.assign(link.href);
  const opened = [...figure.querySelectorAll("details")].map((each) => each.open);
  [...fresh.querySelectorAll("details")].forEach((each, i) => { each.open = opened[i] ?? each.open; });
  figure.replaceWith(fresh);
  history.replaceState(null, "", address);
  if (document.activeElement === document.body) fresh.querySelector<HTMLElement>(`[data-go="${go}"]`)?.focus({ preventScroll: true });
  for (const list of fresh.querySelectorAll<HTMLElement>(".replay-list")) {
    const now = list.querySelector<HTMLElement>("[aria-current]");
    if (now !== null) list.scrollTop = now.offsetTop - list.offsetTop - list.clientHeight / 2;
  }
}

/** The answer opens what was held back, so the whole lesson is drawn anew, at the same place of the page. */
async function answer(form: HTMLFormElement, pressed: HTMLElement | null): Promise<void> {
  const given = new FormData(form, pressed);
  const target = `#question-${CSS.escape(form.dataset["question"] ?? "")}`;
  const said = await fetch(form.action, { method: "POST", body: given, headers: { accept: "text/html" } });
  const fresh = page(await said.text()).querySelector("[data-lesson]");
  const lesson = document.querySelector("[data-lesson]");
  if (!said.ok || fresh === null || lesson === null) return form.submit();
  lesson.replaceChildren(...fresh.childNodes);
  const told = lesson.querySelector<HTMLElement>(target);
  told?.setAttribute("tabindex", "-1");
  told?.focus({ preventScroll: true });
  told?.scrollIntoView({ block: "nearest" });
}

let waiting: Promise<void> = Promise.resolve();
/** One after the other: what is pressed while a step is on its way is not lost. */
function inTurn(work: () => Promise<void>): void {
  waiting = waiting.then(work, work);
}

if (typeof document !== "undefined") {
  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element ? event.target.closest<HTMLAnchorElement>("[data-swap] a[data-go]") : null;
    const figure = link?.closest<HTMLElement>("[data-swap]");
    if (link === null || figure == null || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    inTurn(() => step(figure.id, link.dataset["go"] ?? "on"));
  });
  document.addEventListener("keydown", (event) => {
    const figure = event.target instanceof Element ? event.target.closest<HTMLElement>("[data-swap]") : null;
    const go = { ArrowLeft: "back", ArrowRight: "on", ",": "back", ".": "on", Home: "first", End: "last" }[event.key];
    if (figure === null || go === undefined || figure.querySelector(`a[data-go="${go}"]`) === null || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target instanceof Element && event.target.closest(".table-scroll, .replay-list, summary") !== null && event.key.length > 1) return;
    event.preventDefault();
    inTurn(() => step(figure.id, go));
  });
  document.addEventListener("submit", (event) => {
    const form = event.target instanceof HTMLFormElement && event.target.dataset["question"] !== undefined ? event.target : null;
    if (form === null) return;
    const pressed = event.submitter;
    if (pressed?.getAttribute("name") !== "pass" && form.querySelector("input[name=choice]:checked") === null) return;
    event.preventDefault();
    inTurn(() => answer(form, pressed));
  });
}
