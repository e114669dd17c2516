// The gateway: JSON, problem details, and server-sent events over fetch.

import { askForKey, signed } from "./key.js";

const QUIET_MS = 30_000; // six times the longest silence the gateway allows itself

const ADVICE = {
  "invalid-question": "Change the question and ask again.",
  "invalid-moment": "Choose another date.",
  "collection-not-found": "Choose another collection, or take documents into this one.",
  "answer-not-found": "It may have been erased since; ask again.",
  "document-not-found": "It may have been erased since; ask again.",
  "too-large": "Send less at a time.",
  unauthorized: "Ask whoever runs this almanac for a key, and load the page again.",
  forbidden: "Use a key that may do this.",
  overloaded: "Wait a moment, then try again.",
  unavailable: "Wait a moment, then try again; `almanac status` says what is not running.",
  "behind-watermark": "The newest records are still being applied; try again in a moment.",
  "deadline-exceeded": "Try again; `almanac status` says what is slow.",
  internal: "Try again; if it stays so, the gateway's log says why.",
};

/** What went wrong, and what to do about it, in words for a person. */
export class Problem extends Error {
  constructor({ type = "about:blank", title = "Something went wrong", status = 0, detail = "" }) {
    super(detail || title);
    this.title = title;
    this.status = status;
    const kind = type.split(":").pop();
    this.advice = ADVICE[kind] || (status >= 500 ? ADVICE.internal : "");
  }
}

const unreachable = () =>
  new Problem({ title: "The gateway cannot be reached", detail: "It does not answer. Is it running? Try again then." });

const problemOf = async (response) => {
  const wait = response.headers.get("Retry-After");
  const said = await response.json().catch(() => ({}));
  const problem = new Problem({ title: response.statusText, ...said, status: response.status });
  if (response.status === 429 && wait) problem.advice = `Try again in ${wait} seconds.`;
  return problem;
};

/** A response that is one; raises Problem. An abort stays an abort. A key that is asked for is asked of the reader. */
export const request = async (path, options = {}) => {
  const sent = { ...options, headers: signed(options.headers) };
  const response = await fetch(path, sent).catch((error) => {
    throw error.name === "AbortError" ? error : unreachable();
  });
  if (response.ok) return response;
  const problem = await problemOf(response);
  if (response.status === 401 && (await askForKey(problem.message))) return request(path, options);
  throw problem;
};

export const getJson = async (path) => (await request(path)).json();

export const postJson = (path, body, options = {}) =>
  request(path, {
    ...options,
    method: "POST",
    headers: { ...options.headers, "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });

const parsed = (block) => {
  let name = "message";
  let id = "";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    else if (line.startsWith("id:")) id = line.slice(3).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
  }
  return { name, id, data: data.length ? JSON.parse(data.join("\n")) : null };
};

const within = (reading, ms) => {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(unreachable()), ms);
  });
  return Promise.race([reading, late]).finally(() => clearTimeout(timer));
};

/**
 * The events {name, data} of a response; raises Problem once nothing, not even a heartbeat, comes. `passed(id)` is told
 * the id of each, and those that come without an event.
 */
export async function* events(response, passed = () => {}) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await within(reader.read(), QUIET_MS);
      if (done) return;
      const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const { id, ...event } = parsed(block);
        if (id) passed(id);
        if (event.data) yield event;
      }
    }
  } catch (error) {
    throw error.name === "TypeError" ? unreachable() : error;
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Tells whether what was begun is still the newest of its kind: `const current = turn()`, and after waiting `current()`. */
export const latest = () => {
  let newest = 0;
  return () => {
    const mine = (newest += 1);
    return () => mine === newest;
  };
};

export const documentPath = (docId) => `/v1/documents/${encodeURIComponent(docId)}`;
