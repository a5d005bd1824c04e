// Passkeys: one that is given for what a form is about to do, and words where the browser gives none.
"use strict";

(function () {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-factor-passkey]");
    if (!button) return;
    const part = button.closest("[data-factor]");
    const words = button.querySelector("span");
    button.disabled = true;
    try {
      // Forms that htmx sends have no field for the token: it is on the page's body, for htmx.
      const field = button.closest("form").querySelector("[name=csrfmiddlewaretoken]");
      const token = field ? field.value : JSON.parse(document.body.getAttribute("hx-headers"))["X-CSRFToken"];
      const body = new URLSearchParams({ about: part.dataset.about, csrfmiddlewaretoken: token });
      const response = await fetch(button.dataset.url, { method: "POST", body });
      if (!response.ok) throw new Error(String(response.status));
      const given = await window.webauthnJSON.get(await response.json());
      part.querySelector("[name=factor_passkey]").value = JSON.stringify(given);
      words.textContent = button.dataset.done;
      part.dispatchEvent(new CustomEvent("factor-given", { bubbles: true }));
    } catch {
      words.textContent = button.dataset.failed;
      button.disabled = false;
    }
  });

  // allauth's forms tell of what failed by an event.
  document.addEventListener("allauth.error", (event) => {
    event.preventDefault();
    const place = document.getElementById("passkey-refused");
    if (place) place.hidden = false;
  });
})();
