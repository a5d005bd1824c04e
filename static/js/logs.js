// A node's journal: live over a socket, or out of a timespan. On its own tab the query stands in the address; a
// panel on another page has a query of its own, and reads nothing before it is opened.
"use strict";

function nodeadminLogs(root) {
  const embedded = "query" in root.dataset;
  const part = (name) => root.querySelector(`[data-${name}]`);
  const parts = (name) => [...root.querySelectorAll(`[data-${name}]`)];
  const words = JSON.parse(root.dataset.words);
  const node = root.dataset.node;
  const PAGE = 500;
  const list = new window.LogList(part("scroll"), part("canvas"), words, openEntry);
  let socket = null;
  let cursor = ""; // where the stream goes on
  let earlier = null; // {cursor} of the next earlier page, null before the first one, false at the beginning
  let loading = false;
  let paused = false;
  let fresh = 0;
  let generation = 0;
  let failures = 0;

  // ---- the query ----
  const query = read(embedded ? given(JSON.parse(root.dataset.query)) : new URLSearchParams(location.search));
  function given(lists) {
    const found = new URLSearchParams();
    for (const [name, values] of Object.entries(lists)) for (const value of values) found.append(name, value);
    return found;
  }
  function read(given) {
    return {
      mode: given.get("mode") === "span" || given.has("since") || given.has("last") ? "span" : "live",
      services: given.getAll("service"),
      level: given.get("level") || "",
      keyword: given.get("keyword") || "",
      regex: given.has("regex"),
      boot: given.get("boot") || "",
      vm: given.get("vm") || "",
      last: given.get("last") ?? (given.has("since") ? "" : "1h"),
      since: given.get("since") || "",
      until: given.get("until") || "",
    };
  }
  function filters() {
    const found = {};
    if (query.services.length) found.services = query.services;
    for (const name of ["level", "keyword", "boot", "vm"]) if (query[name]) found[name] = query[name];
    if (query.regex && query.keyword) found.regex = true;
    if (query.mode === "span") {
      if (query.last) found.last = query.last;
      else for (const name of ["since", "until"]) if (query[name]) found[name] = query[name];
    }
    return found;
  }
  function remember() {
    const given = new URLSearchParams();
    for (const service of query.services) given.append("service", service);
    for (const [name, value] of Object.entries(filters())) if (name !== "services") given.set(name, value);
    if (query.mode === "span") given.set("mode", "span");
    const path = embedded ? `/nodes/${encodeURIComponent(node)}/logs/` : location.pathname;
    const address = `${path}${String(given) ? `?${given}` : ""}`;
    if (!embedded) history.replaceState(history.state, "", address);
    part("link").dataset.copy = new URL(address, location.href).href;
    for (const link of parts("download")) {
      given.set("format", link.dataset.download);
      link.search = given;
    }
  }

  // ---- what the toolbar shows ----
  function show() {
    for (const button of parts("mode")) press(button, button.dataset.mode === query.mode);
    for (const button of parts("level")) press(button, button.dataset.level === query.level);
    showBoot();
    for (const field of ["keyword", "vm", "last"]) part(field).value = query[field];
    part("regex").checked = query.regex;
    part("since").value = local(query.since);
    part("until").value = local(query.until);
    part("for-span").hidden = query.mode !== "span";
    part("range").hidden = Boolean(query.last);
    part("pause").hidden = query.mode !== "live";
    part("services").replaceChildren(
      ...query.services.map((name) => {
        const chip = document.createElement("button");
        chip.type = "button";
        chip.className = "chip is-on";
        chip.textContent = `${name} ×`;
        chip.title = words.remove;
        chip.addEventListener("click", () => change({ services: query.services.filter((other) => other !== name) }));
        return chip;
      }),
    );
    list.pattern = pattern();
  }
  // A boot that the host's list lacks, or that is named by its number before the list is there, is shown as it is.
  function showBoot() {
    const select = part("boot");
    const known = [...select.options].find((option) => option.value === query.boot || option.dataset.index === query.boot);
    if (!known) select.append(new Option(query.boot, query.boot));
    select.value = known ? known.value : query.boot;
  }
  function press(button, on) {
    button.classList.toggle("is-on", on);
    button.setAttribute("aria-pressed", String(on));
  }
  function pattern() {
    if (!query.keyword) return null;
    try {
      return new RegExp(query.regex ? query.keyword : query.keyword.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), query.regex && /[A-Z]/.test(query.keyword) ? "g" : "gi");
    } catch {
      return null; // the host's expressions know more than the browser's
    }
  }
  function local(text) {
    if (!text) return "";
    const time = new Date(text);
    return new Date(time - time.getTimezoneOffset() * 60000).toISOString().slice(0, 19);
  }
  function state(name, tone, note = "") {
    const tag = part("state");
    tag.className = `tag tag-${tone}`;
    tag.textContent = words[name] || name;
    part("note").textContent = note;
  }
  function count() {
    part("count").textContent = `${list.count} ${list.count === 1 ? words.line : words.lines}`;
    const button = part("new");
    button.hidden = list.following || !fresh;
    button.textContent = `${fresh} ${words.new} ↓`;
  }
  function command(text) {
    if (!text) return;
    part("command").textContent = text;
    part("command").title = text;
    part("copy-command").dataset.copy = text;
  }

  // ---- running it ----
  function change(changes) {
    Object.assign(query, changes);
    begin();
  }
  function end() {
    generation += 1;
    if (socket) socket.close();
    socket = null;
  }
  function begin() {
    end();
    cursor = "";
    earlier = null;
    paused = false;
    fresh = 0;
    failures = 0;
    loading = false;
    list.clear();
    closeEntry();
    pauseWords();
    remember();
    show();
    count();
    if (query.mode === "live") stream();
    else older();
  }

  function stream() {
    const mine = generation;
    state("connecting", "neutral");
    const address = new URL(`/ws/nodes/${encodeURIComponent(node)}/logs/`, location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const opened = new WebSocket(address);
    let ended = false;
    let trouble = null; // what the server said before it closed, where trying again may help
    socket = opened;
    opened.onopen = () => {
      opened.send(JSON.stringify(cursor ? { type: "subscribe", cursor } : { type: "subscribe", backlog: 200, ...filters() }));
      if (paused) opened.send('{"type":"pause"}');
    };
    opened.onmessage = (event) => {
      if (mine !== generation) return;
      const message = JSON.parse(event.data);
      if (message.type === "error") {
        if (message.retryable) trouble = message;
        else ended = true;
        state("error", "bad", message.message);
        return;
      }
      failures = 0;
      if (message.type === "entries") take(message);
      else tell(message);
    };
    opened.onclose = () => {
      if (mine !== generation || ended) return;
      if (trouble) state(trouble.code === "rate_limited" ? "waiting" : "reconnecting", "warn", trouble.message);
      else state("lost", "warn");
      failures += 1;
      setTimeout(() => mine === generation && stream(), Math.min(15000, 500 * 2 ** failures));
    };
  }
  function take(message) {
    cursor = message.cursor;
    list.append(message.entries);
    if (part("note").textContent === words.waits) part("note").textContent = "";
    if (!list.following) fresh += message.entries.length;
    count();
    if (list.dropped) part("note").textContent = words.dropped;
  }
  function tell(message) {
    command(message.command);
    if (message.state === "gap") list.mark(words.gap);
    else if (message.state === "live") {
      const notes = (message.problems || []).map((problem) => problem.message);
      if (message.searched_by === "nodeadmin") notes.push(words.searched_here);
      state(paused ? "paused" : "live", paused ? "neutral" : "good", notes.join(" ") || (list.count ? "" : words.waits));
    }
    else state(message.state, message.state === "paused" || message.state === "ended" ? "neutral" : "warn", message.message || "");
  }

  // Earlier entries, newest first from the host, put above what is there.
  async function older() {
    if (loading || earlier === false) return;
    loading = true;
    const mine = generation;
    const first = list.first;
    const body = { node, limit: PAGE };
    if (earlier) body.cursor = earlier;
    else Object.assign(body, filters(), query.mode === "live" && first?.time ? { until: first.time } : {});
    if (query.mode === "span") state("loading", "neutral");
    try {
      const answer = await window.nodeadminCall("describe-node-logs", body);
      if (mine !== generation) return;
      // The first page of the live list ends with entries that are shown already: those of the same instant.
      const known = new Set(earlier ? [] : list.entries.slice(0, 200).map((entry) => entry.cursor));
      list.prepend(answer.entries.reverse().filter((entry) => !entry.cursor || !known.has(entry.cursor)));
      if (query.mode === "span" && !earlier) list.toEnd();
      const firstPage = !earlier;
      earlier = answer.more ? answer.cursor : false;
      if (query.mode === "span") {
        if (firstPage) command(answer.query_command);
        const notes = answer.problems.map((problem) => problem.message);
        if (answer.searched_by === "nodeadmin") notes.push(words.searched_here);
        if (answer.cut === "time") notes.push(words.cut_time);
        else if (!list.count) notes.push(words.nothing);
        else if (earlier === false) notes.push(words.beginning);
        state("done", "good", notes.join(" "));
      }
      count();
    } catch (error) {
      if (mine === generation) state("error", "bad", error.message);
    } finally {
      if (mine === generation) loading = false;
    }
  }

  // ---- one entry ----
  async function openEntry(entry) {
    const fields = part("detail-fields");
    part("detail").hidden = !entry;
    fields.replaceChildren();
    if (!entry) return;
    part("detail-message").textContent = entry.message ?? "";
    if (!entry.cursor) {
      fields.append(term(words.no_detail, ""));
      return;
    }
    try {
      const answer = await window.nodeadminCall("describe-log-entry", { node, entry: entry.cursor });
      if (list.opened?.entry !== entry) return;
      const whole = answer.fields.find((field) => field.name === "MESSAGE");
      if (whole) part("detail-message").textContent = whole.value;
      for (const field of answer.fields.filter((other) => other.name !== "MESSAGE").sort((a, b) => (a.name < b.name ? -1 : 1))) {
        const notes = [field.binary && words.binary, field.cut && words.cut].filter(Boolean).join(", ");
        fields.append(term(field.name, notes ? `${field.value} (${notes})` : field.value));
      }
    } catch (error) {
      fields.append(term(error.message, ""));
    }
  }
  function term(name, value) {
    const both = document.createDocumentFragment();
    const dt = document.createElement("dt");
    const dd = document.createElement("dd");
    dt.textContent = name;
    dd.textContent = value;
    both.append(dt, dd);
    return both;
  }
  function closeEntry() {
    part("detail").hidden = true;
    list.opened = null;
    list.draw();
  }

  // ---- controls ----
  function pauseWords() {
    const label = part("pause-words");
    part("pause").classList.toggle("is-paused", paused);
    label.textContent = paused ? label.dataset.resumeLabel : label.dataset.pauseLabel;
  }
  root.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const data = button.dataset;
    if ("mode" in data) change({ mode: data.mode });
    else if ("level" in data) change({ level: data.level });
    else if ("new" in data) list.toEnd();
    else if ("detailClose" in data) closeEntry();
    else if ("pause" in data) {
      paused = !paused;
      pauseWords();
      if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type: paused ? "pause" : "resume" }));
    }
  });
  root.addEventListener("change", (event) => {
    const data = event.target.dataset;
    if ("regex" in data) change({ regex: event.target.checked });
    else if ("keyword" in data || "vm" in data || "boot" in data || "last" in data) {
      const name = ["keyword", "vm", "boot", "last"].find((field) => field in data);
      if (query[name] !== event.target.value) change({ [name]: event.target.value });
    } else if ("since" in data || "until" in data) {
      change({ ["since" in data ? "since" : "until"]: event.target.value ? new Date(event.target.value).toISOString() : "" });
    } else if ("service" in data && event.target.value.trim()) {
      const name = event.target.value.trim();
      event.target.value = "";
      if (!query.services.includes(name)) change({ services: [...query.services, name] });
    }
  });
  list.onTop = older;
  list.onFollow = (following) => {
    if (following) fresh = 0;
    count();
  };

  function open() {
    window.nodeadminCall("list-log-sources", { node }).then(
      (sources) => {
        const names = [...sources.aliases, ...sources.units, ...sources.identifiers.map((name) => `identifier:${name}`)];
        part("service").list.replaceChildren(...names.map((name) => new Option("", name)));
        const boots = sources.boots.toReversed().map((boot) => {
          const option = new Option(`${boot.index} · ${boot.span.match(/\d{4}-\d\d-\d\d \d\d:\d\d/) || boot.boot_id.slice(0, 8)}`, boot.boot_id);
          option.dataset.index = boot.index;
          return option;
        });
        part("boot").replaceChildren(part("boot").options[0], ...boots);
        showBoot();
      },
      () => {}, // the query itself says what is wrong with the host
    );
    begin();
  }
  if (!embedded) open();
  else root.addEventListener("toggle", () => (root.open ? open() : end()));
}

(function () {
  const begun = new WeakSet();
  function look() {
    for (const root of document.querySelectorAll("[data-logs]")) {
      if (begun.has(root)) continue;
      begun.add(root);
      nodeadminLogs(root);
    }
  }
  document.addEventListener("htmx:afterSettle", look);
  look();
})();
