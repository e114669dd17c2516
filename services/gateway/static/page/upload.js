// Taking documents in: dropped or chosen, with the job's progress as it goes on.

import { events, request } from "./api.js";
import { announce, byId, el } from "./dom.js";
import { problemNotice } from "./notices.js";

const ENDED = ["done", "failed", "cancelled"];
const TRIES = 5;

const counted = (counts) =>
  Object.entries(counts)
    .filter(([, count]) => count)
    .map(([name, count]) => `${count} ${count === 1 ? name.replace(/s$/, "") : name}`)
    .join(" · ");

/** A job on the page. */
class JobView {
  constructor(names) {
    this.state = el("span", { class: "state" }, "sending");
    this.bar = el("progress", { "aria-label": `Progress of ${names}`, max: 1 });
    this.counts = el("p", { class: "hint" });
    this.trouble = el("div", {});
    this.node = el("li", { class: "job" }, el("p", {}, el("strong", {}, names), " ", this.state), this.bar, this.counts, this.trouble);
  }

  show(job) {
    this.state.textContent = job.state;
    if (job.total !== null) this.bar.max = Math.max(1, job.total);
    if (job.total !== null || job.state === "done") this.bar.value = job.state === "done" ? this.bar.max : job.done;
    this.counts.textContent = [counted(job.counts), job.eta_seconds && `about ${Math.ceil(job.eta_seconds)} s left`, job.note]
      .filter(Boolean)
      .join(" · ");
    const failures = job.failures.map((one) => el("li", {}, typeof one === "string" ? one : Object.values(one).join(": ")));
    this.trouble.replaceChildren(
      job.error ? el("p", { class: "notice error", role: "alert" }, job.error) : "",
      failures.length ? el("ul", { class: "failures" }, ...failures) : "",
    );
  }

  fail(problem) {
    this.state.textContent = "not taken in";
    this.bar.remove();
    this.trouble.replaceChildren(problemNotice(problem));
  }
}

/** The job as it goes on, up to its end; listens again where the stream breaks off. */
const follow = async (id, shown) => {
  for (let tries = TRIES; ; tries -= 1) {
    try {
      const response = await request(`/v1/jobs/${encodeURIComponent(id)}`, { headers: { Accept: "text/event-stream" } });
      for await (const { data } of events(response)) {
        shown(data);
        if (ENDED.includes(data.state)) return data;
      }
    } catch (problem) {
      if (tries <= 1) throw problem;
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }
};

const form = (files) => {
  const data = new FormData();
  data.append("collection", byId("upload-collection").value.trim());
  if (byId("upload-kind").value === "documents" && byId("upload-from").value) data.append("valid_from", byId("upload-from").value);
  for (const file of files) data.append("files", file, file.name);
  return data;
};

const send = async (files, taken) => {
  if (!files.length || !byId("upload-form").reportValidity()) return;
  const view = new JobView(files.length === 1 ? files[0].name : `${files.length} files`);
  byId("jobs").prepend(view.node);
  try {
    const response = await request(`/v1/${byId("upload-kind").value}`, { method: "POST", body: form(files) });
    const { job } = await response.json();
    view.show(job);
    const ended = await follow(job.id, (now) => view.show(now));
    announce(`Taking in ${ended.state}: ${counted(ended.counts)}`);
    taken(ended.collection);
  } catch (problem) {
    view.fail(problem);
  }
};

/** `taken(collection)` is called whenever something has been taken in. */
export const startUpload = (taken) => {
  const zone = byId("drop");
  byId("files").addEventListener("change", (event) => {
    send([...event.target.files], taken);
    event.target.value = "";
  });
  zone.addEventListener("dragenter", () => zone.classList.add("over"));
  zone.addEventListener("dragleave", (event) => zone.contains(event.relatedTarget) || zone.classList.remove("over"));
  // Anywhere else on the page a dropped file would replace it.
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    if (!event.dataTransfer.files.length) return;
    location.hash = "#library";
    send([...event.dataTransfer.files], taken);
  });
};
