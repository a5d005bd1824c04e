// Runs in the head, before anything is painted: a remembered theme set later would flash the other one first.
(function () {
  "use strict";
  var stored = null;
  try {
    stored = localStorage.getItem("nodeadmin-theme");
  } catch {
    // Storage can be switched off; the system's preference then holds.
  }
  var system = window.matchMedia("(prefers-color-scheme: dark)");

  function apply(choice) {
    var theme = choice === "light" || choice === "dark" ? choice : system.matches ? "dark" : "light";
    document.documentElement.setAttribute("data-bs-theme", theme);
    document.documentElement.setAttribute("data-theme-choice", choice || "system");
  }

  apply(stored);
  system.addEventListener("change", function () {
    apply(document.documentElement.getAttribute("data-theme-choice"));
  });
  window.nodeadminTheme = function (choice) {
    try {
      localStorage.setItem("nodeadmin-theme", choice);
    } catch {
      // Not remembered, but it holds for this page.
    }
    apply(choice);
  };
})();
