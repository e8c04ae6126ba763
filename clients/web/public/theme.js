// Before the first paint, so that a chosen theme does not flash: CSP allows no inline script.
try {
  const theme = localStorage.getItem("podium.theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch {
  // Storage may be forbidden: the system's theme applies.
}
