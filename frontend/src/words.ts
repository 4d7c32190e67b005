/** The words of the live views in the page's language. English stands in the code; the catalogue of another language
 * (webapp/static/i18n/<language>.js) is loaded before this script, so English costs nothing. */

type Parts = Record<string, string | number>;
const known = (globalThis as { vpmsWords?: Record<string, string | string[]> }).vpmsWords ?? {};
export const language = globalThis.document?.documentElement.lang || "en";
const foreign = language !== "en";

// toLocaleString looks its rules up at every call, which shows where a frame says a dozen numbers.
const grouped = new Intl.NumberFormat(language);
export const count = (value: number): string => grouped.format(value);
/** Numbers of operations and steps are names: the same digits in every language. */
export const opNumber = (value: number): string => (foreign ? String(value) : count(value));
export const decimal = (value: number, most: number, least = most): string => value.toLocaleString(language, { minimumFractionDigits: least, maximumFractionDigits: most });

const fill = (text: string, parts: Parts): string => text.replace(/\{(\w+)\}/g, (place, name: string) => String(parts[name] ?? place));

/** t("Page {n}", { n }): the text in the page's language with its places filled. */
export const t = (text: string, parts: Parts = {}): string => fill(String(known[text] ?? text), parts);

const rules = new Intl.PluralRules(language);
/** tn("{n} page", "{n} pages", n): the form that the number asks for; `n` is filled in as the language writes it. */
export function tn(one: string, many: string, n: number, parts: Parts = {}): string {
  const forms = known[one];
  return fill((Array.isArray(forms) ? forms : [one, many])[rules.select(n) === "one" ? 0 : 1] ?? many, { n: count(n), ...parts });
}

let templates: [RegExp, string][] | undefined;
const said = new Map<string, string>();
/** English that the server put together, in the page's language: by its template, its parts likewise. */
export function say(text: string, depth = 0): string {
  const direct = known[text] ?? said.get(text);
  if (typeof direct === "string" || !foreign || depth > 4) return typeof direct === "string" ? direct : text;
  templates ??= Object.entries(known).filter(([key]) => /%\(\w+\)s/.test(key)).sort(([a], [b]) => b.length - a.length)
    .map(([key, value]) => [new RegExp(`^${key.replace(/[.*+?^${}|[\]\\]/g, "\\$&").replace(/%\((\w+)\)s|[()]/g, (all, name: string) => (name ? `(?<${name}>.*?)` : `\\${all}`))}$`, "s"), String(value)]);
  let found = text;
  for (const [pattern, template] of templates) {
    const parts = pattern.exec(text)?.groups;
    if (parts === undefined) continue;
    found = template.replace(/%\((\w+)\)s/g, (_, name: string) => say(parts[name] ?? "", depth + 1));
    break;
  }
  if (found === text) found = text.split(/(: |, |; |(?<=\.) )/).map((part, i, all) => (i % 2 || all.length < 2 ? part : say(part, depth + 1))).join("");
  said.set(text, found);
  return found;
}
