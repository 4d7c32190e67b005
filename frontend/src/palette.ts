/** Owner -> colour + texture + letter, never colour alone. A pinned VM looks the same on every view. */

import type { Owner } from "./wire";

export const CANVAS = "#0F1115";

export type Texture = "solid" | "dots" | "horizontal" | "vertical" | "checks" | "rings" | "zigzag" | "hatch" | "crosshatch" | "none";
export interface Look { colour: string; letter: string; texture: Texture; className: string }

/** Okabe-Ito in the order of the letters; min dE2000 and contrast are computed in palette.test.ts. */
const PINNED: readonly (readonly [string, Texture])[] = [
  ["#E69F00", "solid"], ["#56B4E9", "dots"], ["#009E73", "horizontal"], ["#F0E442", "vertical"], ["#0072B2", "checks"],
  ["#D55E00", "rings"], ["#CC79A7", "zigzag"],
];
const FIXED: Record<string, Look> = {
  free: { colour: CANVAS, letter: "", texture: "none", className: "owner-free" },
  hypervisor: { colour: "#B9BCBF", letter: "", texture: "hatch", className: "owner-hypervisor" },
  hsvm: { colour: "#FFFFFF", letter: "", texture: "crosshatch", className: "owner-hsvm" },
};
const OTHER: Look = { colour: "#656B71", letter: "", texture: "none", className: "owner-other" };

/** Letters that the reader gave away otherwise than the server did, by owner; "" is none. */
const repinned = new Map<string, string>();

export function lookOf(owner: Pick<Owner, "owner" | "letter">): Look {
  const letter = repinned.get(owner.owner) ?? owner.letter;
  const pinned = letter.length === 1 ? letter.charCodeAt(0) - 65 : -1;
  const row = PINNED[pinned];
  if (row !== undefined) return { colour: row[0], letter, texture: row[1], className: `owner-${letter.toLowerCase()}` };
  return FIXED[owner.owner] ?? OTHER;
}

/** Gives `to` the colour, letter and texture of `from`, which becomes neutral: there are seven for any number of VMs. */
export function passPin(from: Owner, to: Owner): void {
  repinned.set(to.owner, lookOf(from).letter);
  repinned.set(from.owner, "");
}

export const LOOKS: readonly Look[] = [
  ...PINNED.map(([colour, texture], i) => ({ colour, texture, letter: String.fromCharCode(65 + i), className: `owner-${String.fromCharCode(97 + i)}` })),
  ...Object.values(FIXED), OTHER,
];

/** 0xAABBGGRR, the layout of ImageData on little-endian machines. */
export function pixel(colour: string): number {
  const rgb = parseInt(colour.slice(1), 16);
  return (0xff000000 | ((rgb & 0xff) << 16) | (rgb & 0xff00) | (rgb >> 16)) >>> 0;
}

/** Black or white, whichever stands out more from the colour. */
export function inkOf(colour: string): "#000000" | "#FFFFFF" {
  const rgb = parseInt(colour.slice(1), 16);
  const linear = (channel: number): number => ((channel & 0xff) / 255) ** 2.2;
  return 0.2126 * linear(rgb >> 16) + 0.7152 * linear(rgb >> 8) + 0.0722 * linear(rgb) > 0.18 ? "#000000" : "#FFFFFF";
}

/** The same colour towards black (or, for dark ones, towards white): the second tone of a texture. */
export function shade(colour: string): number {
  const rgb = parseInt(colour.slice(1), 16);
  const [r, g, b] = [rgb >> 16, (rgb >> 8) & 0xff, rgb & 0xff];
  const mix = (channel: number): number => Math.round(r * 0.3 + g * 0.59 + b * 0.11 > 70 ? channel * 0.55 : channel + (255 - channel) * 0.35);
  return (0xff000000 | (mix(b) << 16) | (mix(g) << 8) | mix(r)) >>> 0;
}

/** Whether the texture's second tone lies at (x, y) of a cell of `size` pixels. Never at (0, 0): that pixel is the base colour. */
export function inTexture(texture: Texture, x: number, y: number, size: number): boolean {
  if (x === 0 && y === 0) return false;
  // Two or three pixels carry only the system's own hatches; the VMs' textures need four.
  if (size < 4) return (texture === "hatch" && x === 1 && y === 1) || (texture === "crosshatch" && x + y === 1);
  const half = size >> 1;
  switch (texture) {
    case "solid":
    case "none": return false;
    case "dots": return size < 8 ? x === half && y === half : (x - half) ** 2 + (y - half) ** 2 <= (size / 6) ** 2;
    case "horizontal": return y % Math.max(3, size >> 2) === 2;
    case "vertical": return x % Math.max(3, size >> 2) === 2;
    case "checks": return x < half !== y < half;
    case "rings": return Math.abs(Math.hypot(x - half, y - half) - size / 3) < Math.max(0.6, size / 14);
    case "zigzag": {
      const period = Math.max(4, size >> 1);
      return Math.abs(((y + size - Math.abs((x % period) - (period >> 1))) % period) - 1) < 1;
    }
    case "hatch": return (x + y) % Math.max(4, size >> 2) === 2;
    case "crosshatch": return (x + y) % Math.max(4, size >> 2) === 2 || (x - y + 4 * size) % Math.max(4, size >> 2) === 2;
  }
}
