// Choosing what is shown: by the form, and by what stands behind the address.

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
