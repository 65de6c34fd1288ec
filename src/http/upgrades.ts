/**
 * Owns: which offers of another protocol are taken up: WebSocket's. Who offers something else besides, as curl --http2
 * does, is answered in the HTTP it speaks.
 */
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { Duplex } from "node:stream";

/** Of the connection it was read from, not of the request. */
const hop = ["connection", "upgrade", "http2-settings"];

/** The request once more, as text; the first on its connection, and the last. */
function plain({ method = "GET", url = "/", httpVersion, rawHeaders }: IncomingMessage): string {
  const lines = [`${method} ${url} HTTP/${httpVersion}`, "Connection: close"];
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const [name = "", value = ""] = rawHeaders.slice(i, i + 2);
    if (!hop.includes(name.toLowerCase())) lines.push(`${name}: ${value}`);
  }
  return `${lines.join("\r\n")}\r\n\r\n`;
}

/** A server that hears of the WebSockets somebody wants to open on this one, and of nothing else. */
export function webSocketsOf(server: Server): Server {
  const webSockets = createServer();
  server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    if (request.headers.upgrade?.toLowerCase() === "websocket") {
      webSockets.emit("upgrade", request, socket, head);
      return;
    }
    // Node has taken its parser off the connection by now: it is read anew.
    socket.unshift(Buffer.concat([Buffer.from(plain(request), "latin1"), head]));
    server.emit("connection", socket);
  });
  return webSockets;
}
