// Draws ROC, precision–recall and reliability as SVG, readable in grey.

import { count, decimals, el, svg } from "/dom.js";
import { confusion } from "/measures.js";

const SIDE = 200;
const LEFT = 48;
const TOP = 8;
const POINTS = 400;
const at = (x) => LEFT + x * SIDE;
const up = (y) => TOP + (1 - y) * SIDE;

function frame(x, y) {
  const marks = [0, 0.25, 0.5, 0.75, 1].flatMap((value) => [
    svg("path", { class: "grid", d: `M${at(value)} ${up(0)}V${up(1)}M${at(0)} ${up(value)}H${at(1)}` }),
    svg("text", { x: at(value), y: up(0) + 14, "text-anchor": "middle" }, String(value)),
    svg("text", { x: LEFT - 4, y: up(value) + 4, "text-anchor": "end" }, String(value)),
  ]);
  return [...marks,
    svg("text", { x: at(0.5), y: up(0) + 30, "text-anchor": "middle", class: "axis" }, x),
    svg("text", { x: 0, y: 0, "text-anchor": "middle", class: "axis",
      transform: `translate(10 ${up(0.5)}) rotate(-90)` }, y)];
}

/** A path through [x, y] points; `steps`: level until the next x, as precision over recall is. */
function line(points, { dashed = false, steps = false } = {}) {
  const every = Math.max(1, Math.ceil(points.length / POINTS));
  const few = points.filter((_, i) => i % every === 0 || i === points.length - 1);
  if (!few.length || few.flat().some(Number.isNaN)) return null;
  const start = steps ? `M${at(0)} ${up(few[0][1])}` : `M${at(few[0][0])} ${up(few[0][1])}`;
  const path = few.map(([x, y]) => (steps ? `V${up(y)}H${at(x)}` : `L${at(x)} ${up(y)}`));
  return svg("path", { class: dashed ? "curve dashed" : "curve", d: start + path.join("") });
}

function marker([x, y]) {
  if (Number.isNaN(x) || Number.isNaN(y)) return null;
  return svg("path", { class: "marker", d: `M${at(x)} ${up(y) - 6}l6 6l-6 6l-6 -6z` });
}

function figure(title, words, x, y, ...marks) {
  const drawing = svg("svg", { viewBox: `0 0 ${LEFT + SIDE + 12} ${TOP + SIDE + 36}`, role: "img",
    "aria-label": `${title}. ${words}` }, frame(x, y), marks);
  return el("figure", {}, el("figcaption", {}, title), drawing);
}

const diagonal = () => svg("path", { class: "diagonal", d: `M${at(0)} ${up(0)}L${at(1)} ${up(1)}` });

function rocFigure(a, b, threshold) {
  const { specificity, recall } = confusion(a.order, threshold);
  return figure("ROC",
    `At the threshold: recall ${decimals(recall)}, false positive rate ${decimals(1 - specificity)}.`,
    "1 − specificity", "recall", diagonal(),
    b && line(b.roc, { dashed: true }), line(a.roc), marker([1 - specificity, recall]));
}

function precisionFigure(a, b, threshold) {
  const { precision, recall } = confusion(a.order, threshold);
  return figure("Precision–recall",
    `At the threshold: precision ${decimals(precision)}, recall ${decimals(recall)}.`,
    "recall", "precision",
    b && line(b.precisionRecall, { dashed: true, steps: true }),
    line(a.precisionRecall, { steps: true }), marker([recall, precision]));
}

function reliabilityFigure(a, b, threshold) {
  const pairs = (bins) => bins.map(({ probability, rate }) => [probability, rate]);
  const bins = a.reliability;
  const most = Math.max(...bins.map(({ images }) => images));
  const dots = bins.map(({ probability, rate, images }) =>
    svg("circle", { class: "dot", cx: at(probability), cy: up(rate),
      r: 2 + 6 * Math.sqrt(images / most) },
    svg("title", {}, `${count(images)} images: probability ${decimals(probability)}, `
      + `share that has it ${decimals(rate)}`)));
  return figure("Reliability", "The larger a dot, the more images.",
    "mean probability", "share that has it", diagonal(),
    svg("path", { class: "threshold-line", d: `M${at(threshold)} ${up(0)}V${up(1)}` }),
    b && line(pairs(b.reliability), { dashed: true }), line(pairs(bins)), dots);
}

/** The three figures of a finding; `a` and `b` (or null) as `measures.curves` gives them. */
export function plots(a, b, threshold, names) {
  if (!a.order.scores.length) return [el("p", { class: "empty" }, "No image's truth of this finding is known.")];
  const runs = b ? `Solid: ${names[0]}. Dashed: ${names[1]}. ` : "";
  return [rocFigure(a, b, threshold), precisionFigure(a, b, threshold), reliabilityFigure(a, b, threshold),
    el("p", { class: "quiet plot-note" },
      `${runs}Diamond and vertical line: the threshold. Dots: ten bins, larger with more images.`)];
}
