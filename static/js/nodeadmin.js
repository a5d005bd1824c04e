// Small behaviour of the frame: theme, copying, keys, flash messages, ages, dialogs, polling that rests.
"use strict";

(function () {
  const root = document.documentElement;

  // ---- the API, as the user who has signed in ----
  // `background`: asked by a timer, which is no use of the session (nodes/web/accounts/guard.py).
  window.nodeadminPost = (endpoint, body, background = false) => fetch(`/api/${endpoint}`, {
    method: "POST",
    headers: {
      ...(background ? { "X-Background": "1" } : {}),
      "Content-Type": "application/json",
      "X-CSRFToken": JSON.parse(document.body.getAttribute("hx-headers"))["X-CSRFToken"],
    },
    body: JSON.stringify(body),
  });
  window.nodeadminCall = async (endpoint, body, background = false) => {
    const response = await window.nodeadminPost(endpoint, body, background);
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.detail || answer.title);
    return answer;
  };

  // ---- theme: system, light, dark in turn ----
  const THEMES = ["system", "light", "dark"];
  function turnTheme() {
    const now = root.getAttribute("data-theme-choice") || "system";
    window.nodeadminTheme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
    labelTheme();
  }
  function labelTheme() {
    const button = document.querySelector("[data-theme-switch]");
    if (!button) return;
    const label = button.dataset[root.getAttribute("data-theme-choice") || "system"];
    button.title = label;
    button.setAttribute("aria-label", label);
  }

  // ---- copying ----
  async function copy(button) {
    const text = button.dataset.copy;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without HTTPS or permission there is no clipboard object: the old way still works.
      const area = document.createElement("textarea");
      area.value = text;
      area.className = "visually-hidden";
      (button.closest("dialog") || document.body).append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.classList.add("is-done");
    announce(button.dataset.done);
    setTimeout(() => button.classList.remove("is-done"), 1600);
  }

  function announce(words) {
    const live = document.getElementById("announcer");
    if (live) live.textContent = words || "";
  }

  // ---- navigation drawer on narrow screens ----
  function drawer(open) {
    root.toggleAttribute("data-drawer", open);
    document.querySelector("[data-drawer-open]")?.setAttribute("aria-expanded", String(open));
    if (open) document.querySelector("#navigation a")?.focus();
    else if (document.activeElement?.closest("#navigation")) document.querySelector("[data-drawer-open]")?.focus();
  }

  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target : null;
    if (!target) return;
    const copyButton = target.closest("[data-copy]");
    if (copyButton) return void copy(copyButton);
    if (target.closest("[data-theme-switch]")) return turnTheme();
    if (target.closest("[data-flash-close]")) return void target.closest(".flash").remove();
    if (target.closest("[data-drawer-open]")) return drawer(!root.hasAttribute("data-drawer"));
    if (target.closest("[data-drawer-close]")) return drawer(false);
    const opener = target.closest("[data-dialog]");
    if (opener) return document.getElementById(opener.dataset.dialog)?.showModal();
    const closer = target.closest("[data-dialog-close]");
    if (closer) return closer.closest("dialog").close();
    const example = target.closest("[data-fill]");
    if (example) return fill(document.getElementById(example.dataset.fill), example.dataset.text);
    // The backdrop belongs to the dialog. One that may hold what was typed is not closed by a click beside it.
    if (target instanceof HTMLDialogElement && !("keep" in target.dataset)) target.close();
    if (!target.closest(".search")) closeSearch();
  });

  // ---- keys ----
  function typing(element) {
    return element instanceof HTMLElement && (element.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(element.tagName));
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.ctrlKey && !event.metaKey && !event.altKey && !typing(event.target)) {
      const search = document.getElementById("search");
      if (search) {
        event.preventDefault();
        search.focus();
        search.select();
      }
    } else if (event.key === "Escape") {
      drawer(false);
      closeSearch();
    } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && event.target.closest?.(".search")) {
      const links = [...document.querySelectorAll("#search-results a")];
      if (!links.length) return;
      event.preventDefault();
      const next = links.indexOf(document.activeElement) + (event.key === "ArrowDown" ? 1 : -1);
      (next < 0 ? document.getElementById("search") : links[Math.min(next, links.length - 1)]).focus();
    } else if (event.key === "Enter" && event.target.id === "search") {
      const first = document.querySelector("#search-results a");
      if (first) {
        event.preventDefault();
        first.click();
      }
    }
  });
  function closeSearch() {
    const results = document.getElementById("search-results");
    if (results) results.replaceChildren();
  }

  // ---- ages: "12 s ago" goes on counting ----
  const patterns = (document.querySelector('meta[name="ago"]')?.content || "").split("|");
  function age(element) {
    const seconds = Math.floor((Date.now() - Date.parse(element.dateTime)) / 1000);
    if (!(seconds >= 0) || seconds >= 60 * 86400 || patterns.length < 4) return;
    const steps = seconds < 60 ? [0, 1] : seconds < 3600 ? [1, 60] : seconds < 172800 ? [2, 3600] : [3, 86400];
    const words = patterns[steps[0]].replace("%d", String(Math.floor(seconds / steps[1])));
    if (element.textContent !== words) element.textContent = words;
  }
  setInterval(() => {
    if (!document.hidden) document.querySelectorAll("time[data-ago]").forEach(age);
  }, 1000);

  // ---- whole rows lead where their first link leads ----
  document.addEventListener("click", (event) => {
    const row = event.target instanceof Element ? event.target.closest("tr[data-href]") : null;
    if (!row || event.target.closest("a, button, input, label, summary") || String(getSelection())) return;
    if (event.ctrlKey || event.metaKey) window.open(row.dataset.href, "_blank", "noopener");
    else location.assign(row.dataset.href);
  });

  // ---- forms ----
  document.addEventListener("change", (event) => {
    if (event.target instanceof HTMLElement && event.target.matches("[data-submit-on-change]")) {
      event.target.form?.requestSubmit();
    }
    showChosen();
  });
  function fill(field, text) {
    field.value = text;
    field.focus();
    field.dispatchEvent(new Event("input", { bubbles: true }));
  }
  // Parts of a form that belong to one choice: [data-shown-for="NAME=VALUE VALUE2"].
  function showChosen() {
    for (const part of document.querySelectorAll("[data-shown-for]")) {
      const [name, values] = part.dataset.shownFor.split("=");
      const scope = part.closest("form") || document;
      const chosen = scope.querySelector(`[name="${name}"]:checked`)?.value ?? "";
      part.hidden = !values.split(" ").includes(chosen);
      for (const field of part.querySelectorAll("input, textarea, select")) field.disabled = part.hidden;
    }
  }

  // ---- htmx ----
  // A part that is read anew keeps what somebody opened, typed or sorted by in it.
  const KEPT = "[data-loaded], [data-table-filter], [data-table-count], th:has(> button.sorter)";
  if (window.Idiomorph) {
    Object.assign(window.Idiomorph.defaults.callbacks, {
      beforeNodeMorphed: (old) => !(old instanceof Element && old.matches(KEPT)),
      beforeAttributeUpdated: (name, element) => !(name === "open" && element.localName === "details"),
    });
  }
  document.addEventListener("htmx:configRequest", (event) => {
    // What nobody clicked or typed is no use of the session.
    if (!event.detail.triggeringEvent?.isTrusted) event.detail.headers["X-Background"] = "1";
  });
  document.addEventListener("htmx:beforeRequest", (event) => {
    // Nobody looks at a hidden tab; polling goes on when it is seen again.
    if (document.hidden && event.target.matches?.("[data-poll]")) event.preventDefault();
    root.toggleAttribute("data-busy", true);
  });
  document.addEventListener("htmx:afterRequest", () => root.toggleAttribute("data-busy", false));
  document.addEventListener("htmx:beforeSwap", (event) => {
    // Forms with errors (422) and our errors, which retarget themselves to the flash area, are shown.
    if (event.detail.xhr.status >= 400 && event.detail.xhr.getResponseHeader("content-type")?.includes("text/html")) {
      event.detail.shouldSwap = true;
      event.detail.isError = false;
    }
  });
  for (const name of ["htmx:sendError", "htmx:timeout"]) {
    document.addEventListener(name, (event) => {
      if (event.target.matches?.("[data-poll]")) root.setAttribute("data-offline", "");
      else flash(document.querySelector('meta[name="offline"]')?.content, "bad");
    });
  }
  document.addEventListener("htmx:afterOnLoad", () => root.removeAttribute("data-offline"));
  document.addEventListener("htmx:afterSettle", () => {
    showChosen();
    // Once they have done their work, secrets do not stay on the screen.
    if (document.querySelector("[data-forget-secrets]")) {
      for (const field of document.querySelectorAll("[data-secret]")) field.value = "";
    }
  });

  // A button that rests while its request runs loses the focus: it gets it back, unless the form was refused,
  // which leads to what is wrong in it.
  const rested = new WeakMap();
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (event.target.matches?.("[hx-disabled-elt]")) rested.set(event.target, document.activeElement);
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    const last = rested.get(event.target);
    if (!last) return;
    rested.delete(event.target);
    setTimeout(() => {
      if (document.activeElement && ![document.body, last].includes(document.activeElement)) return;
      const wrong = event.detail.xhr.status === 422 ? event.target.querySelector(".field-error") : null;
      const place = wrong?.closest(".field, .panel-body");
      (place?.querySelector("input:enabled, textarea:enabled, select:enabled, button:enabled") || last).focus();
    }, 50);
  });

  function flash(words, tone) {
    const template = document.getElementById("flash-template");
    // An open dialog lies above the flash area.
    const area = document.querySelector("dialog[open] [data-dialog-errors]") || document.getElementById("flash");
    if (!words || !template || !area) return;
    const shown = template.content.firstElementChild.cloneNode(true);
    shown.classList.add(`flash-${tone}`);
    shown.querySelector(".flash-words").textContent = words;
    area.append(shown);
    shown.scrollIntoView({ block: "nearest" });
  }
  window.nodeadminFlash = flash;

  labelTheme();
  showChosen();
  // On a narrow screen the tab that is open may lie beyond the edge.
  document.querySelector(".tab.is-here")?.scrollIntoView({ block: "nearest", inline: "nearest" });
})();
