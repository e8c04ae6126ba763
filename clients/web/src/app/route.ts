// Where the page stands: the fragment of its address, so that every view can be linked to.
import { signal } from "@preact/signals";

export interface Route {
  page: string;
  id: string;
  query: URLSearchParams;
}

function parse(): Route {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  const [page = "", ...rest] = path.split("/");
  return { page: page || "now", id: decode(rest.join("/")), query: new URLSearchParams(query) };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export const route = signal(parse());
addEventListener("hashchange", () => {
  route.value = parse();
});

export function go(hash: string): void {
  location.hash = hash;
}

/** Changes the address without a step back: for what is typed and turned while looking. */
export function turn(hash: string): void {
  history.replaceState(null, "", hash);
  route.value = parse();
}

/** The address of a view; empty values are left out. */
export function to(page: string, id = "", query: Record<string, string> = {}): string {
  const given = Object.entries(query).filter(([, value]) => value);
  const asked = given.length > 0 ? `?${new URLSearchParams(given)}` : "";
  return `#/${page}${id ? `/${encodeURIComponent(id)}` : ""}${asked}`;
}
