// A list of log lines that stays quick at any length: all rows have one height, and only those in view exist.
"use strict";

(function () {
  const ROW = 22;
  const BESIDE = 20;
  const MAX_ROWS = 20000;
  const LONGEST = 4000;
  const MAX_ENTRIES = 100000; // a line that is repeated takes one row, however often
  const TONES = ["log-bad", "log-bad", "log-bad", "log-bad", "log-warn", "", "", "log-debug"];

  // What cannot be seen, and what turns the direction of what follows: anybody can write to a journal.
  const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

  let made = 0;

  function visible(text) {
    return text.replace(UNSEEN, (char) => {
      const code = char.charCodeAt(0);
      return code < 256 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`;
    });
  }

  class LogList {
    constructor(scroll, canvas, words, onOpen) {
      this.scroll = scroll;
      scroll.id ||= `log-list-${(made += 1)}`;
      this.canvas = canvas;
      this.words = words;
      this.onOpen = onOpen;
      this.onTop = () => {};
      this.onFollow = () => {};
      this.pattern = null;
      this.clear();
      scroll.addEventListener("scroll", () => this.moved(), { passive: true });
      new ResizeObserver(() => this.draw()).observe(scroll);
      scroll.addEventListener("keydown", (event) => this.pressed(event));
      canvas.addEventListener("click", (event) => {
        const row = this.rows[Number(event.target.closest(".log-row")?.dataset.at)];
        if (row?.entry && !String(getSelection())) this.open(row);
      });
    }

    clear() {
      this.rows = [];
      this.count = 0;
      this.dropped = false;
      this.opened = null;
      this.current = null;
      this.following = true;
      // At once: the scroll that follows would otherwise be taken for somebody's who leaves the end.
      this.size();
      this.scroll.scrollTop = 0;
      this.draw();
    }

    get entries() {
      return this.rows.flatMap((row) => row.all || []);
    }
    get first() {
      return this.rows.find((row) => row.entry)?.all[0];
    }

    // Entries oldest first, below what is there.
    append(entries) {
      for (const entry of entries) push(this.rows, entry, this.words);
      this.count += entries.length;
      let surplus = Math.max(0, this.rows.length - MAX_ROWS);
      let over = this.count - MAX_ENTRIES;
      for (const row of this.rows.slice(0, surplus)) over -= row.all?.length || 0;
      while (over > 0 && (this.rows[surplus].all?.length || 0) <= over) over -= this.rows[surplus++].all?.length || 0;
      if (surplus > 0) {
        const gone = this.rows.splice(0, surplus);
        this.count -= gone.reduce((sum, row) => sum + (row.all?.length || 0), 0);
        this.dropped = true;
        if (!this.following) this.scroll.scrollTop -= surplus * ROW;
      }
      if (over > 0) {
        this.rows[0].all.splice(0, over);
        this.count -= over;
        this.dropped = true;
      }
      this.draw();
    }

    // Entries oldest first, above what is there; what is in view stays where it is.
    prepend(entries) {
      const above = [];
      for (const entry of entries) push(above, entry, this.words);
      const boot = this.first?.boot_id;
      const last = above.findLast((row) => row.entry);
      if (boot && last?.entry.boot_id && last.entry.boot_id !== boot && this.rows[0]?.entry) above.push(bootMark(boot, this.words));
      this.rows = above.concat(this.rows);
      this.count += entries.length;
      this.size();
      this.scroll.scrollTop += above.length * ROW;
      this.draw();
    }

    mark(words) {
      this.rows.push({ words });
      this.draw();
    }

    moved() {
      const end = this.scroll.scrollTop + this.scroll.clientHeight >= this.canvas.offsetHeight - 2 * ROW;
      if (end !== this.following) {
        this.following = end;
        this.onFollow(end);
      }
      if (this.scroll.scrollTop < 4 * ROW && this.rows.length) this.onTop();
      this.draw();
    }

    // A line is gone to with the arrow keys, and opened with Enter.
    pressed(event) {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (event.key === "Enter" && this.current?.entry) this.open(this.current);
      else if (event.key === "Escape" && this.opened) this.open(null);
      else if (step && this.rows.length) this.go(step);
      else return;
      event.preventDefault();
    }

    go(step) {
      const from = this.rows.indexOf(this.current);
      const last = this.rows.length - 1;
      const at = from < 0 ? (step < 0 ? last : Math.min(last, Math.ceil(this.scroll.scrollTop / ROW))) : Math.max(0, Math.min(last, from + step));
      this.current = this.rows[at];
      const top = at * ROW;
      if (top < this.scroll.scrollTop) this.scroll.scrollTop = top;
      else if (top + ROW > this.scroll.scrollTop + this.scroll.clientHeight) this.scroll.scrollTop = top + ROW - this.scroll.clientHeight;
      this.moved();
    }

    toEnd() {
      this.following = true;
      this.onFollow(true);
      this.draw();
    }

    size() {
      this.canvas.style.height = `${this.rows.length * ROW}px`;
    }

    // At most once a frame, however many batches come in between.
    draw() {
      if (this.drawing) return;
      this.drawing = requestAnimationFrame(() => {
        this.drawing = 0;
        this.size();
        if (this.following) this.scroll.scrollTop = this.canvas.offsetHeight;
        const top = Math.max(0, Math.floor(this.scroll.scrollTop / ROW) - BESIDE);
        const end = Math.min(this.rows.length, top + Math.ceil(this.scroll.clientHeight / ROW) + 2 * BESIDE);
        const shown = [];
        for (let at = top; at < end; at += 1) shown.push(this.line(this.rows[at], at));
        this.canvas.replaceChildren(...shown);
        const current = this.canvas.querySelector(".is-current");
        if (current) this.scroll.setAttribute("aria-activedescendant", current.id);
        else this.scroll.removeAttribute("aria-activedescendant");
      });
    }

    line(row, at) {
      const line = element("div", "log-row");
      line.style.top = `${at * ROW}px`;
      line.dataset.at = at;
      line.setAttribute("role", "option");
      line.setAttribute("aria-selected", String(row === this.opened));
      line.setAttribute("aria-setsize", this.rows.length);
      line.setAttribute("aria-posinset", at + 1);
      if (row === this.current) {
        line.classList.add("is-current");
        line.id = `${this.scroll.id}-current`;
      }
      if (!row.entry) {
        line.classList.add("log-mark");
        line.setAttribute("aria-disabled", "true");
        line.textContent = row.words;
        return line;
      }
      const entry = row.entry;
      const tone = TONES[entry.level ?? 6];
      if (tone) line.classList.add(tone);
      if (row === this.opened) line.classList.add("is-open");
      const time = element("span", "log-time", clock(entry.time));
      time.title = entry.time || "";
      const name = visible(entry.identifier || entry.unit || "–").replace(/[\n\t]/g, " ");
      const who = element("span", "log-who", entry.pid ? `${name}[${entry.pid}]` : name);
      who.title = entry.unit || "";
      const text = element("span", "log-text");
      this.highlight(text, visible((entry.message ?? "").replace(/\s*\n\s*/g, " ⏎ ")));
      line.append(time, who, text);
      if (entry.binary) line.append(element("span", "log-times", this.words.binary));
      if (entry.cut) line.append(element("span", "log-times", this.words.cut));
      if (entry.message_unread) line.append(element("span", "log-times", this.words.unread));
      if (row.all.length > 1) {
        const times = element("span", "log-times", `×${row.all.length}`);
        times.title = `${row.all.length} ${this.words.repeats}`;
        line.append(times);
      }
      return line;
    }

    highlight(into, text) {
      if (!this.pattern) {
        into.textContent = text;
        return;
      }
      let from = 0;
      for (const found of text.matchAll(this.pattern)) {
        if (!found[0]) break;
        into.append(text.slice(from, found.index), element("mark", "", found[0]));
        from = found.index + found[0].length;
      }
      into.append(text.slice(from));
    }

    open(row) {
      this.opened = row;
      if (row) this.current = row;
      this.draw();
      this.onOpen(row?.entry || null);
    }
  }

  // One more entry below: a line of its own, a repeat of the last one, or the first of another boot.
  function push(rows, entry, words) {
    // Of a long message the list keeps what it can show; the entry is asked for again when it is opened.
    if (entry.cursor && entry.message?.length > LONGEST) Object.assign(entry, { message: entry.message.slice(0, LONGEST), cut: true });
    const last = rows[rows.length - 1];
    if (last?.entry) {
      const same = last.entry;
      if (entry.boot_id && same.boot_id && entry.boot_id !== same.boot_id) rows.push(bootMark(entry.boot_id, words));
      else if (same.message === entry.message && same.identifier === entry.identifier && same.level === entry.level && !entry.cut && !entry.message_unread) {
        last.all.push(entry);
        last.entry = entry;
        return;
      }
    }
    rows.push({ entry, all: [entry] });
  }

  function bootMark(boot, words) {
    return { words: `${words.boot} ${boot.slice(0, 8)}` };
  }

  const pad = (number, width = 2) => String(number).padStart(width, "0");
  function clock(text) {
    if (!text) return "–".padEnd(18);
    const time = new Date(text);
    return `${pad(time.getMonth() + 1)}-${pad(time.getDate())} ${pad(time.getHours())}:${pad(time.getMinutes())}:${pad(time.getSeconds())}.${pad(time.getMilliseconds(), 3)}`;
  }

  function element(name, className, text = "") {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text) made.textContent = text;
    return made;
  }

  window.LogList = LogList;
})();
