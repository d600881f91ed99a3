// Sets the theme before anything is drawn. "auto" follows the system.
"use strict";
(() => {
  let theme = null;
  try {
    theme = localStorage.getItem("sipward-theme");
  } catch {
    // Storage may be switched off; the system's theme is used then.
  }
  document.documentElement.dataset.theme = theme === "light" || theme === "dark" ? theme : "auto";
})();
