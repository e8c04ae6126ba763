// The frame around every view.
import { signal } from "@preact/signals";
import { type ComponentChildren, render } from "preact";
import { useEffect } from "preact/hooks";
import { AgentPage } from "./agent";
import { Agents } from "./agents";
import { count } from "./format";
import { Now } from "./now";
import { Empty, Panel, Toasts } from "./parts";
import { route, to } from "./route";
import { connection, counts, enter, everConnected, failures, follow, podium, queueError } from "./store";
import { Submit } from "./submit";
import { TaskPage } from "./task";
import { Tasks } from "./tasks";
import "./styles.css";

const PAGES: [string, string, string][] = [
  ["now", "Now", "M3 13h4l3-8 4 14 3-6h4"],
  ["agents", "Agents", "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8Zm-8 8c0-3.5 3.500-6 8-6s8 2.500 8 6"],
  ["tasks", "Tasks", "M4 6h16M4 12h16M4 18h10"],
  ["dead", "Dead letters", "M4 8v11h16V8M3 4h18v4H3zM9 12h6"],
  ["submit", "Submit", "M12 5v14M5 12h14"],
];

const THEMES = ["", "light", "dark"] as const;
const theme = signal(document.documentElement.dataset.theme ?? "");

function App() {
  const { page, id } = route.value;
  useEffect(() => {
    const name = PAGES.find(([key]) => key === page)?.[1] ?? "Podium";
    document.title = id ? `${id} · Podium` : `${name} · Podium`;
    scrollTo(0, 0);
  }, [page, id]);
  return (
    <>
      <a class="skip" href="#main" onClick={skip}>Skip to content</a>
      <header class="top">
        <a class="brand" href={to("now")}><img src="/podium.svg" alt="" width="24" height="24" /><span>Podium</span></a>
        <nav aria-label="Main">{PAGES.map(([key, label, path]) => <Tab key={key} page={key} label={label} path={path} />)}</nav>
        <Connection />
        <ThemeButton />
      </header>
      <Banner />
      <main id="main" tabIndex={-1}><View page={page} id={id} /></main>
      <Toasts />
    </>
  );
}

function skip(event: Event): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

function View({ page, id }: { page: string; id: string }): ComponentChildren {
  if (page === "now") return <Now />;
  if (page === "agents") return id ? <AgentPage key={id} id={id} /> : <Agents />;
  if (page === "tasks") return id ? <TaskPage key={id} id={id} /> : <Tasks key="tasks" />;
  if (page === "dead") return <Tasks key="dead" dead />;
  if (page === "submit") return <Submit />;
  return <div class="page"><Panel><Empty title="There is no such page"><p><a href={to("now")}>Back to now</a></p></Empty></Panel></div>;
}

function Tab({ page, label, path }: { page: string; label: string; path: string }) {
  const dead = page === "dead" ? counts.value.get("STATE_FAILED") ?? 0 : 0;
  return (
    <a href={to(page)} aria-current={route.value.page === page ? "page" : undefined}>
      <svg viewBox="0 0 24 24" aria-hidden="true"><path d={path} /></svg>
      <span>{label}</span>
      {dead > 0 && <b class="count" aria-label={`${dead} dead letters`}>{count(dead)}</b>}
    </a>
  );
}

function Connection() {
  const state = connection.value;
  const label = state === "open" ? "Live" : everConnected.value ? "Reconnecting" : "Connecting";
  return <span class={`connection ${state}`} role="status" title={podium.wire.url}><span>{label}</span></span>;
}

function Banner() {
  if (connection.value !== "open" && everConnected.value) {
    return <p class="banner" role="alert">The connection is lost; trying again. What you see is what was known last.</p>;
  }
  if (!everConnected.value && failures.value > 1) return <Door />;
  return queueError.value ? <p class="banner" role="alert">{queueError.value}</p> : null;
}

function Door() {
  const submit = (event: Event) => {
    event.preventDefault();
    enter(new FormData(event.currentTarget as HTMLFormElement).get("token") as string);
  };
  return (
    <form class="banner door" onSubmit={submit}>
      <span role="alert">The bridge does not let this page in, or is not there. Where callers are checked, it asks for a token:</span>
      <input name="token" type="password" required aria-label="Token" autocomplete="off" />
      <button type="submit" class="button">Connect</button>
    </form>
  );
}

function ThemeButton() {
  const next = () => {
    theme.value = THEMES[(THEMES.indexOf(theme.value as "") + 1) % THEMES.length]!;
    if (theme.value) document.documentElement.dataset.theme = theme.value;
    else delete document.documentElement.dataset.theme;
    try {
      if (theme.value) localStorage.setItem("podium.theme", theme.value);
      else localStorage.removeItem("podium.theme");
    } catch {
      // Storage may be forbidden: the theme lasts as long as the page.
    }
  };
  const name = theme.value || "system";
  return (
    <button type="button" class="theme" onClick={next} aria-label={`Theme: ${name}. Change it.`} title={`Theme: ${name}`}>
      <svg viewBox="0 0 24 24" aria-hidden="true"><path d={theme.value === "dark" ? "M20 14.500A8 8 0 0 1 9.500 4 8 8 0 1 0 20 14.500Z" : theme.value === "light" ? "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8ZM12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.500 1.500M17.500 17.500 19 19M5 19l1.500-1.500M17.500 6.500 19 5" : "M12 3a9 9 0 1 0 0 18ZM12 3a9 9 0 0 1 0 18"} /></svg>
    </button>
  );
}

follow();
render(<App />, document.getElementById("app")!);
