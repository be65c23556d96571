// The calendar, or the grid of chunks, that opens below a table, and the commands that mend what it shows.

/** What a cell of a calendar or grid stands for: its states, the worst first, and its partitions by state. */
function look(row, from, to) {
  const counts = {};
  const named = {};
  for (const [letter, first, stop] of row.runs) {
    const [low, high] = [Math.max(first, from), Math.min(stop, to)];
    if (low >= high) continue;
    counts[letter] = (counts[letter] || 0) + high - low;
    (named[letter] = named[letter] || []).push([low, high]);
  }
  const letters = Object.keys(counts).sort((a, b) => RANK.indexOf(b) - RANK.indexOf(a));
  return { letters, counts, named };
}

/** Cells in rows with a head: a row a month for days and hours, a row for so many chunks otherwise. */
function layout(row) {
  const found = [];
  if (row.kind === 2) {
    const wide = 20;
    let each = 1;
    for (let k = 0; (row.stop - row.first) / each > CELLS; k++) each = [1, 2, 5][k % 3] * 10 ** Math.floor(k / 3);
    for (let from = Math.floor(row.first / (each * wide)) * each * wide; from < row.stop; from += each * wide) {
      found.push([said(row, from), Array.from({ length: wide }, (_, k) => [from + k * each, from + (k + 1) * each])]);
    }
    return found;
  }
  const per = 86400 / row.step;
  const day = new Date(Math.floor(row.first / per) * DAY);
  for (day.setUTCDate(1); day / DAY < row.stop / per; day.setUTCMonth(day.getUTCMonth() + 1)) {
    const first = day / DAY;
    const count = new Date(Date.UTC(day.getUTCFullYear(), day.getUTCMonth() + 1, 0)).getUTCDate();
    found.push([day.toISOString().slice(0, 7), Array.from({ length: count }, (_, k) => [(first + k) * per, (first + k + 1) * per])]);
  }
  return found;
}

const titled = (row, from, to) => {
  if (row.kind === 1) return new Date(from * row.step * 1000).toISOString().slice(0, 10);
  return row.kind === 2 && to - from === 1 ? said(row, from) : span(row, from, to);
};

function wording(row, from, to) {
  const { letters, counts, named } = look(row, from, to);
  if (row.width > 1 && letters.length === 1) return `${data.states[letters[0]].name}, the worst of ${row.width} partitions each`;
  if (to - from === 1 || letters.length === 1) return data.states[letters[0]].name;
  return letters.map((letter) => {
    const name = `${numbers.format(counts[letter])} ${data.states[letter].name}`;
    if (!data.states[letter].does) return name;
    const shown = named[letter].slice(0, 6).map(([low, high]) => {
      if (row.kind === 2) return high - low === 1 ? said(row, low) : span(row, low, high);
      const hour = (index) => label(row, index).slice(11) + ":00";
      return high - low === 1 ? hour(low) : `${hour(low)} … ${hour(high - 1)}`;
    });
    return `${name} (${shown.join(", ")}${named[letter].length > 6 ? ", …" : ""})`;
  }).join(", ");
}

function copier(text) {
  const button = make("button", { type: "button", "aria-label": `Copy: ${text}` }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(button.previousElementSibling); // no clipboard here: ready for Ctrl-C
      button.textContent = "Selected";
    }
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  return button;
}
const commandLine = (text) => make("div", { class: "cmd" }, make("code", {}, text), copier(text));

function explain(row, from, to, into) {
  const { letters, named } = look(row, from, to);
  const worstLetter = letters[0];
  const all = [Math.max(from, row.first), Math.min(to, row.stop)];
  // What forces goes no further than it must: to the first range, the list has the others.
  const text = command(row, worstLetter, ...(data.states[worstLetter].does.includes("--force") ? named[worstLetter][0] : all));
  const about = make("p", {}, make("strong", {}, titled(row, from, to)), `: ${wording(row, from, to)}. ${data.states[worstLetter].says}.`);
  into.replaceChildren(about, ...(text ? [commandLine(text)] : []));
}

