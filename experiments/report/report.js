// A click on a header sorts its table: numbers by value, undefined ones last, equals as they were.
// The address can name it too: index.html#C1~recall~descending
"use strict";

function valueOf(row, column) {
  const cell = row.cells[column];
  if (!("v" in cell.dataset)) return cell.textContent;
  return cell.dataset.v === "" ? NaN : Number(cell.dataset.v);
}

function compare(a, b, sign) {
  if (typeof a === "string" || typeof b === "string") {
    return sign * String(a).localeCompare(String(b), "en", { numeric: true });
  }
  if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
  return sign * (a - b);
}

function sortBy(header, direction) {
  const table = header.closest("table");
  const column = Number(header.dataset.column);
  const body = table.tBodies[0];
  const sign = direction === "descending" ? -1 : 1;
  const rows = [...body.rows].map((row) => [valueOf(row, column), row]);
  rows.sort((a, b) => compare(a[0], b[0], sign));
  body.append(...rows.map((pair) => pair[1]));
  for (const other of table.querySelectorAll("[aria-sort]")) {
    other.setAttribute("aria-sort", "none");
  }
  header.setAttribute("aria-sort", direction);
}

function click(event) {
  const header = event.currentTarget.parentElement;
  const words = header.classList.contains("text");
  const now = header.getAttribute("aria-sort");
  const opposite = { ascending: "descending", descending: "ascending" };
  sortBy(header, opposite[now] || (words ? "ascending" : "descending"));
}

function fromAddress() {
  const [table, key, direction] = decodeURIComponent(location.hash.slice(1)).split("~");
  if (!key) return;
  const header = document.querySelector(
    `[data-name="${CSS.escape(table)}"] th[data-key="${CSS.escape(key)}"]`);
  if (!header) return;
  sortBy(header, direction === "descending" ? "descending" : "ascending");
  header.closest("section").scrollIntoView();
}

for (const button of document.querySelectorAll(".sortable thead button")) {
  button.addEventListener("click", click);
}
addEventListener("hashchange", fromAddress);
fromAddress();
