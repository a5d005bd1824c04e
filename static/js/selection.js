// Selected rows of the list of nodes. The selection outlives the list, which is read anew every few seconds.
"use strict";

(function () {
  const bar = document.querySelector("[data-bulk]");
  if (!bar) return;
  const selected = new Set();
  const count = bar.querySelector("[data-bulk-count]");
  const fields = bar.querySelector("[data-bulk-fields]");
  const most = Number(count.dataset.limit);
  let last = null;

  const boxes = () => [...document.querySelectorAll("#list [data-select]")];

  function show() {
    const here = boxes();
    for (const box of here) {
      box.checked = selected.has(box.value);
      box.closest("tr").classList.toggle("is-selected", box.checked);
    }
    const all = document.querySelector("#list [data-select-all]");
    if (all) {
      const chosen = here.filter((box) => box.checked).length;
      all.checked = chosen > 0 && chosen === here.length;
      all.indeterminate = chosen > 0 && chosen < here.length;
    }
    const n = selected.size;
    const words = n > most ? count.dataset.most : n === 1 ? count.dataset.one : count.dataset.many;
    const said = words.replace("{n}", n).replace("{most}", most);
    if (count.textContent !== said) count.textContent = said;
    for (const button of bar.querySelectorAll("[hx-post]")) button.disabled = n > most;
    bar.hidden = n === 0;
    fields.replaceChildren(
      ...[...selected].map((value) => {
        const field = document.createElement("input");
        field.type = "hidden";
        field.name = "node";
        field.value = value;
        return field;
      }),
    );
  }
  function choose(box, on) {
    if (on) selected.add(box.value);
    else selected.delete(box.value);
  }
  function clear() {
    selected.clear();
    last = null;
    show();
  }

  document.addEventListener("click", (event) => {
    const box = event.target.closest?.("#list [data-select]");
    if (!box) return;
    const here = boxes();
    const from = here.findIndex((other) => other.value === last), to = here.indexOf(box);
    // With shift, everything between this one and the one before it follows.
    const range = event.shiftKey && from >= 0 ? here.slice(Math.min(from, to), Math.max(from, to) + 1) : [box];
    for (const other of range) choose(other, box.checked);
    last = box.value;
    show();
  });
  document.addEventListener("change", (event) => {
    if (!event.target.matches("#list [data-select-all]")) return;
    for (const box of boxes()) choose(box, event.target.checked);
    show();
  });
  bar.addEventListener("click", (event) => {
    if (event.target.closest("[data-bulk-clear]")) clear();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && selected.size && !document.querySelector("dialog[open]") && !event.target.matches("input[type=search]")) clear();
  });
  document.body.addEventListener("bulk-done", clear);
  document.addEventListener("htmx:afterSettle", show);
  show();
})();
