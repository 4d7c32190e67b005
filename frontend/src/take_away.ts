/** What every panel lets people take away: PNG in three sizes, SVG, CSV, JSON and print, each labelled as a simulation and with its moment. */

import { el } from "./dom";
import { opNumber, t } from "./words";

export interface Sheet { heads: string[]; rows: string[][] }
/** SVG elements in a space of their own, `width` x `height`. */
export interface Drawing { width: number; height: number; svg: string }
export interface Panel {
  /** Its data-engine, data-seed, data-topic and data-op tell which moment of what this is. */
  root: HTMLElement;
  /** Stem of the file's name. */
  name: string;
  title: string;
  sheet(): Sheet;
  json(): unknown;
  picture(): HTMLCanvasElement | Drawing;
}
/** A cell of a drawn table; without `fill` it is white. */
export interface DrawnCell { text: string; fill?: string; ink?: string; mark?: "dashed" }

const LINE = 28;
const SMALL = "12px 'DejaVu Sans', Arial, sans-serif";
const FILE = /[^a-z0-9-]+/g;

/** `Simulation. Ownership map, run 3, op 48,112, engine 2, seed 7`: which moment of what; what is unknown is left out. */
export function labelOf(title: string, about: { topic?: string | undefined; op?: string | undefined; engine?: string | undefined; seed?: string | undefined }): string {
  const run = /^run\/(\d+)\//.exec(about.topic ?? "")?.[1];
  const op = Number(about.op ?? 0);
  const parts = [title, run && t("run {run}", { run }), op > 0 && t("op {op}", { op: opNumber(op) }), about.engine && t("engine {engine}", { engine: about.engine }), about.seed && t("seed {seed}", { seed: about.seed })];
  return `${t("Simulation.")} ${parts.filter(Boolean).join(", ")}`;
}

/** RFC 4180: quoted where needed. A cell that a spreadsheet would take for a formula gets an apostrophe before it. */
export function csvOf(sheet: Sheet, label: string): string {
  const cell = (text: string): string => {
    const safe = /^[=+@\t\r-]/.test(text) && !/^-?\d/.test(text) ? `'${text}` : text;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  return [[label], sheet.heads, ...sheet.rows].map((row) => `${row.map(cell).join(",")}\r\n`).join("");
}

export const xml = (text: string): string => text.replace(/[&<>"]/g, (sign) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[sign] ?? sign);

/** The drawing on white, with its label below. */
export function svgOf(drawing: Drawing, label: string): string {
  const { width, height, svg } = drawing;
  const whole = Math.max(width, Math.ceil(label.length * 6.6) + 16);
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${whole}" height="${height + LINE}" viewBox="0 0 ${whole} ${height + LINE}" role="img" aria-label="${xml(label)}" font-family="'DejaVu Sans', Arial, sans-serif" font-size="12">` +
    `<rect width="100%" height="100%" fill="#ffffff"/>${svg}<text x="8" y="${height + 18}" fill="#14181f">${xml(label)}</text></svg>`;
}

/** A table as a drawing: what a panel that is made of cells looks like on a slide. */
export function tableDrawing(heads: string[], rows: DrawnCell[][]): Drawing {
  const all: DrawnCell[][] = [heads.map((text) => ({ text, fill: "#eef1f5" })), ...rows];
  const widths = heads.map((_, i) => 16 + 7.2 * Math.max(...all.map((row) => row[i]?.text.length ?? 0)));
  const lefts = widths.map((_, i) => widths.slice(0, i).reduce((sum, width) => sum + width, 0));
  const svg = all.flatMap((row, y) => row.map((cell, x) => {
    const dash = cell.mark === "dashed" ? ` stroke="#b3261e" stroke-width="2" stroke-dasharray="4 2"` : ` stroke="#d9dde3"`;
    return `<rect x="${lefts[x]}" y="${y * 24}" width="${widths[x]}" height="24" fill="${cell.fill ?? "#ffffff"}"${dash}/>` +
      `<text x="${(lefts[x] ?? 0) + 8}" y="${y * 24 + 16}" fill="${cell.ink ?? "#14181f"}">${xml(cell.text)}</text>`;
  })).join("");
  return { width: widths.reduce((sum, width) => sum + width, 0), height: all.length * 24, svg };
}

/** Drawings one below the other. */
export function below(drawings: Drawing[]): Drawing {
  const tops = drawings.map((_, i) => drawings.slice(0, i).reduce((sum, each) => sum + each.height + LINE / 2, 0));
  const svg = drawings.map((each, i) => `<g transform="translate(0 ${tops[i]})">${each.svg}</g>`).join("");
  return { width: Math.max(...drawings.map((each) => each.width)), height: (tops.at(-1) ?? 0) + (drawings.at(-1)?.height ?? 0), svg };
}

/** The menu of a panel. What it hands out is made when it is asked for, of the state then shown. */
export function takeAway(panel: Panel): HTMLElement {
  const label = (): string => labelOf(panel.title, panel.root.dataset);
  const name = (kind: string): string => `${[panel.name, panel.root.dataset["op"]].filter((part) => part && part !== "0").join("-op").toLowerCase().replace(FILE, "-")}.${kind}`;
  const menu = el("div", { class: "take-away-menu" });
  const add = (text: string, make: () => void | Promise<void>): void => {
    const made = el("button", { type: "button", class: "button button-quiet" }, text);
    made.addEventListener("click", () => void make());
    menu.append(made);
  };
  for (const scale of [1, 2, 4]) add(`PNG ${scale}x`, async () => give(name("png"), await png(panel.picture(), label(), scale)));
  add("SVG", () => give(name("svg"), new Blob([svgOf(asDrawing(panel.picture()), label())], { type: "image/svg+xml" })));
  add("CSV", () => give(name("csv"), new Blob([csvOf(panel.sheet(), label())], { type: "text/csv" })));
  add("JSON", () => give(name("json"), new Blob([JSON.stringify({ simulation: true, label: label(), data: panel.json() }, null, 1)], { type: "application/json" })));
  add(t("Print"), () => printed(panel.root));
  const details = el("details", { class: "take-away" }, el("summary", { class: "button button-quiet" }, t("Take away")), menu);
  details.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !details.open) return;
    details.open = false;
    details.querySelector("summary")?.focus();
  });
  return details;
}

