// Tables of several rows are sorted by a click on the head of a column, long ones have a field that filters their rows.
(() => {
  "use strict";
  const LONG = 8; // rows; shorter tables have no filter
  const text = cell => (cell ? (cell.firstChild && cell.querySelector("small") ? cell.firstChild : cell).textContent : "").trim();
  const number = value => { const found = value.replaceAll("\u2212", "-").match(/^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?/i); return found ? Number(found[0]) : NaN; };
  function compare(a, b) {
    const [m, n] = [number(a), number(b)];
    if (Number.isNaN(m) !== Number.isNaN(n)) return Number.isNaN(m) ? 1 : -1; // numbers before words and dashes
    return Number.isNaN(m) ? a.localeCompare(b) : m - n;
  }
  function sortBy(table, column) {
    const head = table.tHead.rows[0].cells[column], down = head.getAttribute("aria-sort") === "ascending", body = table.tBodies[0];
    for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...body.rows].map(row => [text(row.cells[column]), row]);
    rows.sort(([a], [b]) => Number.isNaN(number(a)) === Number.isNaN(number(b)) && down ? compare(b, a) : compare(a, b));
    body.append(...rows.map(([, row]) => row));
  }
  for (const table of document.querySelectorAll(".scroll > table")) {
    if (!table.tHead || table.tBodies[0].rows.length < 2) continue;
    [...table.tHead.rows[0].cells].forEach((cell, column) => {
      const button = document.createElement("button");
      button.append(...cell.childNodes); cell.append(button);
      button.addEventListener("click", () => sortBy(table, column));
    });
    if (table.tBodies[0].rows.length <= LONG) continue;
    const label = document.createElement("label"), field = document.createElement("input");
    label.className = "filter"; field.type = "search"; field.placeholder = "words, all of them";
    label.append("Show only rows with ", field);
    table.parentElement.before(label);
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of table.tBodies[0].rows) row.hidden = !words.every(word => row.textContent.toLowerCase().includes(word));
    });
  }
})();
