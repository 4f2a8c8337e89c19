// Turns PNGs into pixels: the grey image through a window, the heat map through a colour table.

// Anchors of "inferno": lightness rises evenly, also for colour-blind eyes and in grey print.
const ANCHORS = [[0, 0, 4], [40, 11, 84], [101, 21, 110], [159, 42, 99],
  [212, 72, 66], [245, 125, 21], [250, 193, 39], [252, 255, 164]];

/** The colour of each value 0…255 as [red, green, blue]. */
export const COLOURS = Array.from({ length: 256 }, (_, value) => {
  const place = (value / 255) * (ANCHORS.length - 1);
  const from = Math.min(ANCHORS.length - 2, Math.floor(place));
  return ANCHORS[from].map((low, i) => Math.round(low + (ANCHORS[from + 1][i] - low) * (place - from)));
});

function canvasOf(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}

/** Decode a PNG to RGBA pixels, without any colour management. */
async function pixelsOf(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  const context = canvasOf(bitmap.width, bitmap.height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, context.canvas.width, context.canvas.height);
}

/** An image in grey; `rendered` gives it through the window of a view. */
export class Film {
  constructor(pixels) {
    this.width = pixels.width;
    this.height = pixels.height;
    this.grey = new Uint8Array(pixels.width * pixels.height);
    for (let i = 0; i < this.grey.length; i += 1) this.grey[i] = pixels.data[4 * i];
    this.canvas = canvasOf(pixels.width, pixels.height);
    this.pixels = pixels;
    this.shown = "";
  }

  static async of(blob) {
    return new Film(await pixelsOf(blob));
  }

  rendered({ width, centre, invert }) {
    const wanted = `${width} ${centre} ${invert}`;
    if (wanted !== this.shown) {
      const levels = Uint8Array.from({ length: 256 }, (_, grey) => {
        // DICOM's linear window, PS3.3 C.11.2.1.2: 256 wide about 128 changes nothing.
        const share = Math.min(1, Math.max(0, (grey - (centre - 0.5)) / (width - 1) + 0.5));
        return Math.round(255 * (invert ? 1 - share : share));
      });
      const { data } = this.pixels;
      for (let i = 0, at = 0; i < this.grey.length; i += 1, at += 4) {
        data[at] = data[at + 1] = data[at + 2] = levels[this.grey[i]];
      }
      this.canvas.getContext("2d").putImageData(this.pixels, 0, 0);
      this.shown = wanted;
    }
    return this.canvas;
  }
}

/** A heat map in colours; the higher the value, the less of the image shines through. */
export async function colouredMap(blob) {
  const pixels = await pixelsOf(blob);
  const { data } = pixels;
  for (let at = 0; at < data.length; at += 4) {
    const value = data[at];
    [data[at], data[at + 1], data[at + 2]] = COLOURS[value];
    data[at + 3] = Math.round(255 * Math.pow(value / 255, 0.8));
  }
  const canvas = canvasOf(pixels.width, pixels.height);
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}

/** The colours from low to high, as a canvas for the legend. */
export function legendStrip() {
  const canvas = canvasOf(96, 8);
  const context = canvas.getContext("2d");
  for (let x = 0; x < 96; x += 1) {
    context.fillStyle = `rgb(${COLOURS[Math.round((x / 95) * 255)].join(",")})`;
    context.fillRect(x, 0, 1, 8);
  }
  return canvas;
}
