// Holds how images are shown (window, zoom, pan, map), shared by all viewers of the page.

const START = { width: 256, centre: 128, zoom: 1, x: 0.5, y: 0.5 };
const limit = (value, low, high) => Math.min(high, Math.max(low, value));

/** Fires "change" when anything moved. x and y: the point of the image, in shares, at the middle. */
class View extends EventTarget {
  constructor() {
    super();
    Object.assign(this, START, { invert: false, drag: "window", map: false, opacity: 0.6, boxes: true });
  }

  set(values) {
    Object.assign(this, values);
    this.width = limit(this.width, 2, 512);
    this.centre = limit(this.centre, 0, 255);
    this.zoom = limit(this.zoom, 0.5, 32);
    this.x = limit(this.x, 0, 1);
    this.y = limit(this.y, 0, 1);
    this.dispatchEvent(new Event("change"));
  }

  reset() {
    this.set({ ...START, invert: false });
  }

  /** A new image: back to the whole of it, as it was delivered. */
  startImage() {
    this.set(START);
  }

  /** Zoom so that the point (u, v) of the image stays where it is. */
  zoomAbout(factor, u = this.x, v = this.y) {
    const zoom = limit(this.zoom * factor, 0.5, 32);
    const real = zoom / this.zoom;
    this.set({ zoom, x: u - (u - this.x) / real, y: v - (v - this.y) / real });
  }
}

export const view = new View();
