// The part "Is it keeping up?".

import { get } from "./api.js";
import { chart, color } from "./charts.js";
import { $, link, numbers } from "./elements.js";
import { count, duration, many, time } from "./text.js";

const NOW = { wait_for_chunk: "waiting for a chunk", load: "loading", build: "building", export: "exporting" };

function runLink(text, run, task) {
  const path = `../dags/detect_patterns/runs/${encodeURIComponent(run.run_id)}`;
  return link(task ? `${path}/tasks/${task}` : path, text, { target: "_top" });
}

const taskThatIs = (state, run) => Object.keys(run?.tasks ?? {}).find((task) => run.tasks[task] === state);

function nowDoing(running) {
  if (!running) return "idle";
  const task = taskThatIs("running", running);
  if (task) return NOW[task];
  return taskThatIs("up_for_retry", running) ? "trying again" : "starting";
}

// good, warn or bad, and what to say: text and links.
export function verdict(data) {
  const { limits } = data;
  const { running, ended } = data.runs;
  const failed = ended?.state === "failed" && taskThatIs("failed", ended);
  const retried = taskThatIs("up_for_retry", running);
  if (data.runs.is_paused) {
    return ["bad", "Paused: the DAG detect_patterns is switched off in Airflow. Chunks wait until it is switched on."];
  }
  if (data.listing_problem) return ["bad", data.listing_problem];
  if (failed === "build") {
    const text = "Held back: a sanity test or a model failed, so nothing is exported until it passes. ";
    return ["bad", text, runLink("Read which one", ended, "build")];
  }
  if (ended?.state === "failed") {
    const text = `The last run failed${failed ? ` in ${failed}` : ""}. The next one continues where it stopped. `;
    return ["bad", text, runLink("Read why", ended, failed)];
  }
  if (retried) {
    const text = `${retried} failed and is tried again in a moment; nothing is exported until it passes. `;
    return ["warn", text, runLink("Read why", running, retried)];
  }
  if (data.waiting && data.oldest_waits_seconds > limits.lag_seconds) {
    const waiting = many(data.waiting, "waiting chunk");
    return ["bad", `Fallen behind: the oldest of ${waiting} landed ${duration(data.oldest_waits_seconds)} ago.`];
  }
  if (data.landed === 0) {
    return ["warn", "Nothing has landed yet. The first chunk shows here a few seconds after it lands in the bucket."];
  }
  if (data.nothing_landed_for_seconds > limits.standstill_seconds && !data.waiting) {
    const ago = duration(data.nothing_landed_for_seconds);
    return ["warn", `The stream stands still: the last chunk landed ${ago} ago, and all chunks are done.`];
  }
  if (data.p95_seconds > limits.lag_seconds) {
    return ["warn", `Slow: one chunk in twenty took more than ${duration(data.p95_seconds)} from landing to file.`];
  }
  if (data.listing_is_cut && !data.waiting) {
    return [
      "warn",
      "The bucket holds more chunks than this page lists, so the backlog is unknown. Landing-to-file times are below.",
    ];
  }
  if (data.waiting) return ["good", `Keeping up: ${many(data.waiting, "chunk")} in progress.`];
  return ["good", "Keeping up: every chunk that landed is done."];
}

function showSign(data) {
  const [kind, ...parts] = verdict(data);
  const text = parts.map((part) => part.textContent ?? part).join("");
  // Screen readers read it again when it is replaced.
  if ($("sign").textContent !== text) $("sign").replaceChildren(...parts);
  $("sign").className = `sign ${kind}`;
}

function showNumbers(data) {
  const { running, ended } = data.runs;
  const orMore = data.listing_is_cut ? " or more" : "";
  const landed = data.listing_is_cut ? Math.max(data.landed, data.loaded ?? 0) : data.landed;
  numbers("numbers", [
    ["Chunks landed", `${count(landed)}${orMore}`],
    ["Loaded", count(data.loaded ?? 0), data.rejected ? `${count(data.rejected)} rejected` : ""],
    [
      "Waiting",
      `${count(data.waiting)}${orMore}`,
      data.waiting ? `the oldest for ${duration(data.oldest_waits_seconds)}` : "",
    ],
    ["Rows a minute", count(data.rows_a_minute)],
    ["Landing to file, last", duration(data.last_seconds)],
    ["Median of 100 chunks", duration(data.p50_seconds)],
    ["95 of 100 within", duration(data.p95_seconds)],
    ["Last run", ended ? runLink(ended.state, ended) : "–", ended ? time(ended.ended_at) : "none has ended yet"],
    ["Now", nowDoing(running)],
    ["Last export", time(data.last_export_at)],
  ]);
}

function showLatency(data) {
  const points = data.latency;
  const figures = `median ${duration(data.p50_seconds)}, 95 of 100 within ${duration(data.p95_seconds)}`;
  chart(
    "latency",
    `Seconds from landing to file of the last ${points.length} chunks: ${figures}.`,
    "line",
    points.map((point) => point.chunk_seq),
    [
      {
        label: "seconds",
        data: points.map((point) => point.seconds),
        borderColor: color("series-1"),
        backgroundColor: color("series-1"),
        pointRadius: points.length > 60 ? 0 : 2,
        borderWidth: 2,
      },
    ],
  );
}

export async function showKeepingUp() {
  const data = await get("api/keeping-up");
  showSign(data);
  $("models").hidden = !data.has_models;
  showNumbers(data);
  showLatency(data);
}
