// An answer's events as they come; where the stream breaks off, from the last one on.

import { Problem, events, postJson } from "./api.js";

const TRIES = 8; // in a row: about as long as a gateway takes to be started again
const PAUSE_MS = 500;
const LAST = ["done", "error"];

const brokenOff = () =>
  new Problem({ title: "The answer broke off", detail: "The gateway stopped in the middle of it. Ask again." });

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Whether it may be better in a moment: the connection is what failed, or the gateway is only just starting again. */
const passing = (problem) => problem.status === 0 || problem.status === 503;

/** The events {name, data} of an answer asked by `body`, the last of them `done` or `error`; raises Problem. */
export async function* answerEvents(body, signal) {
  const asked = { ...body, stream: true };
  let [tries, last] = [TRIES, ""];
  const passed = (id) => {
    if (id !== last) [tries, last] = [TRIES, id];
  };
  for (;;) {
    try {
      const headers = last ? { "Last-Event-ID": last } : {};
      const response = await postJson("/v1/answers", asked, { signal, headers });
      for await (const event of events(response, passed)) {
        yield event;
        if (LAST.includes(event.name)) return;
      }
      throw brokenOff();
    } catch (problem) {
      tries -= 1;
      if (!last || !tries || !passing(problem)) throw problem;
    }
    await pause(PAUSE_MS * (TRIES - tries));
    signal.throwIfAborted();
  }
}
