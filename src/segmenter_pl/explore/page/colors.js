// Colours as 32-bit numbers, as the pixels of a canvas hold them (red lowest).

// matplotlib's viridis at 17 places.
const VIRIDIS = [
  0x440154, 0x47186a, 0x472c7b, 0x424085, 0x3a528b, 0x32628d, 0x2c728e, 0x26818e, 0x20908c, 0x1e9f88, 0x28ae7f,
  0x3ebc73, 0x5ec961, 0x83d34b, 0xaddc30, 0xd7e219, 0xfde724,
];

export const packed = (red, green, blue, alpha) => ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;

export const css = ([red, green, blue]) => `rgb(${red} ${green} ${blue})`;

// Low numbers let the picture and its classes through.
const viridis = Uint32Array.from({ length: 256 }, (_, i) => {
  const place = (i / 255) * (VIRIDIS.length - 1);
  const below = Math.min(Math.floor(place), VIRIDIS.length - 2);
  const part = (shift) => {
    const [first, second] = [VIRIDIS[below], VIRIDIS[below + 1]].map((color) => (color >> shift) & 255);
    return Math.round(first + (second - first) * (place - below));
  };
  return packed(part(16), part(8), part(0), Math.min(40 + 1.4 * i, 255));
});

// Writes pixels[i] = table[numbers[i]] over a canvas of that many pixels.
export function paint(canvas, width, height, numbers, table) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < pixels.length; i++) pixels[i] = table[numbers[i]];
  context.putImageData(image, 0, 0);
}

// A map as colours, from its lowest number to its 99th percentile: a few patches often get nearly everything.
export function paintMap(canvas, width, height, values) {
  const sorted = Float32Array.from(values).sort();
  const [low, high] = [sorted[0], sorted[Math.round(0.99 * (sorted.length - 1))]];
  const scale = high > low ? 255 / (high - low) : 0;
  const steps = Uint8ClampedArray.from(values, (value) => (value - low) * scale);
  paint(canvas, width, height, steps, viridis);
  return [low, high];
}

export function paintScale(canvas) {
  paint(canvas, 256, 1, Uint8Array.from({ length: 256 }, (_, i) => i), viridis);
}

export function mean(maps) {
  if (maps.length === 1) return maps[0];
  return maps[0].map((_, i) => maps.reduce((sum, one) => sum + one[i], 0) / maps.length);
}
