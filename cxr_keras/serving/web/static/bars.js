// Shows the findings of one image as bars, each a button that chooses its heat map.

import { count, decimals, el, percent } from "/dom.js";

/** Labels by falling probability, the one that says "nothing found" last. */
export function byProbability(run, probabilities) {
  const value = (label) => (label === run.normal ? -1 : probabilities[label]);
  return run.labels.filter((label) => label in probabilities).sort((a, b) => value(b) - value(a));
}

/** What the test images of this bin had, or null where too few were there. */
function observedBin(run, label, probability) {
  const bins = run.observed?.[label] ?? [];
  return bins.find(({ low, high }) => probability >= low && (probability < high || high >= 1)) ?? null;
}

function observedSentence(run, bin) {
  if (!bin) return "";
  const images = run.split === "val" ? "validation images" : "test images";
  return ` Of ${images} with a probability of ${percent(bin.low)}–${percent(bin.high)}%, `
    + `${percent(bin.rate_low)}–${percent(bin.rate_high)}% had it (${count(bin.images)} images).`;
}

function track(probability, threshold, bin) {
  const part = (name, left, width) => {
    const node = el("span", { class: name });
    node.style.left = `${100 * left}%`;
    if (width !== undefined) node.style.width = `${100 * width}%`;
    return node;
  };
  return el("span", { class: "track", "aria-hidden": "true" },
    part("fill", 0, probability),
    part("mark", threshold),
    bin && part("whisker", bin.rate_low, bin.rate_high - bin.rate_low));
}

/** A name that may break after an underscore. */
const breakable = (name) => name.split("_").flatMap((part, i) => (i ? ["_", el("wbr"), part] : [part]));

/** The list of bars; `setChosen(label)` marks the finding whose map is shown. */
export function bars(run, { probabilities, findings }, onchoose) {
  const note = el("p", { class: "bar-note quiet" });
  const buttons = new Map();
  let chosen = null;
  const tell = (label) => {
    note.textContent = buttons.get(label)?.title ?? "";
  };
  for (const label of byProbability(run, probabilities)) {
    const probability = probabilities[label];
    const threshold = run.thresholds[run.labels.indexOf(label)];
    const bin = observedBin(run, label, probability);
    // the server decides, before it rounds probabilities
    const above = findings ? findings.includes(label) : probability >= threshold;
    buttons.set(label, el("button", {
      type: "button", class: above ? "bar above" : "bar", "data-label": label, "aria-pressed": "false",
      title: `${label}: probability ${decimals(probability)}, threshold ${decimals(threshold)}.`
        + observedSentence(run, bin),
      onclick: () => onchoose(label),
      onfocus: () => tell(label),
      onpointerenter: () => tell(label),
      onblur: () => tell(chosen),
      onpointerleave: () => tell(chosen),
    },
    el("span", { class: "bar-name" }, breakable(label)),
    track(probability, threshold, bin),
    el("span", { class: "bar-number" }, decimals(probability, 2)),
    el("span", { class: "bar-word" }, above ? "above threshold" : "")));
  }
  return {
    node: el("div", { class: "bars" },
      el("ul", { "aria-label": `Findings of run ${run.name}` },
        [...buttons.values()].map((button) => el("li", {}, button))),
      note),
    setChosen(label) {
      chosen = label;
      buttons.forEach((button, name) => button.setAttribute("aria-pressed", String(name === label)));
      tell(label);
    },
  };
}
