// The button for system, light or dark colours, remembered in this browser.

import { byId } from "/dom.js";

const KEY = "cxr-keras-theme";
const THEMES = ["system", "light", "dark"];

export function startTheme() {
  const set = (theme) => {
    document.documentElement.dataset.theme = theme;
    byId("theme").textContent = `Theme: ${theme}`;
    localStorage.setItem(KEY, theme);
  };
  const kept = localStorage.getItem(KEY);
  set(THEMES.includes(kept) ? kept : "system");
  byId("theme").addEventListener("click", () => {
    const place = THEMES.indexOf(document.documentElement.dataset.theme);
    set(THEMES[(place + 1) % THEMES.length]);
  });
}
