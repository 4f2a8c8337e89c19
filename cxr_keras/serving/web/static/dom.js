// Makes elements and formats numbers, so that no other module builds markup from text.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

/** An HTML element: `onclick` and its like are listeners, the others attributes. */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

export const byId = (id) => document.getElementById(id);

const missing = (value) => value === null || value === undefined || Number.isNaN(value);

/** Three decimals, or "undefined" where the measure has no value. */
export const decimals = (value, digits = 3) => (missing(value) ? "undefined" : value.toFixed(digits));

export const count = (value) => (missing(value) ? "unknown" : value.toLocaleString("en"));

export const percent = (share) => `${Math.round(share * 100)}`;

/** "0.701–0.780", or nothing where there is no interval. */
export const interval = (low, high) =>
  missing(low) || missing(high) ? "" : `${decimals(low)}–${decimals(high)}`;

/** A table in a box of its own, so that a narrow page does not scroll sideways. */
export function table(label, heads, rows) {
  const cells = (row) => row.map((cell, i) =>
    cell instanceof Node ? cell : el(i ? "td" : "th", i ? {} : { scope: "row" }, String(cell)));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
    el("table", {},
      el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, rows.map((row) => el("tr", {}, cells(row))))));
}
