// The reading place of one image: tools above, one panel a run; the views Images and Test split share it.

import { byId, el } from "/dom.js";
import { Film, legendStrip } from "/film.js";
import { Panel } from "/panel.js";
import { Recent } from "/recent.js";
import { state } from "/state.js";
import { view } from "/view.js";

const films = new Recent(6);

const tool = (text, onclick, more = {}) => el("button", { type: "button", onclick, ...more }, text);

function number(id, name, label, max) {
  const input = el("input", { id, type: "number", min: "0", max, value: String(view[name]),
    onchange: () => view.set({ [name]: Number(input.value) }) });
  view.addEventListener("change", () => { input.value = String(Math.round(view[name])); });
  return el("label", {}, `${label} `, input);
}

function imageTools() {
  const invert = tool("Invert", () => view.set({ invert: !view.invert }), { id: "invert", "aria-pressed": "false" });
  const ways = ["window", "pan"].map((way) =>
    tool(way === "window" ? "Window" : "Pan", () => view.set({ drag: way }), { "data-drag": way }));
  view.addEventListener("change", () => {
    invert.setAttribute("aria-pressed", String(view.invert));
    ways.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.drag === view.drag)));
  });
  return el("div", { class: "tools" },
    el("div", { class: "group", role: "group", "aria-label": "Drag" }, el("span", {}, "Drag:"), ways),
    number("window-width", "width", "Window", "512"),
    number("window-centre", "centre", "Centre", "255"),
    tool("−", () => view.zoomAbout(1 / 1.25), { "aria-label": "Zoom out", title: "Zoom out" }),
    tool("+", () => view.zoomAbout(1.25), { "aria-label": "Zoom in", title: "Zoom in" }),
    invert,
    tool("Reset", () => view.reset(), { id: "reset" }));
}

class Reader {
  /** Build the tools and both panels; call once, after the model is known. */
  start(methods) {
    view.method = methods[0];
    this.a = new Panel("a", (label) => this.choose(label, this.a));
    this.b = new Panel("b", (label) => this.choose(label, this.b));
    this.title = el("h2", { class: "reader-title" });
    this.about = el("p", { class: "quiet about" });
    this.mapTools = this.makeMapTools(methods);
    this.panels = el("div", { class: "panels" }, this.a.node, this.b.node);
    this.node = el("section", { class: "reader box", "aria-label": "Image and findings" },
      this.title, this.about, imageTools(), this.mapTools, this.panels);
    this.subject = null;
    this.wanted = null;
    view.set({});
  }

  makeMapTools(methods) {
    const toggle = tool("Heat map", () => this.toggleMap(), { id: "map-toggle", "aria-pressed": "false" });
    const opacity = el("input", { id: "opacity", type: "range", min: "0", max: "1", step: "0.05",
      value: String(view.opacity), oninput: () => view.set({ opacity: Number(opacity.value) }) });
    const method = el("select", { id: "method", onchange: () => {
      view.method = method.value;
      this.shown((panel) => panel.showMap());
    } }, methods.map((name) => el("option", { value: name }, name)));
    const boxes = el("input", { id: "boxes-toggle", type: "checkbox", checked: true,
      onchange: () => view.set({ boxes: boxes.checked }) });
    this.boxSwitch = el("label", { hidden: true }, boxes, " Boxes");
    this.toggle = toggle;
    view.addEventListener("change", () => toggle.setAttribute("aria-pressed", String(view.map)));
    return el("div", { class: "tools" },
      toggle,
      el("label", {}, "Opacity ", opacity),
      methods.length > 1 ? el("label", {}, "Method ", method) : null,
      el("span", { class: "legend" }, "low ", legendStrip(), " high"),
      this.boxSwitch);
  }

  shown(act) {
    act(this.a);
    if (!this.b.node.hidden) act(this.b);
  }

  /** Show the map of `label` in each panel whose run has this finding. */
  choose(label, asked) {
    this.wanted = label;
    view.set({ map: true });
    this.shown((panel) => {
      if (panel === asked || panel.has(label)) panel.choose(label);
    });
  }

  /** Another finding is looked at, without a wish for its map. */
  want(label) {
    this.wanted = label;
    if (this.subject) this.shown((panel) => panel.has(label) && panel.choose(label));
  }

  toggleMap() {
    view.set({ map: !view.map });
    if (this.subject) this.shown((panel) => panel.showMap());
  }

  /** Move to `place` and show `subject` there, or `empty`, a sentence, where there is none. */
  async show(place, subject, empty = "") {
    if (!subject) {
      this.subject = null;
      place.replaceChildren(el("p", { class: "empty" }, empty));
      return;
    }
    const fresh = this.subject?.key !== subject.key;
    this.subject = subject;
    if (this.node.parentNode !== place) place.replaceChildren(this.node);
    this.title.textContent = subject.name;
    this.showRuns();
    if (fresh) await this.showFilm(subject);
  }

  /** One panel, or two where another run is compared. */
  showRuns() {
    const { a, b } = state;
    this.b.node.hidden = !b;
    this.panels.classList.toggle("two", Boolean(b));
    this.toggle.disabled = ![a, b].some((run) => run?.heatmaps);
    this.a.show(this.subject, a, this.wanted);
    if (b) this.b.show(this.subject, b, this.wanted);
    this.showBoxes(this.subject);
    this.showAbout(this.subject);
  }

  async showFilm(subject) {
    const put = (values) => [this.a, this.b].forEach((panel) => panel.viewer.put(values));
    put({ film: null });
    view.startImage();
    this.node.classList.toggle("no-image", Boolean(subject.missing));
    if (subject.missing) return;
    try {
      const film = await films.get(subject.key, async () => Film.of(await subject.image()));
      if (subject === this.subject) put({ film });
    } catch (error) {
      if (subject !== this.subject) return;
      this.node.classList.add("no-image");
      const answer = await subject.result(state.a);
      if (subject === this.subject && !answer.error) this.about.textContent = error.message;
    }
  }

  async showAbout(subject) {
    this.about.textContent = "";
    const about = await subject.about();
    if (subject === this.subject && about) this.about.textContent = about;
  }

  async showBoxes(subject) {
    const put = (boxes) => [this.a, this.b].forEach((panel) => panel.viewer.put({ boxes }));
    put([]);
    this.boxSwitch.hidden = true;
    const boxes = await subject.boxes().catch(() => []);
    if (subject !== this.subject) return;
    put(boxes);
    this.boxSwitch.hidden = !boxes.length;
  }
}

export const reader = new Reader();
export const readerPlace = (name) => byId(`reader-${name}`);
