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
  const ENOUGH = 100, PAGES = 10; // rows, more than any view shows: at most so many pages are read for them unasked
  const list = new window.LogList(part("scroll"), part("canvas"), words, openEntry);
  let socket = null;
  let cursor = ""; // where the stream goes on
  let earlier = null; // the cursor of the next earlier page, null where none is known, false at the beginning
  let notes = [], pages = 0; // what the answer lacks; how many pages were read unasked
  let loading = false, paused = false;
  let fresh = 0, generation = 0, failures = 0;

  // ---- the query ----
  const query = read(embedded ? given(JSON.parse(root.dataset.query)) : new URLSearchParams(location.search));
  function given(lists) {
    const found = new URLSearchParams();
    for (const [name, values] of Object.entries(lists)) for (const value of values) found.append(name, value);
    return found;
  }
  function read(given) {
    return {
      mode: given.get("mode") === "span" || ["since", "until", "last"].some((name) => given.has(name)) ? "span" : "live",
      services: given.getAll("service"),
      level: given.get("level") || "",
      keyword: given.get("keyword") || "",
      regex: given.has("regex"),
      boot: given.get("boot") || "",
      vm: given.get("vm") || "",
      last: given.get("last") ?? (given.has("since") || given.has("until") ? "" : "1h"),
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
    if (query.mode === "span") {
      given.set("mode", "span");
      if (!query.last) given.set("last", "");
    }
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
    part("earlier").hidden = earlier === false || (earlier === null && !list.first);
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
    failures = pages = 0;
    loading = false;
    notes = [];
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
      // What the stream itself could not go on with; a new one would only say it again.
      if (message.state === "error" || message.state === "ended") ended = true;
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
    if (list.dropped) {
      // What was taken off lies between the list and the cursor for earlier ones: that no longer fits.
      list.dropped = false;
      earlier = null;
      part("note").textContent = words.dropped;
    }
  }
  function tell(message) {
    command(message.command);
    if (message.state === "gap") return list.mark(words.gap);
    if (message.state === "live") {
      if (message.problems) remarks(message);
      if ("earlier" in message) {
        earlier = message.earlier || false;
        if (earlier && message.cut) soon();
      }
      state(paused ? "paused" : "live", paused ? "neutral" : "good", notes.join(" ") || (list.count ? "" : words.waits));
    } else state(message.state, message.state === "paused" || message.state === "ended" ? "neutral" : "warn", message.message || "");
  }

  function remarks(answer) {
    notes = answer.problems.map((problem) => problem.message);
    if (answer.searched_by === "nodeadmin") notes.push(words.searched_here);
  }

  // Earlier entries, newest first from the host, put above what is there.
  async function older() {
    if (loading || earlier === false) return;
    loading = true;
    const mine = generation, first = list.first, known = earlier;
    const body = { node, limit: PAGE };
    if (earlier) body.cursor = earlier;
    else Object.assign(body, filters(), query.mode === "live" && first?.time ? { until: first.time } : {});
    if (query.mode === "span") state("loading", "neutral");
    try {
      const answer = await window.nodeadminCall("describe-node-logs", body);
      if (mine !== generation) return;
      if (first && list.first !== first) return void (earlier = null); // taken off meanwhile: no longer next to it
      // Asked for by time, the page ends with entries that are shown already: those of the same instant.
      const shown = new Set(known ? [] : list.entries.slice(0, 1000).map(identity));
      list.prepend(answer.entries.reverse().filter((entry) => !shown.has(identity(entry))));
      earlier = answer.more ? answer.cursor : false;
      remarks(answer);
      if (query.mode === "span") {
        if (!known) {
          list.toEnd();
          command(answer.query_command);
        }
        state("done", "good", ending(answer));
      } else if (answer.cut === "time" || answer.cut === "bytes") part("note").textContent = ending(answer);
      count();
      // A search that was cut short has perhaps found little: it goes on until there is something to look at.
      pages += 1;
      if (earlier && earlier !== known && list.rows.length < ENOUGH && pages < PAGES) soon();
    } catch (error) {
      if (mine !== generation) return;
      if (query.mode === "live") part("note").textContent = error.message;
      else state("error", "bad", error.message);
    } finally {
      if (mine === generation) loading = false;
    }
  }

  function soon() {
    const mine = generation;
    setTimeout(() => mine === generation && older());
  }
  function more(done) {
    pages = done;
    older();
  }
  function ending(answer) {
    const last = answer.cut === "time" || answer.cut === "bytes" ? words.cut_time : list.count ? (earlier ? "" : words.beginning) : words.nothing;
    return [...notes, last].join(" ").trim();
  }
  function identity(entry) {
    return entry.cursor || `${entry.time} ${entry.identifier} ${entry.message}`;
  }

  // ---- one entry ----
  async function openEntry(entry) {
    const fields = part("detail-fields");
    part("detail").hidden = !entry;
    fields.replaceChildren();
    if (!entry) return;
    part("detail-message").textContent = entry.message ?? "";
    if (!entry.cursor) return fields.append(term(words.no_detail, ""));
    try {
      const answer = await window.nodeadminCall("describe-log-entry", { node, entry: entry.cursor });
      if (list.opened?.entry !== entry) return;
      const whole = answer.fields.find((field) => field.name === "MESSAGE");
      if (whole) part("detail-message").textContent = whole.value;
      for (const field of answer.fields.filter((other) => other !== whole).sort((a, b) => (a.name < b.name ? -1 : 1))) {
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
    else if ("earlier" in data) more(0);
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
  list.onTop = () => more(PAGES);
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
