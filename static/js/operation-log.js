// An operation's own log: read page by page over the API, and followed until the operation has ended.
"use strict";

(function () {
  const root = document.querySelector("[data-operation-log]");
  if (!root) return;
  const part = (name) => root.querySelector(`[data-${name}]`);
  const words = JSON.parse(root.dataset.words);
  const operation = root.dataset.operationLog;
  const LEVELS = { error: 3, warning: 4, info: 6 };
  const PAGE = 1000, PAUSE_MS = 1000, LONGEST_MS = 15000;
  const list = new window.LogList(part("scroll"), part("canvas"), words, openEntry);
  const given = new URLSearchParams(location.search);
  const query = { level: given.get("level") in LEVELS ? given.get("level") : "", keyword: given.get("keyword") || "" };
  let cursor = 0, fresh = 0, generation = 0, failures = 0, paused = false, timer = 0;

  // ---- what the toolbar shows ----
  function show() {
    for (const button of root.querySelectorAll("[data-level]")) {
      const on = button.dataset.level === query.level;
      button.classList.toggle("is-on", on);
      button.setAttribute("aria-pressed", String(on));
    }
    part("keyword").value = query.keyword;
    list.pattern = query.keyword ? new RegExp(query.keyword.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "gi") : null;
    const address = new URL(location.href);
    for (const [name, value] of Object.entries(query)) {
      if (value) address.searchParams.set(name, value);
      else address.searchParams.delete(name);
    }
    history.replaceState(history.state, "", address);
    address.hash = "log";
    part("link").dataset.copy = address.href;
  }
  function state(name, tone, note = "") {
    const tag = part("state");
    tag.className = `tag tag-${tone}`;
    tag.textContent = words[name];
    part("note").textContent = note;
  }
  function count() {
    part("count").textContent = `${list.count} ${words.lines}`;
    const button = part("new");
    button.hidden = list.following || !fresh;
    button.textContent = `${fresh} ${words.new} ↓`;
  }

  // ---- reading ----
  function begin() {
    generation += 1;
    clearTimeout(timer);
    cursor = 0;
    fresh = 0;
    failures = 0;
    list.clear();
    closeEntry();
    show();
    state("loading", "neutral");
    read();
  }
  async function read() {
    const mine = generation;
    const body = { operation, cursor, limit: PAGE };
    for (const [name, value] of Object.entries(query)) if (value) body[name] = value;
    try {
      const answer = await window.nodeadminCall("list-operation-log", body, true);
      if (mine !== generation) return;
      failures = 0;
      take(answer);
      if (answer.more) return void read();
      part("pause").hidden = answer.finished;
      if (answer.finished) return ended();
      state(paused ? "paused" : "live", paused ? "neutral" : "good", list.count ? "" : words.waits);
      if (!paused) later(PAUSE_MS);
    } catch (error) {
      if (mine !== generation) return;
      failures += 1;
      state("lost", "warn", error.message);
      later(Math.min(LONGEST_MS, PAUSE_MS * 2 ** failures));
    }
  }
  // What has ended takes the room of its lines, and no more.
  function ended() {
    const whole = !query.level && !query.keyword;
    state("ended", "neutral", list.count ? "" : whole ? words.empty : words.nothing);
    root.classList.toggle("is-empty", whole && !list.count);
    root.classList.toggle("is-short", whole && list.count > 0 && list.count < 8);
    list.draw();
  }
  function later(wait) {
    clearTimeout(timer);
    timer = setTimeout(() => (document.hidden ? later(wait) : read()), wait);
  }
  function take(answer) {
    cursor = answer.cursor;
    if (!answer.lines.length) return;
    list.append(
      answer.lines.map((line) => ({
        ...line,
        name: line.level,
        level: LEVELS[line.level],
        identifier: line.vm_name || line.step_title || "",
      })),
    );
    if (!list.following) fresh += answer.lines.length;
    count();
  }
  // ---- one entry ----
  function openEntry(entry) {
    part("detail").hidden = !entry;
    if (!entry) return;
    part("detail-message").textContent = entry.message;
    const rows = [[words.time, entry.time], [words.level, entry.name], [words.step, entry.step_title], [words.vm, entry.vm_name]];
    part("detail-fields").replaceChildren(
      ...rows.filter(([, value]) => value).flatMap(([name, value]) => {
        const term = document.createElement("dt"), text = document.createElement("dd");
        term.textContent = name;
        text.textContent = value;
        return [term, text];
      }),
    );
  }
  function closeEntry() {
    part("detail").hidden = true;
    list.opened = null;
    list.draw();
  }

  // ---- controls ----
  function download(kind) {
    const lines = list.entries.map((entry) => {
      const { id, time, name: level, step, step_title, vm_name, message } = entry;
      return kind === "json"
        ? JSON.stringify({ id, time, level, step, step_title, vm_name, message })
        : `${time} ${level.padEnd(7)} ${entry.identifier || "-"}: ${message}`;
    });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([`${lines.join("\n")}\n`], { type: kind === "json" ? "application/jsonl" : "text/plain" }));
    link.download = `${root.dataset.node || "operation"}-${operation.slice(0, 8)}.${kind === "json" ? "jsonl" : "log"}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }
  function pause() {
    paused = !paused;
    const label = part("pause-words");
    label.textContent = paused ? label.dataset.resumeLabel : label.dataset.pauseLabel;
    part("pause").setAttribute("aria-pressed", String(paused));
    clearTimeout(timer);
    if (paused) state("paused", "neutral");
    else read();
  }
  root.addEventListener("click", (event) => {
    const data = event.target.closest("button")?.dataset;
    if (!data) return;
    if ("level" in data) {
      query.level = data.level;
      begin();
    } else if ("download" in data) download(data.download);
    else if ("new" in data) list.toEnd();
    else if ("detailClose" in data) closeEntry();
    else if ("pause" in data) pause();
  });
  root.addEventListener("change", (event) => {
    if (!("keyword" in event.target.dataset)) return;
    query.keyword = event.target.value.trim();
    begin();
  });
  list.onFollow = (following) => {
    if (following) fresh = 0;
    count();
  };
  begin();
})();
