// The table of subgroups of one finding, measured at the threshold that is being looked at.

import { count, decimals, el, interval, table } from "/dom.js";
import { confusion, ranked } from "/measures.js";

const FEWEST_PATIENTS = 10;

/** The images of a subgroup, as places in the lists. */
function members(results, { group, value }) {
  const groups = results.groups[group] ?? [];
  return groups.map((_, i) => i).filter((i) => groups[i] === value);
}

/** The subgroups of a finding, each with its images ranked where they are known. */
export function groupsOf(results, label) {
  return results.subgroups.filter((row) => row.label === label).map((row) => {
    const rows = members(results, row);
    const pick = (values) => rows.map((i) => values[i]);
    return { row, order: ranked(pick(results.probabilities[label]), pick(results.truth[label])) };
  });
}

function line({ row, order }, threshold) {
  const start = [`${row.group}: ${row.value}`, count(row.images), count(row.patients)];
  if (row.patients < FEWEST_PATIENTS) {
    return [...start, el("td", { colspan: "4", class: "quiet" }, "fewer than 10 patients: not measured")];
  }
  const { precision, recall } = confusion(order, threshold);
  return [...start, decimals(row.auroc), interval(row.auroc_low, row.auroc_high),
    decimals(recall), decimals(precision)];
}

/** The table of `groups`, or a sentence where there are none. */
export function subgroupTable(groups, label, threshold) {
  if (!groups.length) return el("p", { class: "empty" }, "This run has no subgroups.");
  return table(`Subgroups of ${label}`,
    ["Group", "Images", "Patients", "AUROC", "95% interval", "Recall", "Precision"],
    groups.map((group) => line(group, threshold)));
}
