// The page of ../api/summaries.py. The id of the job is in the address, so that a reload or a bookmark finds it again.
"use strict";

const LOG_EVERY = 1000;
const find = (id) => document.getElementById(id);
let events = null;

// An answer's JSON, or an error that says what the server said.
async function call(method, path, body, headers = {}) {
  const given = body === undefined ? {} : { body: JSON.stringify(body) };
  const response = await fetch(path, {
    method,
    headers: { "Content-Type": "application/json", ...headers },
    ...given,
  });
  const answer = response.status === 204 ? null : await response.json();
  if (!response.ok) throw new Error(answer.detail || response.statusText);
  return answer;
}

function show(problem) {
  find("problem").textContent = problem ? problem.message : "";
}

function act(step) {
  return (event) => {
    event.preventDefault();
    show(null);
    step(event).catch(show);
  };
}

async function submit(event) {
  const form = new FormData(event.target);
  const written = await call("POST", "/documents", { title: form.get("title"), body: form.get("body") });
  // The same key for each attempt to submit: one job, however often the network makes us ask.
  const key = { "Idempotency-Key": `"document-${written.id}"` };
  const job = await call("POST", `/documents/${written.id}/summary-jobs`, undefined, key);
  location.hash = job.id;
}

// What has happened so far comes first, then what happens: nothing has to be kept here. When the connection
// breaks, EventSource comes again and says what it saw last (Last-Event-ID).
function follow() {
  const id = location.hash.slice(1);
  if (events) events.close();
  find("job").hidden = !id;
  if (!id) return;
  find("id").textContent = id;
  find("state").textContent = "queued";
  find("text").textContent = "";
  find("cancel").disabled = false;
  events = new EventSource(`/jobs/${encodeURIComponent(id)}/events`);
  events.addEventListener("started", () => {
    find("state").textContent = "running";
    find("text").textContent = ""; // a second attempt begins anew
  });
  events.addEventListener("delta", (event) => find("text").append(JSON.parse(event.data).text));
  events.addEventListener("answered", (event) => {
    find("text").textContent = JSON.parse(event.data).text;
  });
  events.addEventListener("end", (event) => {
    const end = JSON.parse(event.data);
    find("state").textContent = end.state;
    find("cancel").disabled = true;
    events.close();
    if (end.error && end.state !== "cancelled") show(new Error(end.error));
  });
  events.addEventListener("error", (event) => {
    // It comes again by itself, unless the server does not want us.
    if (event.target.readyState === EventSource.CLOSED) show(new Error("there is no such job"));
  });
}

async function cancel() {
  const job = await call("POST", `/jobs/${find("id").textContent}/cancel`);
  if (!find("cancel").disabled) find("state").textContent = job.state;
}

async function addEndpoint(event) {
  const url = new FormData(event.target).get("url");
  const endpoint = await call("POST", "/webhook-endpoints", { url });
  find("secret").textContent = `The secret to check signatures with: ${endpoint.secret}`;
  find("secret").hidden = false;
}

function cell(row, text) {
  row.insertCell().textContent = text; // never as HTML: it is what others have said
}

function line(endpoint, delivery) {
  const row = document.createElement("tr");
  const last = delivery.tries.at(-1);
  cell(row, delivery.type);
  cell(row, endpoint.url);
  cell(row, delivery.state);
  cell(row, delivery.tries.length);
  cell(row, last ? last.status || last.error : "");
  const again = document.createElement("button");
  again.textContent = "Send again";
  again.disabled = !delivery.finished_at;
  const path = `/webhook-endpoints/${endpoint.id}/deliveries/${delivery.id}/replay`;
  again.addEventListener("click", act(() => call("POST", path)));
  row.insertCell().append(again);
  return row;
}

async function showLog() {
  const rows = [];
  for (const endpoint of await call("GET", "/webhook-endpoints")) {
    const log = await call("GET", `/webhook-endpoints/${endpoint.id}/deliveries?limit=10`);
    rows.push(...log.map((delivery) => line(endpoint, delivery)));
  }
  // Only what has changed: a button that is replaced while it is pressed is not pressed.
  const next = rows.map((row) => row.innerText || row.textContent).join("\n");
  if (next !== find("log").dataset.shown) {
    find("log").replaceChildren(...rows);
    find("log").dataset.shown = next;
  }
}

async function keepLog() {
  for (;;) {
    await showLog().catch(show);
    await new Promise((resolve) => setTimeout(resolve, LOG_EVERY));
  }
}

find("submit").addEventListener("submit", act(submit));
find("endpoint").addEventListener("submit", act(addEndpoint));
find("cancel").addEventListener("click", act(cancel));
window.addEventListener("hashchange", follow);
follow();
keepLog();
