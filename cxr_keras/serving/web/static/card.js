// The view "Model": what the run is, what it was trained on, and how well it did.

import { count, decimals, el, interval, table } from "/dom.js";
import { state } from "/state.js";

const COUNTS = ": labels averaged"; // rows that count labels, no measures

function plain(value) {
  if (value === null || value === undefined) return "none";
  if (Array.isArray(value)) return value.map(plain).join(", ") || "none";
  if (typeof value === "object") {
    return Object.entries(value).map(([name, inner]) => `${name}: ${plain(inner)}`).join(", ") || "none";
  }
  if (typeof value === "boolean") return value ? "yes" : "no";
  return String(value);
}

const definitions = (pairs) => el("dl", { class: "settings" },
  pairs.map(([name, value]) => [el("dt", {}, name.replaceAll("_", " ")), el("dd", {}, plain(value))]));

const box = (title, ...content) => el("section", { class: "box" }, el("h3", {}, title), content);

function facts(run) {
  const { version } = state.model;
  return [
    ["Network", run.network], ["Findings", run.labels.length],
    ["Image size", `${run.size} × ${run.size} pixels, ${run.fit}`],
    ["Heat maps", run.heatmaps],
    ["Guard against unlike images", run.guard],
    ["Label sets", run.guarantee ? `made to hold ${Math.round(100 * run.guarantee.level)}% of a patient's findings` : "none"],
    ["cxr-keras", version],
  ];
}

function metricsTable(run) {
  const rows = run.metrics.filter(({ label }) => !label.endsWith(COUNTS)).map((row) => [
    row.label, count(row.support),
    decimals(row.auroc), interval(row.auroc_low, row.auroc_high),
    decimals(row.ap), interval(row.ap_low, row.ap_high),
    decimals(row.precision), decimals(row.recall), decimals(row.f1),
    typeof row.threshold === "number" ? decimals(row.threshold) : "",
  ]);
  return table(`Metrics of ${run.name}`, ["Finding", "Images with it", "AUROC", "95% interval", "AP", "95% interval",
    "Precision", "Recall", "F1", "Threshold"], rows);
}

function findingsTable(run) {
  return table(`Findings and thresholds of ${run.name}`, ["Finding", "Threshold"], run.labels.map((label, i) => [
    label === run.normal ? `${label} (says that there is none)` : label, decimals(run.thresholds[i])]));
}

const pair = (...boxes) => el("div", { class: "pair" }, boxes);

function cardOf(run) {
  const split = run.split === "val" ? "validation split" : "test split";
  return [
    el("h2", {}, `Run ${run.name}`),
    ...[run.notice, ...run.limits].filter(Boolean).map((sentence) => el("p", { class: "warning" }, sentence)),
    pair(box("About", definitions(facts(run))), box("Findings and thresholds", findingsTable(run))),
    box(`Metrics on the ${split}`, run.metrics.length ? metricsTable(run) : el("p", {}, "This run has no metrics.")),
    pair(box("Data", definitions(Object.entries(run.data))),
      box("Training", definitions(Object.entries(run.training)))),
  ];
}

/** Draw the card of the chosen run, and of the one to compare with. */
export function show(place) {
  place.replaceChildren(...[state.a, state.b].filter(Boolean).flatMap(cardOf));
}
