"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const DAY = 86400e3;
  const MARK = 3; // CSS pixels of one mark of a strip
  const CELLS = 800; // at most so many cells of a chunked table's grid
  const LISTED = 40; // ranges that a table's details list
  const SVG = "http://www.w3.org/2000/svg";
  // From the one to worry about least to the worst: the worst wins where several share a mark.
  const RANK = Object.keys(data.states);
  // Top and bottom of what each state fills, of 20: shapes differ as well as colours.
  const SHAPES = {
    T: [[4, 20]], M: [[0, 3], [5, 20]], S: [[4, 12]], L: [[12, 20]], P: [[0, 7], [13, 20]], E: [[17, 20]], O: [[4, 6], [18, 20]],
  };
  const numbers = new Intl.NumberFormat("en");
  const by = (id) => document.getElementById(id);

  function make(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  // --- what the page knows of a table ---------------------------------------------------------------------------

  const rows = [...document.querySelectorAll(".all tr[id]")].map((element, number) => {
    const [kind, step, first, stop, text, width = 1] = data.rows[number];
    const network = element.cells[0].textContent;
    const strip = element.querySelector(".s");
    let runs;
    return {
      element, strip, kind, step, first, stop, width, network,
      name: element.id.slice(network.length + 1),
      known: text !== "",
      has: (letter) => text.includes(letter),
      /** [letter, first, stop] of each run; read when it is first needed, since most tables are never looked at. */
      get runs() {
        return (runs ??= decode(text, first));
      },
    };
  });

  function decode(text, first) {
    let index = first;
    return [...text.matchAll(/([A-Z])([0-9a-z]*)/g)].map(([, letter, count]) => {
      const from = index;
      index += count ? parseInt(count, 36) : 1;
      return [letter, from, index];
    });
  }

  /** The worst letter of each of `count` equal parts of first..stop; nothing where no partition is. */
  function worst(runs, first, stop, count) {
    const ranks = new Int8Array(count).fill(-1);
    const scale = count / (stop - first);
    for (const [letter, from, to] of runs) {
      const rank = RANK.indexOf(letter);
      const last = Math.min(count, Math.ceil((to - first) * scale - 1e-9));
      for (let part = Math.max(0, Math.floor((from - first) * scale + 1e-9)); part < last; part++) {
        if (ranks[part] < rank) ranks[part] = rank;
      }
    }
    return ranks;
  }

  const label = (row, index) => {
    if (row.kind === 2) return String(index * row.step);
    const text = new Date(index * row.step * 1000).toISOString();
    return row.kind === 0 ? text.slice(0, 10) : text.slice(0, 13);
  };
  const said = (row, index) => (row.kind === 2 ? numbers.format(index * row.step) : label(row, index));
  const span = (row, from, to) => {
    if (row.kind === 2) return `${said(row, from)} … ${numbers.format(to * row.step - 1)}`;
    return to - from === 1 ? said(row, from) : `${said(row, from)} … ${said(row, to - 1)}`;
  };

  /** The command that mends first..stop, or nothing when there is nothing to do. */
  function command(row, letter, from, to) {
    const { does } = data.states[letter];
    // Where only the worst of several is known, nothing is forced.
    if (!does || (row.width > 1 && does.includes("--force"))) return "";
    const last = row.kind === 2 ? String(to * row.step - 1) : label(row, to - 1);
    const range = row.kind !== 2 && to - from === 1 ? `--date ${label(row, from)}` : `--from ${label(row, from)} --to ${last}`;
    return `icefleet export ${row.name} -n ${row.network} -e ${data.environment} ${range} ${does}`;
  }

  // --- strips ---------------------------------------------------------------------------------------------------

  const inTime = rows.filter((row) => row.kind !== 2 && row.known);
  const days = (row, index) => (index * row.step) / 86400;
  const start = Math.min(...inTime.map((row) => days(row, row.first)));
  const end = Math.max(...inTime.map((row) => days(row, row.stop)));
  const years = [];
  for (let year = new Date(start * DAY).getUTCFullYear(); inTime.length; year++) {
    const at = (Date.UTC(year, 0, 1) / DAY - start) / (end - start);
    if (at >= 1) break;
    years.push([year, Math.max(0, at), at >= 0]);
  }
  by("axis").append(...years.filter(([, at], k) => (k + 1 < years.length ? years[k + 1][1] - at > 0.07 : at < 0.94)).map(([year, at]) => {
    const tick = make("span", {}, String(year));
    tick.style.left = `${at * 100}%`;
    return tick;
  }));

  function drawing(width, height) {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("width", width);
    svg.setAttribute("height", height);
    svg.setAttribute("shape-rendering", "crispEdges");
    return svg;
  }
  function path(svg, name, d) {
    const made = document.createElementNS(SVG, "path");
    made.setAttribute("class", name);
    made.setAttribute("d", d);
    svg.append(made);
  }

  function draw(row) {
    const width = row.strip.clientWidth;
    if (!row.known || !width || row.drawn === width) return;
    row.drawn = width;
    const marks = Math.max(1, Math.floor(width / MARK));
    const timed = row.kind !== 2;
    const scale = timed ? 86400 / row.step : 1;
    const ranks = timed ? worst(row.runs, start * scale, end * scale, marks) : worst(row.runs, row.first, row.stop, marks);
    const paths = {};
    for (let from = 0; from < marks; ) {
      let to = from + 1;
      while (to < marks && ranks[to] === ranks[from]) to++;
      if (ranks[from] >= 0) {
        const letter = RANK[ranks[from]];
        const left = Math.round((from * width) / marks);
        const wide = Math.round((to * width) / marks) - left;
        for (const [top, bottom] of SHAPES[letter]) {
          paths[letter] = (paths[letter] || "") + `M${left} ${top}h${wide}v${bottom - top}h${-wide}z`;
        }
      }
      from = to;
    }
    const svg = drawing(width, 20);
    if (timed) path(svg, "Y", years.filter((year) => year[2]).map((year) => `M${Math.round(year[1] * width) + 0.5} 0v20`).join(""));
    for (const letter of RANK) if (paths[letter]) path(svg, letter, paths[letter]);
    row.strip.replaceChildren(svg);
  }

  const ofStrip = new Map(rows.map((row) => [row.strip, row]));
  const seen = new Set();
  const watching = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const row = ofStrip.get(entry.target);
      if (entry.isIntersecting) {
        seen.add(row);
        draw(row);
      } else seen.delete(row);
    }
  }, { rootMargin: "600px 0px" });
  for (const row of rows) {
    row.strip.setAttribute("aria-hidden", "true");
    watching.observe(row.strip);
  }
  new ResizeObserver(() => seen.forEach(draw)).observe(document.querySelector(".all"));
  addEventListener("beforeprint", () => rows.forEach(draw));

  // --- details --------------------------------------------------------------------------------------------------

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

  // --- filters --------------------------------------------------------------------------------------------------

  const groups = [...document.querySelectorAll(".all tbody")];
  function filter() {
    const text = by("text").value.trim().toLowerCase();
    const network = by("network").value;
    const state = by("state").value;
    let shown = 0;
    for (const row of rows) {
      const due = RANK.some((letter) => data.states[letter].does && row.has(letter)) || !row.known;
      const fits = (!state || (state === "due" ? due : row.has(state))) && (!network || network === row.network);
      row.element.hidden = !(fits && row.element.id.toLowerCase().includes(text));
      if (row.details) row.details.hidden = row.element.hidden;
      shown += !row.element.hidden;
    }
    for (const group of groups) group.hidden = !group.querySelector("tr[id]:not([hidden])");
    by("shown").textContent = `${numbers.format(shown)} of ${numbers.format(rows.length)} shown`;
    by("none").hidden = shown > 0;
  }
  for (const name of ["text", "network", "state"]) by(name).addEventListener("input", filter);
  by("filter").addEventListener("submit", (event) => event.preventDefault());
  by("filter").hidden = false;
  document.documentElement.classList.add("js");
  filter();

  function follow() {
    const row = rows.find(({ element }) => element.id === decodeURIComponent(location.hash.slice(1)));
    if (!row) return;
    if (!row.details) toggle(row);
    row.element.scrollIntoView({ block: "center" });
  }
  addEventListener("hashchange", follow);
  follow();

  const age = (Date.now() - Date.parse(by("made").dateTime)) / 36e5;
  if (age > 36) {
    by("old").textContent = `This page is ${Math.floor(age / 24)} days old: what came since then is not on it.`;
    by("old").hidden = false;
  }
})();
