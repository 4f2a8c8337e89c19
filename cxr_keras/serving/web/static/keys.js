// The keys of the page; silent while someone types or a dialog is open.

import { byId } from "/dom.js";
import { reader } from "/reader.js";
import { view } from "/view.js";

const TYPING = "input:not([type=checkbox]):not([type=file]), select, textarea";

/** `move(way)` goes to the next (1) or previous (-1) image of the view that is shown. */
export function startKeys(move) {
  const acts = {
    n: () => move(1), ArrowDown: () => move(1), p: () => move(-1), ArrowUp: () => move(-1),
    m: () => reader.subject && reader.toggleMap(),
    i: () => view.set({ invert: !view.invert }),
    "+": () => view.zoomAbout(1.25), "=": () => view.zoomAbout(1.25), "-": () => view.zoomAbout(1 / 1.25),
    0: () => view.reset(),
    "?": () => byId("help").showModal(),
  };
  document.addEventListener("keydown", (event) => {
    const act = acts[event.key];
    const scrolls = event.key.startsWith("Arrow") && (event.shiftKey || event.target.closest("[role=tablist]"));
    if (!act || scrolls || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.target.closest(TYPING) || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    act();
  });
  byId("keys").addEventListener("click", () => byId("help").showModal());
}
