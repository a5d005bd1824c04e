// The page's one dialog: its content comes from the server, and it stays open until it is done or closed.
"use strict";

(function () {
  const dialog = document.getElementById("dialog");
  if (!dialog) return;

  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target === dialog && !dialog.open) dialog.showModal();
  });
  dialog.addEventListener("close", () => {
    // What is still on its way would be shown in a dialog that nobody looks at.
    const form = dialog.querySelector("form");
    if (form) window.htmx.trigger(form, "htmx:abort");
    dialog.replaceChildren();
  });

  // A dialog lies above the page: what goes wrong is told within it, not behind it.
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (!dialog.open || event.detail.xhr.getResponseHeader("HX-Retarget") !== "#flash") return;
    const place = dialog.querySelector("[data-dialog-errors]");
    if (!place) return;
    place.replaceChildren();
    event.detail.target = place;
  });

  // ---- a node's export: what the API gives, as a file ----
  dialog.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-export]");
    if (!button) return;
    const name = button.dataset.export;
    button.disabled = true;
    try {
      const response = await window.nodeadminPost("export-node", { node: name });
      if (!response.ok) throw new Error((await response.json()).detail);
      const link = document.createElement("a");
      link.href = URL.createObjectURL(await response.blob());
      link.download = `${name}.json`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    } catch (error) {
      window.nodeadminFlash(error.message, "bad");
    } finally {
      button.disabled = false;
    }
  });

  // ---- forms with a plan ----
  // A node with a thousand VMs has a thousand choices: those that were not made are not sent.
  dialog.addEventListener("htmx:configRequest", (event) => {
    const fields = event.detail.formData;
    for (const [name, value] of [...fields.entries()]) {
      if (name.startsWith("override-") && !value) fields.delete(name);
    }
  });
  dialog.addEventListener("click", (event) => {
    const button = event.target.closest?.("button[name=step]");
    const words = dialog.querySelector("[data-making]");
    if (button && words) words.textContent = button.value === "confirm" ? words.dataset.go : words.dataset.plan;
  });
  dialog.addEventListener("input", (event) => {
    const field = event.target;
    // The plan was made for the options as they were: it is no longer what would be agreed to.
    if (field.closest("[data-options], #plan-choices") && dialog.querySelector("[data-plan-shown]")) outdate();
    if (field.matches("[data-must-be]")) armed();
  });
  function outdate() {
    dialog.querySelector("[data-plan-shown]").classList.add("is-outdated");
    dialog.querySelector("[data-outdated]").hidden = false;
    dialog.querySelector("[data-plan-anew]")?.classList.add("btn-primary");
    armed();
  }
  function armed() {
    const button = dialog.querySelector("[data-confirm]");
    if (!button) return;
    const name = dialog.querySelector("[data-must-be]");
    const old = dialog.querySelector("[data-plan-shown].is-outdated");
    button.disabled = Boolean(old) || (name !== null && name.value.trim() !== name.dataset.mustBe);
  }
  // A choice within the plan re-plans at once: whoever chose stays where they are, and hears what has come of it.
  const parts = [".dialog-body", ".plan-scroll", ".target-list"];
  let place = null;
  document.addEventListener("htmx:beforeSwap", (event) => {
    const choices = event.detail.requestConfig?.elt;
    place = null;
    if (choices?.id !== "plan-choices") return;
    place = {
      open: dialog.querySelector(".plan-targets")?.open,
      tops: parts.map((name) => dialog.querySelector(name)?.scrollTop),
    };
  });
  function stay() {
    const targets = dialog.querySelector(".plan-targets");
    if (targets && place.open) targets.open = true;
    parts.forEach((name, number) => {
      const part = dialog.querySelector(name);
      if (part && place.tops[number]) part.scrollTop = place.tops[number];
    });
    place = null;
    let status = dialog.querySelector("[data-replanned]");
    if (!status) {
      status = document.createElement("p");
      status.className = "visually-hidden";
      status.setAttribute("role", "status");
      status.dataset.replanned = "";
      dialog.append(status);
    }
    status.textContent = dialog.querySelector("#plan-choices")?.dataset.summary ?? "";
  }
  document.addEventListener("htmx:afterSettle", () => {
    if (!dialog.open) return;
    armed();
    if (place) stay();
    const first = dialog.querySelector("[data-focus]");
    if (!first) return;
    first.removeAttribute("data-focus");
    first.focus({ preventScroll: true });
    first.scrollIntoView({ block: "start" });
  });
})();