/** A button that copies a link, or shows it where the browser keeps the clipboard to itself. */
export function linkButton(name: string, address: () => string): HTMLElement {
  const told = el("span", { role: "status" });
  const made = el("button", { type: "button", class: "button button-quiet" }, name);
  made.addEventListener("click", () => void (async () => {
    try {
      await navigator.clipboard.writeText(address());
      told.textContent = t("Copied");
      setTimeout(() => { told.textContent = ""; }, 3000);
    } catch {
      const shown = el("input", { readonly: "", "aria-label": name, value: address() });
      told.replaceChildren(shown);
      shown.select();
    }
  })());
  return el("span", { class: "inline" }, made, told);
}

/** A canvas inside a drawing stays a raster. */
function asDrawing(picture: HTMLCanvasElement | Drawing): Drawing {
  if (!(picture instanceof HTMLCanvasElement)) return picture;
  const { width, height } = picture;
  return { width, height, svg: `<image width="${width}" height="${height}" style="image-rendering:pixelated" href="${picture.toDataURL("image/png")}"/>` };
}

/** A drawing as a PNG, so many times its size. */
export async function pngOf(svg: string, scale: number): Promise<Blob> {
  const out = document.createElement("canvas");
  const context = out.getContext("2d");
  if (context === null) throw new Error("this browser draws no canvas");
  const image = new Image();
  image.src = `data:image/svg+xml,${encodeURIComponent(svg)}`;
  await image.decode();
  [out.width, out.height] = [image.naturalWidth * scale, image.naturalHeight * scale];
  context.scale(scale, scale);
  context.drawImage(image, 0, 0);
  return await blobOf(out);
}

const blobOf = (canvas: HTMLCanvasElement): Promise<Blob> => new Promise((resolve, reject) =>
  canvas.toBlob((blob) => (blob === null ? reject(new Error("the picture is too large for this browser")) : resolve(blob)), "image/png"));

async function png(picture: HTMLCanvasElement | Drawing, label: string, scale: number): Promise<Blob> {
  if (!(picture instanceof HTMLCanvasElement)) return pngOf(svgOf(picture, label), scale);
  const out = document.createElement("canvas");
  const context = out.getContext("2d");
  if (context === null) throw new Error("this browser draws no canvas");
  [out.width, out.height] = [picture.width * scale, (picture.height + LINE) * scale];
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, out.width, out.height);
  context.imageSmoothingEnabled = false;
  context.scale(scale, scale);
  context.drawImage(picture, 0, 0);
  context.fillStyle = "#14181f";
  context.font = SMALL;
  context.fillText(label, 8, picture.height + 18, picture.width - 16);
  return await blobOf(out);
}

/** Hands a file to the reader. */
export function give(name: string, blob: Blob): void {
  const url = URL.createObjectURL(blob);
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Prints this panel alone. */
function printed(root: HTMLElement): void {
  document.body.dataset["printing"] = "";
  root.dataset["printed"] = "";
  addEventListener("afterprint", () => {
    delete document.body.dataset["printing"];
    delete root.dataset["printed"];
  }, { once: true });
  print();
}
