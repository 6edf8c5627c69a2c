// The section "Is it keeping up?".

import { whereToUpload } from "./about.js";
import { get } from "./api.js";
import { chart, color } from "./charts.js";
import { $, dagLink, link, numbers } from "./elements.js";
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
  return taskThatIs("up_for_retry", running) ? "retrying" : "starting";
}

// Returns good, warn or bad, followed by the message as text and links.
export function verdict(data) {
  const { limits } = data;
  const { running, ended } = data.runs;
  const failed = ended?.state === "failed" && taskThatIs("failed", ended);
  const retried = taskThatIs("up_for_retry", running);
  if (data.runs.is_paused) {
    return ["bad", "Paused. Unpause ", dagLink("detect_patterns"), " in Airflow to process new chunks."];
  }
  if (data.listing_problem) return ["bad", data.listing_problem];
  if (failed === "build") {
    const text = "Held back: a model or sanity test failed. Nothing is exported until the build passes. ";
    return ["bad", text, runLink("See which one failed", ended, "build")];
  }
  if (ended?.state === "failed") {
    const text = `The last run failed${failed ? ` in ${failed}` : ""}. The next run continues where it stopped. `;
    return ["bad", text, runLink("See the log", ended, failed)];
  }
  if (retried) {
    const text = `${retried} failed and will be retried. Nothing is exported until it passes. `;
    return ["warn", text, runLink("See the log", running, retried)];
  }
  if (data.waiting && data.oldest_waits_seconds > limits.lag_seconds) {
    const waiting = many(data.waiting, "waiting chunk");
    return ["bad", `Falling behind: ${waiting}; the oldest landed ${duration(data.oldest_waits_seconds)} ago.`];
  }
  if (data.landed === 0) {
    return ["warn", `No chunks yet. Upload a file of transactions to ${whereToUpload("transactions")}.`];
  }
  if (data.nothing_landed_for_seconds > limits.stalled_seconds && !data.waiting) {
    const ago = duration(data.nothing_landed_for_seconds);
    return ["warn", `No new chunks: the last one landed ${ago} ago. All chunks are processed.`];
  }
  if (data.p95_seconds > limits.lag_seconds) {
    return ["warn", `Slow: 1 in 20 chunks took more than ${duration(data.p95_seconds)} from landing to file.`];
  }
  if (data.listing_is_cut && !data.waiting) {
    return [
      "warn",
      "Backlog unknown: the bucket has more objects than this page lists. See the landing-to-file times below.",
    ];
  }
  if (data.waiting) return ["good", `Keeping up: ${many(data.waiting, "chunk")} in progress.`];
  return ["good", "Keeping up: all chunks are processed."];
}

function showSign(data) {
  const [kind, ...parts] = verdict(data);
  const text = parts.map((part) => part.textContent ?? part).join("");
  // Screen readers announce every replacement.
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
      data.waiting ? `oldest for ${duration(data.oldest_waits_seconds)}` : "",
    ],
    ["Rows per minute", count(data.rows_a_minute)],
    ["Landing-to-file time", duration(data.last_seconds), "latest chunk"],
    ["Median", duration(data.p50_seconds), "last 100 chunks"],
    ["95th percentile", duration(data.p95_seconds), "last 100 chunks"],
    ["Last run", ended ? runLink(ended.state, ended) : "–", ended ? time(ended.ended_at) : "no run has ended yet"],
    ["Now", nowDoing(running)],
    ["Last export", time(data.last_export_at)],
  ]);
}

function showLatency(data) {
  const points = data.latency;
  const figures = `median ${duration(data.p50_seconds)}, 95th percentile ${duration(data.p95_seconds)}`;
  chart(
    "latency",
    `Landing-to-file time in seconds, ${many(points.length, "chunk")}: ${figures}.`,
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
