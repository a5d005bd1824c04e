// The live connection: figures change where they stand, and parts of a page whose status changed are read anew.
"use strict";

(function () {
  if (!document.getElementById("main") || !("WebSocket" in window)) return;

  const SHORTEST = 1000, LONGEST = 30000;
  const lines = new Map();
  const working = new Map(); // the node of each operation under way, by the operation's id
  let socket = null, version = 0, wait = SHORTEST, told = 0, timer = 0;

  function connect() {
    // Shown again while a new attempt was due: two sockets would take each other's versions for gaps.
    if (document.hidden || socket) return;
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    socket = new WebSocket(`${scheme}://${location.host}/ws/fleet/`);
    socket.onmessage = (event) => take(JSON.parse(event.data));
    socket.onclose = (event) => {
      socket = null;
      document.documentElement.removeAttribute("data-live");
      // Signed out: the next page says so; asking on would only be refused again.
      if (event.code === 4401) return;
      setTimeout(connect, wait * (0.6 + 0.4 * Math.random()));
      wait = Math.min(LONGEST, wait * 2);
    };
  }

  function take(message) {
    const whole = message.type === "state";
    if (!whole && message.version !== version + 1) {
      socket.send('{"type":"again"}');
      return;
    }
    version = message.version;
    wait = SHORTEST;
    document.documentElement.setAttribute("data-live", "");
    const known = lines.size > 0;
    const before = whole ? new Map(lines) : lines;
    let turned = false;
    if (whole) lines.clear();
    for (const line of message.nodes) {
      const last = before.get(line.uuid);
      if (known && (!last || last.status !== line.status || last.reason !== line.reason)) turned = tellNode(line);
      lines.set(line.uuid, line);
      show(line);
    }
    if (known) tellWork(message);
    for (const operation of message.operations) working.set(operation.id, operation.node);
    for (const id of message.ended || []) working.delete(id);
    for (const uuid of message.gone || []) turned = lines.delete(uuid) || turned;
    if (turned || (known && (message.operations.length || (message.ended || []).length))) tell();
    document.dispatchEvent(new CustomEvent("fleet-figures", { detail: { nodes: message.nodes } }));
  }

  // Parts that show the whole fleet listen for "fleet-changed"; a node's page for its own node alone.
  function tell() {
    clearTimeout(timer);
    timer = setTimeout(() => {
      told = Date.now();
      document.body.dispatchEvent(new CustomEvent("fleet-changed"));
    }, Math.max(50, told + 1000 - Date.now()));
  }
  function tellNode(line) {
    const page = document.querySelector("[data-live-node]");
    if (page && page.dataset.liveNode === line.uuid) document.body.dispatchEvent(new CustomEvent("node-changed"));
    return true;
  }

  // A node's head says what works on the node, and which buttons rest meanwhile. The tab below, in which
  // somebody may be writing, is left alone.
  function tellWork(message) {
    const page = document.querySelector("[data-live-node]");
    const name = page && lines.get(page.dataset.liveNode)?.name;
    if (!name) return;
    const touched = message.operations.map((operation) => operation.node).concat((message.ended || []).map((id) => working.get(id)));
    if (touched.includes(name)) document.body.dispatchEvent(new CustomEvent("node-work"));
  }

  // ---- figures in place ----
  function show(line) {
    const row = document.getElementById(`node-${line.uuid}`);
    if (!row) return;
    const meters = row.querySelectorAll(".meter");
    const used = line.memory_total_bytes ? (100 * line.memory_used_bytes) / line.memory_total_bytes : null;
    if (line.cpu_used_percent !== null) meter(meters[0], line.cpu_used_percent);
    if (used !== null && line.memory_used_bytes !== null) meter(meters[1], used);
    const seen = row.querySelector("time[data-ago]");
    if (seen && line.seen_at) seen.dateTime = line.seen_at;
  }
  function meter(element, percent) {
    const rect = element?.querySelector("rect");
    if (!rect) return;
    rect.setAttribute("width", Math.min(100, Math.max(0, percent)).toFixed(2));
    element.querySelector(".meter-figure").textContent = percent > 0 && percent < 1 ? "< 1 %" : `${Math.round(percent)} %`;
    element.className = `meter meter-${percent >= 95 ? "full" : percent >= 80 ? "high" : "plain"}`;
  }

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !socket) connect();
  });
  // What was read anew by htmx may be older than what the socket said last.
  document.addEventListener("htmx:afterSettle", () => lines.forEach(show));
  connect();
})();
