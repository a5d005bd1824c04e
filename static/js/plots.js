// Plots of a node's figures: the last hour by beats or the last day by minutes, going on as beats come.
"use strict";

(function () {
  const area = document.getElementById("plots");
  if (!area || !window.uPlot) return;
  const HEIGHT = 110, KEEP = 720;
  const PLOTS = {
    cpu: [["cpu_used_percent", "--fill"]],
    memory: [["memory_used_bytes", "--fill"], ["swap_used_bytes", "--warn-fill"]],
    net: [["net_rx_bytes_per_s", "--fill"], ["net_tx_bytes_per_s", "--good-fill"]],
    disk: [["disk_read_bytes_per_s", "--fill"], ["disk_written_bytes_per_s", "--good-fill"]],
  };
  let span = "hour", answer = null, drawn = {};

  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  function size(value) {
    if (value === null || value === undefined) return "–";
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let at = 0;
    while (Math.abs(value) >= 1024 && at < units.length - 1) { value /= 1024; at += 1; }
    return `${value.toFixed(at && value < 100 ? 1 : 0)} ${units[at]}`;
  }
  const words = { cpu: (v) => (v === null ? "–" : `${Math.round(v)} %`), memory: size, net: (v) => `${size(v)}/s`, disk: (v) => `${size(v)}/s` };

  async function read(wanted) {
    const response = await window.nodeadminPost("describe-node-figures", { node: area.dataset.liveNode, span: wanted });
    return response.ok ? response.json() : null;
  }

  async function choose(wanted) {
    take(wanted, await read(wanted));
  }

  // A host that has not been heard of for an hour may have been within the day; a new one has only begun.
  async function begin() {
    const hour = await read("hour");
    const day = hour && hour.times.length < 2 ? await read("day") : null;
    if (day && day.times.length > 1) take("day", day);
    else take("hour", hour);
  }

  function take(wanted, figures) {
    if (!figures) return;
    span = wanted;
    answer = figures;
    for (const button of area.querySelectorAll("[data-span]")) button.setAttribute("aria-pressed", String(button.dataset.span === span));
    area.hidden = answer.times.length < 2;
    if (!area.hidden) draw();
  }

  function columns(kind) {
    return [answer.times, ...PLOTS[kind].map(([name]) => answer.figures[name])];
  }

  function draw() {
    for (const kind of Object.keys(PLOTS)) {
      const place = area.querySelector(`[data-plot="${kind}"]`);
      drawn[kind]?.destroy();
      drawn[kind] = new window.uPlot(options(kind, place), columns(kind), place);
      figure(kind);
    }
  }

  // Bytes are counted in powers of two, and so are the steps of their axis: three of them at most.
  const step = (most) => 2 ** Math.ceil(Math.log2(Math.max(most, 1024) / 3));
  const top = (most) => Math.ceil(Math.max(most, 1024) / step(most)) * step(most);
  function marks(kind, whole, most) {
    const width = kind === "cpu" ? 50 : whole ? whole / 2 : step(most);
    return Array.from({ length: Math.floor(most / width + 0.001) + 1 }, (_none, at) => at * width);
  }

  function options(kind, place) {
    const axis = { stroke: color("--ink-mute"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    const whole = kind === "memory" ? Number(area.dataset.memory) || null : null;
    return {
      width: Math.max(120, place.clientWidth), height: HEIGHT, legend: { show: false }, padding: [8, 18, 0, 0],
      cursor: { y: false, drag: { x: false, y: false }, sync: { key: "node" } },
      scales: { y: { range: (_plot, _low, high) => [0, kind === "cpu" ? 100 : whole || top(high * 1.05)] } },
      axes: [
        { ...axis, size: 22, space: 60, values: "{HH}:{mm}" },
        { ...axis, size: 62, splits: (_plot, _axis, _low, high) => marks(kind, whole, high), values: (_plot, at) => at.map(words[kind]) },
      ],
      series: [{}, ...PLOTS[kind].map(([, tone], at) => ({
        stroke: color(tone), width: 1.5, points: { show: false }, fill: at === 0 ? `${color(tone)}22` : undefined,
      }))],
      hooks: { setCursor: [(plot) => figure(kind, plot.cursor.idx)] },
    };
  }

  // The figures beside the title: those under the pointer, else the newest.
  function figure(kind, at) {
    const index = at ?? answer.times.length - 1;
    PLOTS[kind].forEach(([name], place) => {
      const shown = area.querySelector(`[data-figure="${kind}-${place}"]`);
      if (shown) shown.textContent = words[kind](answer.figures[name][index] ?? null);
    });
  }

  document.addEventListener("fleet-figures", (event) => {
    const line = event.detail.nodes.find((node) => node.uuid === area.dataset.liveNode);
    if (!line || !answer || span !== "hour" || !line.seen_at) return;
    const at = Date.parse(line.seen_at) / 1000;
    if (at - (answer.times.at(-1) ?? 0) < 1) return;
    answer.times.push(at);
    const own = { cpu_used_percent: line.cpu_used_percent, memory_used_bytes: line.memory_used_bytes };
    for (const [name, values] of Object.entries(answer.figures)) {
      values.push(own[name] ?? line.figures[name] ?? null);
      if (values.length > KEEP) values.shift();
    }
    if (answer.times.length > KEEP) answer.times.shift();
    if (area.hidden) {
      // A node that has only begun to beat: two beats are the first line.
      area.hidden = answer.times.length < 2;
      return void (area.hidden || draw());
    }
    for (const kind of Object.keys(drawn)) {
      drawn[kind].setData(columns(kind));
      if (drawn[kind].cursor.idx === null || drawn[kind].cursor.idx === undefined) figure(kind);
    }
  });

  area.addEventListener("click", (event) => {
    const button = event.target.closest("[data-span]");
    if (button) choose(button.dataset.span);
  });
  let resized = 0;
  new ResizeObserver(() => {
    clearTimeout(resized);
    resized = setTimeout(() => {
      for (const kind of Object.keys(drawn)) {
        const place = area.querySelector(`[data-plot="${kind}"]`);
        if (place.clientWidth) drawn[kind].setSize({ width: place.clientWidth, height: HEIGHT });
      }
    }, 150);
  }).observe(area);
  new MutationObserver(() => answer && !area.hidden && draw()).observe(document.documentElement, { attributeFilter: ["data-bs-theme", "data-theme", "data-theme-choice"] });
  begin();
})();
