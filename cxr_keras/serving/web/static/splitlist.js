// The list of images of a split: filter, sort, pages of 100, and the file of what is listed.

import { download } from "/csv.js";
import { byId, count, decimals, el } from "/dom.js";
import { outcome } from "/measures.js";

const PAGE = 100;
const OUTCOMES = ["found", "missed", "false alarm", "right negative", "unknown"];
const SORTS = { "prob-down": "probability, high first", "prob-up": "probability, low first",
  patient: "patient", name: "image name" };
const TRUTH = { 1: "yes", 0: "no" };
const { compare } = new Intl.Collator("en", { numeric: true });

/** Calls `onselect(row)` when an image is chosen. */
export class SplitList {
  constructor(onselect) {
    this.onselect = onselect;
    this.page = 0;
    this.row = null;
    this.rows = [];
    byId("outcome").append(el("option", { value: "" }, "all"),
      ...OUTCOMES.map((word) => el("option", { value: word }, word)));
    byId("sort").append(...Object.entries(SORTS).map(([value, text]) => el("option", { value }, text)));
    for (const id of ["outcome", "sort"]) byId(id).addEventListener("change", () => this.draw(0));
    byId("patient-filter").addEventListener("input", () => this.draw(0));
    byId("page-before").addEventListener("click", () => this.draw(this.page - 1));
    byId("page-after").addEventListener("click", () => this.draw(this.page + 1));
    byId("export-split").addEventListener("click", () => this.save());
  }

  /** Other results: nothing is chosen any more. */
  setResults(results) {
    Object.assign(this, { results, orders: new Map(), row: null, page: 0 });
  }

  setFinding(label, threshold) {
    Object.assign(this, { label, threshold });
    this.draw(this.page);
  }

  outcomeOf(row) {
    const { probabilities, truth } = this.results;
    return outcome(probabilities[this.label][row], truth[this.label][row], this.threshold);
  }

  /** All rows in the chosen order; each order is made once. */
  ordered() {
    const sort = byId("sort").value;
    const key = sort.startsWith("prob") ? `${sort} ${this.label}` : sort;
    if (!this.orders.has(key)) {
      const { image, patient } = this.results.images;
      const score = this.results.probabilities[this.label];
      const by = {
        "prob-down": (i, j) => score[j] - score[i],
        "prob-up": (i, j) => score[i] - score[j],
        patient: (i, j) => compare(patient[i], patient[j]) || compare(image[i], image[j]),
        name: (i, j) => compare(image[i], image[j]),
      }[sort];
      this.orders.set(key, image.map((_, i) => i).sort(by));
    }
    return this.orders.get(key);
  }

  listed() {
    const wanted = byId("outcome").value;
    const patient = byId("patient-filter").value.trim().toLowerCase();
    return this.ordered().filter((row) => (!wanted || this.outcomeOf(row) === wanted)
      && (!patient || String(this.results.images.patient[row]).toLowerCase().includes(patient)));
  }

  person(row) {
    const { age, sex, view } = this.results.images;
    return [age?.[row], sex?.[row], view?.[row]].filter((value) => value !== null && value !== undefined && value !== "");
  }

  draw(page) {
    this.rows = this.listed();
    const pages = Math.max(1, Math.ceil(this.rows.length / PAGE));
    const turned = page !== this.page;
    this.page = Math.min(pages - 1, Math.max(0, page));
    const first = this.page * PAGE;
    const part = this.rows.slice(first, first + PAGE);
    const heads = ["Image", "Patient", "Age, sex, view", "Probability", "Truth", "Outcome"];
    byId("split-scroll").replaceChildren(el("table", { id: "split-list" },
      el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, part.map((row) => this.line(row)))));
    if (turned) byId("split-scroll").scrollTop = 0;
    byId("page-state").textContent = this.rows.length
      ? `${count(first + 1)}–${count(first + part.length)} of ${count(this.rows.length)} images` : "No image fits.";
    byId("page-before").disabled = this.page === 0;
    byId("page-after").disabled = this.page >= pages - 1;
    byId("export-split").disabled = !this.rows.length;
  }

  line(row) {
    const { images, probabilities, truth } = this.results;
    const word = this.outcomeOf(row);
    const chosen = row === this.row;
    return el("tr", { "data-row": row, "data-name": images.image[row], "aria-current": chosen ? "true" : null,
      onclick: () => this.select(row) },
    el("th", { scope: "row" }, el("button", { type: "button", class: "plain" }, images.image[row])),
    el("td", {}, String(images.patient[row])),
    el("td", {}, this.person(row).join(", ")),
    el("td", { class: "number" }, decimals(probabilities[this.label][row])),
    el("td", {}, TRUTH[truth[this.label][row]] ?? "unknown"),
    el("td", { "data-outcome": word }, word));
  }

  select(row) {
    const lineOf = (wanted) => byId("split-scroll").querySelector(`tr[data-row="${wanted}"]`);
    lineOf(this.row)?.removeAttribute("aria-current");
    this.row = row;
    const page = Math.floor(this.rows.indexOf(row) / PAGE);
    if (page >= 0 && page !== this.page) this.draw(page);
    const line = lineOf(row);
    line?.setAttribute("aria-current", "true");
    line?.scrollIntoView({ block: "nearest" });
    byId("split-scroll").scrollLeft = 0;
    this.onselect(row);
  }

  /** The next listed image (or the one before, for -1). */
  move(way) {
    const place = this.rows.indexOf(this.row);
    const next = this.rows[place < 0 ? this.page * PAGE : place + way];
    if (next !== undefined) this.select(next);
  }

  save() {
    const { images, probabilities, truth, run, split } = this.results;
    const people = ["age", "sex", "view"].filter((name) => images[name]);
    const body = this.rows.map((row) => [images.image[row], images.patient[row],
      ...people.map((name) => images[name][row]), this.label, probabilities[this.label][row],
      this.threshold, truth[this.label][row], this.outcomeOf(row)]);
    download(`${run}-${split}-${this.label}.csv`,
      [["image", "patient", ...people, "finding", "probability", "threshold", "truth", "outcome"], ...body]);
  }
}
