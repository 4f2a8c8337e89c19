// Shows one image as one run sees it: the viewer, its heat map, the bars, and the words of the guard.

import { bars, byProbability } from "/bars.js";
import { colouredMap } from "/film.js";
import { decimals, el, percent } from "/dom.js";
import { Recent } from "/recent.js";
import { view } from "/view.js";
import { Viewer } from "/viewer.js";

const EMPTY_MAP = "Nothing in the layer speaks for this finding: no map.";
const maps = new Recent(16);

function familiarityWords(result) {
  if (result.unlike_training) {
    const number = result.familiarity === null ? "" : ` (familiarity ${decimals(result.familiarity)})`;
    return el("p", { class: "alarm" }, `UNLIKE the training images: do not believe it${number}.`);
  }
  if (typeof result.familiarity !== "number") return null;
  return el("p", {}, `Usual for this run (familiarity ${decimals(result.familiarity)}).`);
}

function labelSetWords(run, result) {
  if (!result.label_set) return null;
  const names = result.label_set.join(", ") || "no finding";
  const level = run.guarantee ? `, made to hold ${percent(run.guarantee.level)}% of a patient's findings` : "";
  return el("p", {}, el("strong", {}, `Label set${level}: `), `${names}.`);
}

function truthWords(truth) {
  if (!truth) return null;
  const unknown = truth.unknown?.length ? ` Not known: ${truth.unknown.join(", ")}.` : "";
  return el("p", {}, el("strong", {}, "Truth: "), `${truth.findings.join(", ") || "no finding"}.${unknown}`);
}

export class Panel {
  constructor(letter, onchoose) {
    this.onchoose = onchoose;
    this.viewer = new Viewer(`viewer-${letter}`);
    this.title = el("h3", { class: "panel-title" });
    this.state = el("p", { class: "map-state", id: letter === "a" ? "map-state" : "map-state-b", role: "status" });
    this.words = el("div", { class: "words" });
    this.node = el("article", { class: "panel" },
      el("div", { class: "panel-image" }, this.title, this.viewer.canvas, this.state), this.words);
    this.ticket = 0;
  }

  /** Show `subject` as `run` sees it; `wanted` is the finding to choose, if the run has it. */
  async show(subject, run, wanted) {
    this.ticket += 1;
    const { ticket } = this;
    Object.assign(this, { subject, run, label: null, bars: null });
    this.title.textContent = run.name;
    this.viewer.name(`Image ${subject.name}, run ${run.name}`);
    this.stop?.abort();
    this.stop = null;
    this.say(subject.missing);
    this.words.replaceChildren(el("p", { class: "quiet" }, "Waiting for the findings…"));
    try {
      const result = await subject.result(run);
      if (ticket === this.ticket) this.showResult(result, wanted);
    } catch (error) {
      if (ticket === this.ticket) this.fail(error.message);
    }
  }

  fail(sentence) {
    this.words.replaceChildren(el("p", { class: "problem" }, sentence));
  }

  showResult(result, wanted) {
    if (result.error) {
      this.fail(result.error);
      return;
    }
    this.bars = bars(this.run, result, this.onchoose);
    this.words.replaceChildren(...[
      familiarityWords(result),
      ...result.warnings.map((warning) => el("p", { class: "warning" }, `Warning: ${warning}`)),
      this.bars.node,
      labelSetWords(this.run, result),
      truthWords(result.truth),
      this.run.notice ? el("p", { class: "quiet" }, this.run.notice) : null,
    ].filter(Boolean));
    this.choose(wanted in result.probabilities ? wanted : byProbability(this.run, result.probabilities)[0]);
  }

  has(label) {
    return Boolean(this.bars) && this.run.labels.includes(label);
  }

  choose(label) {
    this.label = label;
    this.bars.setChosen(label);
    this.showMap();
  }

  say(sentence, map = null) {
    this.state.textContent = sentence;
    this.viewer.put({ map });
  }

  /** Load and show the map of the chosen finding, if maps are on. */
  async showMap() {
    this.stop?.abort();
    this.stop = null;
    if (!this.bars) return;
    if (!this.run.heatmaps) {
      this.say("This run has no heat maps.");
      return;
    }
    if (this.subject.missing) {
      this.say(this.subject.missing);
      return;
    }
    if (!view.map) {
      this.say("Click a finding to see its heat map.");
      return;
    }
    await this.loadMap();
  }

  async loadMap() {
    const stop = new AbortController();
    this.stop = stop;
    const { subject, run, label } = this;
    const key = [subject.key, run.name, label, view.method].join("\n");
    stop.signal.addEventListener("abort", () => maps.forget(key));
    this.say(`Loading the heat map of ${label}…`);
    try {
      const map = await maps.get(key, async () => {
        const blob = await subject.map(run, label, view.method, stop.signal);
        return blob && colouredMap(blob);
      });
      if (this.stop === stop) this.say(map ? `Heat map of ${label}` : EMPTY_MAP, map);
    } catch (error) {
      if (this.stop === stop) this.say(error.message);
    }
    if (this.stop === stop) this.stop = null;
  }
}
