/** GET /api/openapi.json: the routes, in a form programs read. */
import { json, type Route } from "../contract.js";

export default {
  url: "/api/openapi.json",
  summary: "This interface as an OpenAPI 3.1 document.",
  answers: { "application/json": { type: "object", required: ["openapi", "info", "paths"] } },
  open:
    ({ document }) =>
    () =>
      json(document()),
} satisfies Route;
