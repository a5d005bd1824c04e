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
    if (field.closest("[data-options], .plan-choice") && dialog.querySelector("[data-plan-shown]")) outdate();
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
  document.addEventListener("htmx:afterSettle", () => {
    if (!dialog.open) return;
    armed();
    const place = dialog.querySelector("[data-focus]");
    if (!place) return;
    place.removeAttribute("data-focus");
    place.focus({ preventScroll: true });
    place.scrollIntoView({ block: "start" });
  });
})();
