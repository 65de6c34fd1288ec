/** GET /: what there is. */
import { json, type Route } from "../contract.js";

export default {
  url: "/",
  summary: "The routes there are.",
  answers: {
    "application/json": {
      type: "object",
      properties: {
        routes: {
          type: "array",
          items: {
            type: "object",
            properties: { url: { type: "string" }, summary: { type: "string" } },
            required: ["url", "summary"],
          },
        },
      },
      required: ["routes"],
    },
  },
  open: ({ routes }) => {
    const list = routes.map(({ url, summary }) => ({ url, summary }));
    return () => json({ routes: list });
  },
} satisfies Route;
