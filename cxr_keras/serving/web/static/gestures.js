// Reads mouse, fingers, wheel and keys on a viewer: window by dragging, zoom, pan.

import { view } from "/view.js";

const STEP = 0.08; // of the visible part, by which an arrow key pans

export function attachGestures(viewer) {
  const { canvas } = viewer;
  const fingers = new Map();
  let panning = false;

  function pan(dx, dy) {
    const { wide, high } = viewer.place();
    view.set({ x: view.x - dx / wide, y: view.y - dy / high });
  }

  /** Two fingers: their middle pans, their distance zooms. */
  function pinch(before, after) {
    const middle = ([a, b]) => ({ clientX: (a.clientX + b.clientX) / 2, clientY: (a.clientY + b.clientY) / 2 });
    const apart = ([a, b]) => Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
    const [from, to] = [middle(before), middle(after)];
    pan(to.clientX - from.clientX, to.clientY - from.clientY);
    if (apart(before) > 0) view.zoomAbout(apart(after) / apart(before), ...viewer.pointAt(to));
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (!viewer.film || event.button > 1) return;
    panning = event.button === 1 || event.shiftKey || view.drag === "pan";
    fingers.set(event.pointerId, event);
    canvas.setPointerCapture(event.pointerId);
    if (event.button === 1) event.preventDefault();
  });

  canvas.addEventListener("pointermove", (event) => {
    const last = fingers.get(event.pointerId);
    if (!last || !viewer.film) return;
    const before = [...fingers.values()];
    fingers.set(event.pointerId, event);
    const [dx, dy] = [event.clientX - last.clientX, event.clientY - last.clientY];
    if (fingers.size > 1) pinch(before, [...fingers.values()]);
    else if (panning) pan(dx, dy);
    else view.set({ width: view.width + dx, centre: view.centre + dy });
  });

  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, (event) => fingers.delete(event.pointerId));
  }

  canvas.addEventListener("wheel", (event) => {
    if (!viewer.film) return;
    event.preventDefault();
    view.zoomAbout(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), ...viewer.pointAt(event));
  }, { passive: false });

  canvas.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!way || !event.shiftKey) return;
    event.preventDefault();
    view.set({ x: view.x + (way[0] * STEP) / view.zoom, y: view.y + (way[1] * STEP) / view.zoom });
  });
}
