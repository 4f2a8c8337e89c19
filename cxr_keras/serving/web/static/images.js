// The view "Images": files are dropped or chosen, listed, and read one by one.

import { imageOfFile, mapOfFile } from "/api.js";
import { byProbability } from "/bars.js";
import { download } from "/csv.js";
import { byId, decimals, el } from "/dom.js";
import { reader, readerPlace } from "/reader.js";
import { state } from "/state.js";
import { uploads } from "/uploads.js";

const rows = new Map(); // entry → its row in the list
let selected = null;
let told = 0; // when the progress was last told

function aboutWords(result) {
  const parts = [
    result.patient_id && `patient ${result.patient_id}`,
    result.sex && `sex ${result.sex}`,
    typeof result.age === "number" && `${result.age} years`,
    result.view && `view ${result.view}`,
    result.pixel_spacing_mm && `${[result.pixel_spacing_mm].flat().join(" × ")} mm a pixel`,
  ];
  return parts.filter(Boolean).join(", ");
}

function subjectOf(entry) {
  const answer = (run) => uploads.ask(entry, run);
  return {
    key: entry.key,
    name: entry.name,
    missing: "",
    about: async () => aboutWords(await answer(state.a)),
    image: () => imageOfFile(entry.file),
    result: answer,
    map: (run, label, method, signal) => mapOfFile(entry.file, run.name, label, method, signal),
    boxes: async () => (await answer(state.a)).truth?.boxes ?? [],
  };
}

/** What the row says under the file's name. */
function rowWords(entry) {
  const answer = entry.answers.get(state.a.name);
  if (!answer) return [el("span", { class: "quiet" }, "waiting…")];
  if (answer.error) return [el("span", { class: "problem" }, answer.error)];
  const top = byProbability(state.a, answer.probabilities)[0];
  const above = answer.findings.includes(top);
  return [
    el("span", { class: above ? "above" : "quiet" },
      `${top} ${decimals(answer.probabilities[top], 2)}${above ? " above threshold" : ""}`),
    answer.unlike_training ? el("span", { class: "alarm" }, "UNLIKE the training images") : null,
  ].filter(Boolean);
}

function drawRow(entry) {
  const row = rows.get(entry);
  row.replaceChildren(el("span", { class: "file-name" }, entry.name), ...rowWords(entry));
  row.classList.toggle("failed", Boolean(entry.answers.get(state.a.name)?.error));
}

/** At most once a second, so that a screen reader can follow. */
function tellProgress() {
  const running = uploads.done() < uploads.entries.length;
  if (running && performance.now() - told < 1000) return;
  told = running ? performance.now() : 0;
  byId("progress").textContent = uploads.progress();
}

function drawState() {
  const some = uploads.entries.length > 0;
  tellProgress();
  byId("clear-images").disabled = !some;
  byId("export-images").disabled = !uploads.done();
  byId("file-list").hidden = !some;
  byId("images-view").classList.toggle("nothing", !some);
}

function add(files) {
  if (!files.length) return;
  const list = byId("file-list");
  for (const entry of uploads.add(files)) {
    const row = el("li", { role: "option", id: entry.key.replace(" ", "-"), "data-name": entry.name,
      "aria-selected": "false", onclick: () => select(entry) });
    rows.set(entry, row);
    drawRow(entry);
    list.append(row);
  }
  drawState();
  if (!selected) select(uploads.entries[0]);
}

function select(entry) {
  rows.get(selected)?.setAttribute("aria-selected", "false");
  selected = entry;
  const row = rows.get(entry);
  row.setAttribute("aria-selected", "true");
  byId("file-list").setAttribute("aria-activedescendant", row.id);
  row.scrollIntoView({ block: "nearest" });
  show();
}

/** Show the chosen file; without one, the drop zone says what to do. */
export function show() {
  reader.show(readerPlace("images"), selected && subjectOf(selected));
}

/** The next file of the list (or the one before, for -1). */
export function move(way) {
  const next = uploads.entries[uploads.entries.indexOf(selected) + way];
  if (next) select(next);
}

/** Another run was chosen: it answers every file. */
export function runChanged() {
  uploads.pump();
  rows.forEach((_, entry) => drawRow(entry));
  drawState();
}

function clear() {
  uploads.clear();
  rows.clear();
  selected = null;
  byId("file-list").replaceChildren();
  byId("file-list").removeAttribute("aria-activedescendant");
  byId("file-input").value = "";
  drawState();
  show();
}

function exportRows() {
  const { labels, name } = state.a;
  const answered = uploads.entries.filter(({ answers }) => answers.has(name));
  const body = answered.map((entry) => {
    const answer = entry.answers.get(name);
    return [entry.name, (answer.findings ?? []).join("|"),
      ...labels.map((label) => answer.probabilities?.[label]),
      answer.familiarity, answer.unlike_training, (answer.warnings ?? []).join("|"), answer.error];
  });
  const heads = ["image", "findings", ...labels.map((label) => `prob_${label}`),
    "familiarity", "unlike_training", "warnings", "error"];
  download(`${name}-images.csv`, [heads, ...body]);
}

function droppedFiles(event) {
  return [...event.dataTransfer.items]
    .filter((item) => item.kind === "file" && !item.webkitGetAsEntry?.()?.isDirectory)
    .map((item) => item.getAsFile());
}

function watchDrops() {
  const over = (is) => byId("drop").classList.toggle("over", is);
  const here = () => !byId("view-images").hidden;
  window.addEventListener("dragover", (event) => {
    event.preventDefault();
    if (here()) over(true);
  });
  window.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) over(false);
  });
  window.addEventListener("drop", (event) => {
    event.preventDefault();
    over(false);
    if (here()) add(droppedFiles(event));
  });
}

export function start() {
  byId("file-input").addEventListener("change", (event) => add([...event.target.files]));
  byId("clear-images").addEventListener("click", clear);
  byId("export-images").addEventListener("click", exportRows);
  uploads.addEventListener("change", ({ detail }) => {
    if (rows.has(detail)) drawRow(detail);
    drawState();
  });
  watchDrops();
}
