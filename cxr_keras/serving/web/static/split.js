// The view "Test split": one finding, one threshold, and all that follows from them.

import { boxesOfRow, getResults, imageOfRow, mapOfRow, Problem } from "/api.js";
import { plots } from "/curves.js";
import { byId, count, decimals, el, interval } from "/dom.js";
import { auroc, averagePrecision, confusion, curves, ranked } from "/measures.js";
import { reader, readerPlace } from "/reader.js";
import { Recent } from "/recent.js";
import { state } from "/state.js";
import { SplitList } from "/splitlist.js";
import { groupsOf, subgroupTable } from "/subgroups.js";

const loaded = new Recent(4);
const resultsOf = (run) => loaded.get(run.name, () => getResults(run.name));
const NO_IMAGES = "The images are not on this machine: no picture and no heat map.";

let list = null;
let now = null; // { a, b: results; label, threshold; curves of both, groups of a }
let waiting = false;

const titleOf = (split) => (split === "val" ? "Validation split" : "Test split");

/** Name the tab after the split of the chosen run. */
export function nameTab() {
  byId("tab-split").textContent = titleOf(state.a.split);
}

function say(sentence) {
  byId("split-state").textContent = sentence;
  byId("split-body").hidden = true;
}

/** Load what the chosen runs found, and show it. */
export async function show() {
  const { a, b } = state;
  byId("split-title").textContent = titleOf(a.split);
  if (!a.results) {
    say(`The run ${a.name} has no split to browse.`);
    return;
  }
  if (now?.a.run !== a.name || (now.b?.run ?? null) !== (b?.results ? b.name : null)) {
    say("Loading the probabilities…");
    try {
      const both = await Promise.all([resultsOf(a), b?.results ? resultsOf(b) : null]);
      if (state.a !== a || state.b !== b) return;
      open(...both);
      if (byId("view-split").hidden) return; // gone on to another view meanwhile
    } catch (error) {
      say(error.message);
      return;
    }
  }
  byId("split-body").hidden = false;
  draw();
  showRow();
}

function open(a, b) {
  const before = now;
  const labels = [...a.labels.filter((label) => label !== a.normal), ...(a.normal ? [a.normal] : [])];
  byId("split-title").textContent = titleOf(a.split);
  byId("split-state").textContent = a.notice;
  byId("finding").replaceChildren(...labels.map((label) => el("option", { value: label }, label)));
  now = { a, b };
  if (before?.a !== a) list.setResults(a);
  chooseFinding(labels.includes(before?.label) ? before.label : labels[0],
    before?.a === a ? before.threshold : null);
}

function chooseFinding(label, threshold = null) {
  const drawn = (results) => (results?.labels.includes(label)
    ? curves(ranked(results.probabilities[label], results.truth[label])) : null);
  Object.assign(now, { label, curves: [drawn(now.a), drawn(now.b)], groups: groupsOf(now.a, label) });
  byId("finding").value = label;
  setThreshold(threshold ?? now.a.thresholds[label]);
}

function setThreshold(threshold, typed = false) {
  now.threshold = Math.min(1, Math.max(0, threshold));
  byId("threshold").value = now.threshold;
  if (!typed) byId("threshold-number").value = String(Number(now.threshold.toFixed(4)));
  byId("threshold-reset").disabled = now.threshold === now.a.thresholds[now.label];
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    draw();
  });
}

function draw() {
  const { label, threshold, groups } = now;
  byId("numbers").replaceChildren(...numbers());
  byId("plots").replaceChildren(...plots(...now.curves, threshold, [state.a.name, state.b?.name]));
  byId("subgroups").replaceChildren(subgroupTable(groups, label, threshold));
  list.setFinding(label, threshold);
}

function numberTable(caption, rows) {
  return el("table", {}, el("caption", {}, caption),
    el("tbody", {}, rows.map(([name, id, value, more]) => el("tr", {},
      el("th", { scope: "row" }, name), el("td", { id: `n-${id}`, class: "number" }, value),
      more === undefined ? null : el("td", {}, more)))));
}

function numbers() {
  const { a, label, threshold, curves: [{ order }] } = now;
  const at = confusion(order, threshold);
  const known = a.metrics.find((row) => row.label === label)
    ?? { auroc: auroc(order), ap: averagePrecision(order) };
  return [
    numberTable(`At threshold ${decimals(threshold)}`, [
      ["true positives", "tp", count(at.tp)], ["false positives", "fp", count(at.fp)],
      ["false negatives", "fn", count(at.fn)], ["true negatives", "tn", count(at.tn)]]),
    numberTable("Measures at this threshold",
      ["precision", "recall", "specificity", "f1", "accuracy"].map((name) =>
        [name === "f1" ? "F1" : name, name, decimals(at[name])])),
    numberTable("At any threshold, with 95% interval", [
      ["AUROC", "auroc", decimals(known.auroc), interval(known.auroc_low, known.auroc_high)],
      ["AP", "ap", decimals(known.ap), interval(known.ap_low, known.ap_high)]]),
  ];
}

/** What the results of one split say of an image, as an answer to a file would. */
function resultOf(results, row) {
  const pick = (value) => results.labels.filter((label) => (results.truth[label]?.[row] ?? null) === value);
  return {
    probabilities: Object.fromEntries(results.labels.map((label) => [label, results.probabilities[label][row]])),
    familiarity: null, unlike_training: null, warnings: [], label_set: null,
    truth: { findings: pick(1), unknown: pick(null) },
  };
}

function subjectOf(row) {
  const { a, b } = now;
  const name = a.images.image[row];
  /** The results and the row of this image in the split of `run`. */
  const placeIn = (run) => {
    if (run.name === a.run) return [a, row];
    const other = b?.images.image.indexOf(name) ?? -1;
    if (other < 0) throw new Problem(`The split of run ${run.name} does not hold this image.`);
    return [b, other];
  };
  const person = list.person(row).join(", ");
  return {
    key: `row ${a.run} ${row}`,
    name,
    about: async () => `patient ${a.images.patient[row]}${person ? `, ${person}` : ""}`,
    missing: a.images_here ? "" : NO_IMAGES,
    image: () => imageOfRow(a.run, row),
    result: async (run) => resultOf(...placeIn(run)),
    map: async (run, label, method, signal) =>
      mapOfRow(run.name, placeIn(run)[1], label, method, signal),
    boxes: async () => (a.images_here ? boxesOfRow(a.run, row) : []),
  };
}

function showRow() {
  reader.wanted = now.label;
  reader.show(readerPlace("split"), list.row === null ? null : subjectOf(list.row),
    "Choose an image in the list to see it here.");
}

export const move = (way) => now && list.move(way);

export function start() {
  list = new SplitList(() => showRow());
  byId("finding").addEventListener("change", ({ target }) => {
    chooseFinding(target.value);
    reader.want(target.value);
  });
  byId("threshold").addEventListener("input", ({ target }) => setThreshold(Number(target.value)));
  byId("threshold-number").addEventListener("input", ({ target }) => {
    if (target.value !== "" && target.validity.valid) setThreshold(Number(target.value), true);
  });
  byId("threshold-number").addEventListener("change", ({ target }) => {
    if (target.value !== "" || target.validity.badInput) setThreshold(now.threshold);
  });
  byId("threshold-reset").addEventListener("click", () => setThreshold(now.a.thresholds[now.label]));
}
