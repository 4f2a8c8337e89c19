// Starts the page: loads the model, fills the header, and switches between the views.

import { getModel, tokenFromAddress } from "/api.js";
import * as card from "/card.js";
import { byId, el } from "/dom.js";
import * as images from "/images.js";
import { startKeys } from "/keys.js";
import { reader } from "/reader.js";
import * as split from "/split.js";
import { runNamed, state } from "/state.js";
import { startTheme } from "/theme.js";

const VIEWS = {
  images: images.show,
  split: split.show,
  model: () => card.show(byId("view-model")),
};
let shown = "images";

function showView(name) {
  shown = name;
  for (const view of Object.keys(VIEWS)) {
    const tab = byId(`tab-${view}`);
    byId(`view-${view}`).hidden = view !== name;
    tab.setAttribute("aria-selected", String(view === name));
    tab.tabIndex = view === name ? 0 : -1;
  }
  VIEWS[name]();
}

function startTabs() {
  const names = Object.keys(VIEWS);
  for (const name of names) byId(`tab-${name}`).addEventListener("click", () => showView(name));
  document.querySelector("[role=tablist]").addEventListener("keydown", (event) => {
    const way = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!way) return;
    event.preventDefault();
    showView(names[(names.indexOf(shown) + way + names.length) % names.length]);
    byId(`tab-${shown}`).focus();
  });
}

/** What belongs beside every result: of each chosen run, its notice and its limits. */
function drawBanner() {
  const lines = [state.a, state.b].filter(Boolean)
    .map((run) => [run.name, [run.notice, ...run.limits].filter(Boolean).join(" ")])
    .filter(([, words]) => words);
  byId("banner-runs").replaceChildren(...lines.map(([name, words]) =>
    el("p", {}, el("strong", {}, `${name}: `), words)));
}

function chooseRuns() {
  state.a = runNamed(byId("run-a").value);
  state.b = runNamed(byId("run-b").value);
  for (const option of byId("run-b").options) option.disabled = option.value === state.a.name;
  if (state.b === state.a) {
    byId("run-b").value = "";
    state.b = null;
  }
  drawBanner();
  split.nameTab();
  images.runChanged();
  showView(shown);
}

function startRuns() {
  const names = state.model.runs.map(({ name }) => name);
  byId("run-a").append(...names.map((name) => el("option", { value: name }, name)));
  byId("run-b").append(el("option", { value: "" }, "none"),
    ...names.map((name) => el("option", { value: name }, name)));
  byId("run-b").disabled = names.length < 2;
  for (const id of ["run-a", "run-b"]) byId(id).addEventListener("change", chooseRuns);
}

async function start() {
  startTheme();
  tokenFromAddress();
  try {
    state.model = await getModel();
  } catch (error) {
    byId("problem").textContent = error.message;
    byId("problem").hidden = false;
    return;
  }
  byId("banner-research").textContent = state.model.notice;
  reader.start(state.model.methods);
  images.start();
  split.start();
  startRuns();
  startTabs();
  startKeys((way) => ({ images, split })[shown]?.move(way));
  chooseRuns();
}

start();
