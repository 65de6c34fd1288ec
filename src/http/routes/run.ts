/** GET /api/run: run.json. */
import { json, type Route } from "../contract.js";

export default {
  url: "/api/run",
  summary: "run.json as it is now.",
  answers: { "application/json": { type: "object", required: ["version", "state", "ticks", "modules"] } },
  open:
    ({ sources }) =>
    () =>
      json(sources.run()),
} satisfies Route;
