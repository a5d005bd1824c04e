// Tables that are in the page as a whole: filter, order, count, export. Their state lives in the URL.
// Markup: [data-table="NAME"] around a table.data; [data-table-filter], [data-table-count] and
// [data-table-export] within. Cells may carry data-value (sorts and is exported instead of their text).
// Rows of a tree or details (tr[data-follows]) stay with the row before them.
"use strict";

(function () {
  const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

  function state(name) {
    return new URLSearchParams(location.search).get(name) || "";
  }
  function remember(name, value) {
    const url = new URL(location.href);
    if (value) url.searchParams.set(name, value);
    else url.searchParams.delete(name);
    history.replaceState(history.state, "", url);
  }

  function cellValue(cell) {
    if (!cell) return "";
    if (cell.dataset.value !== undefined) return cell.dataset.value;
    return cell.querySelector(".unknown") ? "" : cell.textContent.trim();
  }

  // A row with those that belong to it.
  function groups(body) {
    const found = [];
    for (const row of body.rows) {
      if (row.hasAttribute("data-follows") && found.length) found[found.length - 1].push(row);
      else found.push([row]);
    }
    return found;
  }

  // Whoever moves a row takes the focus from what is in it.
  function keepFocus(move) {
    const focused = document.activeElement;
    move();
    if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
  }

  class Table {
    constructor(box) {
      this.box = box;
      this.name = box.dataset.table;
      this.table = box.querySelector("table.data");
      this.filter = box.querySelector("[data-table-filter]");
      this.count = box.querySelector("[data-table-count]");
      if (!this.table || !this.table.tBodies.length) return;
      box.nodeadminTable = this;
      if (this.filter) {
        this.filter.value = state(`${this.name}.find`);
        this.filter.addEventListener("input", () => {
          remember(`${this.name}.find`, this.filter.value.trim());
          this.applyFilter();
        });
      }
      for (const button of box.querySelectorAll("[data-table-export]")) {
        button.addEventListener("click", () => this.export(button.dataset.tableExport));
      }
      this.read();
    }

    // Take the rows as the page has them now, and order and filter them as the URL says.
    read() {
      this.original = groups(this.table.tBodies[0]);
      this.makeSorters();
      const sorted = state(`${this.name}.order`);
      if (sorted) keepFocus(() => this.sort(Number(sorted.replace("-", "")), sorted.startsWith("-")));
      this.applyFilter();
    }

    // Before the page is read anew: rows are matched by their place, so each has to be in its own.
    lay() {
      if (this.table.querySelector("[aria-sort=ascending], [aria-sort=descending]")) keepFocus(() => this.place());
    }

    makeSorters() {
      if (this.box.hasAttribute("data-table-unsorted")) return;
      [...this.table.tHead.rows[0].cells].forEach((head, column) => {
        if (head.hasAttribute("data-unsorted") || head.hasAttribute("aria-sort") || !head.textContent.trim()) return;
        const button = document.createElement("button");
        button.type = "button";
        button.className = "sorter";
        button.append(...head.childNodes);
        head.append(button);
        head.setAttribute("aria-sort", "none");
        button.addEventListener("click", () => {
          const down = head.getAttribute("aria-sort") === "ascending";
          if (head.getAttribute("aria-sort") === "descending") {
            remember(`${this.name}.order`, "");
            this.unsort();
          } else {
            remember(`${this.name}.order`, (down ? "-" : "") + column);
            this.sort(column, down);
          }
        });
      });
    }

    marks() {
      for (const head of this.table.tHead.rows[0].cells) {
        if (head.hasAttribute("aria-sort")) head.setAttribute("aria-sort", "none");
      }
    }

    unsort() {
      this.marks();
      this.place();
    }

    place() {
      this.table.tBodies[0].append(...this.original.flat());
    }

    sort(column, down) {
      const head = this.table.tHead.rows[0].cells[column];
      if (!head) return;
      this.marks();
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const keyed = this.original.map((rows) => [cellValue(rows[0].cells[column]), rows]);
      keyed.sort(([a], [b]) => {
        if (a === "" || b === "") return (a === "") - (b === ""); // the unknown comes last either way
        const x = Number(a), y = Number(b);
        const order = Number.isNaN(x) || Number.isNaN(y) ? collator.compare(a, b) : x - y;
        return down ? -order : order;
      });
      this.table.tBodies[0].append(...keyed.flatMap(([, rows]) => rows));
    }

    applyFilter() {
      const words = (this.filter?.value || "").toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const rows of this.original) {
        const text = rows.map((row) => row.textContent).join(" ").toLowerCase();
        const fits = words.every((word) => text.includes(word));
        shown += fits;
        for (const row of rows) row.classList.toggle("is-filtered", !fits);
      }
      if (this.count) {
        const all = this.original.length;
        const { one, all: every, some } = this.count.dataset;
        const form = shown < all ? some : all === 1 ? one : every;
        this.count.textContent = form.replace("{n}", shown).replace("{all}", all);
      }
    }

    records() {
      const heads = [...this.table.tHead.rows[0].cells].map((head) => head.textContent.trim());
      const rows = [...this.table.tBodies[0].rows].filter(
        (row) => !row.classList.contains("is-filtered") && !row.hasAttribute("data-follows"));
      return [heads, rows.map((row) => [...row.cells].map((cell) => cellValue(cell).replace(/\s+/g, " ")))];
    }

    export(kind) {
      const [heads, rows] = this.records();
      const quote = (text) => {
        const safe = /^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text;
        return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
      };
      const text = kind === "csv"
        ? [heads, ...rows].map((row) => row.map(quote).join(",")).join("\r\n") + "\r\n"
        : JSON.stringify(rows.map((row) => Object.fromEntries(heads.map((head, i) => [head, row[i] === "" ? null : row[i]]))), null, 2);
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([text], { type: kind === "csv" ? "text/csv" : "application/json" }));
      link.download = `${document.querySelector("h1")?.dataset.name || "nodeadmin"}-${this.name}.${kind}`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    }
  }

  function start(root) {
    for (const box of root.querySelectorAll("[data-table]")) {
      if (!box.nodeadminTable) new Table(box);
    }
  }
  // A table wider than its box scrolls in it. Only such a one: a box that scrolls lets go of the sticky header.
  function fit() {
    const boxes = [...document.querySelectorAll(".table-wrap")];
    boxes.forEach((box) => box.classList.remove("is-wide"));
    const wide = new Set(boxes.filter((box) => box.firstElementChild?.offsetWidth > box.clientWidth + 1));
    for (const box of boxes) {
      box.classList.toggle("is-wide", wide.has(box));
      box.toggleAttribute("tabindex", false);
      if (wide.has(box) && !box.querySelector("a, button, input")) box.tabIndex = 0;
    }
  }
  let resized = 0;
  addEventListener("resize", () => {
    clearTimeout(resized);
    resized = setTimeout(fit, 100);
  });
  fit();
  document.addEventListener("htmx:afterSettle", fit);
  function each(root, what) {
    for (const box of root?.querySelectorAll("[data-table]") || []) if (box.nodeadminTable) what(box.nodeadminTable);
  }
  start(document);
  document.addEventListener("htmx:load", (event) => start(event.target));
  document.addEventListener("htmx:beforeSwap", (event) => each(event.detail.target, (table) => table.lay()));
  document.addEventListener("htmx:afterSwap", () => each(document, (table) => table.read()));
})();
