// Submits a job to an API with jobs, follows it to its end, and prints the text as it comes.
//
//     node follow.mjs http://127.0.0.1:8000/summaries '{"document_id": 1}' "X-User: ada"
//
// Ctrl-C cancels the job. Whatever breaks in between, the job is there once, and no piece of text is missing
// or comes twice. Exit codes: 0 succeeded, 1 not, 130 cancelled by Ctrl-C. Node.js 18 or newer, no packages.
// In a browser EventSource does what `follow` does, where a cookie says who calls: see ../summaries/app/static/page.js.

import process from "node:process";
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

const PATIENCE = 60_000; // milliseconds without any answer
const PAUSE = 500;
const SILENCE = 30_000; // the server pings an idle stream each 15 s: what is silent for longer is broken
const AGAIN = new Set([409, 429, 500, 502, 503, 504]);

class Gone extends Error {}

// An answer, asked for again while the server is away or busy.
async function ask(url, options) {
  for (const ends = Date.now() + PATIENCE; ; ) {
    let pause = PAUSE;
    let problem;
    try {
      const response = await fetch(url, { ...options, signal: AbortSignal.timeout(SILENCE) });
      if (response.ok) return response;
      problem = `${response.status} ${await response.text()}`;
      if (!AGAIN.has(response.status)) throw new Gone(problem);
      pause = 1000 * Number(response.headers.get("Retry-After") ?? PAUSE / 1000);
    } catch (error) {
      if (error instanceof Gone) throw error;
      problem ??= String(error);
    }
    if (Date.now() > ends) throw new Gone(problem);
    await sleep(pause);
  }
}

// The URL of a new job. The key is the same on each attempt: a repeat gets the first one's answer.
async function submit(url, body, headers) {
  const accepted = await ask(url, {
    method: "POST",
    body,
    headers: { ...headers, "Content-Type": "application/json", "Idempotency-Key": `"${randomUUID()}"` },
  });
  return new URL(accepted.headers.get("Location"), url).href;
}

// The server-sent events of an answer that have data; one that was cut off is left out.
async function* parse(body) {
  const decoder = new TextDecoder();
  let rest = "";
  let found = {};
  for await (const chunk of body) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop();
    for (const line of lines.map((text) => text.replace(/\r$/, ""))) {
      const at = line.indexOf(": ");
      if (at > 0) found[line.slice(0, at)] = line.slice(at + 2);
      if (line) continue;
      if ("data" in found) yield found;
      found = {};
    }
  }
}

// Each event, once and in order, over any number of connections.
async function* follow(job, headers) {
  let last;
  for (let ends = Date.now() + PATIENCE; ; ) {
    const quiet = new AbortController();
    let timer = setTimeout(() => quiet.abort(), SILENCE);
    try {
      const from = last === undefined ? {} : { "Last-Event-ID": last };
      const response = await fetch(`${job}/events`, { headers: { ...headers, ...from }, signal: quiet.signal });
      if (response.status >= 400 && response.status < 500) throw new Gone(String(response.status));
      if (!response.ok) throw new Error(String(response.status));
      const heard = new TransformStream({
        transform(chunk, controller) {
          clearTimeout(timer);
          timer = setTimeout(() => quiet.abort(), SILENCE);
          controller.enqueue(chunk);
        },
      });
      for await (const event of parse(response.body.pipeThrough(heard))) {
        last = event.id;
        ends = Date.now() + PATIENCE;
        yield { type: event.event, data: JSON.parse(event.data) };
        if (event.event === "end") return;
      }
    } catch (error) {
      if (error instanceof Gone) throw error;
      if (Date.now() > ends) throw new Gone(String(error));
    } finally {
      clearTimeout(timer);
    }
    await sleep(PAUSE);
  }
}

async function main([url, body, ...lines]) {
  const headers = Object.fromEntries(lines.map((line) => line.split(/: (.*)/s)));
  const job = await submit(url, body, headers);
  process.once("SIGINT", async () => {
    // Done twice it makes no difference; one that has ended stays as it is (409).
    await fetch(`${job}/cancel`, { method: "POST", headers }).catch(() => {});
    process.exit(130);
  });
  let end;
  for await (const { type, data } of follow(job, headers)) {
    if (type === "started" && data.attempt > 1) process.stdout.write("\n-- from the beginning --\n");
    if (type === "delta") process.stdout.write(data.text);
    end = data;
  }
  process.stderr.write(`\n${end.state} ${end.error ?? ""}\n`);
  return end.state === "succeeded" ? 0 : 1;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}
