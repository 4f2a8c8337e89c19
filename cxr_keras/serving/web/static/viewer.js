// Draws one image on a canvas, with heat map and boxes, as the shared view says.

import { el } from "/dom.js";
import { attachGestures } from "/gestures.js";
import { view } from "/view.js";

const BOX_COLOUR = "#7fe3ff";

export class Viewer {
  constructor(id) {
    this.canvas = el("canvas", { id, class: "viewer", tabindex: "0", role: "img" });
    this.film = null;
    this.map = null;
    this.boxes = [];
    this.waiting = false;
    view.addEventListener("change", () => this.redraw());
    new ResizeObserver(() => this.redraw()).observe(this.canvas);
    attachGestures(this);
    this.name("No image");
  }

  name(text) {
    this.canvas.setAttribute("aria-label", text);
  }

  /** Change what is drawn: film, map or boxes. */
  put(values) {
    Object.assign(this, values);
    this.redraw();
  }

  redraw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.draw();
    });
  }

  /** Where the image lies on the canvas, in CSS pixels: left, top, and pixels per image width. */
  place() {
    const { clientWidth, clientHeight } = this.canvas;
    const fit = Math.min(clientWidth / this.film.width, clientHeight / this.film.height);
    const wide = this.film.width * fit * view.zoom;
    const high = this.film.height * fit * view.zoom;
    return { left: clientWidth / 2 - view.x * wide, top: clientHeight / 2 - view.y * high, wide, high };
  }

  /** The point of the image, in shares, under a pointer event. */
  pointAt(event) {
    const frame = this.canvas.getBoundingClientRect();
    const { left, top, wide, high } = this.place();
    return [(event.clientX - frame.left - left) / wide, (event.clientY - frame.top - top) / high];
  }

  draw() {
    const { canvas } = this;
    const ratio = window.devicePixelRatio || 1;
    const width = Math.round(canvas.clientWidth * ratio);
    const height = Math.round(canvas.clientHeight * ratio);
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    if (!this.film || !width) return;
    const { left, top, wide, high } = this.place();
    context.imageSmoothingQuality = "high";
    context.imageSmoothingEnabled = wide < 4 * this.film.width;
    context.drawImage(this.film.rendered(view), left, top, wide, high);
    context.imageSmoothingEnabled = true;
    if (this.map && view.map) {
      context.globalAlpha = view.opacity;
      context.drawImage(this.map, left, top, wide, high);
      context.globalAlpha = 1;
    }
    if (view.boxes) this.boxes.forEach((box) => drawBox(context, box, { left, top, wide, high }));
  }
}

function drawBox(context, box, { left, top, wide, high }) {
  const x = left + box.x * wide;
  const y = top + box.y * high;
  const size = [box.width * wide, box.height * high];
  context.lineWidth = 4;
  context.strokeStyle = "rgba(0, 0, 0, 0.6)";
  context.strokeRect(x, y, ...size);
  context.lineWidth = 2;
  context.strokeStyle = BOX_COLOUR;
  context.strokeRect(x, y, ...size);
  context.font = "13px system-ui, sans-serif";
  const above = y > 20 ? y - 19 : y;
  context.fillStyle = "rgba(0, 0, 0, 0.75)";
  context.fillRect(x - 1, above, context.measureText(box.label).width + 10, 18);
  context.fillStyle = BOX_COLOUR;
  context.fillText(box.label, x + 4, above + 13);
}
