import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { CANVAS, LOOKS } from "./palette";

type Rgb = [number, number, number];
const rgb = (hex: string): Rgb => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255) as Rgb;
const linear = (c: Rgb): Rgb => c.map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)) as Rgb;
const luminance = (hex: string): number => { const [r, g, b] = linear(rgb(hex)); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
function contrast(a: string, b: string): number {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y) as [number, number];
  return (high + 0.05) / (low + 0.05);
}

/** Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB. */
const VISION: Record<string, number[]> = {
  normal: [1, 0, 0, 0, 1, 0, 0, 0, 1],
  protan: [0.152286, 1.052583, -0.204868, 0.114503, 0.786281, 0.099216, -0.003882, -0.048116, 1.051998],
  deutan: [0.367322, 0.860646, -0.227968, 0.280085, 0.672501, 0.047413, -0.01182, 0.04294, 0.968881],
  tritan: [1.255528, -0.076749, -0.178779, -0.078411, 0.930809, 0.147602, 0.004733, 0.691367, 0.3039],
};

function lab(hex: string, vision: number[]): Rgb {
  const c = linear(rgb(hex));
  const [r, g, b] = [0, 3, 6].map((at) => Math.min(1, Math.max(0, (vision[at] ?? 0) * c[0] + (vision[at + 1] ?? 0) * c[1] + (vision[at + 2] ?? 0) * c[2]))) as Rgb;
  const f = (t: number): number => (t > 216 / 24389 ? Math.cbrt(t) : ((24389 / 27) * t + 16) / 116);
  const x = f((0.4124564 * r + 0.3575761 * g + 0.1804375 * b) / 0.95047);
  const y = f(0.2126729 * r + 0.7151522 * g + 0.072175 * b);
  const z = f((0.0193339 * r + 0.119192 * g + 0.9503041 * b) / 1.08883);
  return [116 * y - 16, 500 * (x - y), 200 * (y - z)];
}

/** CIEDE2000. */
function distance([l1, a1, b1]: Rgb, [l2, a2, b2]: Rgb): number {
  const rad = Math.PI / 180;
  const meanC = (Math.hypot(a1, b1) + Math.hypot(a2, b2)) / 2;
  const g = 0.5 * (1 - Math.sqrt(meanC ** 7 / (meanC ** 7 + 25 ** 7)));
  const [p1, p2] = [(1 + g) * a1, (1 + g) * a2];
  const [c1, c2] = [Math.hypot(p1, b1), Math.hypot(p2, b2)];
  const hue = (a: number, b: number): number => (a === 0 && b === 0 ? 0 : (Math.atan2(b, a) / rad + 360) % 360);
  const [h1, h2] = [hue(p1, b1), hue(p2, b2)];
  const gap = c1 * c2 === 0 ? 0 : ((h2 - h1 + 540) % 360) - 180;
  const dH = 2 * Math.sqrt(c1 * c2) * Math.sin((gap / 2) * rad);
  const [lm, cm] = [(l1 + l2) / 2, (c1 + c2) / 2];
  const hm = c1 * c2 === 0 ? h1 + h2 : Math.abs(h1 - h2) <= 180 ? (h1 + h2) / 2 : (h1 + h2 + (h1 + h2 < 360 ? 360 : -360)) / 2;
  const t = 1 - 0.17 * Math.cos((hm - 30) * rad) + 0.24 * Math.cos(2 * hm * rad) + 0.32 * Math.cos((3 * hm + 6) * rad) - 0.2 * Math.cos((4 * hm - 63) * rad);
  const sl = 1 + (0.015 * (lm - 50) ** 2) / Math.sqrt(20 + (lm - 50) ** 2);
  const [sc, sh] = [1 + 0.045 * cm, 1 + 0.015 * cm * t];
  const rt = -2 * Math.sqrt(cm ** 7 / (cm ** 7 + 25 ** 7)) * Math.sin(60 * rad * Math.exp(-(((hm - 275) / 25) ** 2)));
  return Math.sqrt(((l2 - l1) / sl) ** 2 + ((c2 - c1) / sc) ** 2 + (dH / sh) ** 2 + rt * ((c2 - c1) / sc) * (dH / sh));
}

describe("owner colours", () => {
  it("the distance is CIEDE2000 (a published pair)", () => {
    expect(distance([50, 2.6772, -79.7751], [50, 0, -82.7485])).toBeCloseTo(2.0425, 3);
  });

  it.each(Object.keys(VISION))("any two differ by at least 10 dE2000 in %s vision", (name) => {
    const vision = VISION[name] as number[];
    const pairs = LOOKS.flatMap((a, i) => LOOKS.slice(i + 1).map((b) => ({ pair: `${a.colour} ${b.colour}`, d: distance(lab(a.colour, vision), lab(b.colour, vision)) })));
    expect(pairs.filter(({ d }) => d < 10)).toEqual([]);
  });

  it("each but free has contrast 3 on the canvas, and a texture or letter of its own", () => {
    for (const look of LOOKS) if (look.className !== "owner-free") expect(contrast(look.colour, CANVAS), look.className).toBeGreaterThanOrEqual(3);
    expect(new Set(LOOKS.map((look) => look.texture + look.letter + (look.className === "owner-other" ? "o" : ""))).size).toBe(LOOKS.length);
  });
});

const CSS = readFileSync(new URL("../../webapp/static/css/site.css", import.meta.url), "utf8");

/** Colour tokens of a theme, as the stylesheet gives them. */
function tokens(theme: "light" | "dark" | "projector"): Record<string, string> {
  const found: Record<string, string> = {};
  for (const [, name, light, dark] of CSS.matchAll(/--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)/g)) found[name as string] = (theme === "dark" ? dark : light) as string;
  if (theme === "projector") {
    const block = /\[data-theme="projector"\] \{([^}]*)\}/.exec(CSS)?.[1] ?? "";
    for (const [, name, value] of block.matchAll(/--([\w-]+): (#\w{6})/g)) found[name as string] = value as string;
  }
  return found;
}

describe.each(["light", "dark", "projector"] as const)("tokens of the %s theme", (theme) => {
  const t = tokens(theme);
  const of = (name: string): string => { const value = t[name]; if (value === undefined) throw new Error(`no token ${name}`); return value; };

  it("text has contrast 4.5 on every surface it stands on", () => {
    for (const surface of ["background", "surface", "surface-sunken"]) {
      for (const text of ["text", "muted", "accent", "ok", "warning", "violation"]) expect(contrast(of(text), of(surface)), `${text} on ${surface}`).toBeGreaterThanOrEqual(4.5);
    }
    for (const tone of ["accent", "ok", "warning", "violation"]) {
      expect(contrast(of(tone), of(`${tone}-surface`)), tone).toBeGreaterThanOrEqual(4.5);
      expect(contrast(of("text"), of(`${tone}-surface`)), tone).toBeGreaterThanOrEqual(4.5);
    }
    expect(contrast(of("on-accent"), of("accent"))).toBeGreaterThanOrEqual(4.5);
  });

  it("lines of controls have contrast 3", () => {
    for (const surface of ["background", "surface"]) expect(contrast(of("line-control"), of(surface)), surface).toBeGreaterThanOrEqual(3);
  });
});

it("the stylesheet and the palette name the same owner colours", () => {
  for (const look of LOOKS) {
    if (look.className === "owner-free") continue;
    expect(CSS).toContain(`--${look.className}: ${look.colour};`);
  }
});