function calendar(row, now) {
  const name = `${row.kind === 2 ? "Chunks" : "Days"} of ${row.element.id}`;
  const table = make("table", { class: "cal", role: "grid", "aria-label": name, "aria-readonly": "true" });
  const cells = [];
  for (const [head, parts] of layout(row)) {
    const line = make("tr", { role: "row" }, make("th", { scope: "row", role: "rowheader" }, head));
    const inLine = [];
    for (let k = 0; k < Math.max(parts.length, row.kind === 2 ? 0 : 31); k++) {
      const [from, to] = parts[k] || [0, 0];
      const there = to > row.first && from < row.stop;
      const letter = there && look(row, from, to).letters[0];
      if (!letter) {
        line.append(make("td", { role: "gridcell" }));
        continue;
      }
      const cell = make("td", { class: letter, role: "gridcell", tabindex: "-1", "aria-label": `${titled(row, from, to)}: ${wording(row, from, to)}` });
      Object.assign(cell, { from, to, column: k, line: cells.length });
      line.append(cell);
      inLine.push(cell);
    }
    if (inLine.length) cells.push(inLine);
    table.append(line);
  }
  let current = cells.flat().find((cell) => data.states[cell.className].does) || cells.at(-1).at(-1);
  const choose = (cell, focus) => {
    current.tabIndex = -1;
    current.removeAttribute("aria-describedby");
    current = cell;
    current.tabIndex = 0;
    current.setAttribute("aria-describedby", now.id);
    explain(row, cell.from, cell.to, now);
    if (focus) cell.focus();
  };
  choose(current, false);
  table.addEventListener("focusin", (event) => event.target.from !== undefined && choose(event.target, false));
  table.addEventListener("click", (event) => event.target.from !== undefined && choose(event.target, true));
  table.addEventListener("mouseover", (event) => event.target.from !== undefined && explain(row, event.target.from, event.target.to, now));
  table.addEventListener("mouseleave", () => explain(row, current.from, current.to, now));
  table.addEventListener("keydown", (event) => {
    const line = cells[current.line];
    const nearest = (other) => other && other.reduce((a, b) => (Math.abs(b.column - current.column) < Math.abs(a.column - current.column) ? b : a));
    const flat = cells.flat();
    const at = flat.indexOf(current);
    const next = {
      ArrowLeft: () => flat[at - 1], ArrowRight: () => flat[at + 1],
      ArrowUp: () => nearest(cells[current.line - 1]), ArrowDown: () => nearest(cells[current.line + 1]),
      Home: () => (event.ctrlKey ? flat[0] : line[0]), End: () => (event.ctrlKey ? flat.at(-1) : line.at(-1)),
      PageUp: () => nearest(cells[Math.max(0, current.line - 12)]),
      PageDown: () => nearest(cells[Math.min(cells.length - 1, current.line + 12)]),
      Enter: () => (now.querySelector("button") || current),
    }[event.key];
    if (!next) return;
    event.preventDefault();
    const target = next();
    if (target) target.from === undefined ? target.focus() : choose(target, true);
  });
  return table;
}

function list(row) {
  const due = row.runs.filter(([letter]) => data.states[letter].does).reverse();
  if (!due.length) return [];
  const items = due.slice(0, LISTED).map(([letter, from, to]) => {
    const count = to - from === 1 ? "" : ` (${numbers.format(to - from)})`;
    const worst = row.width > 1 ? `, the worst of ${row.width} partitions each` : "";
    const what = make("span", {}, `${row.kind !== 2 || to - from > 1 ? span(row, from, to) : said(row, from)}${count}: ${data.states[letter].name}${worst}`);
    const text = command(row, letter, from, to);
    return make("li", {}, what, ...(text ? [commandLine(text)] : []));
  });
  if (due.length > LISTED) items.push(make("li", {}, `and ${numbers.format(due.length - LISTED)} older`));
  return [make("h4", {}, "To do, newest first"), make("ul", {}, ...items)];
}

function open(row) {
  const now = make("div", { class: "now", id: `now-${row.element.id}` });
  const box = make("div", { class: "box" });
  const cell = make("td", { colspan: "4", role: "cell" }, box);
  row.details = make("tr", { class: "d", role: "row", id: `details-${row.element.id}` }, cell);
  if (row.known) box.append(calendar(row, now), now, make("div", {}, ...list(row)));
  else box.append("Nothing is known of its partitions.");
  row.details.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    toggle(row);
    row.button.focus();
  });
  row.element.after(row.details);
  history.replaceState(null, "", `#${row.element.id}`);
}

function toggle(row) {
  if (row.details) {
    row.details.remove();
    row.details = null;
    row.button.removeAttribute("aria-controls");
  } else {
    open(row);
    row.button.setAttribute("aria-controls", row.details.id);
  }
  row.button.setAttribute("aria-expanded", String(Boolean(row.details)));
}

for (const row of rows) {
  row.button = make("button", { type: "button", "aria-expanded": "false", "aria-label": `${row.network}, ${row.name}` }, row.network);
  row.button.addEventListener("click", () => toggle(row));
  row.element.cells[0].replaceChildren(row.button);
  row.strip.addEventListener("click", () => toggle(row));
}
