// Canvases do not follow CSS: with a new theme they are drawn anew.
const system = matchMedia("(prefers-color-scheme: dark)");

/** Calls back with each change of the theme; returns the end. */
export function themed(redraw: () => void): () => void {
  const chosen = new MutationObserver(redraw);
  chosen.observe(document.documentElement, { attributeFilter: ["data-theme"] });
  system.addEventListener("change", redraw);
  return () => {
    chosen.disconnect();
    system.removeEventListener("change", redraw);
  };
}
